"""A profile is refused or bounded, always ended, never taken from somebody else; what it cost is in the evidence."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from responder import carefully as module
from responder import proc
from responder.allowance import Allowance
from responder.capture import torch_profiler
from responder.capture.step import Brief, Scene
from responder.carefully import carefully
from responder.folder import IncidentFolder
from responder.model import CapturePolicy, Evidence, Inventory, Outcome, ProcessInfo, StepCall, Target
from responder.obligations import Obligations
from responder.runner import LocalRunner
from responder.sentry import Sentry
from responder.store_sqlite import SqliteStore
from tests.profiled import Fake, fake_vllm

pytestmark = pytest.mark.timeout(120)
BRIEF = Brief(target="t", now=1.0, onset_at=0.0, opened_at=0.5)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setattr(module, "BEFORE_S", 0.3)
    monkeypatch.setattr(module, "AFTER_S", 0.3)
    with fake_vllm(tmp_path / "server") as server:
        yield server


@asynccontextmanager
async def world(tmp_path: Path, fake: Fake, *, stack: str = "false", canary: bool = True) -> AsyncIterator[Scene]:
    """A scene around the fake server, launched with these options."""
    options = {"profiler": "torch", "torch_profiler_dir": str(fake.folder), "torch_profiler_with_stack": stack,
               "ignore_frontend": "true", "max_iterations": "5"}  # fmt: skip
    command = ["vllm", "serve", "m", *(w for k, v in options.items() for w in (f"--profiler-config.{k}", v))]
    process = ProcessInfo(pid=fake.pid, ppid=1, started_at=1.0, role="worker", name="VLLM::Worker")
    inventory = Inventory(at=1.0, local=True, processes=(process,), command=tuple(command), version="0.32.0")
    policy = CapturePolicy(max_rung=2, last_replica=True, cpu_load=1e6, abort_after=1.0)
    target = Target(name="t", url=fake.url, canary=canary, capture=policy)
    store = SqliteStore(tmp_path / "data")
    store.open()
    async with aiohttp.ClientSession() as http:
        duties = Obligations(store, http, tmp_path / "data" / "obligations")
        yield Scene(target=target, inventory=inventory, now=time.time(), onset_at=0.0, opened_at=0.0, http=http,
                    runner=LocalRunner(None), range_query=None, duties=duties, incident="i")  # fmt: skip
        for task in [duties.settle(item) for item in list(duties.open)]:
            await task
        await duties.stop()
    store.close()


async def run(scene: Scene, tmp_path: Path) -> Evidence:
    """The step as the flow runs it."""
    shelf = scene.duties.shelf  # type: ignore[union-attr]
    allowance = Allowance(shelf, time.time, lambda: {"t": scene.target}, set, dict)
    call = StepCall(step="torch_profiler", rung=2)
    async with Sentry(scene.http, scene.target) as sentry:
        got = await carefully(
            torch_profiler.STEP, call, scene, BRIEF, IncidentFolder(tmp_path / "folder"), evidence_id="torch_profiler",
            secrets=(), clock=time.time, sentry=sentry, allowance=allowance,
        )  # fmt: skip
    return got.evidence


async def test_a_profile_is_taken_ended_and_collected(tmp_path: Path, fake: Fake) -> None:
    """One start with a bound, one stop, the file of every rank, nothing owed, and its cost."""
    async with world(tmp_path, fake) as scene:
        item = await run(scene, tmp_path)
        assert not scene.duties.open  # type: ignore[union-attr]
    assert item.outcome in (Outcome.OK, Outcome.PARTIAL), item.reason
    assert (len(fake.asked("start")), len(fake.asked("stop"))) == (1, 1)
    assert any(name.endswith(".pt.trace.json.gz") for name in item.files)
    assert {f.name: f.value for f in item.facts}["profile.iterations"] == 5
    assert item.cost is not None
    assert item.cost.gap_p99_s[1] is not None
    assert "between two tokens" in item.cost.says


async def test_an_unsafely_launched_server_is_not_even_asked(tmp_path: Path, fake: Fake) -> None:
    """Zero seconds of outage: refused, with the option to add."""
    async with world(tmp_path, fake, stack="true") as scene:
        item = await run(scene, tmp_path)
    assert item.outcome is Outcome.SKIPPED
    assert "torch_profiler_with_stack false" in item.reason
    assert fake.asked("start") == fake.asked("stop") == []
    assert item.cost is None


async def test_somebody_elses_session_is_never_stopped(tmp_path: Path, fake: Fake) -> None:
    """409: theirs. Nothing is owed, nothing is stopped."""
    fake.order(start_status=409)
    async with world(tmp_path, fake) as scene:
        item = await run(scene, tmp_path)
        assert not scene.duties.open  # type: ignore[union-attr]
    assert item.outcome is Outcome.SKIPPED
    assert "never touched" in item.reason
    assert fake.asked("stop") == []


async def test_a_profile_that_freezes_the_server_is_ended(tmp_path: Path, fake: Fake) -> None:
    """The detector cancels the step; the stop is sent at once, and the report says what it cost."""
    fake.order(freeze_s=60.0)
    async with world(tmp_path, fake) as scene:
        item = await run(scene, tmp_path)
    assert item.outcome is Outcome.INTERRUPTED
    assert "no token for" in item.reason
    assert len(fake.asked("stop")) == 1
    assert fake.asked("stop")[0] - fake.asked("start")[0] < 6.0
    assert item.cost is not None
    assert item.pause_seconds > 0.5
    assert "ended early" in item.cost.says
    assert "plan.json" in item.files


async def test_a_server_that_dies_in_the_middle_ends_the_capture(tmp_path: Path, fake: Fake) -> None:
    """Nobody waits for a dead server's deadline; what there was is kept."""
    fake.order(freeze_s=60.0)
    async with world(tmp_path, fake) as scene:
        policy = CapturePolicy(max_rung=2, last_replica=True, cpu_load=1e6, abort_after=50.0)
        scene = replace(scene, target=scene.target.model_copy(update={"capture": policy}))
        running = asyncio.create_task(run(scene, tmp_path))
        while not fake.asked("start"):
            await asyncio.sleep(0.02)
        os.kill(fake.pid, signal.SIGKILL)
        item = await running
        for obligation in list(scene.duties.open):  # type: ignore[union-attr]
            await scene.duties.void(obligation, "the server is gone")  # type: ignore[union-attr]
    assert item.outcome is Outcome.INTERRUPTED
    assert "went away" in item.reason
    assert "plan.json" in item.files


