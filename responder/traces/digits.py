"""How are thousands of decimal numbers in a piece of text read at once? Eight digits in one 64-bit word.

The text is looked at as overlapping little-endian words, one per byte offset, so the first digit of a number sits in
the lowest byte. Three multiplications add neighbouring digits, pairs and quadruples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Offsets = NDArray[np.int64]

_ZEROS = np.uint64(0x3030303030303030)
_LOW = np.uint64(0x0F0F0F0F0F0F0F0F)
_HIGH = np.uint64(0xF0F0F0F0F0F0F0F0)
_SIX = np.uint64(0x0606060606060606)
_PAIRS = np.uint64(0x00FF00FF00FF00FF)
_QUADS = np.uint64(0x0000FFFF0000FFFF)


def words_of(text: bytes) -> Words:
    """The 8-byte word at every byte offset; no copy."""
    return np.ndarray((max(len(text) - 7, 0),), "<u8", text, 0, (1,))


def word(text: bytes) -> np.uint64:
    """The word that eight characters make."""
    return np.uint64(int.from_bytes(text[:8].ljust(8, b"\0"), "little"))


class Window:
    """The same number of bytes behind each of many offsets, copied side by side: one walk through the text for all of
    them costs as much as one for a single word. IndexError where the text ends too early."""

    def __init__(self, text: bytes, at: Offsets, width: int) -> None:
        every = np.ndarray((max(len(text) - width + 1, 0),), f"V{width}", text, 0, (1,))
        self._rows, self._width = every[at], width

    def word(self, offset: int) -> Words:
        """The 8-byte word at this byte of each row; no copy."""
        if not len(self._rows):
            return np.zeros(0, np.uint64)
        return np.ndarray((len(self._rows),), "<u8", self._rows, offset, (self._width,))

    def words(self) -> Words:
        """(rows, width / 8) words; no copy."""
        return self._rows.view(np.uint64).reshape(len(self._rows), -1)


def up_to_eight(words: Words, at: Offsets, length: Offsets | int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Values of the `length` (1..8) digits at `at`, and whether they all were digits."""
    return value_of(words[at], length)


def value_of(found: Words, length: Offsets | int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Values of the first `length` (1..8) digits of each word, and whether they all were digits."""
    shift = (8 * (8 - np.asarray(length))).astype(np.uint64)
    value = (found ^ _ZEROS) << shift
    fine = ((value + _SIX) | value) & _HIGH == 0
    value = ((value & _LOW) * np.uint64(2561)) >> np.uint64(8)
    value = ((value & _PAIRS) * np.uint64(6553601)) >> np.uint64(16)
    value = ((value & _QUADS) * np.uint64(42949672960001)) >> np.uint64(32)
    return value.astype(np.int64), fine


def up_to_sixteen(words: Words, at: Offsets, length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Values of the `length` (1..16) digits at `at`, and whether they all were digits."""
    if length <= 8:
        return up_to_eight(words, at, length)
    high, high_fine = up_to_eight(words, at, length - 8)
    low, low_fine = up_to_eight(words, at + (length - 8), 8)
    return high * 100_000_000 + low, high_fine & low_fine
