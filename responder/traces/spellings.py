"""Which key does each of thousands of events have? Guessed by a few of its characters, then compared to the last one.

A key's text is what stands between a name's opening quote and the end of its `tid` line. A recording repeats a few
hundred of them millions of times, so a slot chosen by some characters of the text nearly always holds the right one.
All its characters are compared before it is believed; what the slots do not hold is looked up text by text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from responder.traces.columns import Bools, Keys
from responder.traces.digits import Offsets, Window, Words

BLOCK = 64
"""Bytes compared at once."""

LONGEST = 1024
"""Texts beyond this are looked up one by one."""

SLOTS = 1 << 16
MOST = 4096
"""Spellings held: names of steps that occur once each must not crowd out those of kernels."""

_SHIFT = np.uint64(48)
_MIX = tuple(np.uint64(odd) for odd in (
    0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0x85EBCA77C2B2AE63,
    0xFF51AFD7ED558CCD,
))  # fmt: skip
_ALL = np.uint64(0x0101010101010101)


class Spellings:
    """Texts of keys with their numbers, compared for thousands of events at once."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._slots = np.zeros(SLOTS, np.int16)
        # spelling 0 stands in empty slots: its length is no text's
        self._count = 1
        self._number = np.full(128, -1, np.int64)
        self._length = np.zeros(128, np.int64)
        self._blocks: list[tuple[Words, Words]] = []
        """Per block of a text: its words, and which of their bytes belong to the text."""

    def numbers(self, text: bytes, words: Words, begin: Offsets, end: Offsets) -> NDArray[np.int64]:
        """The key's number of each text[begin:end]; -1 for what has not the shape of a key."""
        length = end - begin
        head = Window(text, begin, BLOCK)
        slot = _slot(head, words, begin, end, length)
        guess = self._slots[slot].astype(np.int64)
        same = self._compare(text, head, begin, length, guess)
        found = self._number[guess]
        for row in np.flatnonzero(~same).tolist():
            found[row] = self._look_up(text[int(begin[row]) : int(end[row])], int(slot[row]))
        return found

    def _compare(self, text: bytes, head: Window, begin: Offsets, length: Offsets, guess: Offsets) -> Bools:
        same: Bools = self._length[guess] == length
        got, rows = head.words(), np.arange(len(begin))
        for number, (texts, masks) in enumerate(self._blocks):
            if number:
                rows = np.flatnonzero(same & (length > number * BLOCK))
                if not len(rows):
                    break
                got = Window(text, begin[rows] + number * BLOCK, BLOCK).words()
            theirs = guess if number == 0 else guess[rows]
            equal = ((got ^ texts.take(theirs, axis=0)) & masks.take(theirs, axis=0)) == 0
            same[rows] &= equal.view(np.uint64)[:, 0] == _ALL
        return same

    def _look_up(self, text: bytes, slot: int) -> int:
        number = self._keys.by_text.get(text, -1)
        if number < 0:
            number = self._keys.learn(text)
        if number >= 0 and not self._slots[slot] and len(text) <= LONGEST and self._count < MOST:
            self._remember(text, number, slot)
        return number

    def _remember(self, text: bytes, number: int, slot: int) -> None:
        place = self._count
        if place == len(self._number):
            self._number = np.concatenate((self._number, np.full(place, -1, np.int64)))
            self._length = np.concatenate((self._length, np.zeros(place, np.int64)))
            self._blocks = [(_doubled(texts), _doubled(masks)) for texts, masks in self._blocks]
        for block in range(-(-len(text) // BLOCK)):
            if block == len(self._blocks):
                shape = (len(self._number), BLOCK // 8)
                self._blocks.append((np.zeros(shape, np.uint64), np.zeros(shape, np.uint64)))
            part = text[block * BLOCK : (block + 1) * BLOCK]
            texts, masks = self._blocks[block]
            texts[place] = np.frombuffer(part.ljust(BLOCK, b"\0"), np.uint64)
            masks[place] = np.frombuffer((b"\xff" * len(part)).ljust(BLOCK, b"\0"), np.uint64)
        self._number[place], self._length[place], self._slots[slot] = number, len(text), place
        self._count += 1


def _slot(head: Window, words: Words, begin: Offsets, end: Offsets, length: Offsets) -> Offsets:
    """A slot by the text's first characters, its middle, and those where names end before `pid` and `tid`."""
    mixed = head.word(0) * _MIX[0]
    mixed ^= head.word(8) * _MIX[1]
    mixed ^= words[(begin + end) >> 1] * _MIX[2]
    mixed ^= words[np.maximum(end - 24, begin)] * _MIX[3]
    mixed ^= words[np.maximum(end - 40, begin)] * _MIX[4]
    mixed ^= length.astype(np.uint64) * _MIX[5]
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX[0]
    return np.asarray(mixed >> _SHIFT, np.int64)


def _doubled(table: Words) -> Words:
    return np.concatenate((table, np.zeros_like(table)))
