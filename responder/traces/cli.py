"""How does a person ask about a trace?

`responder trace FILE|FOLDER… [--format json|text] [--html OUT] [--compare OTHER]`
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from responder.traces.parent import DEFAULT_MEMORY, decode, missing_libraries, run_child

DEFAULT_SECONDS = 600.0


def trace(
    paths: Annotated[list[Path], typer.Argument(help="Trace files and folders of them.", show_default=False)],
    format: Annotated[str, typer.Option(help="text or json")] = "text",
    html: Annotated[Path | None, typer.Option(help="Write a page with timeline, tables and pictures here.")] = None,
    compare: Annotated[
        list[Path] | None, typer.Option(help="Another trace or folder: the state before, or a healthy server.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds; what was read by then is analysed.")] = DEFAULT_SECONDS,
    memory: Annotated[int, typer.Option(help="Limit of the analysis' address space in MB.")] = DEFAULT_MEMORY >> 20,
) -> None:
    """Read profiler traces (torch/Kineto, nsys, Ascend, py-spy) and say what took the time."""
    if format not in ("text", "json"):
        typer.echo(f"--format is text or json, not {format!r}", err=True)
        raise typer.Exit(2)
    missing = missing_libraries()
    if missing:
        typer.echo(missing, err=True)
        raise typer.Exit(1)
    raw, problem = asyncio.run(
        run_child(paths, timeout=timeout, max_memory=memory << 20, compare=compare or (), progress=_progress())
    )
    _clear()
    if not raw:
        typer.echo(problem, err=True)
        raise typer.Exit(1)
    report = decode(raw)
    if format == "json":
        typer.echo(raw.decode())
    else:
        from responder.traces.text import render

        typer.echo(render(report), nl=False)
    if html is not None and report.ranks:
        from responder.traces.page import page

        html.write_text(page(report, html.parent), encoding="utf-8")
        typer.echo(f"page: {html}", err=True)
    if not report.ranks:
        if format == "json":
            for line in report.problems:
                typer.echo(line, err=True)
        raise typer.Exit(1)


class _Line:
    """One line on a terminal's stderr that is rewritten; nothing where nobody looks."""

    def __call__(self, text: str) -> None:
        try:
            state = json.loads(text)
        except ValueError:
            return
        done = int(float(state.get("share", 0.0)) * 24)
        sys.stderr.write(f"\r\x1b[K{'█' * done}{'░' * (24 - done)} {str(state.get('file', ''))[:60]}")
        sys.stderr.flush()


def _progress() -> _Line | None:
    return _Line() if sys.stderr.isatty() else None


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
