"""From an incident to Slack, from a press in Slack over our HTTP to the capture, and back into the message."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from slack_sdk.signature import SignatureVerifier

from responder import asking
from responder import respond as module
from responder.approvals import Approvals
from responder.model import Change
from responder.notify.slack_bot import SlackBot, SlackBotReceiver
from responder.notify.slack_clicks import Clicks
from responder.pressed import Pressed
from responder.respond import Responder
from responder.web.server import build
from responder.words import ENGLISH
from tests.flow import NOW, Listener, brings, incident, kit, step
from tests.notify.fake_slack import CHANNEL, TOKEN, FakeSlack
from tests.test_pressed import Answers
from tests.web.test_server import Daemon, surface

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """The flow with a step that asks, a Slack bot behind the real outbox, and our HTTP server with a token."""
    from dataclasses import replace

    for name in ("SECOND_LOOK_S", "GREW_SETTLES_S", "FIRST_WORD_S"):
        monkeypatch.setattr(module, name, 0.01)
    monkeypatch.setattr(asking, "LOOK_EVERY_S", 0.02)
    fake = FakeSlack()
    async with aiohttp.ClientSession() as http, TestServer(fake.app()) as server:
        fake.base = f"http://127.0.0.1:{server.port}"
        parts = kit(tmp_path, http, Listener(), step("look", brings({"busy": True})),
                    step("core", brings({"busy": True}), rung=3))  # fmt: skip
        bot = SlackBot("team", SlackBotReceiver(token=TOKEN, channel=CHANNEL, api_url=f"{fake.base}/api/",
                                                signing_secret=SECRET), gap_s=0)  # type: ignore[arg-type] # fmt: skip
        parts.outbox.notifiers = {"team": bot}
        parts.approvals, parts.firing = Approvals(tmp_path / "approvals"), lambda _: True
        parts.outbox.start()
        responder = Responder(parts)
        pressed = Pressed(parts, responder, Answers(parts.approvals))  # type: ignore[arg-type]
        clicks = Clicks(lambda: {"team": bot}, http, lambda button, who, _: pressed.press(button, who, ENGLISH))
        ours = replace(surface(Daemon(), tmp_path, "t0k"), slack=clicks.posted)
        async with TestClient(TestServer(build(ours))) as client:
            responder.handle(Change.OPENED, incident())
            yield fake, client, responder
        await clicks.stop()
        await responder.stop()
        await parts.outbox.stop()
        parts.store.close()
    assert fake.violations == []


async def until(true: Any) -> None:
    """Wait for what other tasks do."""
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def elements(fake: FakeSlack) -> dict[str, dict[str, Any]]:
    """What can be pressed in the incident's message, by action."""
    blocks = [b for m in fake.parents() for b in m["blocks"] if b["type"] == "actions"]
    return {element["action_id"].partition(".")[0]: element for block in blocks for element in block["elements"]}


async def press(client: Any, element: dict[str, Any], secret: str = SECRET) -> int:
    """As Slack posts it; the answer's status."""
    payload = {"type": "block_actions", "user": {"id": "U1", "username": "ada"}, "channel": {"id": CHANNEL},
               "actions": [{"action_id": element["action_id"], "value": element["value"]}]}  # fmt: skip
    body, stamp = urlencode({"payload": json.dumps(payload)}).encode(), str(int(time.time()))
    signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body)
    headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": str(signature),
               "Content-Type": "application/x-www-form-urlencoded"}  # fmt: skip
    return int((await client.post("/slack/actions", data=body, headers=headers)).status)


async def test_a_capture_is_allowed_in_slack_runs_and_the_message_says_so(world: Any) -> None:
    """No token of ours is needed, but Slack's signature is; the answer comes before the work."""
    fake, client, responder = world
    await until(lambda: "approve" in elements(fake))
    shown = elements(fake)
    assert shown["approve"]["confirm"]["text"]["text"].startswith("It disturbs the server: core")
    assert await press(client, shown["approve"], secret="another") == 401
    assert await press(client, shown["approve"]) == 200
    await until(lambda: "approve" not in elements(fake))
    assert "core is allowed" in fake.whispers[0]["text"]
    case = responder.incident("i1")
    assert any("approved by ada (U1, Slack)" in entry.says for entry in case.timeline)
    assert len(fake.parents()) == 1


async def test_who_took_it_stands_in_the_message(world: Any) -> None:
    """The button is gone, the name is there, also at the end."""
    fake, client, responder = world
    await until(lambda: "approve" in elements(fake))
    assert await press(client, elements(fake)["acknowledge"]) == 200
    await until(lambda: "acknowledge" not in elements(fake))
    assert "ada (U1, Slack) has taken it" in json.dumps(fake.parents())
    over = incident(state="resolved", resolved_at=NOW + 60)
    responder.handle(Change.RESOLVED, over)
    await until(lambda: "resolved" in json.dumps([m.get("metadata") for m in fake.messages.values()]))
    await until(lambda: ":white_check_mark:" in json.dumps(fake.parents()))
    assert "ada (U1, Slack) has taken it" in json.dumps(fake.parents())
    assert set(elements(fake)) == {"right", "wrong"}
