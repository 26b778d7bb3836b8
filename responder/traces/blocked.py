"""How long did the CPU thread that feeds the GPU stand still waiting for the GPU?

`cudaStreamSynchronize` alone misleads: a copy from the GPU into pageable host memory is called `cudaMemcpyAsync` and
returns only when it is done. A copy call counts as waiting when it is still running as its copy ends on the GPU, unless
the copy is between pinned or device memory: those are submitted, and may be done before the call returns.
"""

from __future__ import annotations

import numpy as np

from responder.traces.busy import MS, Work
from responder.traces.columns import Bools, Trace
from responder.traces.intervals import Set, length, union
from responder.traces.launches import Linked
from responder.traces.views import Blocked, Kernel


def waits(trace: Trace, work: Work, linked: Linked) -> tuple[Bools, Bools]:
    """Masks over trace.calls: synchronisations, and copies that waited."""
    calls = trace.calls
    if not len(calls):
        nothing = np.zeros(0, np.bool_)
        return nothing, nothing
    is_sync = np.array(["Synchronize" in key.name for key in trace.keys], np.bool_)[calls.key]
    is_copy = np.array(["Memcpy" in key.name for key in trace.keys], np.bool_)
    plain_copy = np.array(["Memcpy" in key.name and "Async" not in key.name for key in trace.keys], np.bool_)
    waited = plain_copy[calls.key].copy()
    known = np.flatnonzero(linked.call >= 0)
    # copies between pinned or device memory are submitted, however soon they are done
    submitted = np.array(["Pinned" in n or "Device -> Device" in n for n in work.names], np.bool_)[work.name]
    copies = known[is_copy[calls.key[linked.call[known]]] & ~submitted[known]]
    rows = linked.call[copies]
    ends_after = calls.end[rows] >= work.events.end[copies]
    waited[rows[ends_after]] = True
    return is_sync, waited & is_copy[calls.key]


def blocked_set(trace: Trace, linked: Linked, masks: tuple[Bools, Bools]) -> Set:
    """When the launching thread was blocked."""
    chosen = (masks[0] | masks[1]) & linked.main_calls
    return union(trace.calls.start[chosen], trace.calls.end[chosen])


def blocked(trace: Trace, work: Work, linked: Linked, masks: tuple[Bools, Bools]) -> Blocked:
    """The split by call; shares are of the GPU's span."""
    calls = trace.calls
    sync, copy = masks
    main = linked.main_calls
    span = max(work.last - work.first, 1)
    both = sync | copy

    def time(chosen: Bools) -> float:
        return length(union(calls.start[chosen], calls.end[chosen])) / MS

    def named(part: str) -> float:
        match = np.array([part in key.name for key in trace.keys], np.bool_)
        return time(sync & main & match[calls.key]) if len(calls) else 0.0

    total = length(blocked_set(trace, linked, masks))
    return Blocked(
        total_ms=total / MS,
        share=total / span,
        synchronize_ms=time(sync & main),
        copy_ms=time(copy & main),
        stream_synchronize_ms=named("StreamSynchronize"),
        event_synchronize_ms=named("EventSynchronize"),
        device_synchronize_ms=named("DeviceSynchronize") + named("CtxSynchronize"),
        other_threads_ms=time(both & ~main),
        calls=_by_name(trace, both & main, total),
    )


def _by_name(trace: Trace, chosen: Bools, total: int) -> list[Kernel]:
    calls = trace.calls
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(chosen).tolist():
        groups.setdefault(trace.keys[calls.key[row]].name, []).append(int(calls.end[row] - calls.start[row]))
    rows = [
        Kernel(
            name=name,
            category="",
            count=len(times),
            sum_ms=sum(times) / MS,
            median_us=float(np.median(times)) / 1e3,
            max_us=max(times) / 1e3,
            share=sum(times) / max(total, 1),
        )
        for name, times in groups.items()
    ]
    return sorted(rows, key=lambda row: -row.sum_ms)
