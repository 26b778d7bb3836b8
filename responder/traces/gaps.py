"""What was the CPU doing while the GPU idled?

The state of the launching thread, most telling first: blocked on the GPU, in one of vLLM's phases, inside a CUDA call,
inside an operator, in Python within a step, between steps. Each instant of idle time gets exactly one state.
"""

from __future__ import annotations

import numpy as np

from responder.traces.busy import MS, Work
from responder.traces.columns import CpuEvents, Ints, Trace
from responder.traces.intervals import EMPTY, Set, intersect, length, subtract, union
from responder.traces.launches import Linked, waiting
from responder.traces.steps import Timeline
from responder.traces.views import Gap, GapBucket, GapCause, Gaps

LISTED = 12

BUCKETS = ((10_000, "under 10 us"), (100_000, "10 to 100 us"), (1_000_000, "0.1 to 1 ms"), (10_000_000, "1 to 10 ms"))
LARGEST = "over 10 ms"

CAUSES: dict[str, str] = {
    "host sync": "the CPU waited for the GPU (synchronisation or blocking copy) and had launched nothing beyond it",
    "sampling": "sampling the next tokens",
    "input preparation": "preparing the step's input",
    "bookkeeping": "handling the step's output",
    "launching": "inside CUDA calls: launching more than the GPU takes time to run",
    "operators": "inside PyTorch operators, between launches",
    "Python": "Python within the step, outside operators and CUDA calls",
    "between steps": "between two steps: scheduling, or waiting for input",
    "unknown": "the trace has no CPU events here",
}
"""In the order in which they claim an instant, except that `Python` and `between steps` take what is left."""

_PHASES = (
    ("sampling", ("sample", "rejection", "sampler", "logits")),
    ("input preparation", ("preprocess", "prepare", "update_states", "build_attn", "input_batch")),
    ("bookkeeping", ("bookkeep", "postprocess", "ModelRunnerOutput", "async_output", "get_output", "eplb")),
)


def _phases(trace: Trace, thread: tuple[str, str] | None) -> dict[str, Set]:
    marks = trace.marks
    found: dict[str, Set] = {}
    for phase, parts in _PHASES:
        match = [
            any(part in key.name for part in parts) and (thread is None or (key.process, key.lane) == thread)
            for key in trace.keys
        ]
        chosen = np.array(match, np.bool_)[marks.key] if len(marks) else np.zeros(0, np.bool_)
        found[phase] = union(marks.start[chosen], marks.end[chosen])
    return found


def _on_thread(trace: Trace, events: CpuEvents, thread: tuple[str, str] | None) -> Set:
    if not len(events):
        return EMPTY
    mine = np.array([thread is None or (key.process, key.lane) == thread for key in trace.keys], np.bool_)[events.key]
    return union(events.start[mine], events.end[mine])


def causes(trace: Trace, work: Work, linked: Linked, line: Timeline, blocked: Set) -> dict[str, Set]:
    """Idle time split by cause; the parts are disjoint and together exactly the idle time."""
    thread = linked.main_thread
    left = work.gaps()
    found: dict[str, Set] = {}

    def claim(cause: str, when: Set) -> None:
        nonlocal left
        found[cause] = intersect(left, when)
        left = subtract(left, found[cause])

    phases = _phases(trace, thread)
    claim("host sync", blocked)
    for phase, when in phases.items():
        claim(phase, when)
    mine = linked.main_calls
    claim("launching", union(trace.calls.start[mine], trace.calls.end[mine]))
    claim("operators", _on_thread(trace, trace.ops, thread))
    if not len(trace.calls) and not len(trace.ops) and not len(trace.marks):
        found["unknown"] = left
        return found
    if len(line.start):
        # the mark of a step covers its submission; behind it the thread is on its way to the next one
        marks = trace.marks
        chosen = np.isin(marks.key, [n for n, key in enumerate(trace.keys) if key.name in set(line.names)])
        claim("Python", union(marks.start[chosen], marks.end[chosen]))
        claim("between steps", left)
    else:
        claim("Python", left)
    return found


def gaps(trace: Trace, work: Work, linked: Linked, line: Timeline, why: dict[str, Set]) -> Gaps:
    """Histogram, causes and the longest gaps."""
    begin, finish = work.gaps()
    sizes = finish - begin
    del finish
    idle = max(int(sizes.sum()), 1)
    rows = [
        GapCause(cause=cause, says=CAUSES[cause], ms=length(found) / MS, share=length(found) / idle)
        for cause, found in why.items()
        if len(found[0])
    ]
    # the few longest, without sorting hundreds of thousands of short ones
    some = np.argpartition(sizes, -LISTED)[-LISTED:] if len(sizes) > LISTED else np.arange(len(sizes))
    longest = some[np.argsort(-sizes[some], kind="stable")]
    return Gaps(
        buckets=_buckets(sizes),
        causes=sorted(rows, key=lambda row: -row.ms),
        longest=[
            _gap(trace, int(begin[row]), int(begin[row] + sizes[row]), line, linked, why) for row in longest.tolist()
        ],
        streams=waiting(work, linked),
    )


def _buckets(sizes: Ints) -> list[GapBucket]:
    rows, low = [], 0
    for high, label in (*BUCKETS, (np.iinfo(np.int64).max, LARGEST)):
        inside = (sizes >= low) & (sizes < high)
        rows.append(GapBucket(label=label, count=int(inside.sum()), ms=int(sizes[inside].sum()) / MS))
        low = high
    return rows


def _gap(trace: Trace, begin: int, finish: int, line: Timeline, linked: Linked, why: dict[str, Set]) -> Gap:
    window: Set = (np.array([begin]), np.array([finish]))
    split = {cause: length(intersect(window, found)) / MS for cause, found in why.items()}
    step = int(line.step_at(np.array([begin]))[0]) if len(line.start) else -1
    return Gap(
        at_ms=begin / MS,
        ms=(finish - begin) / MS,
        causes=dict(sorted(((c, v) for c, v in split.items() if v > 0), key=lambda item: -item[1])),
        step=step if step >= 0 else None,
        frame=_covering(trace, trace.frames, begin, finish, linked.main_thread),
        call=_covering(trace, trace.calls, begin, finish, linked.main_thread)
        or _covering(trace, trace.ops, begin, finish, linked.main_thread)
        or _covering(trace, trace.marks, begin, finish, linked.main_thread),
    )


def _covering(trace: Trace, events: CpuEvents, begin: int, finish: int, thread: tuple[str, str] | None) -> str:
    """The shortest event of the thread that covers at least half of the window; empty if none does."""
    if not len(events):
        return ""
    until = int(np.searchsorted(events.start, finish))
    start, end, key = events.start[:until], events.end[:until], events.key[:until]
    covered = np.minimum(end, finish) - np.maximum(start, begin)
    rows = np.flatnonzero(covered * 2 >= finish - begin)
    best, best_length = "", None
    for row in rows.tolist():
        who = trace.keys[key[row]]
        if thread is not None and (who.process, who.lane) != thread:
            continue
        size = int(end[row] - start[row])
        if best_length is None or size < best_length:
            best, best_length = who.name, size
    return best
