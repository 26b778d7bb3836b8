"""How does an incident look in Slack? Blocks within Slack's limits; every foreign word is text, nothing else.

Limits as documented by Slack or met by others: 50 blocks, 3,000 characters a section, 150 a header; all blocks
together fail somewhere above 13,000 characters, so we stop at 9,000.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from responder.model import Button
from responder.report_words import clean, duration, named, percent, phrase
from responder.words import Language, language, say, speaking

MOST_BLOCKS = 50
MOST_TOTAL = 9000
MOST_SECTION = 3000
MOST_HEADER = 150
ROOM_FOR_MARK = 24
MOST_TEXT = 1000
MOST_ELEMENTS = 25
MOST_ASKED = 5
"""Captures that can be allowed from one message; more are allowed on the command line."""
ANSWER_LIMITS = {"broken": 1100, "since": 400, "cause": 1700, "do": 2200, "unknown": 1100}
MARKS = {"resolved": ":white_check_mark:", "critical": ":red_circle:", "warning": ":large_orange_circle:"}

Block = dict[str, Any]


@contextmanager
def _in_its_language(report: Mapping[str, Any]) -> Iterator[Language]:
    with speaking(language(str(report.get("language", "en")))) as spoken:
        yield spoken


def parent(
    report: Mapping[str, Any], link: str = "", possible_duplicate: bool = False, buttons: Sequence[Button] = ()
) -> list[Block]:
    """The incident's one message: state, the five answers, and what can be pressed."""
    with _in_its_language(report):
        return _parent(report, link, possible_duplicate, buttons)


def _parent(
    report: Mapping[str, Any], link: str, possible_duplicate: bool, buttons: Sequence[Button]
) -> list[Block]:  # fmt: skip
    incident = report["incident"]
    tone = "resolved" if incident["state"] == "resolved" else incident["severity"]
    blocks = [header(f"{MARKS.get(tone, ':large_blue_circle:')} {headline(report)}")]
    if changed := report.get("changed"):
        blocks.append(section([f"*{escape(changed)}*"], 600))
    for key, answer in report["says"].items():
        blocks.append(section(_answer(answer), ANSWER_LIMITS.get(key, 1000)))
    stage = escape(named("stage", report["stage"]))
    ending = say("slack.footer", id=escape(incident["id"]), revision=report["revision"], stage=stage)
    if link:
        ending += f" · <{address(link, incident['id'])}|{say('slack.report')}>"
    if possible_duplicate:
        ending += f" · _{say('slack.duplicate')}_"
    # What can be pressed comes first when there is not room for all: an answer cut short is still an answer.
    ends = [*pressable(buttons), context(ending)]
    return [*within(blocks, MOST_BLOCKS - len(ends), MOST_TOTAL - size(ends)), *ends]


def headline(report: Mapping[str, Any]) -> str:
    """The title; where it does not fit a header, without the class, so that the cause is not what is cut off."""
    incident, lead = report["incident"], next(iter(report["hypotheses"]), None)
    if len(report["title"]) <= MOST_HEADER - ROOM_FOR_MARK or lead is None or lead["status"] == "unknown":
        return str(report["title"])
    sure = say("sure.status", status=named("status", lead["status"]), share=percent(lead["probability"]))
    state, severity = named("state", incident["state"]), named("severity", incident["severity"])
    return f"{state} · {severity} · {incident['target']}: {lead['title']} ({sure})"


def pressable(buttons: Sequence[Button]) -> list[Block]:
    """Rows of buttons: what concerns the incident, then every capture that waits for a person."""
    first: list[Block] = []
    for button in buttons:
        if button.action in ("acknowledge", "right"):
            style = {"style": "primary"} if button.action == "acknowledge" else {}
            first.append(_button(button, say(f"button.{button.action}")) | style)
    wrong = [button for button in buttons if button.action == "wrong"]
    if len(wrong) == 1:
        first.append(_button(wrong[0], say("button.wrong")))
    elif wrong:
        names = [(b.what if b.truth else say("button.wrong_other"), b.id) for b in wrong]
        first.append(_menu("wrong", say("button.wrong_was"), names))
    quiet = [button for button in buttons if button.action == "silence"]
    if quiet:
        first.insert(1, _menu("silence", say("button.silence"), [(duration(b.seconds), b.id) for b in quiet]))
    rows: list[Block] = [{"type": "actions", "elements": first[:MOST_ELEMENTS]}] if first else []
    for step in list(dict.fromkeys(b.step for b in buttons if b.action == "approve"))[:MOST_ASKED]:
        pair = [b for b in buttons if b.step == step and b.action in ("approve", "deny")]
        until = f"{datetime.fromtimestamp(pair[0].until, UTC):%H:%M:%S}"
        rows.append(section([say("slack.asked", step=f"*{escape(step)}*", rung=pair[0].rung, until=until)], 300))
        rows.append({"type": "actions", "elements": [_question(button) for button in pair]})
    return rows


