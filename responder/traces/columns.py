"""What do we keep of a trace while reading it? Columns, not objects: a few dozen bytes per event we need.

Times are int64 nanoseconds since `Trace.epoch_ns`. `key` is a number for (name, process, lane): the lane is a GPU
stream for GPU events and a thread for CPU events; the process is the device or the pid.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
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
        self.guesses: dict[int, tuple[bytes, int]] = {}
        """Signature of a long key's text -> that text with its line end, and its number."""
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


class Column:
    """An int64 column that grows by pieces and is joined once."""

    def __init__(self) -> None:
        self._pieces: list[Ints] = []

    def extend(self, values: Ints) -> None:
        """Append an array."""
        self._pieces.append(values)

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def take(self) -> Ints:
        """The whole column; the pieces are dropped."""
        joined = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int64)
        self._pieces = []
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
    """Bytes of a copy, elements of a collective, 0 otherwise."""

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
