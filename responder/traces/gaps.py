"""What was the CPU doing while the GPU idled?

The state of the launching thread, most telling first: blocked on the GPU, in one of vLLM's phases, inside a CUDA call,
inside an operator, in Python within a step, between steps. Each instant of idle time gets exactly one state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from responder.traces.busy import MS, Work
from responder.traces.columns import Bools, CpuEvents, Ints, Trace
from responder.traces.intervals import EMPTY, Set, between, intersect, length, subtract, union, within
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
    mine = np.array([thread is None or (key.process, key.lane) == thread for key in trace.keys], np.bool_)
    return _chosen(events, mine[events.key])


def _chosen(events: CpuEvents, rows: Bools) -> Set:
    """When the chosen events (a mask) went on; nearly always all of them are chosen."""
    return union(events.start, events.end) if rows.all() else union(events.start[rows], events.end[rows])


@dataclass
class Cause:
    """Idle time of one cause, added up: its intervals are as many as kernels and are not kept."""

    total: int
    of_step: Ints
    """Per step."""
    of_longest: Ints
    """Per gap of those that are listed."""


@dataclass
class Idle:
    """Idle time by cause, and the gaps worth a line of their own, longest first."""

    causes: dict[str, Cause]
    begin: Ints
    end: Ints


GAPS_AT_ONCE = 1 << 16
"""Gaps split by cause at a time: what it takes besides the causes themselves does not grow with the trace."""


def causes(trace: Trace, work: Work, linked: Linked, line: Timeline, blocked: Set) -> Idle:
    """Idle time split by cause; the parts are disjoint and together exactly the idle time."""
    gaps = work.gaps()
    found = Idle({}, *_longest(gaps))
    claims, rest = _claims(trace, linked, line, blocked)

    def note(cause: str, part: Set) -> None:
        one = found.causes[cause]
        one.total += length(part)
        one.of_step += within(part, line.start, line.end)
        one.of_longest += within(part, found.begin, found.end)

    for cause in (*claims, rest):
        found.causes[cause] = Cause(0, np.zeros(len(line.start), np.int64), np.zeros(len(found.begin), np.int64))
    for at in range(0, len(gaps[0]), GAPS_AT_ONCE):
        left: Set = (gaps[0][at : at + GAPS_AT_ONCE], gaps[1][at : at + GAPS_AT_ONCE])
        for cause, when in claims.items():
            if len(left[0]):
                part = intersect(left, between(when, int(left[0][0]), int(left[1][-1])))
                note(cause, part)
                left = subtract(left, part)
        note(rest, left)
    return found


def _claims(trace: Trace, linked: Linked, line: Timeline, blocked: Set) -> tuple[dict[str, Set], str]:
    """When each cause claims idle time, the first first, and the cause that takes what is left."""
    thread, mine = linked.main_thread, linked.main_calls
    claims = {"host sync": blocked, **_phases(trace, thread)}
    claims["launching"] = _chosen(trace.calls, mine)
    claims["operators"] = _on_thread(trace, trace.ops, thread)
    if not len(trace.calls) and not len(trace.ops) and not len(trace.marks):
        return claims, "unknown"
    if not len(line.start):
        return claims, "Python"
    # the mark of a step covers its submission; behind it the thread is on its way to the next one
    marks = trace.marks
    named = set(line.names)
    claims["Python"] = _chosen(marks, np.array([key.name in named for key in trace.keys], np.bool_)[marks.key])
    return claims, "between steps"


def _longest(gaps: Set) -> Set:
    """The few longest, without sorting hundreds of thousands of short ones."""
    sizes = gaps[1] - gaps[0]
    some = np.argpartition(sizes, -LISTED)[-LISTED:] if len(sizes) > LISTED else np.arange(len(sizes))
    rows = some[np.argsort(-sizes[some], kind="stable")]
    return gaps[0][rows], gaps[1][rows]


def gaps(trace: Trace, work: Work, linked: Linked, line: Timeline, why: Idle) -> Gaps:
    """Histogram, causes and the longest gaps."""
    streams = waiting(work, linked)
    begin, finish = work.gaps()
    sizes = finish - begin
    idle = max(int(sizes.sum()), 1)
    rows = [
        GapCause(cause=cause, says=CAUSES[cause], ms=found.total / MS, share=found.total / idle)
        for cause, found in why.causes.items()
        if found.total
    ]
    return Gaps(
        buckets=_buckets(sizes),
        causes=sorted(rows, key=lambda row: -row.ms),
        longest=[_gap(trace, row, line, linked, why) for row in range(len(why.begin))],
        streams=streams,
    )


def _buckets(sizes: Ints) -> list[GapBucket]:
    rows, low = [], 0
    for high, label in (*BUCKETS, (np.iinfo(np.int64).max, LARGEST)):
        inside = (sizes >= low) & (sizes < high)
        rows.append(GapBucket(label=label, count=int(inside.sum()), ms=int(sizes[inside].sum()) / MS))
        low = high
    return rows


def _gap(trace: Trace, row: int, line: Timeline, linked: Linked, why: Idle) -> Gap:
    begin, finish = int(why.begin[row]), int(why.end[row])
    split = {cause: int(found.of_longest[row]) / MS for cause, found in why.causes.items()}
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
