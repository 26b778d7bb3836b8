"""How do we show people what is wrong in what they wrote? Text with a caret for eyes, objects for machines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from responder.model import Problem

TAB = "→"
"""A tab that shows: it is often the mistake itself."""
WORD = re.compile(r"""'[^']*'|"[^"]*"|[^\s,:\[\]{}#]+(?::[^\s,:\[\]{}#]+)*""")
"""What carets stand under: a quoted text, or all up to a space or to YAML's punctuation."""


def render(problems: Iterable[Problem]) -> str:
    """All problems as text, in the order of files and lines, with the offending line and a caret under the place."""
    return "".join(f"{_one(problem)}\n" for problem in in_order(problems))


def to_objects(problems: Iterable[Problem]) -> list[dict[str, object]]:
    """All problems as plain objects for `--format json`, in the same order."""
    return [problem.model_dump(mode="json") for problem in in_order(problems)]


def sarif(problems: Iterable[Problem], version: str) -> str:
    """All problems as one SARIF 2.1.0 run, for code scanning."""
    results = [
        {
            "ruleId": "content",
            "level": "error",
            "message": {"text": problem.what + (f" ({problem.instead})" if problem.instead else "")},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": problem.file},
                "region": {"startLine": max(problem.line, 1), "startColumn": max(problem.column, 1)},
            }}],
        }
        for problem in in_order(problems)
    ]  # fmt: skip
    tool = {"driver": {"name": "responder check", "version": version, "rules": [{"id": "content"}]}}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [{"tool": tool, "results": results}]}, indent=1)


def github(problems: Iterable[Problem]) -> str:
    """All problems as workflow commands, which GitHub shows at the lines of a pull request."""
    lines = []
    for problem in in_order(problems):
        says = _printable(problem.what + (f" ({problem.instead})" if problem.instead else ""))
        place = f"file={_property(problem.file)},line={max(problem.line, 1)},col={max(problem.column, 1)}"
        lines.append(f"::error {place}::{says.replace('%', '%25')}")
    return "\n".join(lines)


def _property(text: str) -> str:
    return _printable(text).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")


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
    lines = [head, gutter + _printable(problem.excerpt.replace("\t", TAB))]
    if 0 < problem.column <= len(problem.excerpt) + 1:
        carets = "^" * _word(problem.excerpt, problem.column)
        lines.append(" " * (len(gutter) - 2) + "| " + " " * (problem.column - 1) + carets)
    return "\n".join(lines)


def _word(excerpt: str, column: int) -> int:
    """How long the word at a column (from 1) is."""
    found = WORD.match(excerpt, column - 1)
    return len(found[0]) if found else 1


def _printable(text: str) -> str:
    """What operators wrote goes to a terminal: control characters must not reach it."""
    return "".join(char if char.isprintable() else "?" for char in text)
