"""After a crash: what was done is known, what disturbed is not done twice, what was told is not told anew."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from responder import proc
from responder import publish as publishing
from responder import respond as module
from responder.capture.step import Fetched, Scene
from responder.case import Case, Kit
from responder.folder import IncidentFolder, folder_of
from responder.model import Change, Inventory, ProcessInfo, StepCall, Target
from responder.replay import replay
from responder.report import to_json
from responder.respond import Responder
from responder.resume import begin
from responder.routes import Route
from tests.flow import NOW, Listener, brings, incident, kit, step, symptom

TARGET = Target(name="t", url="")


class Life:
    """One life of the daemon on a folder; `die` leaves everything as SIGKILL would: nothing is tidied up."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession, *steps: Any) -> None:
        self.listener = Listener()
        self.kit: Kit = kit(folder, http, self.listener, *steps)
        self.responder = Responder(self.kit)
        self.kit.outbox.start()

    async def die(self) -> None:
        await self.responder.stop()
        await self.kit.outbox.stop()
        self.kit.store.close()


@pytest.fixture
async def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """life(*steps): begin a life on the same folder."""
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0.01)
    monkeypatch.setattr(module, "FIRST_WORD_S", 0.05)
    monkeypatch.setattr(module, "GREW_SETTLES_S", 0.01)
    lives: list[Life] = []
    async with aiohttp.ClientSession() as http:

        def make(*steps: Any) -> Life:
            lives.append(Life(tmp_path, http, *steps))
            return lives[-1]

        yield make
        for one in lives:
            await one.die()


def case_of(parts: Kit) -> Case:
    return Case(incident(), folder_of(parts.data_dir, "i1"), TARGET)


def counted(name: str, rung: int, runs: list[str]) -> Any:
    async def fetch(_: Scene) -> Fetched:
        runs.append(name)
        return Fetched({"facts.json": b'{"busy": true}'})

    return step(name, fetch, rung=rung)


async def goes_on(second: Any) -> None:
    """Detection hands the next life what the store has of the incident."""
    (known, _, _) = (await second.kit.store.incidents(untold=True))[0]
    second.responder.handle(Change.UNCHANGED, known)


