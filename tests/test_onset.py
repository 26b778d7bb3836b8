"""When it began: found backwards from the alert, never after it, not where the data cannot tell."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.onset import Direction, earliest, last_moved, onset

Points = list[tuple[float, float | None]]


def series(*parts: tuple[int, float], noise: float = 0.0, start: float = 0.0) -> Points:
    """Levels one after the other, a point a second."""
    rng = random.Random(7)
    levels = [level for count, level in parts for _ in range(count)]
    return [(start + i, level * (1 + noise * rng.uniform(-1, 1))) for i, level in enumerate(levels)]


@pytest.mark.parametrize(
    ("points", "alert", "direction", "began"),
    [
        (series((100, 0.05), (40, 12.0)), 135, "up", 100),
        (series((100, 0.05), (40, 12.0), noise=0.3), 135, "up", 100),
        (series((100, 0.05), (40, 12.0), noise=0.3), 135, "either", 100),
        (series((100, 0.05), (40, 12.0)), 135, "down", None),
        (series((100, 1170.0), (40, 0.0), noise=0.2), 139, "down", 100),
        (series((100, 0.0), (40, 300.0)), 130, "up", 100),
        (series((60, 1.0), (10, 50.0), (60, 1.0), (30, 50.0)), 159, "up", 130),
        (series((60, 1.0), (1, 500.0), (60, 1.0)), 120, "up", None),
        (series((60, 1.0), (20, 9.0), (2, 1.0), (20, 9.0)), 101, "up", 60),
        (series((200, 1.0)), 199, "either", None),
        (series((200, 1.0), noise=0.3), 199, "either", None),
        (series((200, 7.0)), 199, "up", None),
        (series((3, 1.0), (2, 9.0)), 4, "up", None),
        ([], 100, "up", None),
    ],
)
def test_onset(points: Points, alert: float, direction: Direction, began: float | None) -> None:
    """Steps up and down, noisy and quantised; an episode that ended before, an outlier, a short dip inside."""
    assert onset(points, alert, direction) == began


def test_a_slow_rise_began_before_it_crossed_any_threshold() -> None:
    """A queue that grows by one request a second is seen to grow within its first few seconds."""
    points: Points = [(float(t), 0.0 if t < 100 else float(t - 100)) for t in range(160)]
    found = onset(points, 150, "up")
    assert found is not None
    assert 100 <= found <= 105


def test_gaps_and_nan_are_no_values() -> None:
    """A series with holes, and holes only."""
    points = series((100, 1.0), (30, 9.0))
    holes: Points = [(t, None if int(t) % 3 == 0 else v) for t, v in points]
    assert onset(holes, 129, "up") == 100
    assert onset([(t, None) for t, _ in points], 129, "up") is None
    assert onset([(t, float("nan")) for t, _ in points], 129, "up") is None


VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=80)


@given(VALUES, st.integers(-5, 90), st.sampled_from(["up", "down", "either"]))
def test_never_later_than_the_alert(values: list[float | None], alert: int, direction: Direction) -> None:
    """And what came after the alert changes nothing."""
    points = [(float(i), v) for i, v in enumerate(values)]
    found = onset(points, alert, direction)
    assert found is None or 0 < found <= alert
    assert found == onset([p for p in points if p[0] <= alert], alert, direction)
    moved = last_moved(points, alert)
    assert moved is None or moved <= alert


@given(st.floats(0.01, 1e4), st.floats(3, 100), st.integers(20, 60), st.integers(5, 30))
def test_a_clean_step_is_found_exactly(level: float, factor: float, before: int, after: int) -> None:
    """Whatever its height, as long as the older half is still as usual."""
    if after < before:
        points = series((before, level), (after, level * factor))
        assert onset(points, before + after, "up") == before


def test_last_moved() -> None:
    """The scrape that last brought something new; a counter that starts again has moved."""
    counter: Points = [(t, min(t, 30.0) * 100) for t in range(60)]
    assert last_moved(counter, 59) == 30
    assert last_moved(counter, 20) == 20
    assert last_moved([(t, 5.0) for t in range(60)], 59) is None
    assert last_moved([(0, 9.0), (1, 9.0), (2, None), (3, 0.0), (4, 0.0)], 4) == 3
    assert last_moved([], 4) is None


def test_earliest() -> None:
    """Of what is known, and of what can be true."""
    assert earliest([None, 40.0, 30.0, 99.0], 50) == 30
    assert earliest([None, 40.0, 30.0], 50, not_before=35) == 40
    assert earliest([None, 99.0], 50) is None
