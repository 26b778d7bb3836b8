"""States of real processes, and of recorded servers: stopped, killed, orphaned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from responder import proc
from responder.capture import processes
from responder.capture.step import NoParams
from responder.model import Fact, Inventory, Outcome, ProcessInfo, Scalar
from tests.doubles import BRIEF, scene

DATA = Path(__file__).parents[1] / "data" / "processes"


def values(found: list[Fact]) -> dict[str, Scalar]:
    assert {fact.name for fact in found} <= {spec.name for spec in processes.STEP.facts}
    return {fact.name.removeprefix("processes."): fact.value for fact in found if not fact.subject}


def recorded(name: str) -> dict[str, Scalar]:
    return values(list(processes.read({processes.FILE: (DATA / name).read_bytes()}, BRIEF)))


def test_every_declared_fact_is_given() -> None:
    """A healthy server under load (CPU, TP=2): all facts, nothing alarming."""
    found = list(processes.read({processes.FILE: (DATA / "under_load.json").read_bytes()}, BRIEF))
    assert {fact.name for fact in found} == {spec.name for spec in processes.STEP.facts}
    said = values(found)
    assert (said["found"], said["count"], said["stopped"], said["orphans"], said["zombies"]) == (True, 4, 0, 0, 0)
    assert (said["engine_missing"], said["worker_missing"], said["api_server_missing"]) == (False, False, False)
    assert said["worker_states"] == "R R"
    assert said["connections"] == 3
    assert said["restarted"] is False
    assert isinstance(said["worker_cpu_max"], float)
    assert said["worker_cpu_max"] > 0.5


def test_stopped_worker() -> None:
    """Rank 1 stopped: the other spins, the engine waits, the guilty one is named."""
    said = recorded("tp1_stopped.json")
    assert said["worker_states"] == "R T"
    assert (said["stopped"], said["stopped_workers"]) == (1, 1)
    assert str(said["stopped_names"]).startswith("VLLM::Worker_TP1 ")
    assert said["engine_state"] == "S"
    assert said["worker_cpu_min"] == 0.0


def test_killed_engine() -> None:
    """SIGKILL of the engine under load: it is gone, the API server a zombie, the workers are orphans."""
    said = recorded("engine_killed.json")
    assert (said["engine_missing"], said["api_server_missing"], said["worker_missing"]) == (True, True, False)
    assert said["engine_state"] == "gone"
    assert said["orphans"] == 2
    assert said["zombies"] == 1
    assert said["connections"] is None


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen(["sleep", "600"]) for _ in range(3)]
    yield started
    for child in started:
        child.kill()
        child.wait()


def inventory(children: list[subprocess.Popen[bytes]]) -> Inventory:
    roles = ("api_server", "engine_core", "worker")
    known = []
    for child, role in zip(children, roles, strict=True):
        seen = proc.stat(child.pid)
        assert seen is not None
        known.append(
            ProcessInfo.model_validate(
                {"pid": child.pid, "ppid": seen.ppid, "started_at": seen.started_at, "role": role, "name": role}
            )
        )
    return Inventory(at=0, local=True, processes=tuple(known))


def until(pid: int, state: str) -> None:
    deadline = time.monotonic() + 60
    while (seen := proc.stat(pid)) is None or seen.state != state:
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_real_processes(children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped and dead children are seen as such, through fetch and read."""
    monkeypatch.setattr(processes, "APART_S", 0.01)
    known = inventory(children)
    os.kill(children[2].pid, signal.SIGSTOP)
    os.kill(children[1].pid, signal.SIGKILL)
    until(children[2].pid, "T")
    until(children[1].pid, "Z")
    async with scene("http://127.0.0.1:9", inventory=known) as where:
        fetched = await processes.fetch(where, NoParams())
    assert fetched.outcome is Outcome.OK
    said = values(list(processes.read(fetched.files, BRIEF)))
    assert said["api_server_state"] == "S"
    assert said["engine_state"] == "Z"
    assert said["engine_missing"] is True
    assert said["stopped_names"] == f"worker (pid {children[2].pid})"
    assert said["count"] == 2
    assert said["restarted"] is False


async def test_another_process_has_the_port(children: list[subprocess.Popen[bytes]]) -> None:
    """The server came back under new processes while we still knew the old ones."""
    record = json.loads((DATA / "under_load.json").read_bytes())
    record["listening_is_known"] = False
    assert values(list(processes.read({processes.FILE: json.dumps(record).encode()}, BRIEF)))["restarted"] is True
    record["listening"] = None
    assert values(list(processes.read({processes.FILE: json.dumps(record).encode()}, BRIEF)))["restarted"] is None


def test_a_thread_in_the_kernel_counts_only_if_it_stays() -> None:
    """Everybody is in state D now and then; the same thread in both looks is stuck."""
    record = json.loads((DATA / "under_load.json").read_bytes())
    engine = str(record["known"][1]["pid"])
    record["samples"][0]["processes"][engine]["uninterruptible"] = [5, 6]
    record["samples"][1]["processes"][engine]["uninterruptible"] = [7]
    said = values(list(processes.read({processes.FILE: json.dumps(record).encode()}, BRIEF)))
    assert said["disk_sleep"] == 0
    record["samples"][1]["processes"][engine]["uninterruptible"] = [6]
    said = values(list(processes.read({processes.FILE: json.dumps(record).encode()}, BRIEF)))
    assert said["disk_sleep"] == 1
    assert "EngineCore" in str(said["disk_sleep_names"])


@pytest.mark.parametrize("known", [None, Inventory(at=0, local=False, why_not="10.0.0.1 is another host")])
async def test_skipped_with_the_reason(known: Inventory | None) -> None:
    """No processes known: skipped, and why."""
    async with scene(inventory=known) as where:
        fetched = await processes.fetch(where, NoParams())
    assert fetched.outcome is Outcome.SKIPPED
    assert (known.why_not if known else "never seen") in fetched.reason
    assert list(processes.read(fetched.files, BRIEF)) == []
