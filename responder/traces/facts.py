"""Which facts does a trace give a playbook? The one table of `trace.*` names, and how each is read from a report.

With several ranks the fact is the worst rank's (`worst` says which direction that is); the same fact of every single
rank carries the rank as its subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from responder.traces.verdicts import TraceReport
    from responder.traces.views import Rank, SlowStep, StepKind

Value = float | int | bool | str | None


@dataclass(frozen=True)
class TraceFact:
    """One statement about a trace; a fact that cannot be told is left out."""

    name: str
    value: Value
    unit: str
    subject: str = ""
    """The rank, empty for the server as a whole."""


@dataclass(frozen=True)
class FactRow:
    """One line of the table."""

    name: str
    unit: str
    says: str
    read: Callable[[Rank], Value]
    worst: Literal["max", "min"] = "max"
    of: str = ""
    """Name of another fact: this one is told of the same rank as that."""


def _category(name: str) -> Callable[[Rank], Value]:
    def read(rank: Rank) -> Value:
        rows = rank.categories or rank.operator_categories
        total = sum(row.sum_ms for row in rows)
        return sum(row.sum_ms for row in rows if row.name == name) / total if total else None

    return read


def _idle(cause: str) -> Callable[[Rank], Value]:
    def read(rank: Rank) -> Value:
        if rank.gaps is None or not rank.gaps.causes or rank.busy is None or not rank.busy.idle_reliable:
            return None
        return next((row.share for row in rank.gaps.causes if row.cause == cause), 0.0)

    return read


def _busy(field: str) -> Callable[[Rank], Value]:
    def read(rank: Rank) -> Value:
        if rank.busy is None or not rank.busy.span_ms:
            return None
        value: Value = getattr(rank.busy, field)
        return value

    return read


def _of_span(field: str, part: str) -> Callable[[Rank], Value]:
    def read(rank: Rank) -> Value:
        owner = getattr(rank, part)
        if owner is None or rank.busy is None or not rank.busy.span_ms:
            return None
        return float(getattr(owner, field)) / rank.busy.span_ms

    return read


def _reliable_idle(rank: Rank) -> Value:
    return rank.busy.idle_share if rank.busy and rank.busy.idle_reliable and rank.busy.span_ms else None


def _launch(field: str) -> Callable[[Rank], Value]:
    def read(rank: Rank) -> Value:
        value: Value = getattr(rank.launches, field) if rank.launches and rank.launches.matched else None
        return value

    return read


def _kind(kind: str, field: str) -> Callable[[Rank], Value]:
    def read(rank: Rank) -> Value:
        rows: list[StepKind] = [row for row in rank.steps.kinds if row.kind == kind] if rank.steps else []
        value: Value = getattr(rows[0], field) if rows else (0 if field == "count" and rank.steps else None)
        return value

    return read


def _slow(read: Callable[[SlowStep], Value]) -> Callable[[Rank], Value]:
    def of(rank: Rank) -> Value:
        return read(rank.steps.slow[0]) if rank.steps and rank.steps.slow else None

    return of


def _longest_ratio(rank: Rank) -> Value:
    if not rank.steps:
        return None
    ratios = [kind.max_ms / kind.median_ms for kind in rank.steps.kinds if kind.count >= 3 and kind.median_ms]
    return max(ratios, default=None)


def _worst_kernel(field: str) -> Callable[[Rank], Value]:
    def read(rank: Rank) -> Value:
        from responder.traces.kernels import COLLECTIVE

        rows = [row for row in rank.outliers if row.category != COLLECTIVE]
        value: Value = getattr(rows[0], field) if rows else None
        return value

    return read


def _single(field: str) -> Callable[[Rank], Value]:
    def read(rank: Rank) -> Value:
        from responder.traces.kernels import COLLECTIVE

        rows = [row for row in rank.singles if row.phase in ("decode", "") and row.category != COLLECTIVE]
        value: Value = getattr(rows[0], field) if rows else None
        return value

    return read


def _longest_gap(rank: Rank) -> Value:
    return rank.gaps.longest[0].ms if rank.gaps and rank.gaps.longest else None


def _longest_gap_cause(rank: Rank) -> Value:
    return next(iter(rank.gaps.longest[0].causes), None) if rank.gaps and rank.gaps.longest else None


def _longest_gap_frame(rank: Rank) -> Value:
    return (rank.gaps.longest[0].frame or None) if rank.gaps and rank.gaps.longest else None


def _short_kernels(rank: Rank) -> Value:
    return rank.launches.short_kernels / rank.launches.matched if rank.launches and rank.launches.matched else None


def _graph_share(rank: Rank) -> Value:
    return rank.launches.graph_kernels / rank.gpu_events if rank.launches and rank.gpu_events else None


def _layer_ratio(rank: Rank) -> Value:
    rows = [row.ratio for row in rank.layers.layers if row.index in rank.layers.unlike] if rank.layers else []
    return max(rows, default=1.0) if rank.layers else None


FACTS: tuple[FactRow, ...] = (
    FactRow("trace.events", "1", "events read", lambda r: r.events or None),
    FactRow("trace.partial", "", "whether the facts come from an incomplete file", lambda r: bool(r.partial)),
    FactRow("trace.bad_events", "1", "events that are not valid JSON and were left out", lambda r: r.bad_events),
    FactRow("trace.span_ms", "ms", "first to last GPU event", _busy("span_ms")),
    FactRow("trace.gpu_busy_ms", "ms", "time with at least one GPU event running", _busy("busy_ms"), "min"),
    FactRow(
        "trace.gpu_idle_share", "share", "of the span; absent when graph kernels were not recorded", _reliable_idle
    ),
    FactRow("trace.gpu_idle_reliable", "", "whether idle time can be believed", _busy("idle_reliable"), "min"),
    FactRow("trace.longest_gap_ms", "ms", "longest time without any GPU work", _longest_gap),
    FactRow("trace.longest_gap_cause", "", "what the CPU did in it", _longest_gap_cause, of="trace.longest_gap_ms"),
    FactRow(
        "trace.longest_gap_frame",
        "",
        "Python frame that covers it (needs stacks)",
        _longest_gap_frame,
        of="trace.longest_gap_ms",
    ),
    FactRow("trace.idle_host_sync_share", "share", "of idle time: CPU waiting for the GPU", _idle("host sync")),
    FactRow("trace.idle_sampling_share", "share", "of idle time: CPU in sampling", _idle("sampling")),
    FactRow("trace.idle_input_share", "share", "of idle time: CPU preparing input", _idle("input preparation")),
    FactRow("trace.idle_bookkeeping_share", "share", "of idle time: CPU handling output", _idle("bookkeeping")),
    FactRow("trace.idle_launching_share", "share", "of idle time: CPU in CUDA calls", _idle("launching")),
    FactRow("trace.idle_operators_share", "share", "of idle time: CPU in PyTorch operators", _idle("operators")),
    FactRow("trace.idle_python_share", "share", "of idle time: CPU in Python within a step", _idle("Python")),
    FactRow(
        "trace.idle_between_steps_share",
        "share",
        "of idle time: scheduling or waiting for input",
        _idle("between steps"),
    ),
    *(
        FactRow(
            f"trace.{name}_share", "share", f"{name.replace('_', ' ')}, of all GPU (else CPU) work", _category(name)
        )
        for name in (
            "attention",
            "kv_cache",
            "gemm",
            "moe",
            "mamba",
            "norm_activation",
            "sampling",
            "quantization",
            "elementwise",
            "collective",
            "memcpy_h2d",
            "memcpy_d2h",
            "memcpy_d2d",
            "memset",
        )
    ),
    FactRow("trace.unknown_share", "share", "GPU work of unknown kind", lambda r: r.unknown_share if r.busy else None),
    FactRow("trace.memory_share", "share", "of the span with a copy or memset running", _of_span("memory_ms", "busy")),
    FactRow(
        "trace.collective_overlap_share", "share", "collective time that computation hid", _busy("overlap_share"), "min"
    ),
    FactRow(
        "trace.exposed_collective_share",
        "share",
        "of the span: collectives alone",
        _of_span("exposed_collective_ms", "busy"),
    ),
    FactRow("trace.blocked_share", "share", "of the span: CPU blocked on the GPU", _of_span("total_ms", "blocked")),
    FactRow(
        "trace.synchronize_share", "share", "of the span: CPU in *Synchronize", _of_span("synchronize_ms", "blocked")
    ),
    FactRow(
        "trace.blocking_copy_share", "share", "of the span: CPU in copies that wait", _of_span("copy_ms", "blocked")
    ),
    FactRow(
        "trace.launch_bound_share",
        "share",
        "of the span: GPU idle, next launch not made",
        _launch("launch_bound_share"),
    ),
    FactRow("trace.short_kernel_share", "share", "kernels shorter than the call that launched them", _short_kernels),
    FactRow("trace.launch_delay_p99_us", "us", "launch call's end to kernel start", _launch("delay_p99_us")),
    FactRow("trace.graph_replays", "1", "CUDA-graph launches", _launch("graph_launches")),
    FactRow("trace.graph_kernel_share", "share", "GPU events inside CUDA graphs", _graph_share, "min"),
    FactRow("trace.steps", "1", "engine steps", lambda r: r.steps.count if r.steps and r.steps.count else None),
    *(
        row
        for kind in ("prefill", "mixed", "decode")
        for row in (
            FactRow(f"trace.{kind}_steps", "1", f"{kind} steps", _kind(kind, "count")),
            FactRow(f"trace.{kind}_step_ms", "ms", f"median {kind} step, start to start", _kind(kind, "median_ms")),
            FactRow(f"trace.{kind}_us_per_token", "us", f"{kind} step time over tokens", _kind(kind, "us_per_token")),
        )
    ),
    FactRow("trace.longest_step_ratio", "1", "longest step over the median of its kind", _longest_ratio),
    FactRow("trace.slow_step_excess_ms", "ms", "its time beyond its kind's median", _slow(lambda slow: slow.excess_ms)),
    FactRow(
        "trace.slow_step_ms",
        "ms",
        "the step furthest beyond the median of its kind",
        _slow(lambda slow: slow.step.ms),
        of="trace.slow_step_excess_ms",
    ),
    FactRow(
        "trace.slow_step_why",
        "",
        "where its extra time went: a category, or `idle: ` and what the CPU did",
        _slow(lambda slow: next(iter(slow.because), None)),
        of="trace.slow_step_excess_ms",
    ),
    FactRow(
        "trace.top_kernel",
        "",
        "kernel with most time",
        lambda r: r.kernels[0].name if r.kernels else None,
        of="trace.top_kernel_share",
    ),
    FactRow("trace.top_kernel_share", "share", "its share", lambda r: r.kernels[0].share if r.kernels else None),
    FactRow(
        "trace.worst_kernel",
        "",
        "instance furthest from its siblings, no collective",
        _worst_kernel("name"),
        of="trace.worst_kernel_us",
    ),
    FactRow("trace.worst_kernel_category", "", "its kind", _worst_kernel("category"), of="trace.worst_kernel_us"),
    FactRow("trace.worst_kernel_ratio", "1", "against its siblings' median", _worst_kernel("ratio")),
    FactRow("trace.worst_kernel_us", "us", "how long it took", _worst_kernel("duration_us")),
    FactRow(
        "trace.single_kernel",
        "",
        "longest instance without siblings, outside prefill",
        _single("name"),
        of="trace.single_kernel_us",
    ),
    FactRow("trace.single_kernel_us", "us", "how long it took", _single("duration_us")),
    FactRow("trace.layers", "1", "transformer layers seen", lambda r: len(r.layers.layers) if r.layers else None),
    FactRow(
        "trace.layer_unlike",
        "1",
        "layer unlike its siblings, absent if none",
        lambda r: r.layers.unlike[0] if r.layers and r.layers.unlike else None,
        of="trace.layer_unlike_ratio",
    ),
    FactRow("trace.layer_unlike_ratio", "1", "its time over the median layer's; 1 if all are alike", _layer_ratio),
)
"""Facts of one rank."""

ACROSS: tuple[tuple[str, str, str], ...] = (
    ("trace.ranks", "1", "ranks analysed"),
    ("trace.missing_ranks", "1", "ranks of the run without a trace"),
    ("trace.straggler_rank", "", "rank the others wait for, absent if none"),
    ("trace.straggler_wait_share", "share", "of all waiting at collectives that this rank causes"),
    ("trace.straggler_lateness_us", "us", "median lateness of the rank that causes most waiting"),
    ("trace.collective_wait_share", "share", "of collective time that is waiting for other ranks, not transfer"),
    ("trace.diff_step_ratio", "1", "median step after over before, the kind that changed most"),
    ("trace.diff_grown", "", "category that grew most (`gpu_idle` for idle time)"),
    ("trace.diff_grown_ms", "ms", "by how much, per step or per second of span"),
)
"""Facts of several ranks, and of two traces compared."""


def facts_of(report: TraceReport) -> Iterator[TraceFact]:
    """All facts that can be told, whole-server ones first."""
    rows = {row.name: row for row in FACTS}
    for row in FACTS:
        worst = _worst(rows.get(row.of, row), report.ranks)
        value = row.read(worst) if worst is not None else None
        if value is not None:
            yield TraceFact(row.name, value, row.unit)
    if len(report.ranks) > 1:
        for rank in report.ranks:
            for row in FACTS:
                value = row.read(rank)
                if value is not None:
                    yield TraceFact(row.name, value, row.unit, rank.label)
    yield from _across(report)


def _worst(row: FactRow, ranks: list[Rank]) -> Rank | None:
    """The rank with the worst value of this fact, None if none has one."""
    known = [(value, rank) for rank in ranks if isinstance(value := row.read(rank), (bool, int, float))]
    if not known:
        return None
    return (max if row.worst == "max" else min)(known, key=lambda pair: pair[0])[1]


def _across(report: TraceReport) -> Iterator[TraceFact]:
    units = {name: unit for name, unit, _ in ACROSS}

    def fact(name: str, value: Value) -> TraceFact:
        return TraceFact(name, value, units[name])

    yield fact("trace.ranks", len(report.ranks))
    if report.across:
        yield fact("trace.missing_ranks", max(len(run.missing) for run in report.across))
        run = max(report.across, key=lambda run: run.wait_ms)
        if run.matched:
            caused = sum(row.caused_wait_ms for row in run.lateness)
            worst = max(run.lateness, key=lambda row: row.caused_wait_ms)
            whole = run.wait_ms + run.transfer_ms
            if run.straggler:
                yield fact("trace.straggler_rank", run.straggler)
            if caused:
                yield fact("trace.straggler_wait_share", worst.caused_wait_ms / caused)
            yield fact("trace.straggler_lateness_us", worst.lateness_median_us)
            yield fact("trace.collective_wait_share", run.wait_ms / whole if whole else 0.0)
    if report.diff is not None:
        steps = [row for row in report.diff.measures if row.what.startswith("median ") and row.ratio]
        if steps:
            yield fact("trace.diff_step_ratio", max((row.ratio or 1.0 for row in steps), key=lambda r: abs(r - 1)))
        idle = [row for row in report.diff.measures if row.what == "GPU idle"]
        grown = [("gpu_idle", row.delta) for row in idle] + [(row.what, row.delta) for row in report.diff.categories]
        what, delta = max(grown, key=lambda item: item[1], default=("", 0.0))
        if delta > 0:
            yield fact("trace.diff_grown", what)
            yield fact("trace.diff_grown_ms", delta)
