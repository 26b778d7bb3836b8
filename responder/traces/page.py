"""How is the result looked at? One HTML file: findings, timeline of steps, kinds of work, kernels, layers, ranks.

Nothing is loaded from elsewhere; what the traces say is text, escaped. "Open in Perfetto" hands the original file to
ui.perfetto.dev in the reader's browser: fetched from beside the page when it is served, else picked by the reader.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from responder.traces.drawing import category_bars, gap_bars, layer_bars, name, step_timeline
from responder.traces.kernels import CATEGORIES
from responder.traces.numbers import ms, percent
from responder.traces.pagestyle import SCRIPT, STYLE
from responder.traces.verdicts import Across, Diff, TraceReport
from responder.traces.views import Outlier, Rank

TOP = 25


def page(report: TraceReport, beside: Path) -> str:
    """The whole page; `beside` is the folder it will lie in, for links to the traces."""
    title = ", ".join(Path(rank.file).name for rank in report.ranks[:2]) + ("…" if len(report.ranks) > 2 else "")
    body = [f"<h1>Trace analysis</h1><p class=quiet>{escape(title)}</p>", _findings(report)]
    body += [_across(run) for run in report.across]
    if report.diff is not None:
        body.append(_diff(report.diff))
    body += [_rank(rank, beside) for rank in report.ranks]
    if report.problems:
        body.append(f"<h2>Could not be read</h2><ul>{''.join(f'<li>{escape(p)}</li>' for p in report.problems)}</ul>")
    body.append(
        f"<footer>{report.cpu_seconds:.2f} CPU seconds, {report.peak_mb:.0f} MB. Times are start to start for steps; "
        "kinds of work count overlapping kernels once.</footer>"
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)} · trace</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main><script>{SCRIPT}</script></body></html>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A table from cells that are already HTML; the first `left` columns are words, the rest numbers."""
    lines = list(rows)
    if not lines:
        return ""
    head = "".join(f"<th{'' if n < left else ' class=n'}>{escape(text)}</th>" for n, text in enumerate(header))
    body = "".join(
        "<tr>" + "".join(f"<td{'' if n < left else ' class=n'}>{cell}</td>" for n, cell in enumerate(row)) + "</tr>"
        for row in lines
    )
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _findings(report: TraceReport) -> str:
    if not report.findings:
        return ""
    rows = "".join(
        f"<li>{f'<b>{escape(one.rank)}</b> ' if one.rank else ''}{escape(one.says)}</li>" for one in report.findings
    )
    return f"<section class=findings><h2>What stands out</h2><ol>{rows}</ol></section>"


def _tiles(rank: Rank) -> str:
    rows: list[tuple[str, str]] = []
    if rank.busy is not None:
        doubt = "" if rank.busy.idle_reliable else " (not reliable)"
        rows += [("GPU idle", percent(rank.busy.idle_share) + doubt), ("span", f"{ms(rank.busy.span_ms)} ms")]
        if rank.busy.collective_ms:
            rows.append(("collectives exposed", f"{ms(rank.busy.exposed_collective_ms)} ms"))
    if rank.blocked is not None and rank.busy is not None:
        rows.append(("CPU blocked on GPU", percent(rank.blocked.share)))
    if rank.launches is not None and rank.launches.launch_bound_share is not None:
        rows.append(("GPU waited for launches", percent(rank.launches.launch_bound_share)))
    if rank.steps is not None and rank.steps.count:
        rows.append(("steps", str(rank.steps.count)))
        rows += [(f"median {kind.kind} step", f"{ms(kind.median_ms)} ms") for kind in rank.steps.kinds]
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in rows)
    return f"<dl class=tiles>{cells}</dl>" if cells else ""


