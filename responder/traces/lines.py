"""What does a piece of a line-wise Kineto file say? Read without parsing JSON: by the shape of its lines.

torch writes every event with the same line breaks, so line starts tell where category, name, time and duration stand.
Everything numeric is read for thousands of events at once; Python touches only the events we keep. Whatever does not
have exactly the expected shape makes `scan` answer False, and the piece is decoded as JSON instead (`objects.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from responder.traces import arguments
from responder.traces.collect import Collector
from responder.traces.digits import Offsets, Window, Words, up_to_eight, up_to_sixteen, word, words_of
from responder.traces.layout import Layout


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

_NAMES = tuple(KEPT)
_KINDS = tuple(dict.fromkeys(KEPT.values()))
_KIND_OF = np.array([_KINDS.index(kind) for kind in KEPT.values()])
_LENGTHS = np.array([len(name) for name in KEPT])
_KERNEL, _TRACE = _NAMES.index("kernel"), _NAMES.index("Trace")
_FRAMES, _NOTHING = _KINDS.index("frames"), _KINDS.index("")

_CATEGORIES = {int(word(f'{name}", "name'.encode())): number for number, name in enumerate(KEPT)}
_CATEGORIES_SINGLE = {int(word(f'{name}",\n    "name'.encode())): number for number, name in enumerate(KEPT)}
_PH, _SEVEN = np.uint64(0xFFFFFFFFFFFF), np.uint64(0xFFFFFFFFFFFFFF)
_PH_X = word(b'"ph": "X')
_SKIPPED = tuple(word(text) for text in (b'"ph": "s', b'"ph": "f', b'"ph": "i', b'"ph": "M', b'"name": "'))
_CAT = word(b'"cat": "')
_NAME = word(b'"name": ')
_TS = word(b'"ts": ') & _PH
_DUR = word(b'"dur": ') & _SEVEN
_MODULE = word(b"nn.Modul")

LONG_FRAME_DIGITS = 4
"""Python frames of at least this many digits of microseconds are kept: 1 ms and more."""


@dataclass
class Piece:
    """One piece of the file with its line ends and the opening lines of its X events, or of those of one category."""

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

    def of(self, rows: Offsets) -> Piece:
        """The same piece with some of its events."""
        if len(rows) == len(self.opening):
            return self
        return Piece(self.text, self.words, self.ends, self.opening[rows], self.shape)


def scan(text: bytes, end: int, layout: Layout, into: Collector) -> bool:
    """Collect the events in text[:end] (whole events only); False, with nothing collected, if any looks different."""
    try:
        piece = _split(text, end, layout)
        return piece is not None and (not len(piece.opening) or _collect(piece, layout, into))
    except IndexError:
        return False  # an event's last lines are missing: not the shape we know


def _split(text: bytes, end: int, layout: Layout) -> Piece | None:
    """Find the events; None if something other than the known kinds opens at an event's indentation."""
    raw = np.frombuffer(text, np.uint8, end)
    ends = np.concatenate((np.array([-1]), np.flatnonzero(raw == 10)))
    words = words_of(text)
    opening = np.flatnonzero(ends[1:] - ends[:-1] == 4) + 1
    if not len(opening):
        return None if len(ends) > 2 else Piece(text, words, ends, opening, SHAPES[layout])
    first = words[ends[opening] + 5]
    is_x = first == _PH_X
    if not is_x.all():
        other = first[~is_x]
        if not np.logical_or.reduce([other == known for known in _SKIPPED]).all():
            return None
        opening = opening[is_x]
    if len(opening) and int(opening[-1]) + SHAPES[layout].args_line >= len(ends):
        return None  # the last event is too short to have the lines we look for
    return Piece(text, words, ends, opening, SHAPES[layout])


def _collect(piece: Piece, layout: Layout, into: Collector) -> bool:
    code = _categories(piece, layout)
    if code is None:
        return False
    counted = np.bincount(code, minlength=len(_NAMES))
    if counted[_TRACE]:  # its keys stand in another order, and we need none of them
        piece, code = piece.of(rows := np.flatnonzero(code != _TRACE)), code[rows]
        counted[_TRACE] = 0
    if len(code):
        # nothing is handed over before everything is known to be as expected: the JSON decoder would collect it again
        read = _read(piece, code, layout, into)
        if read is None:
            return False
        _hand_over(read, into)
    for number in np.flatnonzero(counted).tolist():
        into.count(_NAMES[number], int(counted[number]))
    return True


def _categories(piece: Piece, layout: Layout) -> Offsets | None:
    """Number of each event's category; None if there is one that we do not know."""
    window = Window(piece.text, piece.line(piece.shape.cat_line) + piece.shape.cat_column, 16)
    if not (window.word(0) == _CAT).all():
        return None
    found = window.word(8).copy()
    known = _CATEGORIES if layout is Layout.MULTI else _CATEGORIES_SINGLE
    code = np.zeros(len(found), np.int64)
    left = np.arange(len(found))
    while len(left):  # a piece has a few categories
        value = found[left[0]]
        number = known.get(int(value))
        if number is None:
            return None
        mine = found[left] == value
        code[left[mine]], left = number, left[~mine]
    return code


