"""Does every word in a chart find a place of its own?"""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.charts_labels import Room, apart, overlap

FRAME = (0.0, 0.0, 100.0, 50.0)


def test_the_first_free_place_is_taken_unless_a_later_one_leaves_the_line_alone() -> None:
    """Among places that are free, the line decides; among equals, the order."""
    room = Room(FRAME)
    room.follow([(0, 10), (100, 10)])
    assert room.take([(0, 5, 20, 15), (0, 20, 20, 30), (30, 20, 50, 30)]) == (0, 20, 20, 30)
    assert room.take([(10, 20, 30, 30), (40, 20, 60, 30)]) == (40, 20, 60, 30)


def test_a_word_without_room_is_left_out() -> None:
    """Outside the frame or on another word; and it takes no place then."""
    room = Room(FRAME)
    assert room.take([(90, 0, 110, 10), (0, 45, 20, 55)]) is None
    assert room.take([(0, 0, 20, 10)]) is not None
    assert room.take([(10, 5, 30, 15)]) is None
    assert len(room.words) == 1


@given(st.lists(st.tuples(st.floats(0, 80), st.floats(0, 40)), max_size=30))
def test_words_never_meet(places: list[tuple[float, float]]) -> None:
    """Whatever was asked for."""
    room = Room(FRAME)
    for x, y in places:
        room.take([(x, y, x + 20, y + 10)])
    assert not any(overlap(one, other) for one, other in combinations(room.words, 2))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=4).map(sorted), st.integers(1, 2))
def test_values_at_the_end_are_moved_apart_and_stay_inside(wanted: list[float], rows: int) -> None:
    """In the order of the lines, each as near as can be."""
    tall = 12.0 * rows
    middles = apart(wanted, [tall] * len(wanted), 0.0, 100.0)
    assert middles == sorted(middles)
    assert all(upper - lower >= tall - 1e-9 for lower, upper in zip(middles, middles[1:], strict=False))
    assert middles[0] - tall / 2 >= -1e-9
    assert middles[-1] + tall / 2 <= 100.0 + 1e-9


def test_values_far_apart_stay_where_they_are() -> None:
    """Only those that would meet are moved."""
    assert apart([20.0, 60.0], [10.0, 10.0], 0.0, 100.0) == pytest.approx([20.0, 60.0])
