"""Does one controller get the captures of 200 nodes done, and what becomes of them when agents die?

    python -m bench.agents --nodes 200 --rounds 5

Real PostgreSQL, real agents - their loops, queues, redaction and artifacts - many of them in each process, each with a
connection of its own; the captured log is a file per node. Each round asks every node for one capture at the same time.
Then a process with its share of the agents is killed while captures run on them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
import psutil
from pydantic import BaseModel

from bench import machine
from responder.agent import Agent
from responder.agents import Agents
from responder.artifacts import FolderArtifacts
from responder.capture.step import Brief, Fetched, NoParams, Scene, Step
from responder.collect import collect
from responder.folder import IncidentFolder
from responder.model import Outcome, StepCall, Target
from responder.postgres.database import Database
from responder.postgres.store import PostgresStore
from responder.runner import LocalRunner
from tests.cluster import Cluster, running
from tests.live.harness import processes

ROOT = Path(__file__).resolve().parents[1]
LONG_S = 20.0


async def read_log(scene: Scene, _: BaseModel) -> Fetched:
    """The node's own file: whose it is shows who ran it."""
    assert scene.target.log_file is not None
    return Fetched({"log.txt": await scene.runner.read(scene.target.log_file, max_bytes=1 << 20)})


async def linger(_: Scene, __: BaseModel) -> Fetched:
    """Still running when its agent is killed."""
    await asyncio.sleep(LONG_S)
    return Fetched({"log.txt": b"too late"})


STEPS = {
    "log": Step("log", 0, "reads a log", read_log, lambda *_: (), (), timeout_s=30.0, max_bytes=1 << 20),
    "long": Step("long", 0, "takes long", linger, lambda *_: (), (), timeout_s=30.0, max_bytes=1 << 20),
}


def target_of(node: str, folder: Path) -> Target:
    """The server of a node."""
    return Target(name=node, url="http://127.0.0.1:1", node=node, log_file=str(folder / "logs" / node))


async def serve(url: str, folder: Path, first: int, count: int) -> None:
    """Some agents, until killed."""
    artifacts, runner = FolderArtifacts(folder / "shared"), LocalRunner()
    agents = []
    for number in range(first, first + count):
        node, database = f"n{number}", Database(url, connections=2, least=0)
        await database.open()
        agents.append(
            Agent(database, artifacts, node, folder / node, {node: target_of(node, folder)}, steps=STEPS, runner=runner)
        )
    await asyncio.gather(*(agent.run() for agent in agents))


class Controller:
    """What the responder does with its nodes, without the rest of it."""

    def __init__(self, agents: Agents, folder: Path, http: aiohttp.ClientSession) -> None:
        self.agents, self.folder, self.http = agents, folder, http

    async def capture(self, step: str, node: str, number: int) -> tuple[Outcome, bytes, float]:
        """(outcome, what came back, seconds)."""
        target, now, began = target_of(node, self.folder), time.time(), time.monotonic()
        scene = Scene(target=target, inventory=None, now=now, onset_at=now, opened_at=now, http=self.http,
                      runner=LocalRunner(cgroup=None), range_query=None, incident=f"i{number}")  # fmt: skip
        brief = Brief(target=node, now=now, onset_at=now, opened_at=now)
        assert not NoParams().model_dump()
        got = await collect(
            self.agents.there(STEPS[step], step, target), StepCall(step=step, rung=0), scene, brief,
            IncidentFolder(self.folder / "incidents" / f"{number}-{node}"), evidence_id=step, secrets=(),
        )  # fmt: skip
        files = IncidentFolder(self.folder / "incidents" / f"{number}-{node}").read_raw(step)
        return got.evidence.outcome, files.get("log.txt", b""), time.monotonic() - began


async def trial(cluster: Cluster, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """The rounds, then the killing."""
    url = cluster.new_database("agents")
    store = PostgresStore(url)
    await asyncio.to_thread(store.open)
    nodes = [f"n{n}" for n in range(options.nodes)]
    (folder / "logs").mkdir()
    for node in nodes:
        (folder / "logs" / node).write_text(f"log of {node}\n" * 200)
    each = -(-options.nodes // options.processes)
    children = []
    for first in range(0, options.nodes, each):
        part = json.dumps([url, str(folder), first, min(each, options.nodes - first)])
        argv = [sys.executable, "-m", "bench.agents", "--serve", part]
        children.append(processes.start(argv, folder / "agents.log", cwd=ROOT))
    database = Database(url)
    await database.open()
    agents = Agents(database, FolderArtifacts(folder / "shared"))
    agents.start()
    try:
        began = time.monotonic()
        while int(await asyncio.to_thread(cluster.sql, HEARD, "agents")) < options.nodes:  # noqa: ASYNC110 - others
            await asyncio.sleep(0.5)
        joined = time.monotonic() - began
        async with aiohttp.ClientSession() as http:
            controller = Controller(agents, folder, http)
            times: list[float] = []
            outcomes: Counter[str] = Counter()
            wrong = 0
            for number in range(options.rounds):
                for node, got in zip(
                    nodes, await asyncio.gather(*(controller.capture("log", n, number) for n in nodes)), strict=True
                ):
                    outcomes[got[0].value] += 1
                    times.append(got[2])
                    wrong += got[1] != f"log of {node}\n".encode() * 200
            rss = [psutil.Process(child.pid).memory_info().rss / 2**20 for child in children]
            long = [asyncio.create_task(controller.capture("long", node, 10_000)) for node in nodes[:each]]
            while int(await asyncio.to_thread(cluster.sql, TAKEN, "agents")) < len(long):  # noqa: ASYNC110 - others
                await asyncio.sleep(0.2)
            os.kill(children[0].pid, signal.SIGKILL)
            killed = time.monotonic()
            ends = Counter(outcome.value for outcome, _, _ in await asyncio.gather(*long))
            dead = time.monotonic() - killed
        times.sort()
        return {
            "nodes": options.nodes,
            "all agents heard of after s": round(joined, 1),
            "captures": dict(outcomes),
            "files of the wrong node, or missing": wrong,
            "capture s, median": round(times[len(times) // 2], 2),
            "capture s, worst": round(times[-1], 2),
            "agents killed while they captured": len(long),
            "became": dict(ends),
            "seen as dead after s": round(dead, 1),
            "MB per process of agents": round(max(rss)),
            "work left over": await asyncio.to_thread(cluster.sql, TAKEN, "agents"),
        }
    finally:
        await agents.stop()
        await database.close()
        store.close()
        for child in children:
            processes.end(child, patience_s=5)


HEARD = "SELECT count(*) FROM agents"
TAKEN = "SELECT count(*) FROM work WHERE state='taken'"


def main() -> None:
    """Run it, print the figures; exit 1 when a capture was lost."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--nodes", type=int, default=200)
    flags.add_argument("--processes", type=int, default=4)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--serve", help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.serve:
        url, folder, first, count = json.loads(options.serve)
        asyncio.run(serve(url, Path(folder), first, count))
        return
    with tempfile.TemporaryDirectory() as scratch, running() as cluster:
        figures = asyncio.run(trial(cluster, Path(scratch), options))
    print(machine.describe())
    for name, value in figures.items():
        print(f"{name:36} {value}")
    print(f"load average {os.getloadavg()[0]:.1f}")
    sys.exit(bool(figures["files of the wrong node, or missing"]))


if __name__ == "__main__":
    main()
