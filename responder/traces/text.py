"""How is the result read in a terminal? Findings first, then one block per rank, widest numbers aligned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from responder.traces.kernels import CATEGORIES, short
from responder.traces.numbers import ms, percent
from responder.traces.verdicts import Across, Diff, TraceReport
from responder.traces.views import Rank, Steps

TOP = 12


def render(report: TraceReport) -> str:
    """The whole report as plain text."""
    lines: list[str] = []
    if report.findings:
        lines.append("What stands out")
        for one in report.findings:
            lines.append(f"  - {f'[{one.rank}] ' if one.rank else ''}{one.says}")
        lines.append("")
    for run in report.across:
        lines += [*_across(run), ""]
    if report.diff is not None:
        lines += [*_diff(report.diff), ""]
    for rank in report.ranks:
        lines += [*_rank(rank), ""]
    if report.problems:
        lines.append("Could not be read")
        lines += [f"  - {problem}" for problem in report.problems]
        lines.append("")
    events = sum(rank.events for rank in report.ranks)
    size = sum(rank.bytes for rank in report.ranks) / 1e6
    lines.append(
        f"{len(report.ranks)} trace{'s' * (len(report.ranks) != 1)}, {events:,} events, {size:,.0f} MB unpacked; "
        f"{report.cpu_seconds:.2f} CPU seconds, {report.peak_mb:.0f} MB memory"
    )
    return "\n".join(lines) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Columns aligned: the first to the left, numbers to the right."""
    if not rows:
        return []
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        indent
        + "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _rank(rank: Rank) -> Iterator[str]:
    about = [rank.format, rank.gpu, f"vLLM {rank.vllm_version}" if rank.vllm_version else "", rank.host]
    yield f"{rank.label}: {rank.file}"
    yield "  " + ", ".join(part for part in about if part) + f", {rank.events:,} events"
    for why in rank.partial:
        yield f"  PARTIAL: {why}"
    for note in rank.notes:
        yield f"  note: {note}"
    if rank.busy is not None:
        yield from _busy(rank)
    if rank.gaps is not None and rank.busy is not None:
        yield from _gaps(rank)
    if rank.categories:
        yield "  GPU time by kind"
        yield from table(
            ("kind", "ms", "of span", "count"),
            [
                (CATEGORIES.get(r.name, r.name), ms(r.wall_ms), percent(r.share), f"{r.count:,}")
                for r in rank.categories
            ],
            "    ",
        )
    yield from _kernels(rank)
    if rank.steps is not None and rank.steps.count:
        yield from _steps(rank.steps)
    if rank.layers is not None:
        yield f"  Layers ({rank.layers.source}, {rank.layers.steps} steps): {rank.layers.says}"
        yield from _layers(rank)
    if rank.blocked is not None or rank.launches is not None:
        yield from _calls(rank)
    yield from _operators(rank)


def _busy(rank: Rank) -> Iterator[str]:
    busy = rank.busy
    assert busy is not None
    doubt = "" if busy.idle_reliable else " (NOT RELIABLE, see the note)"
    yield (
        f"  GPU busy {ms(busy.busy_ms)} of {ms(busy.span_ms)} ms, idle {percent(busy.idle_share)}{doubt}; "
        f"computing {ms(busy.compute_ms)}, collectives {ms(busy.collective_ms)}, copies {ms(busy.memory_ms)} ms"
    )
    if busy.overlap_share is not None:
        yield (
            f"  Collectives: {percent(busy.overlap_share)} hidden behind computation, "
            f"{ms(busy.exposed_collective_ms)} ms exposed"
        )


def _gaps(rank: Rank) -> Iterator[str]:
    gaps = rank.gaps
    assert gaps is not None
    if gaps.causes:
        yield "  While the GPU idled, the CPU was"
        yield from table(
            ("doing", "ms", "of idle"), [(row.cause, ms(row.ms), percent(row.share)) for row in gaps.causes], "    "
        )
    rows = [(row.label, f"{row.count:,}", ms(row.ms)) for row in gaps.buckets if row.count]
    if rows:
        yield "  Idle gaps"
        yield from table(("length", "count", "ms"), rows, "    ")
    longest = gaps.longest[:3]
    if longest and longest[0].ms >= 1:
        yield "  Longest gaps"
        for gap in longest:
            step = f", step {gap.step}" if gap.step is not None else ""
            inside = f" in {gap.frame or gap.call}" if gap.frame or gap.call else ""
            yield f"    {ms(gap.ms)} ms at {ms(gap.at_ms)} ms{step}: {next(iter(gap.causes), 'unknown')}{inside}"


def _kernels(rank: Rank) -> Iterator[str]:
    if rank.kernels:
        yield "  Kernels by total time"
        yield from table(
            ("kernel", "kind", "count", "ms", "share", "median us", "max us"),
            [
                (
                    short(r.name, 60),
                    r.category,
                    f"{r.count:,}",
                    ms(r.sum_ms),
                    percent(r.share),
                    ms(r.median_us),
                    ms(r.max_us),
                )
                for r in rank.kernels[:TOP]
            ],
            "    ",
        )
    if rank.unknown:
        names = ", ".join(f"{short(row.name, 40)} {percent(row.share)}" for row in rank.unknown[:5])
        yield f"  Kernels of unknown kind: {percent(rank.unknown_share)} of GPU time: {names}"
    worst = rank.outliers[:6] + rank.singles[:6]
    if worst:
        yield "  Instances unlike their siblings (same phase and launch grid), and large ones without siblings"
        yield from table(
            ("kernel", "took ms", "usually us", "times", "step", "phase"),
            [
                (
                    short(r.name, 60) + (f" {r.size_bytes / 1e6:.1f} MB" if r.category.startswith("memcpy") else ""),
                    ms(r.duration_us / 1e3),
                    ms(r.median_us),
                    "-" if r.ratio is None else f"{r.ratio:.1f}",
                    "-" if r.step is None else str(r.step),
                    r.phase or "-",
                )
                for r in worst
            ],
            "    ",
        )


