"""Upkeep: each target has its turn, the dead man's switch hears of us, what is old goes and what is owed stays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web

from responder.artifacts import WORK_KEPT_S, FolderArtifacts, Mirror
from responder.case import Kit
from responder.config import RetentionPart
from responder.folder import folder_of
from responder.model import Delivery, Inventory, ProcessInfo, Target
from responder.store_db import StoreRefused
from responder.upkeep import ROUND_WITHIN_S, Turns, Upkeep
from tests.flow import NOW, Listener, incident, kit


def test_everybody_has_a_turn_before_anybody_has_two() -> None:
    """Going on where the last round ended, and from the start again."""
    turns = Turns()
    names = ["a", "b", "c", "d", "e"]
    assert turns.next(names, 2) == ["a", "b"]
    assert turns.next(names, 2) == ["c", "d"]
    assert turns.next(names, 2) == ["e", "a"]


def test_a_list_that_changes_loses_nobody() -> None:
    """Who has gone is left out; who has come has a turn like all others."""
    turns = Turns()
    assert turns.next(["a", "b", "c"], 2) == ["a", "b"]
    assert turns.next(["a", "bb", "d"], 2) == ["bb", "d"]
    assert turns.next([], 2) == []
    assert turns.next(["a"], 5) == ["a"]


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kit]:
    """What upkeep works with, on a real store; nothing is captured."""
    async with aiohttp.ClientSession() as http:
        made = kit(tmp_path, http, Listener())
        yield made
        made.store.close()


@pytest.fixture
async def switch() -> AsyncIterator[tuple[str, list[str]]]:
    """A dead man's switch: its URL, and the beats it has heard."""
    heard: list[str] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(request.method)
        return web.Response()

    app = web.Application()
    app.router.add_get("/beat", hear)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/beat", heard
    await runner.cleanup()


async def test_the_heartbeat_says_that_we_can_still_write(kept: Kit, switch: Any) -> None:
    """A daemon that runs and whose store takes nothing any more is as good as dead, and must be missed."""
    url, heard = switch
    upkeep = Upkeep(kept, {}, lambda: frozenset())
    await upkeep.beat(url)
    assert heard == ["GET"]
    kept.store.close()
    with pytest.raises(StoreRefused):
        await upkeep.beat(url)
    assert heard == ["GET"]


async def test_the_heartbeat_stops_where_detection_has_stopped(kept: Kit, switch: Any) -> None:
    """Everything runs but the rounds that find trouble: that is what a dead man's switch is for."""
    url, heard = switch
    upkeep = Upkeep(kept, {}, lambda: frozenset())
    upkeep.round_ended -= ROUND_WITHIN_S + 1
    with structlog.testing.capture_logs() as said:
        await upkeep.beat(url)
    assert (heard, [line["event"] for line in said]) == ([], ["heartbeat.withheld"])
    upkeep.round_ended += ROUND_WITHIN_S
    await upkeep.beat(url)
    assert heard == ["GET"]


async def test_a_switch_that_does_not_answer_is_no_mistake_of_ours(kept: Kit) -> None:
    """It is logged, and the next beat comes."""
    with structlog.testing.capture_logs() as said:
        await Upkeep(kept, {}, lambda: frozenset()).beat("http://127.0.0.1:1/beat")
    assert [line["event"] for line in said] == ["heartbeat.failed"]


async def test_what_all_replicas_see_expires_like_what_lies_here(kept: Kit, tmp_path: Path) -> None:
    """Past the size the oldest goes, here and there; never one that is open, or that somebody has still to hear of."""
    shared = FolderArtifacts(tmp_path / "shared")
    kept.mirror = Mirror(shared)
    untold = Delivery(id="d", incident="untold", revision=1, receiver="listener", stage="resolved")
    for age, name in enumerate(["open", "untold", "old", "new"]):
        over = {} if name == "open" else {"state": "resolved", "resolved_at": NOW}
        await kept.store.save_incident(incident(id=name, **over), stage="resolved" if over else "first", revision=1)
        folder = folder_of(kept.data_dir, name)
        folder.write("report.json", b"x" * 1000)
        await kept.mirror.push(folder)
        for root in (tmp_path / "incidents", tmp_path / "shared" / "incidents"):
            os.utime(root / name / "report.json", (NOW + age, NOW + age))
    await kept.store.add_deliveries([untold])
    await shared.put("work/gone/raw.txt", b"nobody fetched it")
    os.utime(tmp_path / "shared" / "work" / "gone" / "raw.txt", (NOW - 2 * WORK_KEPT_S, NOW - 2 * WORK_KEPT_S))
    await Upkeep(kept, {}, lambda: frozenset()).clear_up(RetentionPart(age=3600.0, size=3000))
    for root in (tmp_path / "incidents", tmp_path / "shared" / "incidents"):
        assert sorted(path.name for path in root.iterdir()) == ["new", "open", "untold"]
    assert await shared.names("work") == []


@pytest.mark.parametrize(("found", "kept_pids"), [([11], [11, 12]), ([21], [21]), ([21, 22], [21, 22]), ([], [11, 12])])
async def test_a_sick_server_is_remembered_whole_and_a_new_one_as_it_is(
    kept: Kit, monkeypatch: pytest.MonkeyPatch, found: list[int], kept_pids: list[int]
) -> None:
    """A worker that is missing, a restart that has its front end up so far, a whole restart, and nobody there."""

    def of(pids: list[int]) -> Inventory:
        rows = [ProcessInfo(pid=n, ppid=1, started_at=float(n), role="worker", name="w") for n in pids]
        return Inventory(at=NOW, local=True, processes=tuple(rows), command=("vllm", "serve"))

    async def discover(target: Target, now: float) -> Inventory:
        return of(found)

    target = Target(name="t", url="http://127.0.0.1:1")
    kept.inventories["t"] = of([11, 12])
    probe = SimpleNamespace(
        seen=SimpleNamespace(process_gone=True), local=True, processes=kept.inventories["t"].processes
    )
    monkeypatch.setattr("responder.upkeep.inventories.discover", discover)
    await Upkeep(kept, {"t": probe}, lambda: frozenset()).discover(target)  # type: ignore[dict-item]
    assert [process.pid for process in kept.inventories["t"].processes] == kept_pids
    assert [process.pid for process in probe.processes] == kept_pids
