"""Does a press count only while it still makes sense, and does everybody see who did what?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from responder import asking
from responder import respond as module
from responder.approvals import Approvals
from responder.buttons import Buttons
from responder.model import Button, Change, Silence
from responder.pressed import Pressed
from responder.respond import Responder
from responder.words import ENGLISH, language
from tests.flow import NOW, Listener, brings, incident, kit, step


class Answers:
    """The part of Safety that a press needs."""

    def __init__(self, approvals: Approvals) -> None:
        self.approvals = approvals

    async def decide(self, incident: str, step: str, approve: bool, who: str) -> dict[str, Any]:
        return self.approvals.decide(incident, step, approve=approve, who=who, now=NOW + 2).model_dump()

    def remember(self, *_: Any) -> None:
        """Detection is not part of these tests."""


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A flow with a step that asks, told to a listener, and what presses do to it."""
    for name in ("SECOND_LOOK_S", "GREW_SETTLES_S", "FIRST_WORD_S"):
        monkeypatch.setattr(module, name, 0.01)
    monkeypatch.setattr(asking, "LOOK_EVERY_S", 0.02)
    async with aiohttp.ClientSession() as http:
        listener = Listener()
        parts = kit(tmp_path, http, listener, step("look", brings({"busy": True})),
                    step("core", brings({"busy": True}), rung=3))  # fmt: skip
        parts.approvals = Approvals(tmp_path / "approvals")
        parts.firing = lambda _: True
        parts.outbox.start()
        responder = Responder(parts)
        judged: list[tuple[str, str, bool, str]] = []

        async def judge(*verdict: Any) -> str:
            judged.append(verdict)
            return ""

        responder.handle(Change.OPENED, incident())
        final = await listener.until("final")
        buttons = {(b.action, b.seconds): b.id for b in final.buttons}
        yield parts, Pressed(parts, responder, Answers(parts.approvals), judge), listener, buttons, judged  # type: ignore[arg-type]
        await responder.stop()
        await parts.outbox.stop()
        parts.store.close()


async def test_what_can_be_pressed(scene: Any) -> None:
    """Taking it, three silences, the capture that waits, and the verdict on the cause; ids say nothing."""
    _, _, _, buttons, _ = scene
    assert sorted({action for action, _ in buttons}) == ["acknowledge", "approve", "deny", "right", "silence", "wrong"]
    assert all("i1" not in name and len(name) == 29 for name in buttons.values())


async def test_who_took_it_is_told_at_once(scene: Any) -> None:
    """In the next revision, on disk, and only the first one counts; the button is gone then."""
    parts, pressed, listener, buttons, _ = scene
    taking = buttons["acknowledge", 0.0]
    assert "You have it" in await pressed.press(taking, "ada (U1, Slack)", ENGLISH)
    update = await listener.until("update")
    body = json.loads(update.body)
    assert body["incident"]["acknowledged"]["who"] == "ada (U1, Slack)"
    assert any("acknowledged by ada" in entry["says"] for entry in body["timeline"])
    assert "ada (U1, Slack) has taken it" in body["says"]["since"]["items"][0]
    assert "acknowledge" not in {b.action for b in update.buttons}
    assert "ada (U1, Slack) took it" in await pressed.press(taking, "bob", ENGLISH)
    assert (await parts.store.incidents())[0][0].acknowledged.who == "ada (U1, Slack)"


async def test_an_allowed_capture_runs_and_the_question_is_gone(scene: Any) -> None:
    """The press is an answer like that of the command line."""
    _, pressed, listener, buttons, _ = scene
    assert "core is allowed" in await pressed.press(buttons["approve", 0.0], "ada", ENGLISH)
    update = await listener.until("update")
    rows = {c["step"]: c["status"] for c in json.loads(update.body)["captures"]}
    assert rows["core"] == "ok"
    assert "approve" not in {b.action for b in update.buttons}
    assert "approved already by ada" in await pressed.press(buttons["deny", 0.0], "bob", ENGLISH)