@dataclass
class Batch:
    """What was read of the events that we keep."""

    piece: Piece
    code: Offsets
    """Number of the category."""
    key: Offsets
    start: Offsets
    duration: Offsets

    def of(self, kind: str) -> Batch:
        """Those of one kind."""
        rows = np.flatnonzero(_KIND_OF[self.code] == _KINDS.index(kind))
        if len(rows) == len(self.code):
            return self
        return Batch(self.piece.of(rows), self.code[rows], self.key[rows], self.start[rows], self.duration[rows])


def _read(piece: Piece, code: Offsets, layout: Layout, into: Collector) -> Batch | None:
    """Times and keys of the events that we keep, of Python frames only the long ones; None if any looks different."""
    names_at = piece.line(piece.shape.name_line)
    names_at += 4 if layout is Layout.SINGLE else _LENGTHS[code] + (piece.shape.cat_column + 11)
    numbers = _numbers(piece)
    if numbers is None or not (piece.words[names_at] == _NAME).all():
        return None
    names_at += 9
    kind = _KIND_OF[code]
    skipped = kind == _NOTHING
    frames = kind == _FRAMES
    if frames.any():
        skipped |= frames & (numbers.digits < LONG_FRAME_DIGITS) & (piece.words[names_at] != _MODULE)
    if skipped.any():
        chosen = np.flatnonzero(~skipped)
        piece, code, names_at, numbers = piece.of(chosen), code[chosen], names_at[chosen], numbers.of(chosen)
    times = _times(piece, numbers)
    if times is None:
        return None
    key_end = piece.line_end(piece.shape.key_last_line)
    keys = into.spellings.numbers(piece.text, piece.words, names_at, key_end) if len(names_at) else names_at
    return None if (keys < 0).any() else Batch(piece, code, keys, *times)


@dataclass
class Numbers:
    """Where times and durations stand."""

    start: Offsets
    whole: int
    """Digits of microseconds of every start."""
    digits: Offsets
    """Digits of microseconds of each duration."""
    last: Offsets
    """Offset behind each duration."""

    def of(self, rows: Offsets) -> Numbers:
        """Those of some events."""
        return Numbers(self.start[rows], self.whole, self.digits[rows], self.last[rows])


def _numbers(piece: Piece) -> Numbers | None:
    """Find times and durations by their labels and points; None unless every event has them in the usual places."""
    words, shape = piece.words, piece.shape
    raw = np.frombuffer(piece.text, np.uint8)
    at = piece.line(shape.ts_line) + 10
    dot = piece.text.find(b".", int(at[0]), int(at[0]) + 17)
    whole = dot - int(at[0])
    if dot < 0 or not 1 <= whole <= 16 or not ((words[at - 6] & _PH) == _TS).all():
        return None
    if not ((raw[at + whole] == 46) & (raw[at + whole + 4] == 44)).all():
        return None
    # torch >= 2.13 has the duration on its own line, earlier versions behind the time
    prefix = piece.line(shape.dur_line) + 4 if shape.dur_line != shape.ts_line else at + (whole + 6)
    last = piece.line_end(shape.dur_line)
    last -= raw[last - 1] == 44
    digits = last - prefix - 11
    fine = ((words[prefix] & _SEVEN) == _DUR) & (digits >= 1) & (digits <= 8) & (raw[last - 4] == 46)
    return Numbers(at, whole, digits, last) if fine.all() else None


def _times(piece: Piece, at: Numbers) -> tuple[Offsets, Offsets] | None:
    """(start ns, duration ns) of each event; None unless all have nothing but digits where digits belong."""
    words = piece.words
    micros, fine = up_to_sixteen(words, at.start, at.whole)
    nanos, fine_too = up_to_eight(words, at.start + at.whole + 1, 3)
    if not (fine & fine_too).all():
        return None
    micro, fine = up_to_eight(words, at.last - at.digits - 4, at.digits)
    nano, fine_too = up_to_eight(words, at.last - 3, 3)
    if not (fine & fine_too).all():
        return None
    return micros * 1000 + nanos, micro * 1000 + nano


def _hand_over(every: Batch, into: Collector) -> None:
    present = set(_KIND_OF[np.flatnonzero(np.bincount(every.code, minlength=1))].tolist())
    for number in sorted(present):
        kind = _KINDS[number]
        batch = every.of(kind)
        if kind not in ("gpu", "calls"):
            into.plain(kind, batch.start, batch.duration, batch.key)
            continue
        piece = batch.piece
        begin, end = piece.line(piece.shape.args_line), piece.line_end(piece.shape.args_line)
        if kind == "calls":
            correlation = arguments.of_calls(piece.text, piece.words, begin, end, batch.key, into)
            into.calls(batch.start, batch.duration, batch.key, correlation)
        else:
            found = arguments.of_gpu_events(piece.text, piece.words, begin, end, batch.key, batch.code == _KERNEL, into)
            into.gpu(batch.start, batch.duration, batch.key, *found)
