"""Does PagerDuty get one alert per incident that opens, is taken and ends, within its limits?"""

import json
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from responder.notify.pagerduty import PagerDuty, PagerDutyReceiver, events
from tests.notify.conftest import message_of
from tests.sample_report import hostile

KEY = "R0UT1NGKEY"


@pytest.fixture
async def pager():
    """A server that answers like the Events API, or as told."""
    seen, answers = [], []

    async def enqueue(request):
        event = await request.json()
        seen.append(event)
        if answers:
            return answers.pop(0)
        if event.get("routing_key") != KEY or len(event.get("dedup_key", "")) > 255:
            return web.json_response({"status": "invalid event", "errors": ["bad"]}, status=400)
        return web.json_response({"status": "success", "dedup_key": event["dedup_key"]}, status=202)

    app = web.Application()
    app.router.add_post("/v2/enqueue", enqueue)
    async with TestServer(app) as server:
        settings = PagerDutyReceiver(routing_key=KEY, url=str(server.make_url("/v2/enqueue")),
                                     link="https://responder.example.com/incidents/{id}")  # fmt: skip
        yield PagerDuty("pager", settings), seen, answers


async def test_an_incident_is_one_alert_from_first_to_last(pager, http, message):
    """The same dedup key; an update triggers again, the end resolves."""
    notifier, seen, _ = pager
    for stage in ("first", "final", "resolved"):
        assert (await notifier.send(http, message(stage))).outcome == "delivered"
    assert [event["event_action"] for event in seen] == ["trigger", "trigger", "resolve"]
    assert len({event["dedup_key"] for event in seen}) == 1
    payload = seen[1]["payload"]
    assert payload["severity"] == "critical"
    assert payload["source"] == "chat-70b-a:8000"
    assert "KV cache too small" in payload["custom_details"]["cause"]
    assert "`" not in "".join(payload["custom_details"].values())
    assert seen[1]["links"][0]["href"].endswith("/incidents/inc-20261120-031304-7f3a")


def test_a_taken_incident_is_acknowledged_there(message):
    """So that it does not escalate."""
    report = json.loads(message("final").body)
    report["incident"]["acknowledged"] = {"who": "ada", "at": "2026-11-20T03:14:00.000Z"}
    taken = replace(message("final"), body=json.dumps(report).encode())
    assert [event["event_action"] for event in events(taken, KEY)] == ["trigger", "acknowledge"]


@pytest.mark.parametrize("text", ["\x00<!channel>" * 400, "a" * 5000, "\u202e`x`"])
def test_foreign_words_fit(text):
    """The summary is one line of at most 1,024 characters, whatever a server calls itself."""
    (event,) = events(message_of(hostile(text)), KEY)
    assert len(event["payload"]["summary"]) <= 1024
    assert event["payload"]["summary"].isprintable()
    assert len(json.dumps(event)) < 512 << 10
    assert all(len(words) <= 2000 and words.isprintable() for words in event["payload"]["custom_details"].values())


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (web.Response(status=429, headers={"Retry-After": "7"}), "retry"),
        (web.Response(status=500), "retry"),
        (web.json_response({"status": "invalid event"}, status=400), "dead"),
    ],
)
async def test_what_an_answer_means(pager, http, message, answer, outcome):
    """The dedup key makes every doubt a retry; a refusal is the end."""
    notifier, _, answers = pager
    answers.append(answer)
    assert (await notifier.send(http, message("first"))).outcome == outcome