def _question(button: Button) -> Block:
    step = clip(clean(button.step), 40)
    block = _button(button, say(f"button.{button.action}", step=step))
    if button.action == "deny":
        return block
    sure = {
        "title": _plain(say("button.sure_title", step=step), 100),
        "text": _plain(say("button.sure_text", what=clean(button.what)), 300),
        "confirm": _plain(say("button.sure_yes"), 30),
        "deny": _plain(say("button.sure_no"), 30),
    }
    return block | {"style": "danger", "confirm": sure}


def _button(button: Button, words: str) -> Block:
    return {"type": "button", "action_id": f"{button.action}.{button.id}"[:255], "value": button.id,
            "text": _plain(words, 75)}  # fmt: skip


def _menu(action: str, words: str, options: Sequence[tuple[str, str]]) -> Block:
    return {
        "type": "static_select",
        "action_id": action,
        "placeholder": _plain(words, 150),
        "options": [{"text": _plain(clean(says), 75), "value": value} for says, value in options[:100]],
    }


def _plain(words: str, limit: int) -> Block:
    return {"type": "plain_text", "text": clip(words, limit), "emoji": False}


def details(report: Mapping[str, Any]) -> list[Block]:
    """For the thread: evidence for and against, other causes, timeline, captures."""
    with _in_its_language(report):
        return _details(report)


def _details(report: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    for index, hypothesis in enumerate(report["hypotheses"][:3]):
        sure = say(
            "sure.status", status=named("status", hypothesis["status"]), share=percent(hypothesis["probability"])
        )
        title = f"*{escape(hypothesis['title'])}* ({sure})"
        lines = [title] if index else [f"*{say('h.evidence')}* — {title}"]
        lines += [f"+ {markup(entry['words'])}" for entry in hypothesis["for"] if entry["counted"]]
        lines += [f"− {markup(entry['words'])}" for entry in hypothesis["against"] if entry["counted"]]
        lines += [f"? {escape(entry['step'])}: {escape(entry['why'])}" for entry in hypothesis["missing"]]
        blocks.append(section(lines, 2200 if index == 0 else 900))
    moments = [f"{entry['at'][11:19]} {escape(entry['says'])}" for entry in report["timeline"]]
    if moments:
        blocks.append(section([f"*{say('h.timeline')}*", *moments], 1800))
    captured = [
        f"{escape(c['step'])}: {escape(named('outcome', c['status']))}"
        + (say("aside", words=escape(phrase(c["reason"]))) if c["reason"] else "")
        for c in report["captures"]
    ]
    if captured:
        blocks.append(section([f"*{say('slack.captures')}*", *dict.fromkeys(captured)], 1800))
    return within(blocks)


def note(report: Mapping[str, Any], key: str, **words: str) -> list[Block]:
    """One paragraph of fixed words with foreign ones in them."""
    with _in_its_language(report):
        return [section([say(key, **{name: markup(value) for name, value in words.items()})], MOST_SECTION)]


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
            out.append(say("slack.more", count=len(lines) - index))
            break
        out.append(_cut(line, room))
        used += len(out[-1]) + 1
    return {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(out) or "…", "verbatim": True}}


def context(words: str) -> Block:
    """Small print."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": _cut(words, 2000), "verbatim": True}]}


def within(blocks: list[Block], most: int = MOST_BLOCKS, total: int = MOST_TOTAL) -> list[Block]:
    """As many leading blocks as fit Slack's limits."""
    out: list[Block] = []
    used = 0
    for block in blocks[:most]:
        used += size([block])
        if used > total:
            break
        out.append(block)
    return out


def size(blocks: Iterable[Block]) -> int:
    """Characters of all texts."""
    return sum(len(text) for block in blocks for text in _texts(block))


def _texts(value: object) -> Iterator[str]:
    """Every text inside a block, however deep."""
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield value["text"]
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


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
