"""How does an incident look in Slack? Blocks within Slack's limits; every foreign word is text, nothing else.

Limits as documented by Slack or met by others: 50 blocks, 3,000 characters a section, 150 a header; all blocks
together fail somewhere above 13,000 characters, so we stop at 9,000.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from responder.report_words import clean

MOST_BLOCKS = 50
MOST_TOTAL = 9000
MOST_SECTION = 3000
MOST_HEADER = 150
MOST_TEXT = 1000
ANSWER_LIMITS = {"broken": 1100, "since": 400, "cause": 1700, "do": 2200, "unknown": 1100}
MARKS = {"resolved": ":white_check_mark:", "critical": ":red_circle:", "warning": ":large_orange_circle:"}

Block = dict[str, Any]


def parent(report: Mapping[str, Any], link: str = "", possible_duplicate: bool = False) -> list[Block]:
    """The incident's one message: state, and the five answers."""
    incident = report["incident"]
    tone = "resolved" if incident["state"] == "resolved" else incident["severity"]
    blocks = [header(f"{MARKS.get(tone, ':large_blue_circle:')} {report['title']}")]
    for key, answer in report["says"].items():
        blocks.append(section(_answer(answer), ANSWER_LIMITS.get(key, 1000)))
    ending = f"Incident {escape(incident['id'])} · revision {report['revision']} ({escape(report['stage'])})"
    if link:
        ending += f" · <{address(link, incident['id'])}|full report>"
    if possible_duplicate:
        ending += " · _possible duplicate: the first attempt was not answered_"
    return within([*blocks, context(ending)])


def details(report: Mapping[str, Any]) -> list[Block]:
    """For the thread: evidence for and against, other causes, timeline, captures."""
    blocks: list[Block] = []
    for index, hypothesis in enumerate(report["hypotheses"][:3]):
        title = f"*{escape(hypothesis['title'])}* ({hypothesis['status']}, {round(hypothesis['probability'] * 100)} %)"
        lines = [title] if index else [f"*Evidence* — {title}"]
        lines += [f"+ {markup(entry['words'])}" for entry in hypothesis["for"] if entry["counted"]]
        lines += [f"− {markup(entry['words'])}" for entry in hypothesis["against"] if entry["counted"]]
        lines += [f"? {escape(entry['step'])}: {escape(entry['why'])}" for entry in hypothesis["missing"]]
        blocks.append(section(lines, 2200 if index == 0 else 900))
    moments = [f"{entry['at'][11:19]} {escape(entry['says'])}" for entry in report["timeline"]]
    if moments:
        blocks.append(section(["*Timeline (UTC)*", *moments], 1800))
    captured = [
        f"{escape(c['step'])}: {escape(c['status'])}" + (f" ({escape(c['reason'])})" if c["reason"] else "")
        for c in report["captures"]
    ]
    if captured:
        blocks.append(section(["*Captures*", *captured], 1800))
    return within(blocks)


def note(words: str) -> list[Block]:
    """One paragraph."""
    return [section([escape(words)], MOST_SECTION)]


def fallback(text: str) -> str:
    """The text beside the blocks, for notifications and screen readers."""
    out = escape(clip(text, MOST_TEXT), keep_lines=True)
    return out if len(out) <= MOST_SECTION else escape(clip(text, 500), keep_lines=True)


def escape(words: object, keep_lines: bool = False) -> str:
    """Foreign words as inert text: no mention, link or entity can come of them."""
    text = "\n".join(map(clean, str(words).split("\n"))) if keep_lines else clean(words)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markup(line: str) -> str:
    """A line of the report's markup: its code spans are Slack's too."""
    return escape(line)


def clip(text: str, limit: int) -> str:
    """At most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def address(template: str, incident: str) -> str:
    """The configured link with {id} filled in; nothing in it can end Slack's link syntax."""
    filled = template.replace("{id}", quote(incident, safe=""))
    return quote(filled, safe=":/?#[]@!$&'()*+,;=%~-._").replace("&", "&amp;")


def header(words: str) -> Block:
    """A heading; plain text, in which nothing is markup but the leading emoji."""
    return {"type": "header", "text": {"type": "plain_text", "text": clip(clean(words), MOST_HEADER), "emoji": True}}


def section(lines: Sequence[str], limit: int) -> Block:
    """Whole lines up to the limit; a line too many is left out and said so, a line too long is cut."""
    out: list[str] = []
    used = 0
    limit = min(limit, MOST_SECTION)
    for index, line in enumerate(lines):
        room = limit - used - 40
        if len(line) > room and out:
            out.append(f"… {len(lines) - index} more in the report")
            break
        out.append(_cut(line, room))
        used += len(out[-1]) + 1
    return {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(out) or "…", "verbatim": True}}


def context(words: str) -> Block:
    """Small print."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": _cut(words, 2000), "verbatim": True}]}


def within(blocks: list[Block]) -> list[Block]:
    """As many leading blocks as fit Slack's limits."""
    out: list[Block] = []
    used = 0
    for block in blocks[:MOST_BLOCKS]:
        used += size([block])
        if used > MOST_TOTAL:
            break
        out.append(block)
    return out


def size(blocks: Iterable[Block]) -> int:
    """Characters of all texts."""
    texts = [part["text"] for b in blocks for part in (b.get("elements") or [b["text"]])]
    return sum(len(text) for text in texts)


def _answer(answer: Mapping[str, Any]) -> list[str]:
    return [
        f"*{escape(answer['question'])}*",
        markup(answer["lead"]),
        *(f"• {markup(item)}" for item in answer["items"]),
    ]


def _cut(text: str, limit: int) -> str:
    """Cut without leaving half an entity or an open code span."""
    if len(text) <= limit:
        return text
    short = text[: limit - 1]
    start = short.rfind("&", max(0, len(short) - 5))
    if start >= 0 and ";" not in short[start:]:
        short = short[:start]
    return (short if short.count("`") % 2 == 0 else short[: short.rfind("`")]) + "…"
