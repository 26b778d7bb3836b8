"""How does a report look to somebody at a terminal? Wrapped to its width, list lines with a hanging indent, none cut.

Where nobody sits at it (a pipe, a file) it is the Markdown itself, byte for byte.
"""

from __future__ import annotations

import sys


def show_markdown(text: str, to_terminal: bool | None = None) -> None:
    """Print a report's Markdown; `to_terminal` None: look whether standard output is one."""
    if not (sys.stdout.isatty() if to_terminal is None else to_terminal):
        sys.stdout.write(text + "\n")
        return
    from rich.console import Console
    from rich.markdown import Markdown

    # Without `soft_wrap`, which gives list lines no room to wrap in and cuts them.
    console = Console(file=sys.stdout, force_terminal=True, highlight=False)
    console.print(Markdown(text), soft_wrap=False)
