"""How do pieces of a trace become columns? The one place that both readers (lines and JSON) hand events to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from responder.traces.columns import Bools, Column, CpuEvents, GpuEvents, Ints, Key, Keys, OpTotals, Trace
from responder.traces.kernels import is_collective
from responder.traces.spellings import Spellings

LAUNCHING = ("Launch", "Memcpy", "Memset", "Enqueue")
"""Parts of the names of calls that put work on a GPU."""

MAX_GRIDS = 20_000
"""Distinct launch grids remembered; a file with more has no use for them."""

MAX_FRAMES = 60_000
"""Python frames kept; beyond it only those of 10 ms and more."""

OPS_AT_ONCE = 1 << 16
"""Operators gathered before they are reduced to totals: large enough to be cheap, small enough not to matter."""


class Collector:
    """Growing columns of one trace."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.spellings = Spellings(self.keys)
        self.grid_numbers: dict[bytes, int] = {}
        self.counts: Counter[str] = Counter()
        self.bad_events = 0
        self._collective = _Flags(self.keys, is_collective)
        self._linking = _Flags(self.keys, launches_work)
        self._sizes: dict[int, int] = {0: 0}
        wide, narrow = np.int64, np.int32
        self._gpu = _columns(wide, wide, narrow, wide, narrow, narrow)
        self._calls = _columns(wide, wide, narrow, wide)
        self._plain = {kind: _columns(wide, wide, narrow) for kind in ("marks", "gpu_marks", "frames")}
        self._ops = OpReducer(self.keys)

    def count(self, category: str, events: int) -> None:
        """Note that so many events of this category were seen."""
        if events:
            self.counts[category] += events

    def grid_number(self, grid: bytes) -> int:
        """A number for a launch grid, -1 once there are too many different ones."""
        if len(self.grid_numbers) >= MAX_GRIDS:
            return -1
        number = len(self.grid_numbers)
        self.grid_numbers[bytes(grid)] = number
        return number

    def collective(self, keys: Ints) -> Bools:
        """Which kernels are collectives."""
        return self._collective.of(keys)

    def links(self, keys: Ints) -> Bools:
        """Which calls launch something, so that their correlation matters."""
        return self._linking.of(keys)

    def gpu(self, start: Ints, dur: Ints, key: Ints, correlation: Ints, grid: Ints, size: Ints) -> None:
        """GPU events; sizes are bytes or elements."""
        if size.any():
            distinct, inverse = np.unique(size, return_inverse=True)
            known = [self._sizes.setdefault(one, len(self._sizes)) for one in distinct.tolist()]
            size = np.array(known, np.int32)[inverse]
        for column, values in zip(self._gpu, (start, dur, key, correlation, grid, size), strict=True):
            column.extend(values)

    def calls(self, start: Ints, dur: Ints, key: Ints, correlation: Ints) -> None:
        """CUDA runtime and driver calls."""
        for column, values in zip(self._calls, (start, dur, key, correlation), strict=True):
            column.extend(values)

    def plain(self, kind: str, start: Ints, dur: Ints, key: Ints) -> None:
        """CPU operators, annotations, Python frames."""
        if kind == "ops":
            self._ops.add(start, dur, key)
            return
        if kind == "frames" and len(self._plain["frames"][0]) > MAX_FRAMES:
            long = dur >= 10_000_000
            start, dur, key = start[long], dur[long], key[long]
        for column, values in zip(self._plain[kind], (start, dur, key), strict=True):
            column.extend(values)

    def finish(self) -> Trace:
        """Everything joined, sorted by start, relative to the first event."""
        outer = self._ops.finish()
        gpu = _sorted([c.take() for c in self._gpu])
        calls = _sorted([c.take() for c in self._calls])
        gpu[3], calls[3] = _narrowed(gpu[3]), _narrowed(calls[3])
        plain = {kind: _sorted([c.take() for c in columns]) for kind, columns in self._plain.items()}
        timed = [group for group in (gpu, calls, outer, plain["marks"]) if len(group[0])]
        epoch = min((int(group[0][0]) for group in timed), default=0)
        last = max((int((group[0] + group[1]).max()) for group in timed), default=0)

        def shifted(group: list[Ints]) -> list[Ints]:
            group[0] -= epoch
            group[1] += group[0]
            return group

        gpu, calls, outer = shifted(gpu), shifted(calls), shifted(outer)
        plain = {kind: shifted(group) for kind, group in plain.items()}
        grids = [grid.decode("utf-8", "replace") for grid in self.grid_numbers]
        return Trace(
            epoch_ns=epoch,
            keys=self.keys.all,
            gpu=GpuEvents(*gpu),
            calls=CpuEvents(*calls),
            ops=_without_correlation(outer),
            marks=_without_correlation(plain["marks"]),
            gpu_marks=_without_correlation(plain["gpu_marks"]),
            frames=_without_correlation(plain["frames"]),
            op_totals=self._ops.totals(),
            grids=grids,
            sizes=list(self._sizes),
            counts=dict(self.counts),
            bad_events=self.bad_events,
            last_ns=last - epoch,
        )


