"""What do the argument lists of calls and GPU events say? Correlation, launch grid and size, for thousands at once."""

from __future__ import annotations

import numpy as np

from responder.traces.collect import Collector
from responder.traces.columns import Bools
from responder.traces.digits import Offsets, Window, Words
from responder.traces.places import locate, numbers_behind

_CORRELATION = b'"correlation": '
_GRID = b'"grid": ['
_BYTES = b'"bytes": '
_ELEMENTS = b'"In msg nelems": '
_MIX, _MIX2, _MIX3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)
_GRID_WIDTH = 24
"""Characters that tell grids apart; they reach into what follows a short one, which only splits groups."""


def of_calls(text: bytes, words: Words, begin: Offsets, end: Offsets, keys: Offsets, into: Collector) -> Offsets:
    """Correlations of runtime calls. Most are event bookkeeping that launches nothing: theirs link to nothing."""
    linking = np.flatnonzero(into.links(keys))
    correlation = np.full(len(keys), -1, np.int64)
    correlation[linking] = _correlations(text, words, begin[linking], end[linking])[0]
    return correlation


def of_gpu_events(
    text: bytes, words: Words, begin: Offsets, end: Offsets, keys: Offsets, is_kernel: Bools, into: Collector
) -> tuple[Offsets, Offsets, Offsets]:
    """(correlation, number of the grid, size) of GPU events: grids of kernels, bytes of copies, elements of
    collectives."""
    correlation, places = _correlations(text, words, begin, end)
    size = np.zeros(len(begin), np.int64)
    grid = np.full(len(begin), -1, np.int64)
    kernels = np.flatnonzero(is_kernel)
    if len(kernels):
        after = np.where(places >= 0, places, begin)[kernels]
        grid[kernels] = _grids(text, words, after, begin[kernels], end[kernels], into)
    sized = is_kernel & into.collective(keys)
    for rows, label in ((np.flatnonzero(~is_kernel), _BYTES), (np.flatnonzero(sized), _ELEMENTS)):
        if len(rows):
            size[rows] = _sizes(text, words, begin[rows], end[rows], label)
    return correlation, grid, size


def _correlations(text: bytes, words: Words, begin: Offsets, end: Offsets) -> tuple[Offsets, Offsets]:
    """(correlation or -1, where its label stands or -1)."""
    places = locate(text, words, begin, end, _CORRELATION)
    behind = np.where(places >= 0, places + len(_CORRELATION), -1)
    return numbers_behind(text, words, behind), places


def _sizes(text: bytes, words: Words, begin: Offsets, end: Offsets, label: bytes) -> Offsets:
    places = locate(text, words, begin, end, label)
    behind = np.where(places >= 0, places + len(label), -1)
    return np.maximum(numbers_behind(text, words, behind), 0)


def _grids(text: bytes, words: Words, after: Offsets, begin: Offsets, end: Offsets, into: Collector) -> Offsets:
    """Numbers of the launch grids. The grid usually stands behind the correlation; a grid has few values."""
    places = locate(text, words, after, end, _GRID)
    for row in np.flatnonzero((places < 0) & (after > begin)).tolist():
        places[row] = text.find(_GRID, int(begin[row]), int(end[row]))
    grids = np.full(len(places), -1, np.int64)
    rows = np.flatnonzero(places >= 0)
    at = places[rows] + len(_GRID)
    near = Window(text, np.minimum(at, len(text) - _GRID_WIDTH), _GRID_WIDTH)
    signature = (near.word(0) * _MIX) ^ (near.word(8) * _MIX2) ^ (near.word(16) * _MIX3)
    _, first, inverse = np.unique(signature, return_index=True, return_inverse=True)
    numbers = []
    for place in at[first].tolist():
        grid = text[place : max(text.find(b"]", place, place + 60), place)]
        known = into.grid_numbers.get(grid)
        numbers.append(into.grid_number(grid) if known is None else known)
    grids[rows] = np.array(numbers, np.int64)[inverse]
    return grids
