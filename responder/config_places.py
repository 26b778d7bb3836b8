"""Where in the configuration file does a mistake stand? Line, column and the line itself, with secrets covered."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from responder.located import Path, Source, shortened
from responder.model import Problem

Locate = Callable[[Path], tuple[int, int]]
SECRET = re.compile(r"token|secret|key|password|credential|database|redact|headers|://[^\s/]*@", re.I)
PLAIN = re.compile(r"\s*(?:- )?(?:kind|channel|fallback|fallback_after|language|timeout_s|[a-z_]+_file):")
"""Lines with nothing to hide wherever they stand."""
VALUE = re.compile(r"(:\s+|^\s*-\s+)[^\s{\[#].*$")
COVERED = "…"
OPEN_SECTIONS = frozenset(("rules", "playbooks", "overrides", "disable_alerts", "routes"))
"""Nothing in these can be a secret."""
CLOSED_SECTIONS = frozenset(("receivers", "heartbeat", "database"))
"""In these even a URL can be one."""


@dataclass(frozen=True)
class Places:
    """The file a configuration came from, if it came from one. `locate` alone gives places without the lines."""

    file: str = "configuration"
    locate: Locate | None = None
    source: Source | None = None

    def problem(self, path: Path, what: str, instead: str = "", *, key: bool = False) -> Problem:
        """Something wrong at `path` (at its key with `key`), or of the configuration at large where the file does not
        say it: it came from the command line, then."""
        if self.source is None:
            line, column = self.locate(path) if self.locate else (0, 0)
            return Problem(file=self.file, line=line, column=column, what=shortened(what), instead=instead)
        if path and not self.source.has(path[:1]):
            return Problem(file="configuration", what=shortened(what), instead=instead)
        found = self.source.problem(path, what, instead, key=key)
        return found.model_copy(update={"excerpt": _covered(found.excerpt, str(path[0]) if path else "")})

    def holds(self, path: Path) -> bool:
        """Whether the file says something at exactly this path."""
        return self.source is not None and self.source.has(path)

    def named(self, file: str) -> Places:
        """The same under another name."""
        return replace(self, file=file)


def _covered(line: str, section: str) -> str:
    """A line of a file that may hold secrets: values are shown only where none can be."""
    if section in OPEN_SECTIONS or PLAIN.match(line):
        return line
    if section not in CLOSED_SECTIONS and not SECRET.search(line):
        return line
    return VALUE.sub(lambda got: f"{got[1]}{COVERED}", line)


def path_of(detail: Any) -> Path:
    """Where an error of pydantic's stands."""
    return tuple(part for part in detail["loc"] if isinstance(part, str | int))


def cut(tree: Any, path: Path) -> None:
    """Take out of a plain tree what stands at a path; what is not there is no matter."""
    for part in path[:-1]:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(tree, dict) and path:
        tree.pop(path[-1], None)
    elif isinstance(tree, list) and path and isinstance(path[-1], int) and path[-1] < len(tree):
        del tree[path[-1]]
