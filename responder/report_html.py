"""What does the person see in a browser? One self-contained page: no script, no request, all data escaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import quote

from responder.model import Finding, Report, Status
from responder.report_answers import (
    Answer,
    answers,
    close_second,
    footer,
    leading,
    leading_cause,
    remedies,
    set_now,
    title,
)
from responder.report_changed import since_told
from responder.report_commands import runnable
from responder.report_rows import captures, changed, grouped, moments, neighbours, proofs, raw_files, rivals
from responder.report_style import STYLE
from responder.report_trace import STYLE as TRACE_STYLE
from responder.report_trace import html as trace_html
from responder.report_unknown import sure
from responder.report_words import authored, code, named, outcome_words, phrase, plain, trouble
from responder.words import ENGLISH, Language, say, speaking, spoken

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
UNIT_SPACE = re.compile(r"(?<=\d) (?=(?:%|[mµ]?s|min|h|d|[KMGT]?i?B|W)(?!\w))")
SVG = "{http://www.w3.org/2000/svg}"
HREF = ("href", "{http://www.w3.org/1999/xlink}href")
DRAWS = {"svg", "g", "defs", "path", "use", "rect", "circle", "line", "polyline", "polygon", "clipPath", "text",
         "tspan", "style"}  # fmt: skip
"""All that a chart consists of; nothing here runs, loads or leads elsewhere."""
WIDE = {"steps": "profile.steps"}
"""Pictures that need the whole width, and what they are called; on a phone they are scrolled sideways, also by keys."""
AT_A_GLANCE = {"broken": 2, "cause": 1}
"""Details of an answer that a phone shows too: all symptoms stand in the timeline, all evidence in its tables."""
TALL = {"0-ranks"}
"""Pictures about as high as two charts."""
LOADS = re.compile(r"@import|javascript:|url\(\s*[\"']?(?!#)", re.IGNORECASE)


def to_html(
    report: Report,
    charts: Mapping[str, str] | None = None,
    language: Language = ENGLISH,
    in_english: bool = False,
) -> str:
    """The page. `charts`: name -> SVG text; one that is not plainly a drawing is left out and named.

    `in_english`: the charts are, for want of a font for this language.
    """
    with speaking(language):
        return _page(report, charts or {}, say("charts_in_english") if charts and in_english else "")


def _page(report: Report, charts: Mapping[str, str], about_charts: str) -> str:
    body = [
        _header(report),
        f'<p class="faint">{rich(say("judged_anew"))}</p>\n' if report.judged_anew else "",
        _answers(report),
        _charts(charts, about_charts),
        _evidence(report),
        _profile(report),
        _timeline(report),
        _changed(report),
        _rivals(report),
        _part("nearest", _list(neighbours(report))) if report.experience.nearest else "",
        _captures(report),
        _raw(report),
        _notes(report),
        f"<footer>{rich(footer(report))}</footer>",
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="{spoken().html}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title(report))}</title>\n<style>{STYLE}{TRACE_STYLE if report.traces else ''}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(part for part in body if part)}</main>\n</body>\n</html>\n"
    )


def text(words: str) -> str:
    """Words as text of a page; a number and its unit stay on one line."""
    return UNIT_SPACE.sub("\u00a0", escape(words, quote=True))


def rich(line: str) -> str:
    """One line of our markup: code spans become code, everything else is text."""
    parts = line.split("`")
    if len(parts) % 2 == 0:
        return text(line)
    return "".join(text(part) if i % 2 == 0 else f"<code>{text(part)}</code>" for i, part in enumerate(parts))


def drawing(svg: str) -> bool:
    """Whether this is one SVG element that neither runs nor loads anything."""
    if not svg.startswith("<svg") or "<!" in svg or "<?" in svg:
        return False
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError:
        return False
    return all(map(_inert, root.iter()))


def _inert(element: ElementTree.Element) -> bool:
    words = [*element.attrib.values(), element.text or ""] if element.tag == f"{SVG}style" else element.attrib.values()
    return (
        str(element.tag).removeprefix(SVG) in DRAWS
        and not any(name.lower().startswith("on") for name in element.attrib)
        and all(element.attrib.get(name, "#").startswith("#") for name in HREF)
        and not any(LOADS.search(value) for value in words)
    )


def _header(report: Report) -> str:
    incident = report.incident
    tone = "resolved" if incident.state == "resolved" else incident.severity.value
    words = trouble(incident, incident.state == "resolved")
    cause = leading_cause(report)
    head = phrase(cause.title, 120) if cause else words[:1].upper() + words[1:]
    if cause and (other := close_second(report)):
        head = say("title.neither", title=phrase(cause.title, 90), other=phrase(other.title, 90))
    under = f"{plain(incident.target, 120)} · {words}" + (f" · {sure(cause)}" if cause else "")
    since = f"<p>{rich(words)}</p>\n" if (words := since_told(report)) else ""
    state = f"{named('state', incident.state)} · {named('severity', incident.severity.value).upper()}"
    return (
        f'<header class="{tone}">\n<p class="state">{text(state)}</p>\n'
        f'<h1>{text(head)}</h1>\n<p class="faint">{text(under)}</p>\n{since}</header>\n'
    )


def _answers(report: Report) -> str:
    out = []
    for answer in answers(report):
        body = _actions(report) if answer.key == "do" and remedies(report) else _items(answer)
        out.append(
            f'<section class="{answer.key}">\n<h2>{text(answer.question)}</h2>\n'
            f'<p class="lead">{rich(answer.lead)}</p>\n{body}</section>\n'
        )
    return f'<div class="answers">\n{"".join(out)}</div>\n'


def _items(answer: Answer) -> str:
    """The details; of those that stand again below a phone shows the first, so that it has room for what to do."""
    shown = AT_A_GLANCE.get(answer.key, len(answer.items))
    lines = [rich(item) for item in answer.items]
    items = "".join(f"<li>{line}</li>\n" for line in lines[:shown])
    items += "".join(f'<li class="more">{line}</li>\n' for line in lines[shown:])
    return f"<ul>\n{items}</ul>\n" if items else ""


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{rich(line)}</li>\n" for line in lines)
    return f"<ul>\n{items}</ul>\n" if items else ""


def _actions(report: Report) -> str:
    rows = []
    for remedy in remedies(report):
        price = say("do.tradeoff", tradeoff=authored(remedy.tradeoff))
        now = set_now(remedy)
        price = f"{say('do.set_now', values=now)} {price}" if now else price
        how = say("do.safe") if remedy.safe_now else say("do.care")
        tag = f'<span class="tag{" safe" if remedy.safe_now else ""}">{text(how)}</span>'
        option = (
            f'<code class="option">{text(plain(runnable(report, remedy.option), 400))}</code>' if remedy.option else ""
        )
        rows.append(f'<li>{tag}{rich(authored(remedy.says))}{option}<div class="tradeoff">{rich(price)}</div></li>\n')
    return f'<ol class="actions">\n{"".join(rows)}</ol>\n'


def _part(key: str, body: str) -> str:
    """A section below the first screen; it may break over pages."""
    return f'<section class="long">\n<h2>{text(say(f"h.{key}"))}</h2>\n{body}</section>\n'


def _charts(charts: Mapping[str, str], about: str = "") -> str:
    safe = {name: svg for name, svg in charts.items() if drawing(svg)}
    figures = "".join(f"<figure{_wide(name)}>{svg}</figure>\n" for name, svg in safe.items())
    left = [name for name in charts if name not in safe]
    words = say("not_drawn", names=plain(", ".join(left), 200))
    note = f'<p class="faint">{text(words)}</p>\n' if left else ""
    note += f'<p class="faint">{text(about)}</p>\n' if about else ""
    if not figures and not note:
        return ""
    body = f'<div class="charts">\n{figures}</div>\n{note}'
    return _part("charts", body)


def _wide(name: str) -> str:
    if name in TALL:
        return ' class="tall"'
    return f' class="wide" tabindex="0" aria-label="{text(say(WIDE[name]))}"' if name in WIDE else ""


def _evidence(report: Report) -> str:
    lead = leading(report)
    if lead is None or not (lead.supports or lead.contradicts):
        return ""
    known = say("h.evidence_for", title=phrase(lead.title, 120), sure=sure(lead))
    head = say("h.evidence") if lead.status is Status.UNKNOWN else known
    both = f"<h3>{text(say('for'))}</h3>\n{_proofs(report, lead.supports)}"
    both += f"<h3>{text(say('against'))}</h3>\n{_proofs(report, lead.contradicts)}"
    found = next((answer for answer in answers(report) if answer.key == "cause"), None)
    if found and found.items:
        both += f'<p class="again">{rich(found.items[-1])}</p>\n'
    return f'<section class="long">\n<h2>{text(head)}</h2>\n{both}</section>\n'


def _proofs(report: Report, findings: Iterable[Finding]) -> str:
    rows = [
        (
            (
                "",
                rich(row.says) + ("" if row.counted else f' <span class="faint">{text(say("not_twice"))}</span>'),
            ),
            ("", rich(row.values)),
            ("time", text(row.at)),
            ("", _link(row.file)),
        )
        for row in proofs(report, findings)
    ]
    head = tuple(say(f"col.{name}") for name in ("claim", "measured", "at", "file"))
    return _table(head, rows) if rows else f"<p>{text(say('nothing_was_found'))}</p>\n"


def _table(head: tuple[str, ...], rows: Iterable[Iterable[tuple[str, str]]]) -> str:
    """Cells are (CSS class, safe HTML); on a phone each cell carries its column's name."""
    out = ["<table>\n<thead><tr>", *(f'<th scope="col">{text(name)}</th>' for name in head), "</tr></thead>\n<tbody>\n"]
    for row in rows:
        cells = []
        for index, (name, (css, cell)) in enumerate(zip(head, row, strict=True)):
            label = f' data-label="{text(name)}"' if index and cell else ""
            cells.append(f"<td{f' class={chr(34)}{css}{chr(34)}' if css else ''}{label}>{cell}</td>")
        out.append(f"<tr>{''.join(cells)}</tr>\n")
    return "".join(out) + "</tbody>\n</table>\n"


