"""What did the profile show? Engine steps, kinds of work, top kernels: for a browser, for a ticket, for machines."""

from __future__ import annotations

from collections.abc import Callable
from html import escape as inert
from typing import Any

from responder.model import Report, TraceRow, TraceView
from responder.report_words import number, percent, phrase, plain
from responder.traces.drawing import bars, colour, step_timeline
from responder.traces.kernels import CATEGORIES
from responder.traces.pagestyle import DARK, DRAWN, LIGHT
from responder.words import say

IN_TEXT = 5
"""Kinds of work and kernels that Markdown lists."""
STYLE = f"""
.trace{{{LIGHT};--panel:var(--code);--quiet:var(--faint)}}
@media screen and (prefers-color-scheme:dark){{.trace{{{DARK}}}}}
{DRAWN}.trace .steps svg{{display:block;width:100%;height:140px}}.trace .legend{{color:var(--faint);margin:.2em 0}}
.trace .bars{{margin:.4em 0 1em}}
.trace .key{{white-space:nowrap}}
@media(max-width:600px){{.trace .bar{{grid-template-columns:1fr auto;gap:2px 8px}}.trace .track{{grid-column:1/-1;
grid-row:2}}}}
@media print{{.track,.fill,.key::before{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}}}
"""
"""Beside the page's own style sheet, where there is a trace."""
Cells = Callable[[tuple[str, ...], list[list[tuple[str, str]]]], str]


def lead(view: TraceView) -> str:
    """One sentence about a rank: how long was looked at, how much the GPU idled, how long a step usually takes."""
    parts = [plain(view.label, 60) + (f" ({plain(view.about, 80)})" if view.about else "")]
    parts.append(say("profile.span", ms=number(view.span_ms), steps=view.step_count))
    if view.idle_share is not None:
        parts.append(say("trace.idle", share=percent(view.idle_share)))
    parts += [say("profile.median", kind=plain(row.name, 20), ms=number(row.ms)) for row in view.kinds]
    return "; ".join(parts) + "."


def notes(view: TraceView) -> list[str]:
    """What stands out, and why it may not be all."""
    return [
        *(say("profile.partial", why=phrase(why, 200)) for why in view.partial),
        *(phrase(says, 300) for says in view.findings),
    ]


def kind(name: str) -> str:
    """A kind of work in words."""
    return CATEGORIES.get(name, plain(name, 40))


def html(report: Report, cells: Cells) -> str:
    """All ranks as safe HTML; `cells` makes a table of column names and cells that are (CSS class, safe HTML)."""
    return "".join(_rank(view, cells) for view in report.traces)


def _rank(view: TraceView, cells: Cells) -> str:
    out = [f"<p>{inert(lead(view))}</p>\n"]
    found = "".join(f"<li>{inert(note)}</li>\n" for note in notes(view))
    out.append(f"<ul>\n{found}</ul>\n" if found else "")
    if len(view.steps) > 1:
        slow = {step.index: plain(step.slow, 300) for step in view.steps if step.slow}
        keys = [
            f'<span class="key {inert(row.name)}">{inert(plain(row.name, 20))} ({row.count})</span>'
            for row in view.kinds
        ]
        out.append(
            f"<h3>{inert(say('profile.steps'))}</h3>\n<div class=steps>{step_timeline(view.steps, slow)}</div>\n"
        )
        out.append(f'<p class="legend">{"".join(keys)}<span>{inert(say("profile.legend"))}</span></p>\n')
    if view.work:
        rows = [(kind(row.name), row.ms, _amount(row), colour(row.name)) for row in view.work]
        title = say("profile.work" if view.on_gpu else "profile.work_cpu")
        out.append(f"<h3>{inert(title)}</h3>\n{bars(rows, title)}\n")
    if view.kernels:
        head = tuple(say(f"profile.{name}") for name in _columns(view))
        table = [
            [("", f"<code>{inert(plain(row.name, 80))}</code>"), ("", inert(kind(row.kind))), ("num", f"{row.count:,}"),
             ("num", number(row.ms)), ("num", percent(row.share or 0.0))]
            for row in view.kernels
        ]  # fmt: skip
        out.append(cells(head, table))
    return "".join(out)


def _amount(row: TraceRow) -> str:
    return f"{number(row.ms)} ms · {percent(row.share or 0.0)}"


def _columns(view: TraceView) -> tuple[str, ...]:
    return ("kernel" if view.on_gpu else "operator", "kind", "count", "ms", "share")


def rows(view: TraceView) -> tuple[list[str], list[list[str]]]:
    """A short table for text: kinds of work, then kernels, each with its time and share."""
    head = [say(f"profile.{name}") for name in ("where", "count", "ms", "share")]
    found = [
        *((kind(row.name), row) for row in view.work[:IN_TEXT]),
        *((f"`{plain(row.name, 80)}`", row) for row in view.kernels[:IN_TEXT]),
    ]
    return head, [[name, f"{row.count:,}", number(row.ms), percent(row.share or 0.0)] for name, row in found]


def contract(report: Report) -> list[dict[str, Any]]:
    """For machines: the same without single steps."""
    return [view.model_dump(mode="json", exclude={"steps"}) for view in report.traces]
