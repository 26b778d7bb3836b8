"""The engineer's word: kept, counted, told in later reports, and replayed byte for byte."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import responder.respond as module
from responder.case import Kit
from responder.ledger import Ledger, NoSuchVerdict, leave, opinion_on
from responder.model import Change
from responder.replay import replay
from responder.report import to_json
from responder.respond import Responder
from tests.flow import NOW, Listener, brings, incident, kit, step


class World:
    def __init__(self, parts: Kit, responder: Responder, listener: Listener) -> None:
        self.kit, self.responder, self.listener, self.ledger = parts, responder, listener, Ledger(parts)

    async def happen(self, name: str) -> dict[str, Any]:
        """An incident from opening to its final report."""
        before = self.listener.stages.count("final")
        self.responder.handle(Change.OPENED, incident(id=name))
        told = await self.listener.until("final", before + 1)
        return json.loads(told.body)  # type: ignore[no-any-return]


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0.01)
    monkeypatch.setattr(module, "FIRST_WORD_S", 0.05)
    async with aiohttp.ClientSession() as http:
        listener = Listener()
        parts = kit(
            tmp_path, http, listener, step("look", brings({"busy": True})), step("deep", brings({"busy": False}))
        )
        parts.outbox.start()
        made = World(parts, Responder(parts), listener)
        yield made
        await made.responder.stop()
        await parts.outbox.stop()
        parts.store.close()


async def test_a_word_is_kept_and_counted(world: World) -> None:
    """Per cause and playbook, in our metrics; the newest word about an incident counts."""
    await world.happen("i1")
    said = await world.ledger.judge("i1", False, "d", "ann", "saw it on the console")
    assert (said["named"], said["right"], said["cause"], said["playbooks"]) == ("c", False, "d", ["p"])
    page = world.kit.telemetry.page().decode()
    assert 'responder_verdicts_total{cause="c",playbook="p",verdict="wrong"} 1.0' in page
    await world.ledger.judge("i1", True, "", "bob", "")
    again = Ledger(world.kit)
    await again.take_in()
    assert [(o.who, o.right) for o in again.opinions.values()] == [("bob", True)]


async def test_later_reports_say_how_often_the_cause_was_right(world: World) -> None:
    """With the nearest past incidents and what they were; a replay gives the same bytes."""
    for name in ("i1", "i2"):
        await world.happen(name)
    await world.ledger.judge("i1", True, "", "ann", "")
    await world.ledger.judge("i2", False, "worker_hang", "ann", "")
    report = await world.happen("i3")
    assert report["experience"]["records"] == [{"cause": "c", "right": 1, "told": 2}]
    assert any("right in 1 of 2 past incidents" in item for item in report["says"]["cause"]["items"])
    folder = world.kit.data_dir / "incidents" / "i3"
    assert to_json(replay(folder, world.kit.steps)) == (folder / "report.json").read_bytes()


async def test_the_command_line_leaves_a_file_the_daemon_takes_in(world: World) -> None:
    """Once; what is no word is dropped, not choked on."""
    await world.happen("i1")
    root = world.kit.data_dir
    leave(root, opinion_on(root, "i1", right=True, cause="", who="me", note="", now=NOW))
    (root / "opinions" / "noise.json").write_text("{")
    await world.ledger.take_in()
    assert [o.incident for o in world.ledger.opinions.values()] == ["i1"]
    assert not list((root / "opinions").iterdir())


async def test_words_that_make_no_sense_are_refused(world: World) -> None:
    """No such incident; right about another cause; nobody says so."""
    await world.happen("i1")
    for incident_id, right, cause, who in (("nowhere", True, "", "me"), ("i1", True, "d", "me"), ("i1", True, "", " ")):
        with pytest.raises(NoSuchVerdict):
            await world.ledger.judge(incident_id, right, cause, who, "")
    assert await world.ledger.press("nowhere", "c", True, "me") != ""
    assert await world.ledger.press("i1", "c", True, "me") == ""
    assert await world.ledger.press("i1", "c", False, "me", "d", "saw it") == ""
    assert (world.ledger.opinions["i1"].cause, world.ledger.opinions["i1"].note) == ("d", "saw it")


async def test_broken_fingerprints_of_the_past_are_passed_over(world: World) -> None:
    """A folder somebody edited costs nothing but itself."""
    folder = world.kit.data_dir / "incidents" / "old"
    folder.mkdir(parents=True)
    (folder / "fingerprint.json").write_text('{"signs": 3}')
    report = await world.happen("i1")
    assert report["experience"]["nearest"] == []
    await asyncio.sleep(0)


async def test_a_word_that_cannot_be_read_for_a_moment_is_not_thrown_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file left to open is no reason to forget what an engineer said."""
    await world.happen("i1")
    told = opinion_on(world.kit.data_dir, "i1", right=True, cause="", who="ann", note="", now=NOW)
    path, whole, fails = leave(world.kit.data_dir, told), Path.read_bytes, iter((True,))

    def read(self: Path) -> bytes:
        if self == path and next(fails, False):
            raise OSError(errno.EMFILE, "Too many open files")
        return whole(self)

    monkeypatch.setattr(Path, "read_bytes", read)
    await world.ledger.take_in()
    assert (world.ledger.opinions, path.exists()) == ({}, True)
    await world.ledger.take_in()
    assert (list(world.ledger.opinions), path.exists()) == (["i1"], False)
