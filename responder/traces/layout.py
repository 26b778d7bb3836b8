"""Where does one event of a trace end and the next begin? Three writers, three layouts, and everything else.

`MULTI`   torch up to 2.12: several keys a line, an event opens with `  {` and closes with `  },`
`SINGLE`  torch 2.13: one key a line
`COMPACT` torch 2.13 with use_python_export: one event a line, no spaces
`OTHER`   any other JSON (Ascend's trace_view.json, json.dump of an edited trace): the depth of the braces decides
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Layout(StrEnum):
    """Who wrote the file, as far as its line breaks tell."""

    MULTI = "torch<=2.12"
    SINGLE = "torch>=2.13"
    COMPACT = "python export"
    OTHER = "other JSON"


@dataclass(frozen=True)
class Start:
    """Where the events begin in the head of a file, and how they are laid out."""

    at: int
    """Offset of the first event's opening brace (of its line's indentation in the line layouts)."""
    layout: Layout
    header: bytes
    """What stands before the events: device properties, rank, versions."""


EVENTS_KEY = b'"traceEvents"'

_OPENINGS = (
    (b'\n  {\n    "ph": "X", "cat": "', Layout.MULTI),
    (b'\n  {\n    "ph": "X",\n    "cat": "', Layout.SINGLE),
    (b'\n{"ph":"X","cat":"', Layout.COMPACT),
)

_SEPARATORS = {Layout.MULTI: b"\n  },\n", Layout.SINGLE: b"\n  },\n", Layout.COMPACT: b"},\n"}


def find_start(head: bytes) -> Start | None:
    """Where events start, or None when `head` holds no list of trace events (yet)."""
    key = head.find(EVENTS_KEY)
    if key < 0:
        stripped = head.lstrip(b"\xef\xbb\xbf \r\n\t")
        if not stripped.startswith(b"[") or b'"ph"' not in head:
            return None
        open_bracket = head.index(b"[")
    else:
        open_bracket = head.find(b"[", key)
        if open_bracket < 0:
            return None
    found = [(head.find(opening, open_bracket), layout) for opening, layout in _OPENINGS]
    seen = sorted((at, layout) for at, layout in found if at >= 0)
    layout = seen[0][1] if seen else Layout.OTHER
    brace = head.find(b"{", open_bracket)
    if brace < 0:
        return None
    at = head.rfind(b"\n", open_bracket, brace) + 1 if layout in (Layout.MULTI, Layout.SINGLE) else brace
    return Start(at if at > 0 else brace, layout, head[:open_bracket])


def last_boundary(chunk: bytes, layout: Layout) -> int:
    """Offset just behind the last complete event of `chunk` (its separator included), 0 when none is complete."""
    if layout is Layout.OTHER:
        return last_object(chunk)
    separator = _SEPARATORS[layout]
    at = chunk.rfind(separator)
    if layout is Layout.COMPACT:
        # a `},` at a line end could only be a raw newline inside a broken name; the next line decides
        while at >= 0 and chunk[at + 3 : at + 4] not in (b"{", b""):
            at = chunk.rfind(separator, 0, at)
    return at + len(separator) if at >= 0 else 0


def last_object(chunk: bytes) -> int:
    """Offset behind the last brace that closes a top-level object of `chunk`, by brace depth outside strings."""
    depth = _depth(np.frombuffer(chunk, np.uint8))
    closes = np.flatnonzero((depth[1:] == 0) & (depth[:-1] == 1))
    return int(closes[-1]) + 2 if len(closes) else 0


def top_level_objects(chunk: bytes) -> list[tuple[int, int]]:
    """(start, end) of every complete top-level object in `chunk`."""
    depth = _depth(np.frombuffer(chunk, np.uint8))
    before = np.concatenate(([0], depth[:-1]))
    starts = np.flatnonzero((depth == 1) & (before == 0))
    ends = np.flatnonzero((depth == 0) & (before == 1)) + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=False))


def _depth(text: np.ndarray) -> np.ndarray:
    """Brace depth after each byte, braces inside strings not counted."""
    if not len(text):
        return np.zeros(0, np.int32)
    quote = text == ord('"')
    backslash = text == ord("\\")
    if backslash.any():
        # a quote is escaped when the run of backslashes before it has odd length
        plain = np.flatnonzero(~backslash)
        last_plain = np.full(len(text), -1, np.int64)
        last_plain[plain] = plain
        last_plain = np.maximum.accumulate(last_plain)
        run = np.arange(len(text)) - last_plain
        quote[1:] &= run[:-1] % 2 == 0
    inside = np.logical_xor.accumulate(quote)
    step = np.zeros(len(text), np.int8)
    step[(text == ord("{")) & ~inside] = 1
    step[(text == ord("}")) & ~inside] = -1
    return np.cumsum(step, dtype=np.int32)
