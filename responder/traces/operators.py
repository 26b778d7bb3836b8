"""What did the CPU operators and annotations cost? Inclusive and own time by name."""

from __future__ import annotations

import numpy as np

from responder.traces.busy import MS
from responder.traces.columns import Trace
from responder.traces.kernels import classify
from responder.traces.views import Annotation, Category, Operator

LISTED = 40


def operators(trace: Trace) -> list[Operator]:
    """CPU operators by own time; threads are added up."""
    totals = trace.op_totals
    by_name: dict[str, list[int]] = {}
    for row, key in enumerate(totals.key.tolist()):
        sums = by_name.setdefault(trace.keys[key].name, [0, 0, 0])
        sums[0] += int(totals.count[row])
        sums[1] += int(totals.total[row])
        sums[2] += int(totals.self_time[row])
    rows = [
        Operator(name=name, category=classify(name), count=c, total_ms=total / MS, self_ms=own / MS)
        for name, (c, total, own) in by_name.items()
    ]
    return sorted(rows, key=lambda row: -row.self_ms)


def operator_categories(rows: list[Operator], span_ms: float) -> list[Category]:
    """Own CPU time by kind of operator."""
    by_kind: dict[str, list[float]] = {}
    for row in rows:
        sums = by_kind.setdefault(row.category, [0, 0.0])
        sums[0] += row.count
        sums[1] += row.self_ms
    table = [
        Category(name=kind, count=int(count), sum_ms=ms, wall_ms=ms, share=ms / span_ms if span_ms else 0.0)
        for kind, (count, ms) in by_kind.items()
    ]
    return sorted(table, key=lambda row: -row.sum_ms)


def annotation_table(trace: Trace) -> list[Annotation]:
    """User annotations by name, steps under one name; their GPU ranges where the trace has them."""
    sums: dict[str, list[float]] = {}
    for events, place in ((trace.marks, 1), (trace.gpu_marks, 2)):
        if not len(events):
            continue
        spent = np.bincount(events.key, weights=events.end - events.start, minlength=len(trace.keys))
        count = np.bincount(events.key, minlength=len(trace.keys))
        for key in np.flatnonzero(count).tolist():
            row = sums.setdefault(trace.keys[key].name, [0, 0.0, 0.0])
            row[0] = max(row[0], float(count[key])) if place == 2 else row[0] + float(count[key])
            row[place] += float(spent[key]) / MS
    rows = [
        Annotation(name=name, count=int(count), cpu_ms=cpu, gpu_ms=gpu if len(trace.gpu_marks) else None)
        for name, (count, cpu, gpu) in sums.items()
    ]
    return sorted(rows, key=lambda row: -max(row.cpu_ms, row.gpu_ms or 0.0))[:LISTED]
