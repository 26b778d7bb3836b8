"""Does a Slack channel behind an incoming webhook hear what is new, and only that?"""

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from responder.model import Severity
from responder.notify.slack_webhook import SlackWebhook, SlackWebhookReceiver
from tests.notify.conftest import message_of
from tests.sample_report import CAPACITY, KV, sample


def notifier(slack, **more) -> SlackWebhook:
    """A notifier that posts to the fake Slack."""
    return SlackWebhook("channel", SlackWebhookReceiver(url=f"{slack.base}/hook", **more))


async def test_an_incident_is_told_in_three_messages(http, slack, message):
    """First, then nothing for an update of the same cause, final, resolved."""
    receipt = ""
    for stage in ("first", "update", "update", "final", "resolved"):
        sent = await notifier(slack).send(http, message(stage, receipt=receipt))
        assert sent.outcome == "delivered"
        receipt = sent.receipt
    # The first message has no cause yet: the update that names one is news, its repetition is not.
    titles = [m["blocks"][0]["text"]["text"] for m in slack.messages.values()]
    assert len(titles) == 4
    assert "OPEN" in titles[0]
    assert "RESOLVED" in titles[-1]


async def test_another_leading_cause_is_news(http, slack, message):
    """An update is posted when the cause changed, and nothing of it is unfurled."""
    first = await notifier(slack).send(http, message("update"))
    verdict = sample().verdict.model_copy(update={"hypotheses": (CAPACITY, KV)})
    changed = message_of(sample("update", verdict=verdict), receipt=first.receipt)
    await notifier(slack).send(http, changed)
    assert len(slack.messages) == 2
    assert all(m["unfurl_links"] is False and m["unfurl_media"] is False for m in slack.messages.values())


async def test_what_has_become_worse_is_news(http, slack):
    """The same cause, but it wakes people now: where nothing can be edited it would be seen nowhere else."""
    as_it_was, critical = sample("update"), Severity.CRITICAL
    mild = as_it_was.model_copy(
        update={"incident": as_it_was.incident.model_copy(update={"severity": Severity.WARNING})}
    )
    assert as_it_was.incident.severity is critical
    first = await notifier(slack).send(http, message_of(mild))
    same = await notifier(slack).send(http, message_of(mild, receipt=first.receipt))
    await notifier(slack).send(http, message_of(as_it_was, receipt=same.receipt))
    assert len(slack.messages) == 2


@pytest.mark.parametrize(
    ("status", "words", "outcome"),
    [
        (400, "invalid_payload", "dead"), (403, "action_prohibited", "dead"), (404, "no_service", "dead"),
        (410, "channel_is_archived", "dead"), (429, "", "retry"), (500, "rollup_error", "ambiguous"),
        (503, "", "ambiguous"), (302, "", "dead"),
    ],
)  # fmt: skip
async def test_what_slack_says(http, slack, message, status, words, outcome):
    """A server error may have posted; a refusal has not."""
    slack.answers["hook"] = [web.Response(status=status, text=words, headers={"Retry-After": "30"})]
    sent = await notifier(slack).send(http, message())
    assert sent.outcome == outcome
    assert words in sent.reason
    assert sent.retry_after_s == (30 if status == 429 else None)


async def test_a_lost_answer_is_ambiguous_and_the_next_try_says_so(http, slack, message):
    """People see that it may be a duplicate."""
    slack.answers["hook"] = ["lost"]
    assert (await notifier(slack).send(http, message())).outcome == "ambiguous"
    await notifier(slack).send(http, message(possible_duplicate=True))
    marks = ["possible duplicate" in m["blocks"][-1]["elements"][0]["text"] for m in slack.messages.values()]
    assert marks == [False, True]


async def test_refused_blocks_leave_the_text(http, slack, message):
    """Told in plain text is better than not told."""
    slack.answers["hook"] = [web.Response(status=400, text="invalid_blocks")]
    assert (await notifier(slack).send(http, message())).outcome == "delivered"
    [posted] = slack.messages.values()
    assert "blocks" not in posted
    assert "KV cache" in posted["text"]


async def test_the_address_is_a_secret(http, message, tmp_path):
    """It may come from a file; reasons never show it."""
    hidden = tmp_path / "url"
    hidden.write_text(f"http://127.0.0.1:{unused_port()}/services/SECRET\n")
    hook = SlackWebhook("channel", SlackWebhookReceiver(url_file=hidden))
    sent = await hook.send(http, message())
    assert sent.outcome == "retry"
    assert "SECRET" not in sent.reason
    hidden.write_text("SECRET")
    sent = await hook.send(http, message())
    assert sent.outcome == "dead"
    assert "SECRET" not in sent.reason
