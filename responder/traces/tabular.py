"""What can be said from a table of kernel sums alone, without a timeline? Kinds of work and top kernels, no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from responder.traces.kernels import classify
from responder.traces.operators import operator_categories
from responder.traces.outliers import unknown
from responder.traces.rank import Analysed
from responder.traces.views import Annotation, Blocked, Category, Communication, Copy, Kernel, Operator, Rank

NO_TIMELINE = "a table of sums has no timeline: no idle time, gaps, steps or overlap"


@dataclass(frozen=True)
class Sum:
    """One line of such a table; times in nanoseconds, None where the table does not say."""

    name: str
    count: int
    total_ns: float
    median_ns: float | None = None
    max_ns: float | None = None


def table_rank(
    path: Path,
    form: str,
    *,
    gpu: Iterable[Sum] = (),
    operators: Iterable[Operator] = (),
    calls: Iterable[Sum] = (),
    annotations: list[Annotation] | None = None,
    communication: list[Communication] | None = None,
    copies: list[Copy] | None = None,
    notes: Iterable[str] = (NO_TIMELINE,),
) -> Analysed:
    """A rank's view from sums."""
    kernels = _kernels(gpu)
    strangers, share = unknown(kernels)
    rows = sorted(operators, key=lambda row: -row.self_ms)
    total_ms = sum(row.self_ms for row in rows)
    view = Rank(
        file=str(path),
        format=form,
        label=path.name.split(".")[0],
        bytes=path.stat().st_size,
        events=sum(row.count for row in kernels) + sum(row.count for row in rows),
        gpu_events=sum(row.count for row in kernels),
        notes=list(notes),
        categories=_categories(kernels),
        kernels=kernels,
        unknown=strangers,
        unknown_share=share,
        operators=rows,
        operator_categories=operator_categories(rows, total_ms),
        annotations=annotations or [],
        communication=communication or [],
        copies=copies or [],
        blocked=_blocked(list(calls)),
    )
    return Analysed(view, None)


def _kernels(rows: Iterable[Sum]) -> list[Kernel]:
    listed = list(rows)
    total = sum(row.total_ns for row in listed) or 1.0
    table = [
        Kernel(
            name=row.name,
            category=classify(row.name),
            count=row.count,
            sum_ms=row.total_ns / 1e6,
            median_us=(row.median_ns if row.median_ns is not None else row.total_ns / max(row.count, 1)) / 1e3,
            max_us=(row.max_ns if row.max_ns is not None else row.total_ns / max(row.count, 1)) / 1e3,
            share=row.total_ns / total,
        )
        for row in listed
    ]
    return sorted(table, key=lambda row: -row.sum_ms)


def _categories(kernels: list[Kernel]) -> list[Category]:
    """Sums only: without a timeline overlaps cannot be told, so wall time is the sum; NO_TIMELINE says so."""
    sums: dict[str, list[float]] = {}
    for row in kernels:
        mine = sums.setdefault(row.category, [0, 0.0])
        mine[0] += row.count
        mine[1] += row.sum_ms
    total = sum(ms for _, ms in sums.values()) or 1.0
    table = [
        Category(name=name, count=int(count), sum_ms=ms, wall_ms=ms, share=ms / total)
        for name, (count, ms) in sums.items()
    ]
    return sorted(table, key=lambda row: -row.sum_ms)


def _blocked(calls: list[Sum]) -> Blocked | None:
    """Waiting by call name; a table cannot tell a copy that waited from one that did not, so both are listed."""
    waiting = [row for row in calls if "Synchronize" in row.name or "Memcpy" in row.name]
    if not waiting:
        return None
    total = sum(row.total_ns for row in waiting) / 1e6

    def of(*parts: str) -> float:
        return sum(row.total_ns for row in waiting if any(part in row.name for part in parts)) / 1e6

    return Blocked(
        total_ms=total,
        share=0.0,
        synchronize_ms=of("Synchronize"),
        copy_ms=of("Memcpy"),
        stream_synchronize_ms=of("StreamSynchronize"),
        event_synchronize_ms=of("EventSynchronize"),
        device_synchronize_ms=of("DeviceSynchronize", "CtxSynchronize"),
        other_threads_ms=0.0,
        calls=_kernels(waiting),
    )
