"""When did the GPU work, on what, and how long did it idle?"""

from __future__ import annotations

import numpy as np

from responder.traces.columns import Bools, GpuEvents, Ints, Trace
from responder.traces.intervals import Set, length, spanned, union
from responder.traces.kernels import CATEGORIES, COLLECTIVE, MEMORY, classify
from responder.traces.views import Busy, Category, Copy

MS = 1e6

CATEGORY_NAMES = tuple(CATEGORIES)
NUMBER = {name: position for position, name in enumerate(CATEGORY_NAMES)}


class Work:
    """The GPU events of one device with what every analysis needs of them."""

    def __init__(self, trace: Trace, device: str | None = None) -> None:
        keys = trace.keys
        gpu = trace.gpu
        if device is not None:
            on_device = np.array([key.process == device for key in keys], np.bool_)
            chosen = on_device[gpu.key] if len(gpu) else np.zeros(0, np.bool_)
            gpu = gpu if chosen.all() else _select(gpu, chosen)
        self.trace = trace
        self.events = gpu
        names: dict[str, int] = {}
        streams: dict[str, int] = {}
        name_of_key = np.array([names.setdefault(key.name, len(names)) for key in keys], np.int32)
        stream_of_key = np.array([streams.setdefault(key.lane, len(streams)) for key in keys], np.int32)
        self.names = list(names)
        self.streams = list(streams)
        self.name: Ints = name_of_key[gpu.key] if len(gpu) else gpu.key
        self.stream: Ints = stream_of_key[gpu.key] if len(gpu) else gpu.key
        used = np.flatnonzero(np.bincount(self.name)).tolist() if len(gpu) else []
        category_of_name = np.full(max(len(self.names), 1), NUMBER["other"], np.int8)
        for number in used:
            category_of_name[number] = NUMBER[classify(self.names[number])]
        self.category: Ints = category_of_name[self.name] if len(gpu) else gpu.key
        self.duration: Ints = gpu.end - gpu.start
        self.sizes: Ints = np.array(trace.sizes, np.int64)
        self.covered: Set = union(gpu.start, gpu.end)
        self.first = int(gpu.start[0]) if len(gpu) else 0
        self.last = int(gpu.end.max()) if len(gpu) else 0

    def gaps(self) -> Set:
        """Idle intervals between the first and the last GPU event."""
        return self.covered[1][:-1], self.covered[0][1:]

    def time_of(self, chosen: Bools) -> int:
        """How long at least one of the chosen events (a mask) ran."""
        return spanned(self.events.start[chosen], self.events.end[chosen])


def _select(gpu: GpuEvents, chosen: Bools) -> GpuEvents:
    return GpuEvents(
        gpu.start[chosen],
        gpu.end[chosen],
        gpu.key[chosen],
        gpu.correlation[chosen],
        gpu.grid[chosen],
        gpu.size[chosen],
    )


def devices(trace: Trace) -> list[str]:
    """Devices with GPU events, the busiest first."""
    if not len(trace.gpu):
        return []
    counts = np.bincount(trace.gpu.key, minlength=len(trace.keys))
    by_device: dict[str, int] = {}
    for number in np.flatnonzero(counts).tolist():
        device = trace.keys[number].process
        by_device[device] = by_device.get(device, 0) + int(counts[number])
    return sorted(by_device, key=lambda device: (-by_device[device], device))


def busy(work: Work, *, reliable: bool) -> Busy:
    """Busy, idle and overlap, all by unions."""
    memory = np.isin(work.category, [NUMBER[name] for name in MEMORY])
    collective = work.category == NUMBER[COLLECTIVE]
    compute = ~memory & ~collective
    span = work.last - work.first
    total = length(work.covered)
    compute_ns, collective_ns = work.time_of(compute), work.time_of(collective)
    both_ns = work.time_of(compute | collective)
    overlap = compute_ns + collective_ns - both_ns
    return Busy(
        span_ms=span / MS,
        busy_ms=total / MS,
        idle_ms=(span - total) / MS,
        idle_share=(span - total) / span if span else 0.0,
        idle_reliable=reliable,
        compute_ms=compute_ns / MS,
        collective_ms=collective_ns / MS,
        memory_ms=work.time_of(memory) / MS,
        overlap_share=overlap / collective_ns if collective_ns else None,
        exposed_collective_ms=(collective_ns - overlap) / MS,
        streams=int(np.count_nonzero(np.bincount(work.stream))),
    )


def categories(work: Work) -> list[Category]:
    """Time by kind of work, largest first."""
    span = max(work.last - work.first, 1)
    rows = []
    for number in np.flatnonzero(np.bincount(work.category)).tolist():
        chosen = work.category == number
        wall = work.time_of(chosen)
        rows.append(
            Category(
                name=CATEGORY_NAMES[number],
                count=int(chosen.sum()),
                sum_ms=int(work.duration[chosen].sum()) / MS,
                wall_ms=wall / MS,
                share=wall / span,
            )
        )
    return sorted(rows, key=lambda row: -row.sum_ms)


def copies(work: Work) -> list[Copy]:
    """Copies and memsets by direction and memory kind, with their bandwidth."""
    rows = []
    for number in np.unique(work.name[np.isin(work.category, [NUMBER[name] for name in MEMORY])]).tolist():
        chosen = work.name == number
        size, time = int(work.sizes[work.events.size[chosen]].sum()), int(work.duration[chosen].sum())
        rows.append(
            Copy(
                name=work.names[number],
                count=int(chosen.sum()),
                bytes=size,
                sum_ms=time / MS,
                gb_per_s=size / time if time and size else None,
            )
        )
    return sorted(rows, key=lambda row: -row.sum_ms)