def never_comes_back() -> tuple[asyncio.Event, Any]:
    """A write in which the life ends, and the moment at which it does."""
    reached = asyncio.Event()

    async def killed(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    return reached, killed


async def test_a_step_that_disturbs_is_not_run_again_but_one_that_reads_is(life: Any) -> None:
    """Both had begun when the daemon was killed; the first is evidence `interrupted`, the second simply runs."""
    runs: list[str] = []
    first = life(counted("look", 0, runs), counted("deep", 1, runs))
    await first.kit.store.save_incident(incident())
    for name, rung in (("look", 0), ("deep", 1)):
        await begin(first.kit, case_of(first.kit), StepCall(step=name, rung=rung), name)
    folder_of(first.kit.data_dir, "i1").write_raw("deep", {"half.bin": b"half"})
    await first.die()
    second = life(counted("look", 0, runs), counted("deep", 1, runs))
    second.responder.handle(Change.UNCHANGED, incident())
    captures = json.loads((await second.listener.until("final")).body)["captures"]
    assert runs == ["look"]
    assert {c["step"]: c["status"] for c in captures} == {"look": "ok", "deep": "interrupted"}
    assert not (folder_of(second.kit.data_dir, "i1").path / "raw" / "deep").exists()
    audit = [entry["what"] for _, _, entry in await second.kit.store.audit("i1")]
    assert "step interrupted" in audit


async def test_a_final_report_is_not_made_anew_and_the_end_is_told(life: Any) -> None:
    """Same id, the earlier evidence, a higher revision; nobody is told twice what they know."""
    first = life(step("look", brings({"busy": True})))
    first.responder.handle(Change.OPENED, incident())
    await first.listener.until("final")
    await first.die()
    second = life(step("look", brings({"busy": True})))
    (known, stage, revision) = (await second.kit.store.incidents(untold=True))[0]
    assert (known.id, stage, revision) == ("i1", "final", 2)
    second.responder.handle(Change.UNCHANGED, known)
    second.responder.handle(Change.RESOLVED, known.model_copy(update={"state": "resolved", "resolved_at": 5.0}))
    told = await second.listener.until("resolved")
    assert second.listener.stages == ["resolved"]
    assert told.revision == 3
    assert [c["step"] for c in json.loads(told.body)["captures"]] == ["look"]
    folder = folder_of(second.kit.data_dir, "i1").path
    assert to_json(replay(folder, second.kit.steps)) == told.body


async def test_an_end_that_nobody_was_told_is_told_after_a_restart(life: Any) -> None:
    """It was resolved on disk and the daemon was killed: report and resolution are still owed."""
    over = incident(state="resolved", resolved_at=1_700_000_050.0)
    first = life(step("look", brings({"busy": True})))
    await first.kit.store.save_incident(over)
    await first.die()
    second = life(step("look", brings({"busy": True})))
    (known, _, _) = (await second.kit.store.incidents(untold=True))[0]
    second.responder.handle(Change.RESOLVED, known)
    await second.listener.until("resolved")
    assert "final" in second.listener.stages
    assert await second.kit.store.incidents(untold=True) == []


async def test_unfinished_writes_are_swept_away(life: Any) -> None:
    """A crash in the middle of a file leaves nothing behind that looks like a file."""
    first = life(step("look", brings({"busy": True})))
    folder = folder_of(first.kit.data_dir, "i1")
    folder.write("report.md", b"x")
    (folder.path / ".tmp-abc").write_bytes(b"half")
    first.responder.handle(Change.OPENED, incident())
    await first.listener.until("final")
    assert not (folder.path / ".tmp-abc").exists()


async def test_what_grew_before_we_were_killed_is_told_after_the_restart(life: Any) -> None:
    """The alert was acknowledged and is on disk, the update had not left: it does not wait for the end."""
    first = life(step("look", brings({"busy": True})))
    first.responder.handle(Change.OPENED, incident())
    await first.listener.until("final")
    await first.kit.store.save_incident(incident(symptoms=(symptom(), symptom("B"))))
    await first.die()
    second = life(step("look", brings({"busy": True})))
    await goes_on(second)
    told = json.loads((await second.listener.until("update")).body)
    assert {row["alert"] for row in told["symptoms"]} == {"A", "B"}


async def test_an_update_that_was_written_and_not_queued_is_told_after_the_restart(
    life: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the folder and the store: what lies in the folder is no proof that anybody heard of it."""
    written, killed = never_comes_back()
    first = life(step("look", brings({"busy": True})))
    first.responder.handle(Change.OPENED, incident())
    await first.listener.until("final")
    grown = incident(symptoms=(symptom(), symptom("B")))
    await first.kit.store.save_incident(grown)
    monkeypatch.setattr(first.kit.store, "publish", killed)
    first.responder.handle(Change.GREW, grown)
    await written.wait()
    await first.die()
    second = life(step("look", brings({"busy": True})))
    await goes_on(second)
    told = json.loads((await second.listener.until("update")).body)
    assert {row["alert"] for row in told["symptoms"]} == {"A", "B"}


async def test_a_server_that_a_tracer_of_ours_left_standing_is_set_going(life: Any) -> None:
    """Tracer and daemon were killed together in the middle: the next life knows from the journal where to look."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        seen = proc.stat(server.pid)
        assert seen is not None
        process = ProcessInfo(pid=server.pid, ppid=1, started_at=seen.started_at, role="worker", name="W")
        tracer = dataclasses.replace(counted("deep", 1, []), needs=("root or CAP_SYS_PTRACE",))
        first = life(tracer)
        await first.kit.store.save_incident(incident())
        await begin(first.kit, case_of(first.kit), StepCall(step="deep", rung=1), "deep")
        await first.die()
        os.kill(server.pid, signal.SIGSTOP)
        while proc.stat(server.pid).state not in proc.STOPPED:  # type: ignore[union-attr]
            await asyncio.sleep(0.001)
        second = life(tracer)
        second.kit.inventories["t"] = Inventory(at=0.0, local=True, processes=(process,))
        second.responder.handle(Change.UNCHANGED, incident())
        await second.listener.until("final")
        after = proc.stat(server.pid)
        server.kill()
    assert after is not None
    assert after.state not in proc.STOPPED


async def test_half_a_core_that_a_killed_life_left_is_removed(life: Any, tmp_path: Path) -> None:
    """Gigabytes beside the server that no report will ever name."""
    half = tmp_path / f"responder-core-{int(NOW) + 1}.4000000"
    core = dataclasses.replace(counted("gcore", 3, []), needs=("root or CAP_SYS_PTRACE",))
    first = life(core)
    await first.kit.store.save_incident(incident())
    call = StepCall(step="gcore", rung=3, params={"folder": str(tmp_path)})
    await begin(first.kit, case_of(first.kit), call, "gcore")
    await first.die()
    half.write_bytes(b"half of it")
    second = life(core)
    process = ProcessInfo(pid=4000000, ppid=1, started_at=1.0, role="engine_core", name="E")
    second.kit.inventories["t"] = Inventory(at=0.0, local=True, processes=(process,))
    second.responder.handle(Change.UNCHANGED, incident())
    await second.listener.until("final")
    assert not half.exists()


async def test_a_report_that_never_left_does_not_keep_the_alert_alone_back(
    life: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the folder and the store, and since then a bug in the diagnosis: nobody has heard of it yet."""
    written, killed = never_comes_back()
    first = life(step("look", brings({"busy": True})))
    monkeypatch.setattr(first.kit.store, "publish", killed)
    first.responder.handle(Change.OPENED, incident())
    await written.wait()
    await first.kit.store.save_incident(incident())
    await first.die()
    whole = publishing.diagnose

    def diagnose(of: Any, playbooks: Any, *rest: Any) -> Any:
        if playbooks:
            raise KeyError("a bug")
        return whole(of, playbooks, *rest)

    monkeypatch.setattr(publishing, "diagnose", diagnose)
    second = life(step("look", brings({"busy": True})))
    await goes_on(second)
    told = json.loads((await second.listener.until("first")).body)
    assert any("KeyError" in entry["says"] for entry in told["timeline"])


async def test_who_was_told_is_not_forgotten_when_it_cannot_be_read_at_once(
    life: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file left to open at the start: whoever was told of it hears of its end, whatever the routes say by now."""
    monkeypatch.setattr(module, "FAILED_AGAIN_S", (0.01,))
    first = life(step("look", brings({"busy": True})))
    first.responder.handle(Change.OPENED, incident())
    await first.listener.until("final")
    await first.die()
    second = life(step("look", brings({"busy": True})))
    second.kit.outbox.notifiers["other"] = Listener()
    second.kit.routes = (Route(receivers=("other",)),)
    whole, fails = IncidentFolder.read_json, iter((True,))

    def read_json(self: IncidentFolder, name: str) -> Any:
        if name == "manifest.json" and next(fails, False):
            raise OSError(errno.EMFILE, "Too many open files")
        return whole(self, name)

    monkeypatch.setattr(IncidentFolder, "read_json", read_json)
    (known, _, _) = (await second.kit.store.incidents(untold=True))[0]
    second.responder.handle(Change.RESOLVED, known.model_copy(update={"state": "resolved", "resolved_at": 5.0}))
    await second.listener.until("resolved")
