"""Who allowed what, until when: files that survive us, answers that count once and in time, and the flow."""

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
from responder.approvals import ApprovalRefused, Approvals
from responder.case import Kit
from responder.model import Approval, CapturePolicy, Change
from responder.respond import Responder
from tests.flow import NOW, Listener, brings, incident, kit, step

ASKED = Approval(incident="i1", step="gcore", target="t", rung=3, asked_at=NOW, expires_at=NOW + 900)


def test_an_answer_counts_once(tmp_path: Path) -> None:
    """Whoever is second is told who was first."""
    approvals = Approvals(tmp_path)
    approvals.ask(ASKED)
    assert [item.step for item in approvals.pending()] == ["gcore"]
    assert approvals.decide("i1", "gcore", approve=True, who="ann", now=NOW + 5).who == "ann"
    with pytest.raises(ApprovalRefused, match="approved already by ann"):
        approvals.decide("i1", "gcore", approve=False, who="bob", now=NOW + 6)
    assert approvals.pending() == ()


@pytest.mark.parametrize(
    ("who", "at", "step", "words"),
    [("ann", NOW + 901, "gcore", "expired"), (" ", NOW, "gcore", "say who"), ("ann", NOW, "gdb", "nobody asks")],
)
def test_answers_that_cannot_count(tmp_path: Path, who: str, at: float, step: str, words: str) -> None:
    """Too late, from nobody, or to a question that was never put."""
    approvals = Approvals(tmp_path)
    approvals.ask(ASKED)
    with pytest.raises(ApprovalRefused, match=words):
        approvals.decide("i1", step, approve=True, who=who, now=at)


def test_a_question_is_put_once_and_its_expiry_survives_a_restart(tmp_path: Path) -> None:
    """The clock of the first question goes on."""
    Approvals(tmp_path).ask(ASKED)
    again = Approvals(tmp_path).ask(ASKED.model_copy(update={"asked_at": NOW + 500, "expires_at": NOW + 1400}))
    assert again.expires_at == NOW + 900


@pytest.fixture
async def asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Kit, Responder, Listener]]:
    """A flow whose ladder has a step of rung 3."""
    for name in ("SECOND_LOOK_S", "GREW_SETTLES_S"):
        monkeypatch.setattr(module, name, 0.01)
    monkeypatch.setattr(module, "FIRST_WORD_S", 0.05)
    monkeypatch.setattr(asking, "LOOK_EVERY_S", 0.02)
    async with aiohttp.ClientSession() as http:
        listener = Listener()
        parts = kit(tmp_path, http, listener, step("look", brings({"busy": True})),
                    step("core", brings({"busy": True}), rung=3))  # fmt: skip
        parts.approvals = Approvals(tmp_path / "approvals")
        parts.outbox.start()
        responder = Responder(parts)
        yield parts, responder, listener
        await responder.stop()
        await parts.outbox.stop()
        parts.store.close()


def row(body: bytes, name: str) -> dict[str, Any]:
    return next(c for c in json.loads(body)["captures"] if c["step"] == name)


async def test_a_step_of_rung_3_runs_only_when_a_person_says_so(asks: Any) -> None:
    """The report says how; the answer is acted on, and who gave it is in the timeline."""
    parts, responder, listener = asks
    responder.handle(Change.OPENED, incident())
    final = await listener.until("final")
    assert "responder approve i1 core" in row(final.body, "core")["reason"]
    parts.approvals.decide("i1", "core", approve=True, who="ann", now=NOW + 2)
    update = await listener.until("update")
    assert row(update.body, "core")["status"] == "ok"
    assert any("approved by ann" in entry["says"] for entry in json.loads(update.body)["timeline"])


@pytest.mark.parametrize(
    ("answer", "says"),
    [("deny", "denied by ann"), ("expire", "nobody approved it in time"), ("late", "nothing was firing any more")],
)
async def test_no_is_no_and_silence_too(asks: Any, answer: str, says: str) -> None:
    """Denied, expired, or approved when nothing is firing any more: not run, and the report says which."""
    parts, responder, listener = asks
    if answer == "expire":
        target = parts.targets["t"].model_copy(update={"capture": CapturePolicy(approval_expiry=0.001)})
        parts.targets = {"t": target}
        now = iter(range(1_000_000))
        parts.clock = lambda: NOW + 1 + next(now)
    responder.handle(Change.OPENED, incident())
    await listener.until("final")
    if answer != "expire":
        parts.firing = lambda _: answer != "late"
        parts.approvals.decide("i1", "core", approve=answer == "late", who="ann", now=NOW + 2)
    async with asyncio.timeout(10):
        while responder._cases["i1"].asked:
            await asyncio.sleep(0.01)
    responder.handle(Change.RESOLVED, incident(state="resolved", resolved_at=NOW + 60))
    resolved = await listener.until("resolved")
    assert says in row(resolved.body, "core")["reason"]
    assert any(says in e["says"] or "not run" in e["says"] for e in json.loads(resolved.body)["timeline"])


async def test_a_step_that_could_not_run_is_not_asked_for(asks: Any) -> None:
    """Nobody is woken to approve what is not installed."""
    from dataclasses import replace

    parts, responder, listener = asks

    async def lacks(_: Any) -> str:
        return "gdb is not installed"

    parts.steps = {**parts.steps, "core": replace(parts.steps["core"], ready=lacks)}
    responder.handle(Change.OPENED, incident())
    final = await listener.until("final")
    assert "gdb is not installed" in row(final.body, "core")["reason"]
    assert parts.approvals.pending() == ()
