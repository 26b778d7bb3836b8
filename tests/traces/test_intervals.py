"""Exact interval algebra, against sets of integers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from responder.traces.intervals import Set, between, complement, intersect, length, spanned, subtract, union, within

pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=12)


def covering(rows: list[tuple[int, int]]) -> tuple[Set, set[int]]:
    """The set both ways."""
    start = np.array([a for a, _ in rows], np.int64)
    end = np.array([a + d for a, d in rows], np.int64)
    return union(start, end), {x for a, d in rows for x in range(a, a + d)}


def members(covered: Set) -> set[int]:
    """All integers in a set, which must be sorted, disjoint and not touching."""
    start, end = covered
    assert (start < end).all()
    assert (start[1:] > end[:-1]).all()
    return {x for a, b in zip(start.tolist(), end.tolist(), strict=True) for x in range(a, b)}


@given(pairs)
def test_a_union_covers_exactly_what_its_intervals_cover(rows: list[tuple[int, int]]) -> None:
    """Overlapping kernels count once."""
    got, want = covering(rows)
    assert members(got) == want
    assert length(got) == len(want)


@given(pairs, pairs)
def test_intersection_and_difference_are_those_of_sets(one: list[tuple[int, int]], two: list[tuple[int, int]]) -> None:
    """What both cover, and what only the first covers."""
    (a, wa), (b, wb) = covering(one), covering(two)
    assert {x for s, e in zip(*intersect(a, b), strict=True) for x in range(s, e)} == wa & wb
    assert {x for s, e in zip(*subtract(a, b), strict=True) for x in range(s, e)} == wa - wb


@given(pairs, st.integers(0, 80), st.integers(0, 80))
def test_the_complement_is_what_is_left_of_the_window(rows: list[tuple[int, int]], low: int, high: int) -> None:
    """Gaps and busy time together are the window."""
    got, want = covering(rows)
    low, high = min(low, high), max(low, high)
    assert members(complement(got, low, high)) == set(range(low, high)) - want


@given(pairs, st.lists(st.tuples(st.integers(0, 80), st.integers(0, 30)), min_size=1, max_size=6))
def test_windows_get_what_lies_inside_them(rows: list[tuple[int, int]], windows: list[tuple[int, int]]) -> None:
    """Busy time per step, for windows in any order."""
    got, want = covering(rows)
    low = np.array([a for a, _ in windows], np.int64)
    high = np.array([a + d for a, d in windows], np.int64)
    expected = [len(want & set(range(a, a + d))) for a, d in windows]
    assert within(got, low, high).tolist() == expected


@given(pairs)
def test_the_length_of_a_union_needs_no_union(rows: list[tuple[int, int]]) -> None:
    """Of intervals in start order, empty ones among them."""
    rows = sorted(rows)
    got, want = covering(rows)
    start = np.array([a for a, _ in rows], np.int64)
    assert spanned(start, start + np.array([d for _, d in rows], np.int64)) == length(got) == len(want)


@given(pairs, pairs, st.integers(0, 80), st.integers(0, 30))
def test_what_reaches_into_a_window_is_all_that_matters_there(
    rows: list[tuple[int, int]], others: list[tuple[int, int]], low: int, width: int
) -> None:
    """Idle time is split window by window."""
    (a, _), (b, _) = covering(rows), covering(others)
    window = intersect(a, (np.array([low]), np.array([low + width])))
    near = between(b, low, low + width)
    assert length(intersect(window, near)) == length(intersect(window, b))