async def test_a_refused_capture_is_told_too(scene: Any) -> None:
    """The message must not go on asking."""
    _, pressed, listener, buttons, _ = scene
    await pressed.press(buttons["deny", 0.0], "ada", ENGLISH)
    update = await listener.until("update")
    assert "deny" not in {b.action for b in update.buttons}


async def test_nothing_runs_for_what_is_over(scene: Any) -> None:
    """What fired when the button was shown is no reason now."""
    parts, pressed, _, buttons, _ = scene
    parts.firing = lambda _: False
    assert "nothing is firing" in await pressed.press(buttons["approve", 0.0], "ada", ENGLISH)
    assert parts.approvals.of("i1", "core").decision == "pending"


async def test_a_silence_is_for_this_server_alone(scene: Any) -> None:
    """A file as of `responder silence add`; pressing twice is one silence."""
    parts, pressed, _, buttons, _ = scene
    for _ in range(2):
        assert "No new incident of t" in await pressed.press(buttons["silence", 3600.0], "ada", ENGLISH)
    (file,) = (parts.data_dir / "silences").glob("*.json")
    silence = Silence.model_validate_json(file.read_bytes())
    assert (silence.match, silence.ends_at - silence.starts_at) == ({"target": "t"}, 3600.0)


async def test_a_verdict_is_passed_on(scene: Any) -> None:
    """Right or wrong, of which cause, by whom."""
    _, pressed, _, buttons, judged = scene
    assert "c was wrong" in await pressed.press(buttons["wrong", 0.0], "ada", ENGLISH)
    assert judged == [("i1", "c", False, "ada", "", "")]


async def test_a_verdict_that_does_not_count_is_said(scene: Any) -> None:
    """The report has gone on to another cause: nothing is noted of the one in an old message."""
    _, pressed, listener, buttons, _ = scene

    async def refuses(*_: Any) -> str:
        return "the report has changed"

    pressed.judge = refuses
    assert "That does not count: the report has changed" in await pressed.press(buttons["right", 0.0], "ada", ENGLISH)
    assert not any("is right" in e.says for e in pressed.responder.incident("i1").timeline)


async def test_ids_of_nobody_lead_nowhere(scene: Any, tmp_path: Path) -> None:
    """Guessed, made up, or a path."""
    _, pressed, _, buttons, _ = scene
    token = buttons["acknowledge", 0.0].split(".")[0]
    for made_up in ("", "x", f"{token}.000000000000", "../../etc.passwd", f"{token}./../key", "0" * 16 + ".0"):
        assert "means nothing here" in await pressed.press(made_up, "eve", ENGLISH)


async def test_the_answer_is_in_the_receivers_language(scene: Any) -> None:
    """As configured for it."""
    _, pressed, _, buttons, _ = scene
    assert "接手" in await pressed.press(buttons["acknowledge", 0.0], "ada", language("zh"))


def test_a_button_shown_again_keeps_its_id(tmp_path: Path) -> None:
    """An old message's button works as long as the incident is known, after a restart too."""
    button = Button(action="approve", incident="i1", step="gdb", until=5.0)
    (first,) = Buttons(tmp_path).offer("i1", [button])
    (again,) = Buttons(tmp_path).offer("i1", [button.model_copy(update={"until": 9.0})])
    (other,) = Buttons(tmp_path).offer("i2", [button])
    assert first.id == again.id != other.id
    assert Buttons(tmp_path).meant(first.id) == again


async def test_taking_what_is_over_is_refused(scene: Any) -> None:
    """Nobody has to take it any more."""
    _, pressed, listener, buttons, _ = scene
    pressed.responder.handle(Change.RESOLVED, incident(state="resolved", resolved_at=NOW + 60))
    await listener.until("resolved")
    async with asyncio.timeout(5):
        while pressed.responder.incident("i1") is not None:
            await asyncio.sleep(0.005)
    assert "is over" in await pressed.press(buttons["acknowledge", 0.0], "ada", ENGLISH)
