"""Killed at named places again and again: nothing acknowledged is lost, doubled, left over or not told."""

from __future__ import annotations

from bench.kills import kill_often
from responder.killpoint import NAMES

A_FEW = 24
"""Ten thousand by hand: docs/reliability.md."""


async def test_a_few_kills_lose_and_double_nothing() -> None:
    """The same lanes as the benchmark's, over every named place once."""
    tally = await kill_often(A_FEW, lanes=2, names=NAMES, seed=3)
    assert sum(tally.kills.values()) >= A_FEW
    assert [tally.lost, tally.double, tally.orphans, tally.untold] == [[], [], [], []]
    assert tally.episodes >= A_FEW
    assert tally.disturbed > 0
