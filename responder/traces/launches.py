"""Which CPU call launched which GPU work, and was the GPU waiting for it?

Calls and GPU events share a correlation number; in a CUDA-graph replay all kernels share the number of the one
cudaGraphLaunch and have no call of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from responder.traces.busy import MS, Work
from responder.traces.collect import launches_work
from responder.traces.columns import Bools, CpuEvents, Ints, Trace
from responder.traces.views import Launches, Waiting

ORDINARY_PAUSE_NS = 30_000
"""Pause between two queued kernels that needs no explanation. HTA's default of 30, which its documentation calls
nanoseconds and its code compares with microseconds; taken as it works, so that numbers compare."""

DELAY_OUTLIER_NS = 100_000
QUEUE_LIMIT = 1024
"""Launches a CUDA stream takes before a launch call blocks."""


@dataclass
class Linked:
    """GPU events with their launch calls."""

    call: Ints
    """Row in trace.calls, or -1."""
    launched: Ints
    """Start of the launch call, or the event's own start if the call is not in the trace."""
    in_graph: Bools
    """Mask: part of a CUDA-graph replay."""
    main_thread: tuple[str, str] | None
    """(process, thread) that launches most."""
    main_calls: Bools
    """Mask over trace.calls: made by that thread."""


def link(trace: Trace, work: Work) -> Linked:
    """Match GPU events with calls by correlation."""
    calls, gpu = trace.calls, work.events
    launching = np.array([launches_work(key.name) for key in trace.keys], np.bool_)
    candidates = np.zeros(0, np.int32)
    if len(calls):
        candidates = np.flatnonzero(launching[calls.key] & (calls.correlation >= 0)).astype(np.int32)
    call = np.full(len(gpu), -1, np.int32)
    if len(candidates) and len(gpu):
        by_number = candidates[np.argsort(calls.correlation[candidates], kind="stable")]
        numbers = calls.correlation[by_number]
        place = np.searchsorted(numbers, gpu.correlation)
        np.minimum(place, len(numbers) - 1, out=place)
        hit = (numbers[place] == gpu.correlation) & (gpu.correlation >= 0)
        call[hit] = by_number[place[hit]]
        del by_number, numbers, place, hit
    known = call >= 0
    launched = gpu.start.copy()
    launched[known] = calls.start[call[known]]
    is_graph = np.array(["GraphLaunch" in key.name for key in trace.keys], np.bool_)
    in_graph = np.zeros(len(gpu), np.bool_)
    in_graph[known] = is_graph[calls.key[call[known]]]
    thread, mask = _main_thread(trace, calls, candidates)
    return Linked(call, launched, in_graph, thread, mask)


def _main_thread(trace: Trace, calls: CpuEvents, candidates: Ints) -> tuple[tuple[str, str] | None, Bools]:
    rows = calls.key[candidates] if len(candidates) else calls.key
    if not len(rows):
        return None, np.zeros(len(calls), np.bool_)
    counts = np.bincount(rows, minlength=len(trace.keys))
    by_thread: dict[tuple[str, str], int] = {}
    for number in np.flatnonzero(counts).tolist():
        key = trace.keys[number]
        by_thread[key.process, key.lane] = by_thread.get((key.process, key.lane), 0) + int(counts[number])
    thread = max(by_thread, key=lambda which: (by_thread[which], which))
    mine = np.array([(key.process, key.lane) == thread for key in trace.keys], np.bool_)
    return thread, mine[calls.key]


def waiting(work: Work, linked: Linked) -> list[Waiting]:
    """Idle time of each stream by what the next event had been waiting for."""
    rows = []
    gpu = work.events
    for number in np.unique(work.stream).tolist():
        mine = np.flatnonzero(work.stream == number).astype(np.int32)
        before = gpu.end[mine[:-1]]
        mine = mine[1:]
        idle = gpu.start[mine] - before
        real = idle > 0
        late = (linked.call[mine] >= 0) & (linked.launched[mine] > before) & real
        brief = ~late & (idle < ORDINARY_PAUSE_NS) & real
        rest = real & ~late & ~brief
        rows.append(
            Waiting(
                stream=work.streams[number],
                host_wait_ms=int(idle[late].sum()) / MS,
                kernel_wait_ms=int(idle[brief].sum()) / MS,
                other_ms=int(idle[rest].sum()) / MS,
            )
        )
    return sorted(rows, key=lambda row: -(row.host_wait_ms + row.other_ms))


