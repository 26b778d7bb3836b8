"""What is in an nsys SQLite export? The same events as in a Kineto trace, under other names."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from responder.traces.collect import Collector, key_of
from responder.traces.rank import Analysed, analyse_trace
from responder.traces.source import UnreadableTrace

BATCH = 1 << 16

_COPY_KINDS = {1: "HtoD", 2: "DtoH", 3: "HtoA", 4: "AtoH", 8: "DtoD", 9: "HtoH", 10: "PtoP"}
_MEMORY_KINDS = {0: "Pageable", 1: "Pinned", 2: "Device", 3: "Array", 4: "Managed", 5: "Device", 6: "Managed"}
_PLACE = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid")
_RANGES = (59, 60)
"""NVTX push/pop and start/end ranges."""

_VERSION = re.compile(r"_v\d+$|_ptsz$")


def read(path: Path) -> list[Analysed]:
    """Analyse an export; UnreadableTrace if it is another database or damaged."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as base:
            return _read(base, path)
    except sqlite3.Error as broken:
        raise UnreadableTrace(f"{path}: not a readable nsys SQLite export: {broken}") from broken


def _read(base: sqlite3.Connection, path: Path) -> list[Analysed]:
    base.text_factory = lambda raw: raw.decode("utf-8", "replace")
    tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    if not tables & {"CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS"}:
        raise UnreadableTrace(f"{path}: a SQLite file without nsys tables")
    strings = dict(base.execute("SELECT id, value FROM StringIds")) if "StringIds" in tables else {}
    reader = _Reader(base, tables, strings)
    reader.kernels()
    reader.copies()
    reader.graphs()
    reader.calls()
    reader.ranges()
    trace = reader.into.finish()
    trace.bytes = path.stat().st_size
    trace.notes += reader.notes
    return analyse_trace(trace, path, "nsys SQLite")


class _Reader:
    def __init__(self, base: sqlite3.Connection, tables: set[str], strings: dict[int, str]) -> None:
        self.base, self.tables, self.strings = base, tables, strings
        self.into = Collector()
        self.notes: list[str] = []

    def _rows(self, table: str, wanted: Sequence[str]) -> Iterator[list[tuple[object, ...]]]:
        """Batches of rows; a column this version does not have is NULL."""
        if table not in self.tables:
            return
        present = {row[1] for row in self.base.execute(f"PRAGMA table_info({table})")}
        columns = ", ".join(name if name in present else "NULL" for name in wanted)
        cursor = self.base.execute(f"SELECT {columns} FROM {table}")
        while batch := cursor.fetchmany(BATCH):
            yield batch

    def _gpu(self, category: str, rows: list[tuple[int, int, int, int, int, int]]) -> None:
        if rows:
            self.into.count(category, len(rows))
            self.into.gpu(*(np.array(column, np.int64) for column in zip(*rows, strict=True)))

    def kernels(self) -> None:
        wanted = (*_PLACE, "demangledName", "shortName", "gridX", "gridY", "gridZ")
        for batch in self._rows("CUPTI_ACTIVITY_KIND_KERNEL", wanted):
            rows = []
            for start, end, device, stream, correlation, pid, name, brief, x, y, z in batch:
                if not isinstance(start, int) or not isinstance(end, int) or end < start:
                    self.into.bad_events += 1
                    continue
                text = self.strings.get(_int(name)) or self.strings.get(_int(brief)) or str(name)
                grid = f"{x}, {y}, {z}".encode()
                known = self.into.grid_numbers.get(grid)
                number = self.into.grid_number(grid) if known is None else known
                key = self.into.keys.number(key_of(text, device, stream))
                rows.append((start, end - start, key, _unique(correlation, pid), number, 0))
            self._gpu("kernel", rows)

    def copies(self) -> None:
        wanted = (*_PLACE, "bytes", "copyKind", "srcKind", "dstKind")
        for batch in self._rows("CUPTI_ACTIVITY_KIND_MEMCPY", wanted):
            rows = []
            for start, end, device, stream, correlation, pid, size, kind, source, target in batch:
                if not isinstance(start, int) or not isinstance(end, int) or end < start:
                    self.into.bad_events += 1
                    continue
                places = f"{_MEMORY_KINDS.get(_int(source), '?')} -> {_MEMORY_KINDS.get(_int(target), '?')}"
                name = f"Memcpy {_COPY_KINDS.get(_int(kind), '?')} ({places})"
                key = self.into.keys.number(key_of(name, device, stream))
                rows.append((start, end - start, key, _unique(correlation, pid), -1, _int(size)))
            self._gpu("gpu_memcpy", rows)
        for batch in self._rows("CUPTI_ACTIVITY_KIND_MEMSET", (*_PLACE, "bytes")):
            rows = []
            for start, end, device, stream, correlation, pid, size in batch:
                if isinstance(start, int) and isinstance(end, int) and end >= start:
                    key = self.into.keys.number(key_of("Memset (Device)", device, stream))
                    rows.append((start, end - start, key, _unique(correlation, pid), -1, _int(size)))
            self._gpu("gpu_memset", rows)

    def graphs(self) -> None:
        wanted = (*_PLACE, "graphId")
        seen = 0
        for batch in self._rows("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", wanted):
            rows = []
            for start, end, device, stream, correlation, pid, graph in batch:
                if isinstance(start, int) and isinstance(end, int) and end >= start:
                    key = self.into.keys.number(key_of(f"CUDA graph {graph}", device, stream))
                    rows.append((start, end - start, key, _unique(correlation, pid), -1, 0))
            seen += len(rows)
            self._gpu("graph", rows)
        if seen:
            self.notes.append(
                f"{seen} CUDA-graph replays were recorded whole: record with --cuda-graph-trace=node to see kernels"
            )

    def calls(self) -> None:
        wanted = ("start", "end", "globalTid", "correlationId", "nameId")
        for batch in self._rows("CUPTI_ACTIVITY_KIND_RUNTIME", wanted):
            rows = []
            for start, end, thread, correlation, name in batch:
                if isinstance(start, int) and isinstance(end, int) and end >= start:
                    text = _VERSION.sub("", self.strings.get(_int(name), str(name)))
                    pid, tid = _process(thread), _int(thread) & 0xFFFFFF
                    key = self.into.keys.number(key_of(text, pid, tid))
                    rows.append((start, end - start, key, _unique(correlation, thread)))
            if rows:
                self.into.count("cuda_runtime", len(rows))
                self.into.calls(*(np.array(column, np.int64) for column in zip(*rows, strict=True)))

    def ranges(self) -> None:
        wanted = ("start", "end", "globalTid", "eventType", "text", "textId")
        for batch in self._rows("NVTX_EVENTS", wanted):
            rows = []
            for start, end, thread, kind, text, number in batch:
                if not isinstance(start, int) or not isinstance(end, int) or end < start or kind not in _RANGES:
                    continue
                name = str(text) if text is not None else self.strings.get(_int(number), "")
                key = self.into.keys.number(key_of(name, _process(thread), _int(thread) & 0xFFFFFF))
                rows.append((start, end - start, key))
            if rows:
                self.into.count("nvtx", len(rows))
                self.into.plain("marks", *(np.array(column, np.int64) for column in zip(*rows, strict=True)))


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _process(thread: object) -> int:
    """nsys packs the process into a global thread id."""
    return (_int(thread) >> 24) & 0xFFFFFF


def _unique(correlation: object, owner: object) -> int:
    """Correlation numbers are per process; a recording of several processes would mix them."""
    if not isinstance(correlation, int) or correlation < 0:
        return -1
    return (_process(owner) << 38) + (correlation & ((1 << 38) - 1))
