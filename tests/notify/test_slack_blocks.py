"""Do Slack messages keep Slack's limits and keep foreign words inert, whatever is in the report?"""

import json
import re

import pytest

from responder.notify.slack_blocks import MOST_TOTAL, address, details, fallback, parent, size
from responder.report import contract, summary_text
from tests.hostile import HOSTILE
from tests.notify.fake_slack import CHANNEL, problem
from tests.sample_report import hostile, sample

LINK = "https://responder.example.com/incidents/{id}"
ENTITY = re.compile(r"&(amp|lt|gt);")


def words_of(blocks) -> list[str]:
    """All mrkdwn texts."""
    parts = [part for block in blocks for part in (block.get("elements") or [block["text"]])]
    return [part["text"] for part in parts if part["type"] == "mrkdwn"]


@pytest.mark.parametrize("text", ["", *HOSTILE])
@pytest.mark.parametrize("build", [lambda r: parent(r, LINK, True), details])
def test_limits_hold(text, build):
    """Within Slack's limits and our own total, for the sample and for hostile reports."""
    blocks = build(contract(hostile(text) if text else sample()))
    assert problem({"channel": CHANNEL, "text": "x", "blocks": blocks}) == ""
    assert size(blocks) <= MOST_TOTAL
    assert len(blocks) >= 2


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_words_are_inert(text):
    """No `<` but that of our own link, no bare ampersand, no half entity; nothing Slack would resolve."""
    report = contract(hostile(text))
    for words in [*words_of(parent(report, LINK)), *words_of(details(report)), fallback(summary_text(hostile(text)))]:
        bare = re.sub(r"<https://responder\.example\.com/incidents/[^<>|]*\|full report>", "", words)
        assert "<" not in bare
        assert ">" not in bare
        assert "&" not in ENTITY.sub("", bare)
    assert all(part["verbatim"] for block in parent(report) for part in block.get("elements", []))


def test_the_message_answers_the_five_questions():
    """State in the heading, then what, since, why, what now, what is unknown, where to read on."""
    blocks = parent(contract(sample()), LINK)
    assert blocks[0]["text"]["text"].startswith(":red_circle: OPEN · critical · chat-70b-a:8000")
    heads = [block["text"]["text"].split("\n")[0] for block in blocks[1:-1]]
    assert heads == [
        "*What is broken*", "*Since when*", "*Most likely cause*", "*What to do now*", "*What we do not know*"
    ]  # fmt: skip
    assert "incidents/inc-20261120-031304-7f3a|full report>" in blocks[-1]["elements"][0]["text"]
    assert parent(contract(sample("resolved")))[0]["text"]["text"].startswith(":white_check_mark: RESOLVED")


def test_what_does_not_fit_is_counted():
    """A long list ends with how much more there is."""
    report = contract(sample())
    report["says"]["unknown"]["items"] = [f"item {n} " + "x" * 200 for n in range(30)]
    last = parent(report)[5]["text"]["text"]
    assert re.search(r"… \d+ more in the report$", last)


def test_a_link_cannot_leave_its_syntax():
    """The incident's id is quoted into the address."""
    assert address("https://e.com/{id}", "a|b>c d&e") == "https://e.com/a%7Cb%3Ec%20d%26e"


def test_details_show_evidence_timeline_and_captures():
    """For and against with values, other causes, what ran and what did not."""
    words = json.dumps(details(contract(sample())), ensure_ascii=False)
    for part in ("+ the KV cache is full", "− the prefix-cache hit rate", "*Timeline (UTC)*", "torch_profile: refused"):
        assert part in words
