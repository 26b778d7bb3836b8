"""Stacks of real processes, and of a recorded hang; what a failing or frozen py-spy must not do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from responder import proc, ptrace
from responder.capture import stacks
from responder.capture.step import Fetched, NoParams
from responder.model import Fact, Inventory, Outcome, ProcessInfo, Scalar
from responder.runner import LocalRunner
from tests.doubles import BRIEF, scene

DATA = Path(__file__).parents[1] / "data" / "stacks"


def values(found: list[Fact]) -> dict[str, Scalar]:
    assert {fact.name for fact in found} <= {spec.name for spec in stacks.STEP.facts}
    return {fact.name.removeprefix("stacks."): fact.value for fact in found if not fact.subject}


def test_recorded_stopped_rank() -> None:
    """CPU vLLM 0.32, TP=2, rank 1 stopped under load: the other rank stands in the all-reduce, the engine waits."""
    folder = DATA / "tp1_stopped_0.32"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = list(stacks.read(files, BRIEF))
    assert {fact.name for fact in found} == {spec.name for spec in stacks.STEP.facts}
    said = values(found)
    assert (said["dumped"], said["failed"]) == (3, 0)
    assert said["engine_waits_for"] == "worker_response"
    assert said["worker_waits_for"] == "collective"
    assert said["api_server_waits_for"] == "network"
    assert str(said["outlier"]).startswith("VLLM::Worker_TP1 ")
    assert (said["unchanged"], said["in_collective"], said["profiler"]) == (True, True, False)


ENGINE, TP0, TP1 = 885, 992, 993
HUNG_ENGINE = (DATA / "hang_VLLM_EngineCore_885.txt").read_bytes()
HUNG_WORKER = (DATA / "hang_VLLM_Worker_TP0_992.txt").read_bytes()
BUSY_WORKER = (DATA / "busy_Worker_TP0_992.txt").read_bytes()


def record(*rounds: dict[int, dict[str, Any]], **files: bytes) -> dict[str, bytes]:
    roles = {ENGINE: "engine_core", TP0: "worker", TP1: "worker"}
    ranks = {ENGINE: None, TP0: 0, TP1: 1}
    processes = [
        {"pid": pid, "ppid": 1, "started_at": 1.0, "role": role, "name": f"P{pid}", "rank": ranks[pid]}
        for pid, role in roles.items()
    ]
    index = {"processes": processes, "rounds": [{str(pid): how for pid, how in one.items()} for one in rounds]}
    return {stacks.INDEX: json.dumps(index).encode(), **{f"{name}.txt": text for name, text in files.items()}}


def test_recorded_hang_on_gpus() -> None:
    """H200, TP=2, rank 1 stopped: no frame names a collective; the waiting rank stands at the GPU."""
    one = {ENGINE: {"state": "S", "file": "e1.txt"}, TP0: {"state": "S", "file": "w1.txt"}, TP1: {"state": "T"}}
    two = {ENGINE: {"state": "S", "file": "e2.txt"}, TP0: {"state": "S", "file": "w2.txt"}, TP1: {"state": "T"}}
    files = record(one, two, e1=HUNG_ENGINE, e2=HUNG_ENGINE, w1=HUNG_WORKER, w2=HUNG_WORKER)
    said = values(list(stacks.read(files, BRIEF)))
    assert (said["engine_waits_for"], said["worker_waits_for"]) == ("worker_response", "gpu")
    assert str(said["outlier"]).startswith("P993")
    assert (said["unchanged"], said["in_collective"]) == (True, False)


def test_a_process_that_moves_has_changed() -> None:
    """A busy server is caught in different places."""
    one = {ENGINE: {"state": "S", "file": "e.txt"}, TP0: {"state": "R", "file": "w1.txt"}, TP1: {"state": "gone"}}
    two = {ENGINE: {"state": "S", "file": "e.txt"}, TP0: {"state": "R", "file": "w2.txt"}, TP1: {"state": "gone"}}
    said = values(list(stacks.read(record(one, two, e=HUNG_ENGINE, w1=HUNG_WORKER, w2=BUSY_WORKER), BRIEF)))
    assert said["unchanged"] is False
    assert said["worker_waits_for"] == "python"
    assert said["outlier"] is None


def test_failed_dumps_leave_the_rest_unknown() -> None:
    """No dump of a process in one round: whether it moved is not known, and is not guessed."""
    one = {ENGINE: {"state": "S", "error": "Bad address"}, TP0: {"state": "R", "file": "w.txt"}, TP1: {"state": "R"}}
    two = {ENGINE: {"state": "S", "error": "Bad address"}, TP0: {"state": "R", "file": "w.txt"}, TP1: {"state": "R"}}
    said = values(list(stacks.read(record(one, two, w=HUNG_WORKER), BRIEF)))
    assert "engine_waits_for" not in said
    assert (said["dumped"], said["failed"], said["unchanged"]) == (1, 2, None)


# -------------------------------------------------------------------------------------------------- real processes

CHILD = "import queue, sys; print('up', flush=True); queue.Queue().get()"


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two Python processes that wait for a queue."""
    started = [subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE) for _ in range(2)]
    for child in started:
        assert child.stdout is not None
        child.stdout.readline()
    yield started
    for child in started:
        child.kill()
        child.communicate()


