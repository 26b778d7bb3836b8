"""Through a network that resets, cuts and swallows: every message arrives, and what may be double is flagged."""

from __future__ import annotations

from bench.notifications import through_faults


def test_nothing_is_lost_on_a_bad_network() -> None:
    """Two hundred here, ten thousand by hand; a third receiver is dead all the time and delays nobody."""
    figures = through_faults(200, seed=2)
    assert figures.lost == 0
    assert figures.unflagged == 0
    assert sum(count for fault, count in figures.drawn.items() if fault != "none") > 0