def _rank(rank: Rank, beside: Path) -> str:
    about = ", ".join(
        escape(part)
        for part in (
            rank.format,
            rank.gpu,
            f"vLLM {rank.vllm_version}" if rank.vllm_version else "",
            f"{rank.events:,} events",
            f"{rank.bytes / 1e6:,.0f} MB",
        )
        if part
    )
    link = escape(os.path.relpath(rank.file, beside), quote=True)
    perfetto = ""
    if rank.format.startswith(("kineto", "Ascend trace_view")):
        perfetto = f'<button class=perfetto data-trace="{link}">Open in Perfetto</button>'
    parts = [
        f"<section class=rank><h2>{escape(rank.label)}</h2>",
        f'<p class=quiet><a href="{link}">{escape(Path(rank.file).name)}</a> · {about} {perfetto}</p>',
        "".join(f"<p class=partial>Partial: {escape(why)}</p>" for why in rank.partial),
        "".join(f"<p class=quiet>{escape(note)}</p>" for note in rank.notes),
        _tiles(rank),
        _steps(rank),
    ]
    if rank.categories:
        parts.append(f"<h3>GPU time by kind of work</h3>{category_bars(rank.categories)}")
    elif rank.operator_categories:
        parts.append(f"<h3>CPU time by kind of operator</h3>{category_bars(rank.operator_categories)}")
    if rank.gaps is not None and rank.gaps.causes:
        parts.append(f"<h3>What the CPU did while the GPU idled</h3>{gap_bars(rank.gaps)}")
        parts.append(_gaps(rank))
    parts += [_layers(rank), _kernels(rank), _operators(rank), _stacks(rank), "</section>"]
    return "".join(parts)


def _steps(rank: Rank) -> str:
    if rank.steps is None or not rank.steps.count:
        return ""
    slow = table(
        ("step", "kind", "took ms", "usually ms", "where it went"),
        [
            (
                str(one.step.index),
                one.step.kind,
                ms(one.step.ms),
                ms(one.usual_ms),
                escape(one.says.split(": ", 1)[1]),
            )
            for one in rank.steps.slow
        ],
        left=5,
    )
    marked = {one.step.index: one.says for one in rank.steps.slow}
    legend = "".join(f'<span class="key {k.kind}">{k.kind} ({k.count})</span>' for k in rank.steps.kinds)
    return (
        f"<h3>Steps</h3><p class=legend>{legend}<span class=quiet>height: duration (square root), "
        "solid: GPU busy, line: median, outlined: slow</span></p>"
        f"<div class=picture>{step_timeline(rank.steps.rows, marked)}</div>{slow}"
    )


def _gaps(rank: Rank) -> str:
    assert rank.gaps is not None
    rows = [
        (
            ms(gap.ms),
            ms(gap.at_ms),
            "-" if gap.step is None else str(gap.step),
            escape(next(iter(gap.causes), "unknown")),
            escape(gap.frame or gap.call)[:160],
        )
        for gap in rank.gaps.longest[:6]
        if gap.ms >= 0.1
    ]
    return table(("longest gaps, ms", "at ms", "step", "CPU was", "in"), rows, left=5)


def _layers(rank: Rank) -> str:
    if rank.layers is None:
        return ""
    words = f"{escape(rank.layers.says)} ({escape(rank.layers.source)}, {rank.layers.steps} steps)"
    return (
        f"<h3>Layers</h3><p>{words}</p><p class=legend><span class='key attention'>attention</span>"
        f"<span class='key mlp'>MLP</span></p><div class=picture>{layer_bars(rank.layers)}</div>"
    )


