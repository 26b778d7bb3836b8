"""Does a storm of 200 incidents become one message that tells all of it, within Slack's limits?"""

from dataclasses import replace
from functools import cache

import pytest

from responder.model import Button
from responder.notify import digest as module
from responder.notify.digest import Digest
from responder.notify.slack_blocks import details, fallback, parent, size
from responder.notify.slack_bot import SlackBot, SlackBotReceiver
from responder.notify.slack_webhook import SlackWebhook, SlackWebhookReceiver
from responder.report import contract, summary_text
from tests.hostile import HOSTILE
from tests.notify.conftest import message_of
from tests.notify.fake_slack import CHANNEL, TOKEN
from tests.notify.slack_limits import broken
from tests.notify.test_slack_clicks import BUTTONS
from tests.replayed import RECORDED, replayed
from tests.sample_report import OPENED, hostile, sample

STORM = 200
LINK = "https://responder.example.com/incidents/{id}"
STAGES = ("first", "update", "final", "resolved")


class Clock:
    """Ours to turn."""

    now = 1_795_144_400.0

    def __call__(self):
        return self.now


@cache
def pattern(stage):
    """The message of one incident; the others differ in id and server."""
    return message_of(sample(stage))


def message(number, stage, receipt):
    """An incident of a server of its own."""
    whole = pattern(stage)
    body = whole.body.replace(b"inc-20261120-031304-7f3a", b"inc-%03d" % number)
    return replace(whole, incident=f"inc-{number:03d}", body=body.replace(b"chat-70b-a", b"chat-%03d" % number),
                   receipt=receipt)  # fmt: skip


@pytest.fixture
def clock():
    """One for notifier and test."""
    return Clock()


@pytest.fixture
def bot(slack, clock, tmp_path):
    """As the daemon builds it, without waiting between messages."""
    settings = SlackBotReceiver(token=TOKEN, channel=CHANNEL, api_url=f"{slack.base}/api/", charts=False,
                                link="https://responder.example.com/incidents/{id}")  # fmt: skip
    return lambda: SlackBot("team", settings, clock, gap_s=0, folder=tmp_path)


async def tell(notifier, http, clock, stage, numbers, receipts, buttons=()):
    """As the outbox: what is not told yet is told again later, with the receipt of the attempt before."""
    waiting, rounds = list(numbers), 0
    while waiting:
        rounds += 1
        assert rounds < 50
        left = []
        for number in waiting:
            sent = await notifier.send(http, replace(message(number, stage, receipts.get(number, "")), buttons=buttons))
            receipts[number] = sent.receipt or receipts.get(number, "")
            assert sent.outcome in ("delivered", "retry"), sent
            if sent.outcome == "retry":
                left.append(number)
            clock.now += 0.01
        waiting = left
        clock.now += 2.5


async def test_a_storm_is_five_messages_and_a_digest(bot, slack, http, clock):
    """Every payload within the documented limits (the fixture checks); all 200 are in the digest or have their own."""
    notifier, receipts = bot(), {}
    for stage in STAGES:
        await tell(notifier, http, clock, stage, range(STORM), receipts)
    parents = slack.parents()
    assert len(parents) == 6
    digest = parents[-1]
    assert digest["text"] == "195 incidents at once: 0 open, 195 resolved"
    assert digest["edited"]
    assert [reply["text"] for reply in slack.threads(digest["ts"])] == [
        "All 195 incidents of this digest are resolved."
    ]
    assert slack.calls.count("chat.update") < 60
    assert sum('"digest"' in receipt for receipt in receipts.values()) == 195


@cache
def reports():
    """What servers said when they were ill, recorded; and the worst that could be put into words."""
    return [*map(replayed, RECORDED[::4]), sample(), *map(hostile, HOSTILE[::2])]


@cache
def told(kind, stage):
    """The contract object and the short text of one of them, at a stage of its life."""
    report = reports()[kind]
    over = {"state": "resolved", "resolved_at": OPENED + 900} if stage == "resolved" else {"state": "open"}
    known = report.incident.model_copy(update={**over, "id": "inc-000"})
    report = report.model_copy(update={"stage": stage, "incident": known})
    return contract(report), fallback(summary_text(report))


WRONG = tuple(
    Button(
        id=f"0123456789abcdef.{n:02x}ff", action="wrong", incident="i1", cause="c", truth=f"c{n}", what="A name " * 9
    )
    for n in range(25)
)


def test_a_storm_that_never_ends_forgets_what_is_long_over(monkeypatch):
    """Not what is open: a digest must not grow for weeks."""
    monkeypatch.setattr(module, "MOST_ROWS", 5)
    digest = Digest(over=1, within_s=60.0)
    for number in range(20):
        digest.take(message(number, "first" if number < 3 else "resolved", ""))
    assert len(digest.rows) <= 6
    assert sum(row["state"] == "open" for row in digest.rows.values()) == 3


