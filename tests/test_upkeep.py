"""Upkeep: each target has its turn, the dead man's switch hears of us, what is old goes and what is owed stays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web

from responder.approvals import Approvals
from responder.artifacts import WORK_KEPT_S, FolderArtifacts, Mirror
from responder.buttons import Buttons
from responder.case import Kit
from responder.config import RetentionPart
from responder.folder import folder_of, write_atomic
from responder.model import Approval, Button, Delivery, Inventory, ProcessInfo, Silence, Target
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


async def test_what_piles_up_beside_the_folders_goes_with_them(kept: Kit) -> None:
    """Rows, questions, buttons and silences of what is long over; never of what is open, untold or still holds."""
    long_ago, day = NOW - 40 * 86400, 86400.0
    kept.approvals = Approvals(kept.data_dir / "approvals")
    buttons = Buttons(kept.data_dir / "buttons")
    stories = {"old": {"state": "resolved", "resolved_at": long_ago + 5}, "open": {},
               "untold": {"state": "resolved", "resolved_at": long_ago + 5},
               "long": {"state": "resolved", "resolved_at": NOW - day}}  # fmt: skip
    ids = {}
    for name, over in stories.items():
        stage = "resolved" if over else "final"
        await kept.store.save_incident(incident(id=name, opened_at=long_ago, **over), stage=stage, revision=1)
        await kept.store.begin_step(
            name, "look", {"evidence": {"started_at": long_ago}}, (long_ago, {"what": "begins"})
        )
        state = "pending" if name == "untold" else "delivered"
        await kept.store.add_deliveries(
            [Delivery(id=name, incident=name, revision=1, receiver="listener", stage="final", state=state)]
        )
        question = Approval(incident=name, step="gcore", target="t", rung=3, asked_at=long_ago, expires_at=long_ago + 9)
        kept.approvals.ask(question)
        (ids[name],) = buttons.offer(name, [Button(action="right", incident=name, target="t", cause="c")])
    for path in [*(kept.data_dir / "approvals").iterdir(), *(kept.data_dir / "buttons").iterdir()]:
        os.utime(path, (long_ago, long_ago))
    for name, ends in (("over", NOW - 2 * day), ("lately", NOW - day / 2), ("holds", NOW + day)):
        silence = Silence(id=name, match={"target": "t"}, starts_at=long_ago, ends_at=ends)
        write_atomic(kept.data_dir / "silences" / f"{name}.json", silence.model_dump_json().encode())
    await kept.store.add_audit(NOW - 29 * day, "old", {"what": "within the retention"})
    await Upkeep(kept, {}, lambda: frozenset()).clear_up(RetentionPart())
    assert sorted(i.id for i, _, _ in await kept.store.incidents()) == ["long", "open", "untold"]
    assert {d.id for d in await kept.store.deliveries()} == {"long", "open", "untold"}
    assert (await kept.store.steps("old"), len(await kept.store.steps("open"))) == ([], 1)
    assert [entry["what"] for _, _, entry in await kept.store.audit()] == ["within the retention"]
    assert sorted(path.stem for path in (kept.data_dir / "silences").iterdir()) == ["holds", "lately"]
    assert {name for name in stories if kept.approvals.of(name, "gcore")} == {"open", "untold"}
    assert {name for name, button in ids.items() if buttons.meant(button.id)} == {"open", "untold"}


async def test_a_clock_set_forward_deletes_nothing_for_its_age(kept: Kit, tmp_path: Path) -> None:
    """What was closed yesterday is not a year old because somebody mistyped the year."""
    upkeep, now = Upkeep(kept, {}, lambda: frozenset()), [NOW]
    kept.clock = lambda: now[0]
    await kept.store.save_incident(incident(state="resolved", resolved_at=NOW), stage="resolved", revision=1)
    folder_of(kept.data_dir, "i1").write("report.json", b"x")
    os.utime(tmp_path / "incidents" / "i1" / "report.json", (NOW, NOW))
    for later in (0, 365 * 86400.0):
        now[0] = NOW + later
        await upkeep.clear_up(RetentionPart())
        assert (tmp_path / "incidents" / "i1" / "report.json").exists()
        assert await kept.store.incident("i1")


async def test_what_a_killed_capture_left_beside_us_goes(
    kept: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A working folder nobody works in any more; not one of now, nor somebody else's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, now, other = (Path(tempfile.mkdtemp(prefix=p)) for p in ("responder-flame-", "responder-trace-", "other-"))
    for path, age in ((old, 7200), (now, 5), (other, 7200)):
        os.utime(path, (NOW - age, NOW - age))
    await Upkeep(kept, {}, lambda: frozenset()).clear_up(RetentionPart())
    assert (old.exists(), now.exists(), other.exists()) == (False, True, True)


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
