"""Whether requests came faster than ever: also where clients wait for answers and soon send no more than usual."""

from __future__ import annotations

import pytest

from responder.rush import arrivals_rush
from tests.test_windowfacts import made

USUAL = 60


def test_a_rush_is_seen_although_no_more_finish() -> None:
    """Five a second, then a hundred at once, of which five a second finish."""
    window = made(
        onset=USUAL,
        running=[4.0] * USUAL + [32.0] * 12,
        waiting=[0.0] * USUAL + [72.0] * 12,
        finish_rate=[5.0] * (USUAL + 12),
    )
    assert arrivals_rush(window) == pytest.approx(2.0)


def test_a_queue_that_fills_at_the_usual_rate_is_no_rush() -> None:
    """The server became slower: it finishes one a second, and four more wait each second."""
    window = made(
        onset=USUAL,
        running=[4.0] * USUAL + [8.0] * 12,
        waiting=[0.0] * USUAL + [max(0.0, 20.0 * i - 4) for i in range(12)],
        finish_rate=[5.0] * USUAL + [5.0, 4.0, 3.0, 2.0] + [1.0] * 8,
    )
    assert arrivals_rush(window) == pytest.approx(1.0, abs=0.05)


def test_too_short_a_usual_time_is_no_measure() -> None:
    """Nor one without a finish."""
    assert arrivals_rush(made(onset=8, running=[1.0] * 20, waiting=[0.0] * 20, finish_rate=[1.0] * 20)) is None
    assert arrivals_rush(made(onset=60, running=[1.0] * 70, waiting=[0.0] * 70)) is None
