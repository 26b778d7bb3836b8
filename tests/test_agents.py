"""Captures on other nodes: they come back as if they had run here, and every ending is one of the report's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from responder.agent import Agent
from responder.agents import CENTRAL, Agents, from_afar
from responder.artifacts import FolderArtifacts
from responder.capture import STEPS
from responder.capture.step import Brief, Fetched, Scene, Step
from responder.collect import Collected, collect
from responder.folder import IncidentFolder
from responder.model import Inventory, Outcome, StepCall, Target
from responder.postgres.database import Database
from responder.postgres.store import PostgresStore
from tests.cluster import Cluster
from tests.doubles import NOW, Files
from tests.flow import step as made

TARGET = Target(name="t", url="http://127.0.0.1:1", node="gpu-1")


@dataclass
class Fleet:
    """A controller, and a way to start agents."""

    database: Database
    agents: Agents
    folder: Path
    url: str

    @contextlib.asynccontextmanager
    async def agent(self, *steps: Step, node: str = "gpu-1", secrets: tuple[str, ...] = ()) -> AsyncIterator[Agent]:
        database = Database(self.url, least=0)
        await database.open()
        one = Agent(database, self.agents.artifacts, node, self.folder / node, {}, secrets_known=secrets,
                    steps={s.name: s for s in steps}, runner=Files())  # fmt: skip
        task = asyncio.create_task(one.run())
        try:
            await asyncio.to_thread(until_heard, self.url, node)
            yield one
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await database.close()

    async def collect(self, step: Step, target: Target = TARGET) -> Collected:
        """As the flow runs it."""
        async with aiohttp.ClientSession() as http:
            scene = Scene(target=target, inventory=None, now=NOW, onset_at=NOW, opened_at=NOW, http=http,
                          runner=Files(), range_query=None, incident="i1")  # fmt: skip
            brief = Brief(target="t", now=NOW, onset_at=NOW, opened_at=NOW)
            return await collect(
                self.agents.there(step, "look", target), StepCall(step=step.name, rung=0), scene, brief,
                IncidentFolder(self.folder / "incident"), evidence_id="look", secrets=(),
            )  # fmt: skip


def until_heard(url: str, node: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        while not db.execute("SELECT 1 FROM agents WHERE node=%s", (node,)).fetchone():
            pass


@pytest.fixture
async def fleet(database: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    store = PostgresStore(database)
    store.open()
    store.close()
    shared = Database(database)
    await shared.open()
    agents = Agents(shared, FolderArtifacts(tmp_path / "shared"))
    agents.start()
    yield Fleet(shared, agents, tmp_path, database)
    await agents.stop()
    await shared.close()


async def test_a_capture_runs_on_its_node_and_comes_back_clean(fleet: Fleet) -> None:
    """Files, facts and outcome are as if it had run here; what the node knows as secret has not left it."""

    async def fetch(_: Scene) -> Fetched:
        return Fetched({"facts.json": b'{"busy": true, "key": "hunter22"}'}, Outcome.PARTIAL, "half of it", 0.25)

    step = made("look", fetch)
    async with fleet.agent(step, secrets=("hunter22",)):
        got = await fleet.collect(step)
    assert (got.evidence.outcome, got.evidence.reason) == (Outcome.PARTIAL, "half of it")
    assert got.evidence.pause_seconds == 0.25
    assert {fact.name: fact.value for fact in got.evidence.facts}["look.busy"] is True
    assert b"hunter22" not in IncidentFolder(fleet.folder / "incident").read_raw("look")["facts.json"]
    assert await fleet.agents.artifacts.names("work") == []


async def test_files_that_are_lost_on_the_way_are_said(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture without its files is no success."""

    async def gone(name: str) -> bytes:
        raise KeyError(name)

    async def fetch(_: Scene) -> Fetched:
        return Fetched({"facts.json": b'{"busy": true}'})

    step = made("look", fetch)
    monkeypatch.setattr(fleet.agents.artifacts, "get", gone)
    async with fleet.agent(step):
        got = await fleet.collect(step)
    assert got.evidence.outcome is Outcome.PARTIAL
    assert "node gpu-1 left them there: facts.json" in got.evidence.reason


