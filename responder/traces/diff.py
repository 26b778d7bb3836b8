"""What grew between two traces? Before and after a change, or a healthy server and a sick one.

Two recordings never cover the same number of steps, so times are compared per step where both have steps, and per
second of GPU span otherwise.
"""

from __future__ import annotations

from responder.traces.kernels import CATEGORIES, short
from responder.traces.verdicts import Change, Diff
from responder.traces.views import Rank

KERNELS_LISTED = 30
WORTH_SAYING = 0.01
"""Share of all work before by which a kind must change to be named in a sentence."""


def diff(before: Rank, after: Rank) -> Diff:
    """Compare two analysed traces; rows are ordered by how much they changed."""
    per_step = bool(before.steps and after.steps and before.steps.count and after.steps.count)
    before_unit, after_unit = (_steps(before), _steps(after)) if per_step else (_seconds(before), _seconds(after))
    unit = "ms per step" if per_step else "ms per second"
    categories = _changes(
        {row.name: (row.sum_ms, row.count, row.name) for row in before.categories or before.operator_categories},
        {row.name: (row.sum_ms, row.count, row.name) for row in after.categories or after.operator_categories},
        before_unit,
        after_unit,
    )
    kernels = _changes(_kernels(before), _kernels(after), before_unit, after_unit)
    measures = _measures(before, after, before_unit, after_unit)
    return Diff(
        before=before.file,
        after=after.file,
        per_step=per_step,
        unit=unit,
        measures=measures,
        categories=categories,
        kernels=kernels[:KERNELS_LISTED],
        says=_says(measures, categories, kernels, unit),
    )


def _steps(rank: Rank) -> float:
    return float(rank.steps.count) if rank.steps else 1.0


def _seconds(rank: Rank) -> float:
    span = rank.busy.span_ms if rank.busy else rank.span_ms
    return span / 1e3 or 1.0


def _kernels(rank: Rank) -> dict[str, tuple[float, float, str]]:
    if rank.kernels:
        return {row.name: (row.sum_ms, row.count, row.category) for row in rank.kernels}
    return {row.name: (row.self_ms, row.count, row.category) for row in rank.operators}


def _changes(
    before: dict[str, tuple[float, float, str]], after: dict[str, tuple[float, float, str]], one: float, two: float
) -> list[Change]:
    rows = []
    for name in before.keys() | after.keys():
        old_ms, old_count, category = before.get(name, (0.0, 0.0, after[name][2] if name in after else ""))
        new_ms, new_count, _ = after.get(name, (0.0, 0.0, category))
        rows.append(_change(name, category, old_ms / one, new_ms / two, old_count / one, new_count / two))
    return sorted(rows, key=lambda row: (-abs(row.delta), row.what))


def _change(what: str, category: str, old: float, new: float, old_count: float = 0.0, new_count: float = 0.0) -> Change:
    return Change(
        what=what,
        category=category,
        before=old,
        after=new,
        delta=new - old,
        ratio=new / old if old else None,
        before_count=old_count,
        after_count=new_count,
    )


def _measures(before: Rank, after: Rank, one: float, two: float) -> list[Change]:
    rows = []
    if before.steps and after.steps and before.steps.count and after.steps.count:
        for kind in before.steps.kinds:
            other = [k for k in after.steps.kinds if k.kind == kind.kind]
            if other:
                rows.append(_change(f"median {kind.kind} step", "ms", kind.median_ms, other[0].median_ms))
    if before.busy and after.busy:
        rows.append(_change("GPU busy", "ms", before.busy.busy_ms / one, after.busy.busy_ms / two))
        rows.append(_change("GPU idle", "ms", before.busy.idle_ms / one, after.busy.idle_ms / two))
        rows.append(
            _change(
                "exposed collectives",
                "ms",
                before.busy.exposed_collective_ms / one,
                after.busy.exposed_collective_ms / two,
            )
        )
    if before.blocked and after.blocked:
        rows.append(_change("CPU blocked on GPU", "ms", before.blocked.total_ms / one, after.blocked.total_ms / two))
    return rows


def _says(measures: list[Change], categories: list[Change], kernels: list[Change], unit: str) -> str:
    enough = WORTH_SAYING * sum(row.before for row in categories)
    grown = [row for row in categories if row.delta > enough]
    shrunk = [row for row in categories if row.delta < -enough]
    idle = next((row for row in measures if row.what == "GPU idle"), None)
    parts = []
    for step in (row for row in measures if row.what.startswith("median ")):
        times = f", {step.ratio:.3g} times" if step.ratio else ""
        parts.append(f"{step.what} {step.before:.4g} to {step.after:.4g} ms{times}")
    largest = max((row.delta for row in grown), default=0.0)
    if idle and idle.delta > max(largest, enough):
        parts.append(f"GPU idle time grew most: {idle.before:.4g} to {idle.after:.4g} {unit}")
    elif grown:
        row = grown[0]
        name = CATEGORIES.get(row.what, row.what)
        parts.append(f"{name} grew most: {row.before:.4g} to {row.after:.4g} {unit}")
        kernel = next((k for k in kernels if k.category == row.what and k.delta > 0), None)
        if kernel:
            parts.append(f"mostly {short(kernel.what)} ({kernel.before:.4g} to {kernel.after:.4g})")
    if shrunk:
        row = shrunk[0]
        parts.append(f"{CATEGORIES.get(row.what, row.what)} shrank most: {row.before:.4g} to {row.after:.4g} {unit}")
    return "; ".join(parts) or "no kind of work changed by a hundredth"