def _launch_bound(work: Work, linked: Linked) -> float | None:
    """Share of the span in which the device idled and the work that ended the gap was launched only during it."""
    if not len(linked.call) or not bool((linked.call >= 0).any()):
        return None
    begin, finish = work.gaps()
    if not len(begin):
        return 0.0
    ends_gap = np.searchsorted(work.events.start, finish)
    launched = linked.launched[ends_gap]
    known = linked.call[ends_gap] >= 0
    waited = np.where(known, np.clip(np.minimum(launched, finish) - begin, 0, None), 0)
    return float(waited.sum() / max(work.last - work.first, 1))


def launches(trace: Trace, work: Work, linked: Linked) -> Launches:
    """Launch statistics; delays are of kernels launched one by one, for graph kernels have no call of their own."""
    longest, full_ns = _queue(work, linked)
    gpu, known = work.events, linked.call >= 0
    single = known & ~linked.in_graph
    call_time = trace.calls.end[linked.call[single]]
    delay = gpu.start[single]
    delay -= call_time
    np.maximum(delay, 0, out=delay)
    call_time -= linked.launched[single]
    short, late = int((work.duration[single] < call_time).sum()), int((delay > DELAY_OUTLIER_NS).sum())
    graph_calls = _distinct(linked.call[linked.in_graph])
    graph_names = [position for position, key in enumerate(trace.keys) if "GraphLaunch" in key.name]
    graph_launches = int(np.isin(trace.calls.key, graph_names).sum()) if len(trace.calls) else 0
    in_graph = int(linked.in_graph.sum())
    return Launches(
        launches=_distinct(linked.call[known]),
        matched=int(known.sum()),
        launch_bound_share=_launch_bound(work, linked),
        short_kernels=short,
        delay_median_us=float(np.median(delay, overwrite_input=True)) / 1e3 if len(delay) else None,
        delay_p99_us=float(np.percentile(delay, 99, overwrite_input=True)) / 1e3 if len(delay) else None,
        delay_outliers=late,
        call_median_us=float(np.median(call_time, overwrite_input=True)) / 1e3 if len(call_time) else None,
        graph_launches=graph_launches,
        graph_kernels=in_graph,
        kernels_per_graph=in_graph / graph_calls if graph_calls else None,
        longest_queue=longest,
        full_queue_ms=full_ns / MS,
    )


def _distinct(rows: Ints) -> int:
    """How many different rows there are; marking them costs a tenth of sorting them."""
    return int(np.count_nonzero(np.bincount(rows))) if len(rows) else 0


def _queue(work: Work, linked: Linked) -> tuple[int, int]:
    """(most launches outstanding at once on one stream, ns with a full queue); a graph counts as one launch."""
    longest = full = 0
    for number in np.unique(work.stream[linked.call >= 0]).tolist():
        mine = np.flatnonzero((linked.call >= 0) & (work.stream == number)).astype(np.int32)
        # the first event of each call; calls are in start order, and so are launches
        first = np.full(int(linked.call[mine].max()) + 1, -1, np.int32)
        first[linked.call[mine[::-1]]] = mine[::-1]
        rows = first[first >= 0]
        launched, started = linked.launched[rows], np.sort(work.events.start[rows])
        # how many are outstanding just after each launch: one that starts at that instant is not
        depth = np.arange(1, len(rows) + 1) - np.searchsorted(started, launched, side="right")
        longest = max(longest, int(depth.max(initial=0)))
        if longest >= QUEUE_LIMIT:
            full += _full_time(launched, started)
    return longest, full


def _full_time(launched: Ints, started: Ints) -> int:
    """Time with so many launches outstanding that the next one blocks."""
    when = np.concatenate((launched, started))
    step = np.repeat(np.array([1, -1]), len(launched))
    order = np.lexsort((step, when))
    depth, times = np.cumsum(step[order]), when[order]
    at_limit = np.flatnonzero(depth[:-1] >= QUEUE_LIMIT)
    return int((times[at_limit + 1] - times[at_limit]).sum())


def idle_is_reliable(trace: Trace, linked: Linked) -> tuple[bool, str]:
    """Whether the idle share can be believed: graph replays whose kernels were not recorded look like idleness."""
    names = [position for position, key in enumerate(trace.keys) if "GraphLaunch" in key.name]
    replays = int(np.isin(trace.calls.key, names).sum()) if len(trace.calls) else 0
    if not replays:
        return True, ""
    recorded = _distinct(linked.call[linked.in_graph])
    if recorded < replays * 0.9:
        return False, (
            f"{replays - recorded} of {replays} CUDA-graph replays have no kernels in the trace: "
            "the GPU was busier than it looks"
        )
    return True, ""