def _link(path: str) -> str:
    """A link to a raw file beside this page: relative, quoted, never a scheme of somebody's choosing."""
    return f'<a href="./{quote(path, safe="/")}">{text(plain(path.removeprefix("raw/"), 120))}</a>' if path else ""


def _profile(report: Report) -> str:
    if not report.traces:
        return ""
    return f'<section class="long trace">\n<h2>{text(say("h.profile"))}</h2>\n{trace_html(report, _table)}</section>\n'


def _timeline(report: Report) -> str:
    rows = "".join(
        f'<li class="{text(moment.kind)}"><time>{moment.at}</time><span class="faint">{moment.offset}</span> '
        f"{text(f'{moment.what}: {moment.says}' if moment.then else moment.says)}</li>\n"
        for moment in moments(report)
    )
    return _part("timeline", f'<ul class="moments">\n{rows}</ul>\n') if rows else ""


def _changed(report: Report) -> str:
    rows = [(("", text(row.name)), ("", text(row.before)), ("", text(row.now))) for row in changed(report)]
    table = _table(tuple(say(f"col.{name}") for name in ("signal", "before", "now")), rows)
    return _part("changed", table) if rows else ""


def _rivals(report: Report) -> str:
    out = []
    for rival in rivals(report):
        items = [say("for_it", item=item) for item in rival.supports]
        items += [say("against_it", item=item) for item in rival.contradicts]
        out.append(
            f"<h3>{rich(rival.title)} ({text(rival.sure)})</h3>\n<p>{rich(rival.says)} "
            f'<span class="faint">{rich(code(rival.cause, 80))}</span></p>\n{_list([*items, *rival.separates])}'
        )
    return _part("rivals", "".join(out)) if out else ""


def _captures(report: Report) -> str:
    rows = [
        (
            ("", rich(code(capture.step, 60))),
            ("num", str(capture.rung)),
            ("word", text(outcome_words(capture.status))),
            ("", text(capture.cost)),
            ("", text(capture.reason or capture.why)),
        )
        for capture in grouped(captures(report))
    ]
    table = _table(tuple(say(f"col.{name}") for name in ("step", "rung", "ended", "cost", "why")), rows)
    return _part("captures", f'<p class="faint">{text(say("rungs"))}</p>\n{table}') if rows else ""


def _raw(report: Report) -> str:
    files = "".join(f"<li>{_link(path)}</li>\n" for path in raw_files(report))
    if not files:
        return ""
    head = f"<summary><h2>{text(say('h.raw'))}</h2></summary>"
    return f'<section class="long">\n<details>\n{head}\n<ul>\n{files}</ul>\n</details>\n</section>\n'


def _notes(report: Report) -> str:
    notes = _list(authored(note) for note in report.verdict.notes)
    return _part("notes", notes) if notes else ""