def _without_correlation(group: list[Ints]) -> CpuEvents:
    return CpuEvents(group[0], group[1], group[2], np.zeros(0, np.int64))


def _sorted(group: list[Ints]) -> list[Ints]:
    start = group[0]
    if len(start) < 2 or bool((start[1:] >= start[:-1]).all()):
        return group
    order = np.argsort(start, kind="stable")
    for position, column in enumerate(group):
        group[position] = column[order]
    return group


def _narrowed(column: Ints) -> Ints:
    """Half as wide where every value fits."""
    limits = np.iinfo(np.int32)
    fits = len(column) == 0 or (int(column.min()) >= limits.min and int(column.max()) <= limits.max)
    return column.astype(np.int32) if fits else column


def _columns(*dtypes: type[np.signedinteger[Any]]) -> tuple[Column, ...]:
    return tuple(Column(dtype) for dtype in dtypes)


class _Flags:
    """A property of names, asked once per name."""

    def __init__(self, keys: Keys, ask: Callable[[str], bool]) -> None:
        self._keys, self._ask = keys, ask
        self._flags = np.zeros(0, np.bool_)

    def of(self, keys: Ints) -> Bools:
        """The property of each event by its key."""
        fresh = self._keys.all[len(self._flags) :]
        if fresh:
            self._flags = np.concatenate((self._flags, np.array([self._ask(key.name) for key in fresh], np.bool_)))
        return self._flags[keys]


def launches_work(name: str) -> bool:
    """Whether a runtime or driver call of this name puts work on the GPU."""
    return any(part in name for part in LAUNCHING)


