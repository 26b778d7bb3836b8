"""How do we show people what is wrong in what they wrote? Text with a caret for eyes, objects for machines."""

from __future__ import annotations

from collections.abc import Iterable

from responder.model import Problem


def render(problems: Iterable[Problem]) -> str:
    """All problems as text, in the order of files and lines, with the offending line and a caret under the place."""
    return "".join(f"{_one(problem)}\n" for problem in in_order(problems))


def to_objects(problems: Iterable[Problem]) -> list[dict[str, object]]:
    """All problems as plain objects for `--format json`, in the same order."""
    return [problem.model_dump(mode="json") for problem in in_order(problems)]


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By file, then place; the same problem said twice is one."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (problem.file, problem.line, problem.column, problem.what))


def _one(problem: Problem) -> str:
    place = _printable(problem.file)
    if problem.line:
        place += f":{problem.line}:{problem.column}"
    head = f"{place}: {_printable(problem.what)}"
    if problem.instead:
        head += f" ({_printable(problem.instead)})"
    if not problem.excerpt:
        return head
    gutter = f"{problem.line:>5} | "
    lines = [head, gutter + _printable(problem.excerpt.replace("\t", " "))]
    if 0 < problem.column <= len(problem.excerpt) + 1:
        lines.append(" " * (len(gutter) - 2) + "| " + " " * (problem.column - 1) + "^")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """What operators wrote goes to a terminal: control characters must not reach it."""
    return "".join(char if char.isprintable() else "?" for char in text)