def test_a_wrong_cause_is_answered_from_a_menu():
    """One menu with what it may have been, the last choice being something else; all of it within the limits."""
    other = Button(id="0123456789abcdef.ff", action="wrong", incident="i1", cause="c")
    blocks = parent(contract(sample()), buttons=(*BUTTONS, *WRONG, other))
    assert broken({"text": "x", "blocks": blocks}) == []
    [menu] = [e for b in blocks if b["type"] == "actions" for e in b["elements"] if e["action_id"] == "wrong"]
    assert [option["value"] for option in menu["options"]] == [b.id for b in (*WRONG, other)]
    assert menu["options"][-1]["text"]["text"] == "something else, or not known"


def test_every_payload_of_200_different_incidents_fits():
    """Recorded incidents and hostile words at every stage, with every button there is: message and thread."""
    wrong, sizes = [], []
    for number in range(STORM):
        stage = STAGES[number // len(reports()) % len(STAGES)]
        body, text = told(number % len(reports()), stage)
        body = {**body, "incident": {**body["incident"], "id": f"inc-{number:03d}"}}
        for blocks in (parent(body, LINK, True, (*BUTTONS, *WRONG)), details(body)):
            sizes.append(size(blocks))
            wrong += [f"{number} {stage}: {what}" for what in broken({"text": text, "blocks": blocks})]
    assert wrong == []
    assert len(reports()) * len(STAGES) <= STORM
    assert max(sizes) <= 9000


async def test_every_payload_of_200_incidents_fits(slack, http, clock):
    """Told one by one, with buttons: 200 messages, their threads and edits, each held against the documented limits."""
    settings = SlackBotReceiver(token=TOKEN, channel=CHANNEL, api_url=f"{slack.base}/api/", digest_over=1000,
                                signing_secret="s")  # fmt: skip
    notifier, receipts = SlackBot("team", settings, clock, gap_s=0), {}
    for stage in ("first", "final", "resolved"):
        await tell(notifier, http, clock, stage, range(STORM), receipts, BUTTONS)
    assert len(slack.parents()) == STORM
    assert len(slack.messages) == STORM * 3
    assert any(block["type"] == "actions" for block in slack.parents()[0]["blocks"])


async def test_a_restart_in_the_storm_goes_on_with_the_same_message(bot, slack, http, clock):
    """Its lines lie on the disk, and who joined it stays in it."""
    receipts = {}
    await tell(bot(), http, clock, "first", range(20), receipts)
    again = bot()
    await tell(again, http, clock, "resolved", range(20), receipts)
    assert len(slack.parents()) == 6
    assert slack.parents()[-1]["text"] == "15 incidents at once: 0 open, 15 resolved"


async def test_after_the_storm_incidents_have_messages_of_their_own(bot, slack, http, clock):
    """And the next storm another digest."""
    notifier, receipts = bot(), {}
    await tell(notifier, http, clock, "first", range(8), receipts)
    clock.now += 600
    await tell(notifier, http, clock, "first", [50], receipts)
    assert len(slack.parents()) == 7
    await tell(notifier, http, clock, "resolved", range(8), receipts)
    clock.now += 600
    await tell(notifier, http, clock, "first", range(100, 108), receipts)
    assert len(slack.parents()) == 7 + 5 + 1
    assert slack.parents()[-1]["text"] == "3 incidents at once: 3 open, 0 resolved"


async def test_a_deleted_digest_is_posted_again(bot, slack, http, clock):
    """Somebody tidied up."""
    notifier, receipts = bot(), {}
    await tell(notifier, http, clock, "first", range(8), receipts)
    del slack.messages[slack.parents()[-1]["ts"]]
    clock.now += 10
    await tell(notifier, http, clock, "resolved", range(8), receipts)
    assert slack.parents()[-1]["text"] == "3 incidents at once: 0 open, 3 resolved"


async def test_a_webhook_tells_a_storm_now_and_then(slack, http, clock, tmp_path):
    """It cannot edit: a message a minute, and the end at once."""
    settings = SlackWebhookReceiver(url=f"{slack.base}/hook")
    notifier, receipts = SlackWebhook("hook", settings, clock, folder=tmp_path), {}
    await tell(notifier, http, clock, "first", range(60), receipts)
    await tell(notifier, http, clock, "resolved", range(60), receipts)
    texts = [message["text"] for message in slack.messages.values()]
    assert texts[-1] == "55 incidents at once: 0 open, 55 resolved"
    assert len(texts) < 5 + 5 + 6


async def test_a_clock_set_back_does_not_silence_a_storm(bot, slack, http, clock):
    """An hour earlier by the clock: what is new is in the digest now, not when the clock has caught up."""
    notifier, receipts = bot(), {}
    await tell(notifier, http, clock, "first", range(8), receipts)
    clock.now -= 3600
    sent = await notifier.send(http, message(9, "first", ""))
    assert sent.outcome == "delivered"
