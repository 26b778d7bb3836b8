"""The page about traces names every fact; `python -m tests.traces.test_docs` writes its table."""

from __future__ import annotations

import re
from pathlib import Path

from responder.traces.facts import ACROSS, FACTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "traces.md"
PLACE = re.compile(r"(<!-- facts: [^\n]* -->\n).*(<!-- /facts -->)", re.DOTALL)


def table() -> str:
    """The facts as Markdown."""
    rows = [(row.name, row.unit, row.says) for row in FACTS] + list(ACROSS)
    lines = [f"| `{name}` | {unit or '-'} | {says} |" for name, unit, says in rows]
    return "\n".join(["| fact | unit | what it says |", "|---|---|---|", *lines]) + "\n"


def test_the_page_lists_every_fact_as_it_is() -> None:
    """Name, unit and words; nothing that is not there any more."""
    found = PLACE.search(PAGE.read_text())
    assert found is not None
    assert found.group(0) == f"{found.group(1)}{table()}{found.group(2)}"


if __name__ == "__main__":
    PAGE.write_text(PLACE.sub(lambda match: f"{match.group(1)}{table()}{match.group(2)}", PAGE.read_text()))
