"""Where do thousands of argument lists have a label, and what number stands behind it? Guessed together, checked each.

torch writes the same arguments in the same order, so a label's distance from the list's beginning takes few values in a
piece of a trace. A distance found in one list is tried on all of them at once; what fits none is searched singly.
"""

from __future__ import annotations

import numpy as np

from responder.traces.digits import Offsets, Words, up_to_sixteen, word

TRIES = 6
"""Distances tried on all lists before the rest is searched one by one."""


def locate(text: bytes, words: Words, begin: Offsets, end: Offsets, label: bytes) -> Offsets:
    """Offset of `label` (at least eight bytes) in each text[begin:end], -1 where it is not."""
    found = np.full(len(begin), -1, np.int64)
    left = np.arange(len(begin))
    first, last = word(label), word(label[-8:])
    limit = len(words) - 1
    for _ in range(TRIES):
        if not len(left):
            return found
        one = int(left[0])
        place = text.find(label, int(begin[one]), int(end[one]))
        if place < 0:
            left = left[1:]
            continue
        at = begin[left] + (place - int(begin[one]))
        tail = at + (len(label) - 8)
        fits = (tail + 8 <= end[left]) & (tail < limit)
        at, tail = np.minimum(at, limit), np.minimum(tail, limit)
        fits &= (words[at] == first) & (words[tail] == last)
        found[left[fits]] = at[fits]
        left = left[~fits]
    for row in left.tolist():
        found[row] = text.find(label, int(begin[row]), int(end[row]))
    return found


def numbers_behind(text: bytes, words: Words, places: Offsets) -> Offsets:
    """The integers that begin at `places`; -1 where a place is -1 or no number of under 19 digits stands there."""
    values = np.full(len(places), -1, np.int64)
    left = np.flatnonzero(places >= 0)
    raw = np.frombuffer(text, np.uint8)
    limit = len(words) - 1
    # nearly all numbers of a piece have one or two lengths: that of the first one left is tried on all of them
    for _ in range(TRIES):
        if not len(left):
            return values
        first = text[int(places[left[0]]) : int(places[left[0]]) + 20]
        length = len(first) - len(first.lstrip(b"0123456789"))
        if not 0 < length <= 16:
            values[left[0]] = number_at(text, int(places[left[0]]))
            left = left[1:]
            continue
        where = np.minimum(places[left], limit - 9)
        value, fine = up_to_sixteen(words, where, length)
        following = raw[where + length]
        fine &= (where == places[left]) & ((following < 48) | (following > 57))
        values[left[fine]] = value[fine]
        left = left[~fine]
    for row in left.tolist():
        values[row] = number_at(text, int(places[row]))
    return values


def number_at(text: bytes, place: int, otherwise: int = -1) -> int:
    """The integer that begins at `place`, if it has under 19 digits."""
    tail = text[place : place + 20]
    digits = tail[: len(tail) - len(tail.lstrip(b"0123456789"))]
    return int(digits) if 0 < len(digits) < 19 else otherwise
