"""What does a piece of a line-wise Kineto file say? Read without parsing JSON: by the shape of its lines.

torch writes every event with the same line breaks, so line starts tell where category, name, time and duration stand.
Everything numeric is read for thousands of events at once; Python touches only the events we keep. Whatever does not
have exactly the expected shape makes `scan` answer False, and the piece is decoded as JSON instead (`objects.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from responder.traces.collect import Collector
from responder.traces.digits import Offsets, Words, up_to_eight, up_to_sixteen, word, words_of
from responder.traces.layout import Layout
from responder.traces.places import locate, number_at, numbers_behind


@dataclass(frozen=True)
class Shape:
    """Line numbers, counted from the line of the event's opening brace, and columns."""

    cat_line: int
    cat_column: int
    """Of the `"cat": "` itself."""
    name_line: int
    name_column: int
    """Of the name's first character; in MULTI it follows the category's length."""
    key_last_line: int
    ts_line: int
    dur_line: int
    args_line: int


SHAPES = {
    Layout.MULTI: Shape(1, 15, 1, -1, 1, 2, 2, 4),
    Layout.SINGLE: Shape(2, 4, 3, 13, 5, 6, 7, 10),
}

KEPT = {
    "kernel": "gpu",
    "gpu_memcpy": "gpu",
    "gpu_memset": "gpu",
    "cuda_runtime": "calls",
    "cuda_driver": "calls",
    "cpu_op": "ops",
    "user_annotation": "marks",
    "gpu_user_annotation": "gpu_marks",
    "python_function": "frames",
    "overhead": "",
    "cuda_sync": "",
    "Trace": "",
}
"""Category of the file -> where its events go; empty: counted only. An unknown category is left to the JSON decoder."""

_WORDS = {name: word(f'{name}", "name'.encode()) for name in KEPT}
_WORDS_SINGLE = {name: word(f'{name}",\n    "name'.encode()) for name in KEPT}
_PH = np.uint64(0xFFFFFFFFFFFF)
_PH_X = word(b'"ph": "X')
_SKIPPED = tuple(word(text) for text in (b'"ph": "s', b'"ph": "f', b'"ph": "i', b'"ph": "M', b'"name": "'))
_CAT = word(b'"cat": "')
_NAME = word(b'"name": ')
_TS = word(b'"ts": ') & _PH
_DUR = word(b'"dur": ') & np.uint64(0xFFFFFFFFFFFFFF)
_MIX, _MIX2, _MIX3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)
_MODULE = word(b"nn.Modul")
_CORRELATION = b'"correlation": '
_GRID = b'"grid": ['
_SIZES = (b'"bytes": ', b'"In msg nelems": ')

LONG_FRAME_DIGITS = 4
"""Python frames of at least this many digits of microseconds are kept: 1 ms and more."""


@dataclass
class Piece:
    """One piece of the file with its line ends and the opening lines of its X events."""

    text: bytes
    words: Words
    ends: Offsets
    """Offset of every newline; index 0 is a virtual one before the piece."""
    opening: Offsets
    """Index into `ends` of the newline that ends each X event's `  {` line."""
    shape: Shape

    def line(self, number: int) -> Offsets:
        """Start offset of line `number` of every event."""
        return self.ends[self.opening + (number - 1)] + 1

    def line_end(self, number: int) -> Offsets:
        """Offset of the newline that ends line `number` of every event."""
        return self.ends[self.opening + number]


def scan(text: bytes, end: int, layout: Layout, into: Collector) -> bool:
    """Collect the events in text[:end] (whole events only); False, with nothing collected, if any looks different."""
    try:
        piece = _split(text, end, layout)
        if piece is None:
            return False
        if len(piece.opening):
            return _collect(piece, layout, into)
        return True
    except IndexError:
        return False  # an event's last lines are missing: not the shape we know


def _split(text: bytes, end: int, layout: Layout) -> Piece | None:
    """Find the events; None if something other than the known kinds opens at an event's indentation."""
    raw = np.frombuffer(text, np.uint8, end)
    ends = np.concatenate((np.array([-1]), np.flatnonzero(raw == 10)))
    words = words_of(text)
    opening = np.flatnonzero(np.diff(ends) == 4) + 1
    if not len(opening):
        return None if len(ends) > 2 else Piece(text, words, ends, opening, SHAPES[layout])
    first = words[ends[opening] + 5]
    is_x = first == _PH_X
    other = first[~is_x]
    if not np.isin(other, _SKIPPED).all():
        return None
    opening = opening[is_x]
    if len(opening) and int(opening[-1]) + SHAPES[layout].args_line >= len(ends):
        return None  # the last event is too short to have the lines we look for
    return Piece(text, words, ends, opening, SHAPES[layout])


