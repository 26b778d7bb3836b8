"""Which kernels take the time, and which single instance is unlike its siblings?

An instance is compared with instances of the same kernel in the same phase (prefill, decode, mixed) with the same
launch grid and, for collectives and copies, the same size. By name alone, a decode kernel that also runs in a prefill
looks like a fiftyfold outlier.
"""

from __future__ import annotations

import numpy as np

from responder.traces.busy import CATEGORY_NAMES, MS, Work
from responder.traces.columns import Ints, Trace
from responder.traces.kernels import OTHER
from responder.traces.steps import Timeline
from responder.traces.views import Kernel, Outlier

LISTED = 25
SIBLINGS = 5
"""Instances a group needs before its median means anything."""

FAR = 3.0
"""Times its median from which an instance is listed as far from its siblings."""

SINGLE_SHARE = 0.002
"""Share of all GPU work from which an instance without siblings is listed."""

_PHASES = ("", "prefill", "mixed", "decode", "empty", "other")


def kernels(work: Work) -> list[Kernel]:
    """Every kernel name, by total time."""
    total = max(int(work.duration.sum()), 1)
    order = np.lexsort((work.duration, work.name))
    name, duration = work.name[order], work.duration[order]
    first = np.flatnonzero(np.concatenate(([True], name[1:] != name[:-1]))) if len(name) else np.zeros(0, np.int64)
    last = np.append(first[1:], len(name))
    rows = []
    for begin, finish in zip(first.tolist(), last.tolist(), strict=True):
        mine = duration[begin:finish]
        spent = int(mine.sum())
        rows.append(
            Kernel(
                name=work.names[int(name[begin])],
                category=CATEGORY_NAMES[int(work.category[order[begin]])],
                count=len(mine),
                sum_ms=spent / MS,
                median_us=float(np.median(mine)) / 1e3,
                max_us=int(mine[-1]) / 1e3,
                share=spent / total,
            )
        )
    return sorted(rows, key=lambda row: -row.sum_ms)


def unknown(rows: list[Kernel]) -> tuple[list[Kernel], float]:
    """Kernels no line of the table knows, and their share: listed, never hidden."""
    mine = [row for row in rows if row.category == OTHER]
    return mine, sum(row.share for row in mine)


def phases(work: Work, line: Timeline) -> Ints:
    """Number of the phase each GPU event belongs to."""
    of_step = np.array([_PHASES.index(named.kind) for named in line.named] + [0], np.int8)
    return of_step[line.of_gpu]


def outliers(trace: Trace, work: Work, line: Timeline) -> tuple[list[Outlier], list[Outlier]]:
    """(instances far from their siblings, large instances without siblings), most time beyond the usual first."""
    if not len(work.events):
        return [], []
    phase = phases(work, line)
    grid = work.events.grid
    size = work.events.size
    # one number for all four: there are far fewer of each than bits to spare
    kind = work.name.astype(np.int64)
    for many, values in ((len(_PHASES), phase), (len(trace.grids) + 1, grid), (len(trace.sizes), size)):
        kind *= many
        kind += values
        if values is grid:
            kind += 1
    order = np.lexsort((work.duration, kind))
    kind = kind[order]
    first = np.flatnonzero(np.concatenate(([True], kind[1:] != kind[:-1])))
    last = np.append(first[1:], len(order))
    duration = work.duration[order]
    count = last - first
    group = np.repeat(np.arange(len(first), dtype=np.int32), count)
    # within a group durations ascend, so the median is in its middle
    median = (duration[first + (count - 1) // 2] + duration[first + count // 2]) / 2
    far = np.flatnonzero(duration > np.where(count >= SIBLINGS, FAR * median, np.inf)[group])
    best = far[np.argsort(-(duration[far] - median[group[far]]))][:LISTED]
    listed = [_outlier(trace, work, line, int(order[row]), float(median[group[row]]), phase) for row in best.tolist()]
    return listed, _singles(trace, work, line, order[last[count < SIBLINGS] - 1], phase)


def _singles(trace: Trace, work: Work, line: Timeline, largest: Ints, phase: Ints) -> list[Outlier]:
    """Giants of a kind that hardly occurs: one 16384-cubed GEMM, one copy of 268 MB."""
    total = max(int(work.duration.sum()), 1)
    rows = [row for row in largest.tolist() if work.duration[row] >= SINGLE_SHARE * total]
    # an instance is a giant only against the usual instance of its own category in the whole trace
    typical = {
        int(number): float(np.median(work.duration[work.category == number])) for number in np.unique(work.category)
    }
    rows = [row for row in rows if work.duration[row] > FAR * typical[int(work.category[row])]]
    rows.sort(key=lambda row: -int(work.duration[row]))
    return [_outlier(trace, work, line, row, None, phase) for row in rows[:LISTED]]


def _outlier(trace: Trace, work: Work, line: Timeline, row: int, median: float | None, phase: Ints) -> Outlier:
    grid = int(work.events.grid[row])
    duration = int(work.duration[row])
    step = int(line.of_gpu[row])
    return Outlier(
        name=work.names[int(work.name[row])],
        category=CATEGORY_NAMES[int(work.category[row])],
        at_ms=int(work.events.start[row]) / MS,
        duration_us=duration / 1e3,
        median_us=median / 1e3 if median is not None else None,
        ratio=duration / median if median else None,
        step=step if step >= 0 else None,
        phase=_PHASES[int(phase[row])],
        grid=trace.grids[grid] if 0 <= grid < len(trace.grids) else "",
        size_bytes=int(work.sizes[work.events.size[row]]),
    )