async def test_each_node_does_its_own(fleet: Fleet) -> None:
    """Two agents, two targets: nobody takes the other's."""

    def on(node: str) -> Step:
        async def fetch(_: Scene) -> Fetched:
            return Fetched({"facts.json": f'{{"node": "{node}"}}'.encode()})

        return made("look", fetch)

    async with fleet.agent(on("gpu-1")), fleet.agent(on("gpu-2"), node="gpu-2"):
        for node in ("gpu-1", "gpu-2"):
            got = await fleet.collect(on(""), TARGET.model_copy(update={"node": node}))
            assert [fact.value for fact in got.evidence.facts] == [node]


async def test_without_an_agent_it_is_skipped_and_the_reason_says_what_to_start(fleet: Fleet) -> None:
    """Nobody waits for a node that is not there."""
    got = await fleet.collect(made("look", never))
    assert got.evidence.outcome is Outcome.SKIPPED
    assert "responder agent --node gpu-1" in got.evidence.reason


async def test_an_agent_that_dies_leaves_its_step_interrupted(fleet: Fleet, cluster: Cluster) -> None:
    """Its heartbeat stops; when it wakes up again its answer changes nothing."""
    began, wake = asyncio.Event(), asyncio.Event()

    async def fetch(_: Scene) -> Fetched:
        began.set()
        await wake.wait()
        return Fetched({"facts.json": b'{"late": true}'})

    step = made("look", fetch, timeout_s=30.0)
    async with fleet.agent(step) as agent:
        running = asyncio.create_task(fleet.collect(step))
        await began.wait()
        agent.name = "somebody else"  # from here on it beats for another: as good as dead
        name = fleet.url.rpartition("/")[2]
        await asyncio.to_thread(cluster.sql, "UPDATE agents SET beat_at='-infinity' WHERE name<>'somebody else'", name)
        got = await running
        wake.set()
    assert (got.evidence.outcome, got.evidence.facts) == (Outcome.INTERRUPTED, ())
    assert "gpu-1" in got.evidence.reason


async def test_an_agent_that_is_stopped_says_so(fleet: Fleet) -> None:
    """The step is interrupted at once, not after a silence."""
    began = asyncio.Event()

    async def fetch(_: Scene) -> Fetched:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    step = made("look", fetch, timeout_s=30.0)
    async with fleet.agent(step):
        running = asyncio.create_task(fleet.collect(step))
        await began.wait()
    assert (await running).evidence.outcome is Outcome.INTERRUPTED


async def test_a_step_that_is_ended_early_ends_on_the_node(fleet: Fleet) -> None:
    """When the responder gives a capture up, the agent does, too."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def fetch(_: Scene) -> Fetched:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    step = made("look", fetch, timeout_s=30.0)
    async with fleet.agent(step):
        running = asyncio.create_task(fleet.collect(step))
        await began.wait()
        running.cancel()
        async with asyncio.timeout(20):
            await ended.wait()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_playbooks_own_command_runs_only_where_the_node_allows_it(fleet: Fleet) -> None:
    """Whoever can write to the database must not be able to run programs on the nodes."""
    async with fleet.agent(STEPS["command"]):
        got = await fleet.collect(made("command", never))
    assert got.evidence.outcome is Outcome.DENIED
    assert "agent: {commands: true}" in got.evidence.reason


def test_steps_that_need_the_responder_stay_with_it() -> None:
    """The list names existing steps, and none that must be on the server's host (`changes` does without it)."""
    assert set(STEPS) >= CENTRAL
    wrong = [name for name in CENTRAL if any("same host" in need for need in STEPS[name].needs)]
    assert wrong == ["changes"]
    agents = Agents.__new__(Agents)
    assert agents.there(STEPS["canary"], "canary", TARGET) is STEPS["canary"]
    assert agents.there(STEPS["system"], "system", TARGET.model_copy(update={"node": ""})) is STEPS["system"]


def test_what_an_agent_found_is_not_on_this_host() -> None:
    """Its process numbers mean nothing here; captures reach it."""
    found = from_afar({"t": Inventory(at=1.0, local=True), "u": Inventory(at=1.0, local=True)}, {"t": TARGET})
    assert list(found) == ["t"]
    assert (found["t"].local, found["t"].reachable, found["t"].via) == (False, True, "agent on gpu-1")


async def never(_: Scene) -> Fetched:
    raise AssertionError("it must not run")