def inventory(children: list[subprocess.Popen[bytes]]) -> Inventory:
    known = []
    for number, child in enumerate(children):
        seen = proc.stat(child.pid)
        assert seen is not None
        told = {"pid": child.pid, "ppid": seen.ppid, "started_at": seen.started_at, "rank": number}
        known.append(ProcessInfo.model_validate(told | {"role": "worker", "name": f"W_{number}"}))
    return Inventory(at=0, local=True, processes=tuple(known))


async def fetch(known: Inventory | None) -> Fetched:
    async with scene(inventory=known, runner=LocalRunner()) as where:  # type: ignore[arg-type]
        return await stacks.fetch(where, NoParams())


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "APART_S", 0.01)


async def test_real_dumps(children: list[subprocess.Popen[bytes]], soon: None) -> None:
    """Two processes, one stopped: one is dumped twice, the stopped one is recorded and stays stopped."""
    os.kill(children[1].pid, signal.SIGSTOP)
    fetched = await fetch(inventory(children))
    assert fetched.outcome is Outcome.OK, fetched.reason
    said = values(list(stacks.read(fetched.files, BRIEF)))
    assert (said["dumped"], said["failed"], said["unchanged"]) == (1, 0, True)
    assert said["outlier"] == f"W_1 (pid {children[1].pid})"
    assert "W_0: lock" in str(said["summary"])
    assert "W_1: stopped" in str(said["summary"])
    seen = [proc.stat(child.pid) for child in children]
    assert [it.state for it in seen if it] == ["S", "T"]


async def test_dead_and_recycled_processes_are_left_alone(children: list[subprocess.Popen[bytes]], soon: None) -> None:
    """A process that is gone, or another one under its number, is not dumped."""
    known = inventory(children)
    other = known.processes[0].model_copy(update={"started_at": 5.0})
    fetched = await fetch(known.model_copy(update={"processes": (other,)}))
    said = values(list(stacks.read(fetched.files, BRIEF)))
    assert said["dumped"] == 0
    assert set(fetched.files) == {stacks.INDEX}


def fake(folder: Path, script: str) -> str:
    tool = folder / "py-spy"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    return str(tool)


async def test_a_torn_stack_is_tried_again(
    children: list[subprocess.Popen[bytes]], soon: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try of each dump fails as it does on a busy process; the second brings the stack."""
    good = DATA / "hang_VLLM_Worker_TP0_992.txt"
    torn = DATA / "busy_Worker_TP0_992--nonblocking.txt"
    script = f"f={tmp_path}/tried-$4; if [ -e $f ]; then rm $f; cat {good}; else touch $f; cat {torn}; exit 1; fi"
    tool = fake(tmp_path, script)
    monkeypatch.setattr(ptrace, "find_tool", lambda: tool)
    fetched = await fetch(inventory(children))
    assert fetched.outcome is Outcome.OK
    assert values(list(stacks.read(fetched.files, BRIEF)))["dumped"] == 2


async def test_not_permitted(
    children: list[subprocess.Popen[bytes]], soon: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No right to look: failed, with what is needed."""
    tool = fake(tmp_path, "echo 'Permission Denied: Try running again with elevated permissions' >&2; exit 1")
    monkeypatch.setattr(ptrace, "find_tool", lambda: tool)
    fetched = await fetch(inventory(children))
    assert fetched.outcome is Outcome.FAILED
    assert "CAP_SYS_PTRACE" in fetched.reason
    assert values(list(stacks.read(fetched.files, BRIEF)))["failed"] == 2


async def test_a_frozen_tool_that_stopped_the_target_is_undone(
    children: list[subprocess.Popen[bytes]], soon: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool stops the target and never ends: it is killed at the deadline, the target set going, and it is said."""
    monkeypatch.setattr(stacks, "DUMP_TIMEOUT_S", 0.2)
    tool = fake(tmp_path, "kill -STOP $4; exec sleep 600")
    monkeypatch.setattr(ptrace, "find_tool", lambda: tool)
    fetched = await fetch(inventory(children[:1]))
    assert "was continued" in fetched.reason
    assert values(list(stacks.read(fetched.files, BRIEF)))["failed"] == 1
    deadline = time.monotonic() + 60
    while (seen := proc.stat(children[0].pid)) is None or seen.state == "T":
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_time_is_shared_by_all_dumps(
    children: list[subprocess.Popen[bytes]], soon: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a host too slow to serve them all, the step ends in its time and says what it did not reach."""
    monkeypatch.setattr(stacks, "BUDGET_S", 0.3)
    tool = fake(tmp_path, "exec sleep 600")
    monkeypatch.setattr(ptrace, "find_tool", lambda: tool)
    fetched = await fetch(inventory(children))
    assert fetched.outcome is Outcome.FAILED
    assert "no time left" in fetched.reason or "no answer" in fetched.reason


async def test_skipped_with_what_is_missing(
    children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No processes, or no py-spy."""
    assert (await fetch(None)).outcome is Outcome.SKIPPED
    monkeypatch.setattr(ptrace, "find_tool", lambda: None)
    fetched = await fetch(inventory(children))
    assert fetched.outcome is Outcome.SKIPPED
    assert "py-spy is not installed" in fetched.reason
