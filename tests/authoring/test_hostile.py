"""Malformed and hostile configurations: refused with a place, and what is running goes on unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.hostile_configs import GOOD, MAKERS, cases, problems_of
from responder.problems import render

EACH = 5


def test_the_configuration_that_is_mutated_is_right(tmp_path: Path) -> None:
    """Otherwise every refusal below would prove nothing."""
    assert problems_of(GOOD.encode(), tmp_path / "responder.yaml") == ()


@pytest.mark.parametrize("kind", [maker.__name__ for maker in MAKERS])
def test_refused_with_its_place(tmp_path: Path, kind: str) -> None:
    """`python -m bench.hostile_configs 1000` does the same a thousand times, and times it."""
    mine = [raw for name, raw in cases(EACH * len(MAKERS)) if name == kind]
    assert len(mine) == EACH
    for raw in mine:
        found = problems_of(raw, tmp_path / "responder.yaml")
        assert found, raw[:400]
        told = render(found)
        assert len(told) < 50_000
        assert any(p.line or p.file == "configuration" or "larger" in p.what for p in found), told
