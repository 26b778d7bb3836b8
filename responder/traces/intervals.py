"""How long is *at least one* of these things going on? Exact algebra of time intervals, in integers.

A set of intervals is a pair of arrays (start, end) that are sorted and do not touch or overlap; `union` makes one out
of any intervals. Adding up overlapping kernels counts time twice; these functions never do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Set = tuple[Ints, Ints]

EMPTY: Set = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def union(start: Ints, end: Ints) -> Set:
    """The disjoint intervals that cover exactly what the given ones cover; empty ones vanish."""
    real = end > start
    if not real.all():
        start, end = start[real], end[real]
    if not len(start):
        return EMPTY
    if not (start[1:] >= start[:-1]).all():
        order = np.argsort(start, kind="stable")
        start, end = start[order], end[order]
    reach = np.maximum.accumulate(end)
    first = np.concatenate(([True], start[1:] > reach[:-1]))
    last = np.concatenate((first[1:], [True]))
    return start[first], reach[last]


def spanned(start: Ints, end: Ints) -> int:
    """Length of the union of intervals in start order, without making it."""
    if not len(start):
        return 0
    reach = np.maximum.accumulate(end)
    new = end.copy()
    new[0] -= start[0]
    new[1:] -= np.maximum(start[1:], reach[:-1])
    return int(new.clip(0, out=new).sum())


def length(covered: Set) -> int:
    """Total length of a set."""
    return int((covered[1] - covered[0]).sum())


def complement(covered: Set, low: int, high: int) -> Set:
    """What [low, high) has and the set has not."""
    start, end = covered
    begin = np.concatenate(([low], end))
    finish = np.concatenate((start, [high]))
    np.clip(begin, low, high, out=begin)
    np.clip(finish, low, high, out=finish)
    keep = finish > begin
    return (begin, finish) if keep.all() else (begin[keep], finish[keep])


def between(covered: Set, low: int, high: int) -> Set:
    """The intervals of a set that reach into [low, high); no copy."""
    first = int(np.searchsorted(covered[1], low, side="right"))
    last = int(np.searchsorted(covered[0], high, side="left"))
    return covered[0][first:last], covered[1][first:last]


def intersect(one: Set, other: Set) -> Set:
    """What both sets cover."""
    if not len(one[0]) or not len(other[0]):
        return EMPTY
    if len(one[0]) > len(other[0]):
        one, other = other, one
    # every interval of `one` meets a run of intervals of `other`; rows fit 32 bits, which halves what this needs
    first = np.searchsorted(other[1], one[0], side="right")
    meets = np.maximum(np.searchsorted(other[0], one[1], side="left") - first, 0)
    which = np.repeat(np.arange(len(one[0]), dtype=np.int32), meets)
    if not len(which):
        return EMPTY
    partner = np.repeat((first - np.cumsum(meets) + meets).astype(np.int32), meets)
    partner += np.arange(len(which), dtype=np.int32)
    return np.maximum(one[0][which], other[0][partner]), np.minimum(one[1][which], other[1][partner])


def subtract(one: Set, other: Set) -> Set:
    """What `one` covers and `other` does not."""
    if not len(one[0]) or not len(other[0]):
        return one
    low, high = int(one[0][0]), int(one[1][-1])
    return intersect(one, complement(other, low, high))


def within(covered: Set, low: Ints, high: Ints) -> Ints:
    """Length of the set inside each window [low, high); windows may overlap one another."""
    start, end = covered
    if not len(start):
        return np.zeros(len(low), np.int64)
    before = np.concatenate(([0], np.cumsum(end - start)))

    def up_to(when: Ints) -> Ints:
        """Covered length before each instant."""
        place = np.searchsorted(start, when, side="right")
        last = np.maximum(place - 1, 0)
        beyond = np.where(place > 0, np.maximum(end[last] - when, 0), 0)
        return before[place] - beyond

    return np.asarray(up_to(high) - up_to(np.minimum(low, high)), np.int64)
