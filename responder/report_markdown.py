"""What does the person read in a terminal, a ticket or a chat? The report as Markdown and as a short text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from responder.model import Hypothesis, Report
from responder.report_answers import Answer, answers, footer, leading, title
from responder.report_changed import since_told
from responder.report_rows import Proof, captures, changed, grouped, moments, neighbours, proofs, raw_folders, rivals
from responder.report_trace import lead as trace_lead
from responder.report_trace import notes as trace_notes
from responder.report_trace import rows as trace_rows
from responder.report_unknown import sure
from responder.report_words import authored, outcome_words, phrase, plain
from responder.words import ENGLISH, Language, say, speaking

SPECIAL = re.compile(r"([\\*\[\]<|~])")
LINE_START = re.compile(r"^(\s*)(>|(?:[#+=-]|\d+[.)])(?=\s|$))")
LOOSE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
ADDRESS = re.compile(r"(?i)\b(?:(https?|ftp):(?=//)|(www)\.)")
ENTITY = re.compile(r"&(?=#?\w+;)")
SUMMARY_LIMIT = 1000


def to_markdown(report: Report, language: Language = ENGLISH) -> str:
    """The whole report; the five answers stand first."""
    with speaking(language):
        return _markdown(report)


def _markdown(report: Report) -> str:
    blocks = [f"# {escape(title(report))}", *([line(say("judged_anew"))] if report.judged_anew else [])]
    blocks += [f"**{line(words)}**"] if (words := since_told(report)) else []
    blocks += [_answer(answer) for answer in answers(report)]
    blocks += (
        _evidence(report) + _profile(report) + _timeline(report) + _changed(report) + _rivals(report) + _nearest(report)
    )
    blocks += _captures(report) + _raw(report)
    if report.verdict.notes:
        blocks += [f"## {say('h.notes')}", "\n".join(f"- {line(authored(note))}" for note in report.verdict.notes)]
    blocks.append(f"---\n{line(footer(report))}")
    return "\n\n".join(blocks) + "\n"


def summary_text(report: Report, language: Language = ENGLISH) -> str:
    """At most 1,000 characters of plain text for a chat or a pager: title and the answers' first words."""
    with speaking(language):
        return _summary(report)


def _summary(report: Report) -> str:
    found = {answer.key: answer for answer in answers(report)}
    parts = [title(report), *filter(None, (since_told(report),)), f"{found['since'].question}: {found['since'].lead}"]
    parts.append(found["broken"].lead)
    parts += [found["broken"].items[0]] if found["broken"].items else []
    parts.append(f"{found['cause'].question}: {found['cause'].lead}")
    actions = found["do"].items
    parts.append(f"{found['do'].question}: {actions[0] if actions else found['do'].lead}")
    unknown = found["unknown"].items
    parts.append(f"{found['unknown'].question}: {unknown[0] if unknown else found['unknown'].lead}")
    out: list[str] = []
    for part in parts:
        room = SUMMARY_LIMIT - sum(len(done) + 1 for done in out)
        if room < 40:
            break
        short = part.replace("`", "")
        out.append(short if len(short) <= min(room, 300) else short[: min(room, 300) - 1] + "…")
    return "\n".join(out)


def escape(text: str) -> str:
    """Text in which Markdown means nothing: no emphasis, links, HTML, tables, headings or bare addresses."""
    safe = SPECIAL.sub(r"\\\1", ENTITY.sub("&amp;", text.replace("`", "'")))
    safe = LOOSE_UNDERSCORE.sub(r"\\_", safe)
    safe = LINE_START.sub(r"\1\\\2", safe)
    return ADDRESS.sub(lambda m: f"{m[1]}:\\" if m[1] else f"{m[2]}\\.", safe)


