"""Is an incident one message with one thread in Slack, whatever fails on the way?"""

import asyncio

import pytest
from aiohttp import web

from responder.notify.slack_api import Pace
from responder.notify.slack_bot import SlackBot, SlackBotReceiver
from tests.notify.conftest import message_of
from tests.notify.fake_slack import CHANNEL, TOKEN, error
from tests.sample_report import CAPACITY, KV, sample

CHARTS = "files.completeUploadExternal"


def bot(slack, **more) -> SlackBot:
    """A bot of the fake Slack that need not wait between posts."""
    settings = {"token": TOKEN, "channel": CHANNEL, "api_url": f"{slack.base}/api", **more}
    return SlackBot("team", SlackBotReceiver(**settings), gap_s=0)


async def told(slack, http, message, *stages, charts=()) -> str:
    """Send the stages in order; the last receipt."""
    receipt = ""
    for stage in stages:
        sent = await bot(slack).send(http, message(stage, receipt=receipt, charts=charts))
        assert sent.outcome == "delivered", sent
        receipt = sent.receipt
    return receipt


async def test_an_incident_is_one_message(http, slack, message, charts):
    """Edited as it develops; the thread holds details, charts and the end, each once."""
    await told(slack, http, message, "first", "update", "final", "resolved", charts=charts)
    [parent] = slack.parents()
    assert parent["edited"]
    assert "RESOLVED" in parent["blocks"][0]["text"]["text"]
    thread = [m["metadata"]["event_payload"]["part"] for m in slack.threads(parent["ts"])]
    assert thread == ["cause 2", "details", "resolved"]
    [shared] = slack.shared
    assert (shared["thread_ts"], shared["channel_id"]) == (parent["ts"], CHANNEL)
    assert [f["title"] for f in shared["files"]] == ["1 kv usage", "2 ttft p99"]
    assert list(slack.files.values()) == [b"\x89PNG kv", b"\x89PNG ttft"]


async def test_a_changed_cause_is_said_in_the_thread(http, slack, message):
    """An edit alone notifies nobody."""
    receipt = await told(slack, http, message, "update")
    verdict = sample().verdict.model_copy(update={"hypotheses": (CAPACITY, KV)})
    again = message_of(sample("update", verdict=verdict, revision=3), receipt=receipt)
    await bot(slack).send(http, again)
    [reply] = slack.threads(slack.parents()[0]["ts"])
    assert "Most likely cause now: More requests" in reply["blocks"][0]["text"]["text"]


async def test_nothing_unfurls_and_nobody_is_mentioned(http, slack, message):
    """Every post says so itself."""
    await told(slack, http, message, "first", "final")
    assert all(m["unfurl_links"] is False and m["unfurl_media"] is False for m in slack.messages.values())
    assert not any("link_names" in m or m.get("parse") == "full" for m in slack.messages.values())


async def test_rate_limits_are_honoured_and_work_done_is_not_done_again(http, slack, message):
    """429 in the thread: later, without a second parent."""
    slack.answers["chat.postMessage"] = [None, error("ratelimited", 429, **{"Retry-After": "30"})]
    sent = await bot(slack).send(http, message("final"))
    assert (sent.outcome, sent.retry_after_s) == ("retry", 30)
    sent = await bot(slack).send(http, message("final", receipt=sent.receipt))
    assert sent.outcome == "delivered"
    assert len(slack.parents()) == 1
    assert len(slack.threads(slack.parents()[0]["ts"])) == 1


@pytest.mark.parametrize(
    "word", ["invalid_auth", "channel_not_found", "not_in_channel", "missing_scope", "is_archived", "token_revoked"]
)
async def test_a_wrong_configuration_is_dead_and_explained(http, slack, message, word):
    """Repeating would not help; the words say what to do."""
    slack.answers["chat.postMessage"] = [error(word)]
    sent = await bot(slack).send(http, message("first"))
    assert sent.outcome == "dead"
    assert word in sent.reason
    assert "(" in sent.reason
    assert TOKEN not in sent.reason


@pytest.mark.parametrize(
    "answer",
    [
        "lost", error("internal_error"), error("fatal_error"), error("x", 503), web.Response(status=502, text="<html>"),
        web.Response(status=200, text="<html>proxy"),
        web.Response(status=200, text="{", content_type="application/json"),
    ],
)  # fmt: skip
async def test_a_doubtful_post_is_ambiguous(http, slack, message, answer):
    """It may have been posted: never simply 'retry'."""
    slack.answers["chat.postMessage"] = [answer]
    assert (await bot(slack).send(http, message("first"))).outcome == "ambiguous"


async def test_after_a_lost_answer_the_message_is_found_again(http, slack, message):
    """The post carries our id, so the second attempt edits instead of posting twice."""
    slack.answers["chat.postMessage"] = ["lost"]
    assert (await bot(slack).send(http, message("first"))).outcome == "ambiguous"
    sent = await bot(slack).send(http, message("first", possible_duplicate=True))
    assert sent.outcome == "delivered"
    [parent] = slack.parents()
    assert parent["edited"]