def _kernels(rank: Rank) -> str:
    parts = []
    if rank.kernels:
        rows = [
            (
                name(r.name),
                escape(CATEGORIES.get(r.category, r.category)),
                f"{r.count:,}",
                ms(r.sum_ms),
                percent(r.share),
                ms(r.median_us),
                ms(r.max_us),
            )
            for r in rank.kernels[:TOP]
        ]
        header = ("kernel", "kind", "count", "ms", "share", "median µs", "max µs")
        parts.append(f"<h3>Kernels by total time</h3>{table(header, rows, left=2)}")
    if rank.unknown:
        unknown = ", ".join(f"{name(row.name)} {percent(row.share)}" for row in rank.unknown[:8])
        parts.append(f"<p>Unknown kind, {percent(rank.unknown_share)} of GPU time: {unknown}</p>")
    worst = rank.outliers[:12] + rank.singles[:8]
    if worst:
        columns = ("instance", "took ms", "usually µs", "times", "at ms", "step", "phase", "grid")
        parts.append(
            "<h3>Instances unlike their siblings</h3><p class=quiet>Compared within the same phase and launch grid; "
            f"those without siblings are single giants.</p>{table(columns, [_outlier(one) for one in worst])}"
        )
    return "".join(parts)


def _outlier(one: Outlier) -> tuple[str, ...]:
    size = f" {one.size_bytes / 1e6:.1f} MB" if one.category.startswith("memcpy") and one.size_bytes else ""
    return (
        name(one.name) + size,
        ms(one.duration_us / 1e3),
        ms(one.median_us),
        "-" if one.ratio is None else f"{one.ratio:.1f}",
        ms(one.at_ms),
        "-" if one.step is None else str(one.step),
        one.phase or "-",
        escape(one.grid or "-"),
    )


def _operators(rank: Rank) -> str:
    if not rank.operators or rank.gpu_events:
        return ""
    rows = [
        (escape(r.name), escape(CATEGORIES.get(r.category, r.category)), f"{r.count:,}", ms(r.self_ms), ms(r.total_ms))
        for r in rank.operators[:TOP]
    ]
    header = ("operator", "kind", "count", "own ms", "total ms")
    return f"<h3>CPU operators by own time</h3>{table(header, rows, left=2)}"


def _stacks(rank: Rank) -> str:
    rows = [(escape(r.frame), percent(r.leaf_share), percent(r.share)) for r in rank.stacks[:TOP]]
    listed = table(("frame", "innermost", "anywhere"), rows)
    waits = table(
        ("operation", "count", "elapsed ms", "transit ms", "wait ms"),
        [(escape(r.name), str(r.count), ms(r.elapsed_ms), ms(r.transit_ms), ms(r.wait_ms)) for r in rank.communication],
    )
    head = "<h3>Where the samples were taken</h3>" if listed else ""
    return head + listed + ("<h3>Collectives as the NPU reports them</h3>" + waits if waits else "")


def _across(run: Across) -> str:
    missing = f"<p class=partial>No trace of rank {', '.join(map(str, run.missing))}.</p>" if run.missing else ""
    rows = [
        (
            escape(r.rank),
            percent(r.last_share),
            ms(r.lateness_median_us),
            ms(r.lateness_p99_us),
            ms(r.caused_wait_ms),
            ms(r.waited_ms),
        )
        for r in run.lateness
    ]
    header = ("rank", "arrives last", "late median µs", "late p99 µs", "makes others wait ms", "waits ms")
    return f"<section><h2>Across ranks</h2><p>{escape(run.says)}</p>{missing}{table(header, rows)}</section>"


def _diff(change: Diff) -> str:
    parts = [f"<section><h2>Compared with {escape(Path(change.before).name)}</h2><p>{escape(change.says)}</p>"]
    for title, rows in (("measure", change.measures), ("kind", change.categories), ("kernel", change.kernels[:TOP])):
        parts.append(
            table(
                (f"{title}, {change.unit}", "before", "after", "change", "times"),
                [
                    (
                        name(CATEGORIES.get(r.what, r.what)),
                        ms(r.before),
                        ms(r.after),
                        f'<span class="{"grew" if r.delta > 0 else "shrank"}">{r.delta:+.3f}</span>',
                        "new" if r.ratio is None else f"{r.ratio:.2f}",
                    )
                    for r in rows
                ],
            )
        )
    return "".join(parts) + "</section>"
