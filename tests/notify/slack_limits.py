"""What does Slack refuse? Its documented limits of messages and blocks, as one check every test's payload goes through.

Sources: docs.slack.dev (block reference, message payloads); the total of 13,200 characters is what others met.
"""

from __future__ import annotations

import re
from typing import Any

ACTIVE = re.compile(r"<(?:!|@|#|https?:(?!//responder\.example\.com/))")
"""Mentions, and links that are not ours."""
OUR_TOTAL = 9000


def broken(message: dict[str, Any]) -> list[str]:
    """Everything in a message that breaks a documented limit or one of our own rules; empty when all is well."""
    blocks = message.get("blocks") or []
    found = [f"block {number}: {wrong}" for number, block in enumerate(blocks) for wrong in of_block(block)]
    if len(blocks) > 50:
        found.append(f"{len(blocks)} blocks")
    if len(str(message.get("text", ""))) > 4000:
        found.append("text over 4,000 characters is cut")
    total = sum(map(len, every_text(blocks)))
    if total > OUR_TOTAL:
        found.append(f"{total} characters in all blocks")
    ids = [action for block in blocks for action in ids_of(block)]
    if len(ids) != len(set(ids)):
        found.append("an action_id twice in one message")
    for text in [*every_text(blocks, plain=False), str(message.get("text", ""))]:
        if ACTIVE.search(text):
            found.append(f"a mention or foreign link: {text[:80]}")
    if message.get("blocks") is not None and not message.get("text"):
        found.append("no text beside the blocks")
    return found


def of_block(block: dict[str, Any]) -> list[str]:
    """What is wrong with one block."""
    kind = block.get("type")
    if kind == "header":
        return text_of(block.get("text"), 150, "plain_text")
    if kind == "section":
        return text_of(block.get("text"), 3000, "mrkdwn")
    if kind == "context":
        elements = block.get("elements") or []
        wrong = [] if 0 < len(elements) <= 10 else [f"{len(elements)} elements in a context"]
        return wrong + [bad for element in elements for bad in text_of(element, 2000, "mrkdwn")]
    if kind == "actions":
        elements = block.get("elements") or []
        wrong = [] if 0 < len(elements) <= 25 else [f"{len(elements)} elements in actions"]
        return wrong + [bad for element in elements for bad in of_element(element)]
    return [f"block type {kind!r} is not one we use"]


def of_element(element: dict[str, Any]) -> list[str]:
    """What is wrong with a button or a menu."""
    wrong = [] if 0 < len(element.get("action_id", "")) <= 255 else ["action_id"]
    if element["type"] == "button":
        wrong += text_of(element.get("text"), 75, "plain_text")
        wrong += [] if 0 < len(element.get("value", "")) <= 2000 else ["value of a button"]
        wrong += [] if element.get("style", "primary") in ("primary", "danger") else ["style"]
        wrong += of_confirm(element["confirm"]) if "confirm" in element else []
    elif element["type"] == "static_select":
        wrong += text_of(element.get("placeholder"), 150, "plain_text")
        options = element.get("options") or []
        wrong += [] if 0 < len(options) <= 100 else [f"{len(options)} options"]
        for option in options:
            wrong += text_of(option.get("text"), 75, "plain_text")
            wrong += [] if 0 < len(option.get("value", "")) <= 150 else ["value of an option"]
    else:
        wrong.append(f"element type {element['type']!r}")
    return wrong


def of_confirm(confirm: dict[str, Any]) -> list[str]:
    """What is wrong with a confirmation dialogue."""
    limits = {"title": 100, "text": 300, "confirm": 30, "deny": 30}
    wrong = [bad for name, limit in limits.items() for bad in text_of(confirm.get(name), limit, "plain_text")]
    return wrong + [f"confirm.{name}" for name in set(confirm) - {*limits, "style"}]


def text_of(text: Any, limit: int, kind: str) -> list[str]:
    """What is wrong with a text object."""
    if not isinstance(text, dict) or text.get("type") != kind:
        return [f"not a {kind} text: {str(text)[:60]}"]
    length = len(text.get("text", ""))
    return [] if 0 < length <= limit else [f"{length} characters in a {kind} of at most {limit}"]


def every_text(value: Any, plain: bool = True) -> list[str]:
    """Every text in blocks, however deep; without `plain` only those in which Slack looks for links and mentions."""
    if isinstance(value, dict):
        shown = isinstance(value.get("text"), str) and (plain or value.get("type") != "plain_text")
        own = [value["text"]] if shown else []
        return own + [text for part in value.values() for text in every_text(part, plain)]
    return [text for part in value for text in every_text(part, plain)] if isinstance(value, list) else []


def ids_of(block: dict[str, Any]) -> list[str]:
    """The action_ids of a block."""
    return [element["action_id"] for element in block.get("elements") or [] if "action_id" in element]