async def test_without_history_the_duplicate_is_flagged(http, slack, message):
    """If we cannot look we post again and say so."""
    slack.no_history = True
    slack.answers["chat.postMessage"] = ["lost"]
    await bot(slack).send(http, message("first"))
    await bot(slack).send(http, message("first", possible_duplicate=True))
    marks = ["possible duplicate" in m["blocks"][-1]["elements"][0]["text"] for m in slack.parents()]
    assert marks == [False, True]


async def test_a_lost_reply_is_not_repeated(http, slack, message):
    """The same for the thread."""
    receipt = await told(slack, http, message, "first")
    slack.answers["chat.postMessage"] = ["lost"]
    sent = await bot(slack).send(http, message("final", receipt=receipt))
    assert sent.outcome == "ambiguous"
    sent = await bot(slack).send(http, message("final", receipt=sent.receipt, possible_duplicate=True))
    assert sent.outcome == "delivered"
    assert len(slack.threads(slack.parents()[0]["ts"])) == 1


async def test_a_slow_slack_is_ambiguous(http, slack, message):
    """Each call has its own deadline, though the session has none."""
    release = asyncio.Event()

    class Slow(web.Response):
        async def prepare(self, request):
            await release.wait()
            return await super().prepare(request)

    slack.answers["chat.postMessage"] = [Slow()]
    sent = await bot(slack, timeout_s=0.3).send(http, message("first"))
    release.set()
    assert (sent.outcome, sent.reason) == ("ambiguous", "no answer in time")


async def test_a_deleted_message_is_posted_anew(http, slack, message):
    """Somebody tidied the channel up; the incident goes on."""
    receipt = await told(slack, http, message, "first")
    slack.messages.clear()
    sent = await bot(slack).send(http, message("resolved", receipt=receipt))
    assert sent.outcome == "delivered"
    assert len(slack.parents()) == 1


async def test_refused_blocks_leave_the_text(http, slack, message):
    """Told in plain text is better than not told."""
    slack.answers["chat.postMessage"] = [error("msg_blocks_too_long")]
    assert (await bot(slack).send(http, message("first"))).outcome == "delivered"
    assert slack.parents()[0]["blocks"] == []
    assert "chat-70b-a:8000" in slack.parents()[0]["text"]


async def test_an_upload_that_fails_costs_only_the_charts(http, slack, message, charts):
    """504 twice: the report is delivered, with the reason, and is not tried again."""
    slack.answers["upload"] = [web.Response(status=504), web.Response(status=504)]
    sent = await bot(slack).send(http, message("final", charts=charts))
    assert (sent.outcome, sent.reason) == ("delivered", "charts not uploaded: upload: HTTP 504")
    await bot(slack).send(http, message("resolved", charts=charts, receipt=sent.receipt))
    assert slack.shared == []


async def test_one_hiccup_of_the_upload_is_repeated(http, slack, message, charts):
    """Nothing is visible before completion, so repeating is harmless."""
    slack.answers["upload"] = [web.Response(status=504)]
    assert (await bot(slack).send(http, message("final", charts=charts))).reason == ""
    assert len(slack.shared) == 1


async def test_a_lost_completion_is_never_repeated(http, slack, message, charts):
    """It may have shared the files: people must not get them twice."""
    slack.answers[CHARTS] = ["lost"]
    sent = await bot(slack).send(http, message("final", charts=charts))
    assert sent.outcome == "delivered"
    assert "charts not uploaded" in sent.reason
    await bot(slack).send(http, message("resolved", charts=charts, receipt=sent.receipt))
    assert len(slack.shared) == 1


async def test_charts_wait_for_the_rate_limit(http, slack, message, charts):
    """429 before anything is shared: later."""
    slack.answers[CHARTS] = [error("ratelimited", 429, **{"Retry-After": "5"})]
    sent = await bot(slack).send(http, message("final", charts=charts))
    assert (sent.outcome, sent.retry_after_s) == ("retry", 5)
    sent = await bot(slack).send(http, message("final", charts=charts, receipt=sent.receipt))
    assert (sent.outcome, len(slack.shared)) == ("delivered", 1)


async def test_a_receipt_nobody_can_read_is_no_receipt(http, slack, message):
    """Another notifier's, or a broken one: start anew."""
    sent = await bot(slack).send(http, message("first", receipt="{nonsense"))
    assert sent.outcome == "delivered"


async def test_the_environments_proxy_is_not_used(http, slack, message, monkeypatch):
    """Where we send to is configured, not inherited."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert (await bot(slack).send(http, message("first"))).outcome == "delivered"


async def test_a_token_file_is_read_anew(http, slack, message, tmp_path):
    """A missing file is retried, a rotated one counts at once."""
    file = tmp_path / "token"
    one = SlackBot("team", SlackBotReceiver(token_file=file, channel=CHANNEL, api_url=f"{slack.base}/api"), gap_s=0)
    assert (await one.send(http, message("first"))).outcome == "retry"
    file.write_text(TOKEN + "\n")
    assert (await one.send(http, message("first"))).outcome == "delivered"


async def test_posts_are_spaced(monkeypatch):
    """The second waits for the rest of the gap, the first does not wait."""
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    pace = Pace(100.0)
    await pace.wait()
    assert waits == []
    await pace.wait()
    assert len(waits) == 1
    assert 0 < waits[0] <= 100.0