def line(text: str) -> str:
    """One line of our markup: code spans stay code, everything else is text."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return "".join(escape(part) if index % 2 == 0 else f"`{part}`" for index, part in enumerate(parts))


def _answer(answer: Answer) -> str:
    numbered = answer.key == "do"
    bullets = [f"{f'{n}.' if numbered else '-'} {line(item)}" for n, item in enumerate(answer.items, 1)]
    return "\n\n".join([f"## {answer.question}", line(answer.lead)] + (["\n".join(bullets)] if bullets else []))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    # A pipe inside a code span would still end the cell.
    lines += ["| " + " | ".join(cell.replace("\\|", "|").replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _link(path: str) -> str:
    return f"[{escape(plain(path.removeprefix('raw/'), 120))}]({quote(path, safe='/')})" if path else ""


def _proof_rows(rows: Iterable[Proof]) -> list[list[str]]:
    return [
        [line(row.says) + ("" if row.counted else f" {say('not_twice')}"), line(row.values), row.at,
         _link(row.file)]
        for row in rows
    ]  # fmt: skip


def _evidence(report: Report) -> list[str]:
    lead: Hypothesis | None = leading(report)
    if lead is None:
        return []
    out = [f"## {say('h.evidence_for', title=escape(phrase(lead.title, 120)), sure=sure(lead))}"]
    head = tuple(say(f"col.{name}") for name in ("claim", "measured", "at", "file"))
    for word, findings in ((say("for"), lead.supports), (say("against"), lead.contradicts)):
        rows = _proof_rows(proofs(report, findings))
        out.append(f"**{word}**\n\n{_table(head, rows)}" if rows else f"**{word}**: {say('nothing_found')}")
    return out


def _profile(report: Report) -> list[str]:
    out: list[str] = []
    for view in report.traces:
        head, rows = trace_rows(view)
        out.append(line(trace_lead(view)))
        out.append("\n".join(f"- {line(note)}" for note in trace_notes(view)))
        out.append(_table(head, [[line(cell) for cell in row] for row in rows]) if rows else "")
    return [f"## {say('h.profile')}", *filter(None, out)] if out else []


def _timeline(report: Report) -> list[str]:
    rows = [[m.at, m.offset, m.what, escape(m.says)] for m in moments(report)]
    head = [say(f"col.{name}") for name in ("when", "offset", "what", "says")]
    return [f"## {say('h.timeline')}", _table(head, rows)] if rows else []


def _changed(report: Report) -> list[str]:
    rows = [[escape(row.name), escape(row.before), escape(row.now)] for row in changed(report)]
    head = [say(f"col.{name}") for name in ("signal", "before", "now")]
    return [f"## {say('h.changed')}", _table(head, rows)] if rows else []


def _rivals(report: Report) -> list[str]:
    out: list[str] = []
    for rival in rivals(report):
        items = [f"- {say('for_it', item=line(item))}" for item in rival.supports]
        items += [f"- {say('against_it', item=line(item))}" for item in rival.contradicts]
        items += [f"- {line(item)}" for item in rival.separates]
        head = f"**{line(rival.title)}** ({line(f'`{rival.cause}`')}, {rival.sure})"
        head += f": {line(rival.says)}" if rival.says else ""
        out.append(head + "\n\n" + "\n".join(items) if items else head)
    return [f"## {say('h.rivals')}", *out] if out else []


def _nearest(report: Report) -> list[str]:
    rows = "\n".join(f"- {line(words)}" for words in neighbours(report))
    return [f"## {say('h.nearest')}", rows] if rows else []


def _captures(report: Report) -> list[str]:
    rows = [
        [
            line(f"`{plain(c.step, 60)}`"),
            str(c.rung),
            outcome_words(c.status),
            escape(c.cost),
            escape(c.reason or c.why),
        ]
        for c in grouped(captures(report))
    ]
    head = [say(f"col.{name}") for name in ("step", "rung", "ended", "cost", "why")]
    return [f"## {say('h.captures')}", say("rungs"), _table(head, rows)] if rows else []


def _raw(report: Report) -> list[str]:
    files = [
        "- " + ", ".join(f"{_link(folder)} ({count})" for folder, count in runs)
        for runs in raw_folders(report).values()
    ]
    return [f"## {say('h.raw')}", "\n".join(files)] if files else []