def _steps(steps: Steps) -> Iterator[str]:
    yield f"  {steps.count} steps ({'vLLM annotations' if steps.source == 'vllm' else steps.source}), start to start"
    yield from table(
        ("kind", "steps", "median ms", "max ms", "tokens", "us/token"),
        [
            (k.kind, str(k.count), ms(k.median_ms), ms(k.max_ms), f"{k.median_tokens:.0f}", ms(k.us_per_token))
            for k in steps.kinds
        ],
        "    ",
    )
    for slow in steps.slow[:5]:
        yield f"    {slow.says}"


def _layers(rank: Rank) -> Iterator[str]:
    assert rank.layers is not None
    rows = rank.layers.layers
    shown = [row for row in rows if row.index in rank.layers.unlike] or rows[:3]
    yield from table(
        ("layer", "us", "attention us", "MLP us", "of median"),
        [
            (str(r.index), ms(r.total_us), ms(r.attention_us), ms(r.mlp_us), f"{r.ratio:.2f}")
            for r in sorted(shown, key=lambda row: -abs(row.ratio - 1))[:8]
        ],
        "    ",
    )


def _calls(rank: Rank) -> Iterator[str]:
    if rank.blocked is not None:
        held = rank.blocked
        yield (
            f"  CPU blocked on the GPU {ms(held.total_ms)} ms ({percent(held.share)} of the span): "
            f"synchronisation {ms(held.synchronize_ms)}, copies that wait {ms(held.copy_ms)} ms"
        )
    if rank.launches is not None and rank.launches.matched:
        made = rank.launches
        graph = f", {made.graph_launches} CUDA-graph replays with {made.graph_kernels:,} kernels"
        yield (
            f"  Launches: {made.launches:,} calls{graph if made.graph_launches else ''}; GPU waited for a launch "
            f"{percent(made.launch_bound_share)} of the span; {made.short_kernels:,} kernels shorter than their launch"
        )


def _operators(rank: Rank) -> Iterator[str]:
    if rank.operators and not rank.gpu_events:
        yield "  CPU operators by own time"
        yield from table(
            ("operator", "kind", "count", "own ms", "total ms"),
            [(r.name[:60], r.category, f"{r.count:,}", ms(r.self_ms), ms(r.total_ms)) for r in rank.operators[:TOP]],
            "    ",
        )
    if rank.communication:
        yield "  Collectives as the NPU reports them"
        yield from table(
            ("operation", "count", "elapsed ms", "transit ms", "wait ms", "sync ms"),
            [
                (r.name, str(r.count), ms(r.elapsed_ms), ms(r.transit_ms), ms(r.wait_ms), ms(r.synchronization_ms))
                for r in rank.communication[:TOP]
            ],
            "    ",
        )
    overlap = [row for row in rank.annotations if row.name.startswith("Overlap Analysis")]
    for row in overlap:
        yield f"  {row.name}: {ms(row.gpu_ms)} ms"
    if rank.stacks:
        yield "  Where the samples were taken"
        yield from table(
            ("frame", "innermost", "anywhere"),
            [(row.frame[:90], percent(row.leaf_share), percent(row.share)) for row in rank.stacks[:TOP]],
            "    ",
        )


def _across(run: Across) -> Iterator[str]:
    yield f"Across {', '.join(run.ranks)}: {run.says}"
    if run.missing:
        yield f"  MISSING: no trace of rank {', '.join(map(str, run.missing))}"
    if not run.matched:
        return
    shifts = ", ".join(
        f"{label} by {value:+.1f} us" for label, value in run.clock_offsets_us.items() if abs(value) >= 0.1
    )
    yield (
        f"  {run.matched:,} collectives matched: transfer {ms(run.transfer_ms)} ms, "
        f"waiting {ms(run.wait_ms)} ms per rank; "
        f"clocks agree within {run.clock_error_us:.1f} us{' after shifting ' + shifts if shifts else ''}"
    )
    yield from table(
        ("rank", "last at", "late median us", "late p99 us", "makes others wait ms", "waits ms"),
        [
            (
                row.rank,
                percent(row.last_share),
                ms(row.lateness_median_us),
                ms(row.lateness_p99_us),
                ms(row.caused_wait_ms),
                ms(row.waited_ms),
            )
            for row in run.lateness
        ],
    )
    for one in run.worst[:3]:
        step = f" in step {one.step}" if one.step is not None else ""
        yield f"  longest wait {ms(one.wait_ms)} ms{step}: {one.last_rank} came last to {short(one.name, 50)}"


def _diff(change: Diff) -> Iterator[str]:
    yield f"Compared with {change.before} ({change.unit}): {change.says}"
    for title, rows in (("measure", change.measures), ("kind", change.categories), ("kernel", change.kernels[:TOP])):
        yield from table(
            (title, "before", "after", "change", "times", "count before", "after"),
            [
                (
                    short(CATEGORIES.get(row.what, row.what), 60),
                    ms(row.before),
                    ms(row.after),
                    f"{row.delta:+.3f}",
                    "new" if row.ratio is None else f"{row.ratio:.2f}",
                    f"{row.before_count:.1f}" if row.before_count else "-",
                    f"{row.after_count:.1f}" if row.after_count else "-",
                )
                for row in rows
                if row.before or row.after
            ],
        )