def _collect(piece: Piece, layout: Layout, into: Collector) -> bool:
    shape, words = piece.shape, piece.words
    cat_at = piece.line(shape.cat_line) + shape.cat_column
    if not (words[cat_at] == _CAT).all():
        return False
    cat = words[cat_at + 8]
    known = _WORDS if layout is Layout.MULTI else _WORDS_SINGLE
    members = {name: np.flatnonzero(cat == key) for name, key in known.items()}
    if sum(map(len, members.values())) != len(cat):
        return False
    members["Trace"] = members["Trace"][:0]  # its keys stand in another order, and we need none of them
    numbers = _times(piece, np.sort(np.concatenate(list(members.values()))))
    if numbers is None:
        return False
    start, duration, long_frame = numbers
    plan: list[tuple[str, Offsets, Offsets]] = []
    for name, rows in members.items():
        if not len(rows):
            continue
        names_at = _names(piece, layout, name, rows)
        if names_at is None:
            return False
        if KEPT[name] == "frames":
            chosen = long_frame[rows] | (words[names_at] == _MODULE)
            rows, names_at = rows[chosen], names_at[chosen]
        if KEPT[name]:
            key_end = piece.line_end(shape.key_last_line)[rows]
            keys = (_long_keys if name == "kernel" else _keys)(piece, names_at, key_end, into)
            if len(keys) and int(keys.min()) < 0:
                return False
            plan.append((name, rows, keys))
    # nothing is handed over before everything is known to be as expected: the JSON decoder would collect it again
    for name, rows in members.items():
        into.count(name, len(rows))
    for name, rows, keys in plan:
        _hand_over(piece, KEPT[name], name, rows, keys, start[rows], duration[rows], into)
    return True


def _names(piece: Piece, layout: Layout, category: str, rows: Offsets) -> Offsets | None:
    """Offset of the names' first characters."""
    line = piece.line(piece.shape.name_line)[rows]
    if layout is Layout.SINGLE:
        fine = (piece.words[line + 4] == _NAME).all()
        return line + piece.shape.name_column if fine else None
    before = piece.shape.cat_column + 8 + len(category) + 3
    fine = (piece.words[line + before] == _NAME).all()
    return line + before + 9 if fine else None


def _times(piece: Piece, rows: Offsets) -> tuple[Offsets, Offsets, NDArray[np.bool_]] | None:
    """(start ns, duration ns, is a long frame) per event; None unless every one of `rows` has the usual numbers."""
    words, shape = piece.words, piece.shape
    raw = np.frombuffer(piece.text, np.uint8)
    line = piece.line(shape.ts_line)[rows]
    at = line + 10
    dot = piece.text.find(b".", int(at[0]), int(at[0]) + 17)
    whole = dot - int(at[0])
    if dot < 0 or not 1 <= whole <= 16 or not ((words[line + 4] & _PH) == _TS).all():
        return None
    micros, fine = up_to_sixteen(words, at, whole)
    nanos, fine_too = up_to_eight(words, at + whole + 1, 3)
    if not (fine & fine_too & (raw[at + whole] == 46) & (raw[at + whole + 4] == 44)).all():
        return None
    # torch >= 2.13 has the duration on its own line, earlier versions behind the time
    prefix = piece.line(shape.dur_line)[rows] + 4 if shape.dur_line != shape.ts_line else at + whole + 6
    last = piece.line_end(shape.dur_line)[rows]
    last = last - (raw[last - 1] == 44)
    digits = last - 4 - (prefix + 7)
    if not (((words[prefix] & np.uint64(0xFFFFFFFFFFFFFF)) == _DUR) & (digits >= 1) & (digits <= 8)).all():
        return None
    micro, fine = up_to_eight(words, prefix + 7, digits)
    nano, fine_too = up_to_eight(words, last - 3, 3)
    if not (fine & fine_too & (raw[last - 4] == 46)).all():
        return None
    count = len(piece.opening)
    start, duration, long_frame = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.bool_)
    start[rows], duration[rows] = micros * 1000 + nanos, micro * 1000 + nano
    long_frame[rows] = digits >= LONG_FRAME_DIGITS
    return start, duration, long_frame


