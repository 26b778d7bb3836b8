"""A capture by hand stands in the audit log before it acts, with who allowed it; how it ended, too."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from responder.byhand import Hand, capture, doctor
from responder.capture.step import Fetched, Scene, Step
from responder.model import CapturePolicy, Outcome, Target
from responder.store_sqlite import SqliteStore
from tests.flow import NOW, NoRunner, step


async def test_what_a_person_has_run_is_in_the_audit_log(tmp_path: Path) -> None:
    """The line that it begins is on disk when the step acts; both carry the name of the folder with the files."""
    store = SqliteStore(tmp_path)
    store.open()
    seen_by_the_step: list[str] = []

    async def looks(_: Scene) -> Fetched:
        seen_by_the_step.extend(entry["what"] for _, _, entry in await store.audit())
        return Fetched({"facts.json": b"{}"})

    try:
        async with aiohttp.ClientSession() as http:
            one = step("look", looks)
            hand = Hand(steps={"look": one}, http=http, runner=NoRunner(), data_dir=tmp_path, clock=lambda: NOW,
                        audit=store.add_audit, who="ann@desk, by hand")  # fmt: skip
            item, folder = await capture(hand, Target(name="t", url="http://127.0.0.1:1"), "look", {})
        assert item.outcome is Outcome.OK
        assert seen_by_the_step == ["step begins"]
        (ended, began) = await store.audit()
        assert began[1] == ended[1] == folder.name
        assert began[2]["allowed_by"] == "ann@desk, by hand"
        assert (began[2]["target"], began[2]["step"], began[2]["params"]) == ("t", "look", {})
        assert (ended[2]["what"], ended[2]["outcome"]) == ("step ended", "ok")
    finally:
        store.close()


@pytest.mark.parametrize(
    ("max_rung", "canary", "ask", "ran"),
    [(1, True, False, ["look", "stacks"]), (1, True, True, ["canary", "look", "stacks"]), (0, False, False, ["look"]),
     (0, False, True, ["look"])],
)  # fmt: skip
async def test_doctor_goes_no_further_than_the_policy_and_generates_nothing_unasked(
    tmp_path: Path, max_rung: int, canary: bool, ask: bool, ran: list[str]
) -> None:
    """Somebody who only wants to know what could run has not allowed it."""
    began: list[str] = []

    def one(name: str, rung: int) -> Step:
        async def looks(_: Scene) -> Fetched:
            began.append(name)
            return Fetched({"facts.json": b"{}"})

        return step(name, looks, rung=rung)

    steps = {"look": one("look", 0), "stacks": one("stacks", 1), "canary": one("canary", 1)}
    target = Target(name="t", url="http://127.0.0.1:1", canary=canary, capture=CapturePolicy(max_rung=max_rung))
    async with aiohttp.ClientSession() as http:
        hand = Hand(steps=steps, http=http, runner=NoRunner(), data_dir=tmp_path, clock=lambda: NOW)
        rows = {check.step: check for check in await doctor(hand, target, ask=ask)}
    assert sorted(began) == ran
    assert rows["canary"].can is canary
    assert ("--ask" in rows["canary"].why) is (canary and not ask)