async def test_an_engine_that_dies_ends_the_capture_though_its_api_server_still_answers(
    tmp_path: Path, fake: Fake
) -> None:
    """The API server says so seconds later; the process is gone at once. What was gone before is no reason to end."""
    fake.order(freeze_s=60.0)
    async with world(tmp_path, fake) as scene:
        policy = CapturePolicy(max_rung=2, last_replica=True, cpu_load=1e6, abort_after=50.0)
        engine = await asyncio.create_subprocess_exec("sleep", "60")
        seen = proc.stat(engine.pid)
        assert seen is not None
        assert scene.inventory is not None
        core = ProcessInfo(
            pid=engine.pid, ppid=1, started_at=seen.started_at, role="engine_core", name="VLLM::EngineCore"
        )
        inventory = scene.inventory.model_copy(update={"processes": (*scene.inventory.processes, core)})
        target = scene.target.model_copy(update={"capture": policy})
        running = asyncio.create_task(run(replace(scene, target=target, inventory=inventory), tmp_path))
        while not fake.asked("start"):
            await asyncio.sleep(0.02)
        assert not running.done()
        engine.kill()
        await engine.wait()
        item = await running
        os.kill(fake.pid, signal.SIGKILL)
        for obligation in list(scene.duties.open):  # type: ignore[union-attr]
            await scene.duties.void(obligation, "the server is gone")  # type: ignore[union-attr]
    assert item.outcome is Outcome.INTERRUPTED
    assert f"its process VLLM::EngineCore ({engine.pid}) ended" in item.reason
    assert "plan.json" in item.files


async def test_an_idle_server_without_requests_of_ours_is_left_alone(tmp_path: Path, fake: Fake) -> None:
    """No step would ever be recorded, and nothing would end the profile."""
    fake.order(running=0)
    async with world(tmp_path, fake, canary=False) as scene:
        item = await run(scene, tmp_path)
    assert "idle" in item.reason
    assert fake.asked("start") == []


def test_only_whole_traces_are_taken() -> None:
    """A gzip stream to its end, JSON to its last brace."""
    import gzip

    raw = gzip.compress(b'{"traceEvents": []}' * 1000)
    assert torch_profiler.whole(raw)
    assert not torch_profiler.whole(raw[:-9])
    assert not torch_profiler.whole(b"\x1f\x8bgarbage")
    assert torch_profiler.whole(b'{"traceEvents": []}\n')
    assert not torch_profiler.whole(b'{"traceEvents": [')