def _long_keys(piece: Piece, begin: Offsets, end: Offsets, into: Collector) -> Offsets:
    """Kernel names are long and few: a cheap signature guesses which it is, comparing the text makes sure."""
    words, text, guesses, learn = piece.words, piece.text, into.keys.guesses, into.keys.learn
    length = (end - begin).astype(np.uint64)
    signature = words[begin] ^ (words[end - 24] * _MIX) ^ (words[(begin + end) // 2] * _MIX2) ^ (length * _MIX3)
    numbers = []
    for guess, first, last in zip(signature.tolist(), begin.tolist(), end.tolist(), strict=True):
        known = guesses.get(guess)
        if known is not None and text.startswith(known[0], first):
            numbers.append(known[1])
            continue
        number = into.keys.by_text.get(text[first:last], -1)
        number = learn(text[first:last]) if number < 0 else number
        if number >= 0:
            guesses[guess] = (text[first : last + 1], number)
        numbers.append(number)
    return np.array(numbers, np.int64)


def _keys(piece: Piece, begin: Offsets, end: Offsets, into: Collector) -> Offsets:
    text, known = piece.text, into.keys.by_text
    learn = into.keys.learn
    numbers = []
    for first, last in zip(begin.tolist(), end.tolist(), strict=True):
        key = text[first:last]
        number = known.get(key)
        numbers.append(learn(key) if number is None else number)
    return np.array(numbers, np.int64)


def _hand_over(
    piece: Piece, kind: str, category: str, rows: Offsets, keys: Offsets, start: Offsets, dur: Offsets, into: Collector
) -> None:
    if kind not in ("gpu", "calls"):
        into.plain(kind, start, dur, keys)
        return
    begin, end = piece.line(piece.shape.args_line)[rows], piece.line_end(piece.shape.args_line)[rows]
    if kind == "calls":
        # most calls are event bookkeeping that launches nothing: their correlation links to nothing
        linking = np.flatnonzero(into.links(keys))
        correlation = np.full(len(rows), -1, np.int64)
        correlation[linking] = _correlations(piece, begin[linking], end[linking])[0]
        into.calls(start, dur, keys, correlation)
        return
    correlation, places = _correlations(piece, begin, end)
    if category == "kernel":
        grid = _grids(piece, np.where(places >= 0, places, begin), begin, end, into)
        size = _sizes(piece.text, begin, end, into.collective_rows(keys))
    else:
        grid = np.full(len(rows), -1, np.int64)
        size = _sizes(piece.text, begin, end, np.arange(len(rows)))
    into.gpu(start, dur, keys, correlation, grid, size)


def _correlations(piece: Piece, begin: Offsets, end: Offsets) -> tuple[Offsets, Offsets]:
    """(correlation or -1, where its label stands or -1)."""
    places = locate(piece.text, piece.words, begin, end, _CORRELATION)
    behind = np.where(places >= 0, places + len(_CORRELATION), -1)
    return numbers_behind(piece.text, piece.words, behind), places


def _grids(piece: Piece, after: Offsets, begin: Offsets, end: Offsets, into: Collector) -> Offsets:
    """Numbers of the launch grids. The grid usually stands behind the correlation; a grid has few values."""
    text, words = piece.text, piece.words
    places = locate(text, words, after, end, _GRID)
    for row in np.flatnonzero((places < 0) & (after > begin)).tolist():
        places[row] = text.find(_GRID, int(begin[row]), int(end[row]))
    grids = np.full(len(places), -1, np.int64)
    rows = np.flatnonzero(places >= 0)
    at = np.minimum(places[rows] + len(_GRID), len(words) - 9)
    # the first 16 characters tell grids apart; they reach into what follows a short one, which only splits groups
    signature = words[at] * _MIX ^ words[at + 8] * _MIX2
    _, first, inverse = np.unique(signature, return_index=True, return_inverse=True)
    numbers = []
    for place in (places[rows[first]] + len(_GRID)).tolist():
        grid = text[place : max(text.find(b"]", place, place + 60), place)]
        known = into.grid_numbers.get(grid)
        numbers.append(into.grid_number(grid) if known is None else known)
    grids[rows] = np.array(numbers, np.int64)[inverse]
    return grids


def _sizes(text: bytes, begin: Offsets, end: Offsets, rows: Offsets) -> Offsets:
    """Bytes of copies and elements of collectives; they are few, so each is searched."""
    sizes = np.zeros(len(begin), np.int64)
    for row in rows.tolist():
        for label in _SIZES:
            place = text.find(label, int(begin[row]), int(end[row]))
            if place >= 0:
                sizes[row] = number_at(text, place + len(label), 0)
                break
    return sizes