class OpReducer:
    """CPU operators to totals per name and outermost intervals, a batch at a time.

    Operators nest. An operator that is still open at the end of a batch is carried into the next one, so that its
    children there are found; totals are sums, so a parent's own time may shrink later.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._waiting: list[tuple[Ints, Ints, Ints]] = []
        self._waiting_rows = 0
        self._carried = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._outer = _columns(np.int64, np.int64, np.int32)
        self._count = np.zeros(0, np.int64)
        self._total = np.zeros(0, np.int64)
        self._self = np.zeros(0, np.int64)
        self._lanes: dict[tuple[str, str], int] = {}
        self._lane_of = np.zeros(0, np.int64)

    def add(self, start: Ints, dur: Ints, key: Ints) -> None:
        """One more piece."""
        self._waiting.append((start, dur, key))
        self._waiting_rows += len(start)
        if self._waiting_rows >= OPS_AT_ONCE:
            self._reduce()

    def _reduce(self) -> None:
        if not self._waiting:
            return
        fresh = [np.concatenate(columns) for columns in zip(*self._waiting, strict=True)]
        self._waiting, self._waiting_rows = [], 0
        fresh_from = len(self._carried[0])
        start, dur, key = (np.concatenate(pair) for pair in zip(self._carried, fresh, strict=True))
        is_fresh = np.arange(len(start)) >= fresh_from
        self._grow()
        lane = self._lane_of[key]
        order = np.lexsort((-dur, start, lane))
        start, dur, key, lane, is_fresh = start[order], dur[order], key[order], lane[order], is_fresh[order]
        end = start + dur
        parent = parents(start, end, lane)
        size = len(self._count)
        self._count += np.bincount(key[is_fresh], minlength=size).astype(np.int64)
        added = _sum_by(key[is_fresh], dur[is_fresh], size)
        self._total += added
        inner = is_fresh & (parent >= 0)
        self._self += added - _sum_by(key[parent[inner]], dur[inner], size)
        outermost = is_fresh & (parent < 0)
        for column, values in zip(self._outer, (start, dur, key), strict=True):
            column.extend(values[outermost])
        newest = np.full(int(lane.max()) + 1, np.iinfo(np.int64).min)
        np.maximum.at(newest, lane, start)
        still_open = end > newest[lane]
        self._carried = (start[still_open], dur[still_open], key[still_open])

    def _grow(self) -> None:
        missing = len(self._keys.all) - len(self._count)
        if missing <= 0:
            return
        padding = np.zeros(missing, np.int64)
        self._count, self._total, self._self = (
            np.concatenate((known, padding)) for known in (self._count, self._total, self._self)
        )
        lanes = [self._lanes.setdefault((key.process, key.lane), len(self._lanes)) for key in self._keys.all[-missing:]]
        self._lane_of = np.concatenate((self._lane_of, np.array(lanes, np.int64)))

    def finish(self) -> list[Ints]:
        """[start, duration, key] of the outermost operators, in start order."""
        self._reduce()
        return _sorted([column.take() for column in self._outer])

    def totals(self) -> OpTotals:
        """Totals of every key that was an operator."""
        rows = np.flatnonzero(self._count)
        return OpTotals(rows, self._count[rows], self._total[rows], self._self[rows])


def _sum_by(key: Ints, values: Ints, size: int) -> Ints:
    """Exact integer sums per key (bincount's weights are floats: exact only below 2**53 ns, 104 days)."""
    return np.bincount(key, weights=values, minlength=size).astype(np.int64)


def parents(start: Ints, end: Ints, lane: Ints) -> Ints:
    """Index of the innermost enclosing event of the same lane, -1 for outermost; input sorted by (lane, start, -end).

    The depth of an event is the number of earlier events of its lane that have not ended yet; its parent is then the
    last earlier event that is one less deep.
    """
    count = len(start)
    parent = np.full(count, -1, np.int64)
    if not count:
        return parent
    # shift lanes apart so that one searchsorted serves all of them
    low = int(start.min())
    width = int(end.max()) - low + 1
    begin, finish = start - low + lane * width, end - low + lane * width
    ended = np.searchsorted(np.sort(finish), begin, side="right")
    depth = np.arange(count) - ended
    np.maximum(depth, 0, out=depth)
    above = np.flatnonzero(depth == 0)
    for level in range(1, int(depth.max()) + 1):
        rows = np.flatnonzero(depth == level)
        if not len(rows) or not len(above):
            break
        place = np.searchsorted(above, rows) - 1
        parent[rows[place >= 0]] = above[place[place >= 0]]
        above = rows
    # overlap without nesting (broken clocks): a parent must enclose its child
    wrong = (parent >= 0) & ((end[parent] < end) | (lane[parent] != lane))
    parent[wrong] = -1
    return parent


def key_of(name: str, process: object, lane: object) -> Key:
    """A key from decoded JSON values."""
    return Key(name, str(process), str(lane))
