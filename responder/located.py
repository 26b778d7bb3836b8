"""Where in its file does something stand? Trees whose every node knows its line and column (both from 1)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from responder.model import Problem, Scalar

Path = tuple[str | int, ...]
"""Keys and indexes from the root: ("evidence", 0, "when")."""

EXCERPT_CHARS = 200
WHAT_CHARS = 300
"""A hostile file must not make its problems long."""


@dataclass(frozen=True)
class Node:
    """One mapping, list or scalar of a file."""

    value: dict[str, Node] | list[Node] | Scalar
    line: int
    column: int
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Where the keys of a mapping stand; `line` and `column` of a child are those of its value."""

    def child(self, part: str | int) -> Node | None:
        """What stands under a key or an index."""
        if isinstance(self.value, dict):
            return self.value.get(part) if isinstance(part, str) else None
        inside = isinstance(self.value, list) and isinstance(part, int) and 0 <= part < len(self.value)
        return self.value[part] if inside else None  # type: ignore[index,return-value]

    def plain(self) -> object:
        """The same without places: dict, list, str, int, float, bool or None."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


@dataclass(frozen=True)
class Source:
    """A loaded file: its tree, and its lines for excerpts."""

    file: str
    lines: tuple[str, ...]
    root: Node

    def locate(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """(line, column) of the node at `path`, of its key with `key`. Steps that lead nowhere are left out, so a
        path that another tool has decorated, or that is missing its last part, still finds the nearest place."""
        node = self.root
        place = (node.line, node.column)
        for part in path:
            if isinstance(node.value, dict) and isinstance(part, str) and part in node.value:
                place = node.keys[part] if key else (node.value[part].line, node.value[part].column)
                node = node.value[part]
            elif isinstance(node.value, list) and isinstance(part, int) and 0 <= part < len(node.value):
                node = node.value[part]
                place = (node.line, node.column)
        return place

    def has(self, path: Path) -> bool:
        """Whether something is written at exactly this path."""
        node: Node | None = self.root
        for part in path:
            node = node.child(part) if node is not None else None
        return node is not None

    def problem(self, path: Path, what: str, instead: str = "", *, key: bool = False) -> Problem:
        """Something wrong at `path`."""
        line, column = self.locate(path, key=key)
        return self.problem_at(line, column, what, instead)

    def problem_at(self, line: int, column: int, what: str, instead: str = "") -> Problem:
        """Something wrong at a place of this file."""
        return problem_at(self.file, self.lines, line, column, what, instead)


def problem_at(
    file: str, lines: tuple[str, ...], line: int, column: int, what: str, instead: str = ""
) -> Problem:  # fmt: skip
    """A problem with the line it stands in, if that line exists."""
    excerpt = lines[line - 1][:EXCERPT_CHARS] if 0 < line <= len(lines) else ""
    return Problem(file=file, line=line, column=column, what=shortened(what), instead=instead, excerpt=excerpt)


def shortened(what: str) -> str:
    """What is wrong, in no more words than a person reads."""
    return what if len(what) <= WHAT_CHARS else what[: WHAT_CHARS - 1] + "…"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A question to put behind a problem, or nothing when nothing known is near."""
    near = nearest(wrong, known)
    return f"did you mean `{near}`?" if near else ""


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The known name that looks most like `wrong`, or nothing."""
    return next(iter(difflib.get_close_matches(wrong, sorted(set(known)), n=1, cutoff=0.6)), "")
