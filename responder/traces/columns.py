"""What do we keep of a trace while reading it? Columns, not objects: a few dozen bytes per event we need.

Times are int64 nanoseconds since `Trace.epoch_ns`. `key` is a number for (name, process, lane): the lane is a GPU
stream for GPU events and a thread for CPU events; the process is the device or the pid.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.signedinteger[Any]]
"""Times are 64 bits wide, numbers of keys, grids and sizes 32."""

Bools = NDArray[np.bool_]

NO_CORRELATION = -1
NO_GRID = -1


@dataclass(frozen=True)
class Key:
    """Who an event is: its name and where it ran."""

    name: str
    process: str
    lane: str


class Keys:
    """Numbers for keys. Raw bytes of the file are mapped once, so a name is decoded once however often it occurs."""

    def __init__(self) -> None:
        self.all: list[Key] = []
        self.by_text: dict[bytes, int] = {}
        """Exact bytes between the name's opening quote and the end of the `tid` line."""
        self._by_key: dict[Key, int] = {}

    def number(self, key: Key) -> int:
        """The number of this key, new or known."""
        found = self._by_key.get(key)
        if found is None:
            found = self._by_key[key] = len(self.all)
            self.all.append(key)
        return found

    _TAIL = re.compile(rb'^(.*)",\s*"pid": ("?[^",\n]*"?),\s*"tid": ("?[^",\n]*"?),?$', re.DOTALL)

    def learn(self, text: bytes) -> int:
        """Number for a key seen as raw text; -1 if the text is not of that shape."""
        match = self._TAIL.match(text)
        if match is None:
            return -1
        name, pid, tid = match.groups()
        number = self.number(Key(unescape(name), pid.decode().strip('"'), tid.decode().strip('"')))
        self.by_text[bytes(text)] = number
        return number


def unescape(name: bytes) -> str:
    """A JSON string's content as text; names that are not valid JSON are taken as they are."""
    if b"\\" in name:
        try:
            return str(json.loads(b'"' + name + b'"'))
        except ValueError:
            pass
    return name.decode("utf-8", "replace")


BLOCK = 1 << 16
"""Rows of one block: large enough that the allocator gives its memory back when the block goes."""


class Column:
    """A column that grows by blocks and is joined once."""

    def __init__(self, dtype: type[np.signedinteger[Any]] = np.int64) -> None:
        self._dtype = dtype
        self._blocks: list[NDArray[np.signedinteger[Any]]] = []
        self._used = BLOCK
        """Rows used of the last block."""

    def extend(self, values: Ints) -> None:
        """Append an array."""
        begin = 0
        while begin < len(values):
            if self._used == BLOCK:
                self._blocks.append(np.empty(BLOCK, self._dtype))
                self._used = 0
            fits = min(len(values) - begin, BLOCK - self._used)
            self._blocks[-1][self._used : self._used + fits] = values[begin : begin + fits]
            self._used += fits
            begin += fits

    def __len__(self) -> int:
        return len(self._blocks) * BLOCK - (BLOCK - self._used) if self._blocks else 0

    def take(self) -> Ints:
        """The whole column; the blocks go as they are copied."""
        joined = np.empty(len(self), self._dtype)
        for number in range(len(self._blocks)):
            block, self._blocks[number] = self._blocks[number], self._blocks[number][:0]
            rows = joined[number * BLOCK : (number + 1) * BLOCK]
            rows[:] = block[: len(rows)]
        self._blocks, self._used = [], BLOCK
        return joined


@dataclass
class GpuEvents:
    """Kernels, copies and memsets in start order."""

    start: Ints
    end: Ints
    key: Ints
    correlation: Ints
    """Links a GPU event to the runtime call that launched it; NO_CORRELATION if the file does not say."""
    grid: Ints
    """Index into Trace.grids; NO_GRID for copies."""
    size: Ints
    """Index into Trace.sizes: bytes of a copy, elements of a collective; 0 for neither."""

    def __len__(self) -> int:
        return len(self.start)


@dataclass
class CpuEvents:
    """CPU intervals of one kind in start order."""

    start: Ints
    end: Ints
    key: Ints
    correlation: Ints

    def __len__(self) -> int:
        return len(self.start)


@dataclass
class OpTotals:
    """CPU operators by key: how often, inclusive and exclusive nanoseconds."""

    key: Ints
    count: Ints
    total: Ints
    self_time: Ints


@dataclass
class Trace:
    """All that is kept of one trace file."""

    epoch_ns: int
    keys: list[Key]
    gpu: GpuEvents
    calls: CpuEvents
    """CUDA runtime and driver calls."""
    ops: CpuEvents
    """Outermost CPU operators only (for what the CPU did when the GPU idled)."""
    marks: CpuEvents
    """User annotations on the CPU: vLLM's steps and phases."""
    gpu_marks: CpuEvents
    frames: CpuEvents
    """Python frames of at least a millisecond, and module frames (`nn.Module: X_3`)."""
    op_totals: OpTotals
    grids: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=lambda: [0])
    meta: dict[str, object] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Events by category as the file names it."""
    bad_events: int = 0
    bytes: int = 0
    layout: str = ""
    notes: list[str] = field(default_factory=list)
    """Why the facts are partial, in words; empty for a complete file."""
    first_ns: int = 0
    last_ns: int = 0
