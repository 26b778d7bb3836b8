"""Shares of time of real processes, one of them stopped, and of records made for one point."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from responder import proc
from responder.capture import core_time
from responder.capture.step import NoParams
from responder.model import Fact, Inventory, Outcome, ProcessInfo, Scalar
from tests.doubles import BRIEF, scene

API, ENGINE, TP0, TP1 = 9, 10, 20, 21
ROLES = {API: "api_server", ENGINE: "engine_core", TP0: "worker", TP1: "worker"}


def values(found: list[Fact]) -> dict[str, Scalar]:
    assert {fact.name for fact in found} <= {spec.name for spec in core_time.STEP.facts}
    return {fact.name.removeprefix("core_time."): fact.value for fact in found if not fact.subject}


def record(states: dict[int, str], account: dict[int, tuple[float, float] | None]) -> dict[str, bytes]:
    """account: seconds on a core and without one, of two."""
    known = [{"pid": pid, "role": role, "name": f"P{pid}"} for pid, role in ROLES.items()]
    made: dict[str, Any] = {
        "at": 1.0, "seconds": 2.0, "known": known, "states": {str(pid): said for pid, said in states.items()},
        "first": {str(pid): (100.0, 50.0) if used else None for pid, used in account.items()},
        "last": {str(pid): (100.0 + used[0], 50.0 + used[1]) if used else None for pid, used in account.items()},
    }  # fmt: skip
    return {core_time.FILE: json.dumps(made).encode()}


def read(states: dict[int, str], account: dict[int, tuple[float, float] | None]) -> dict[str, Scalar]:
    return values(list(core_time.read(record(states, account), BRIEF)))


def test_an_engine_that_is_let_run_a_tenth_of_the_time() -> None:
    """Stopped in nine looks of ten, and now and then without a core: it is held, its workers are not."""
    said = read({ENGINE: "T" * 9 + "R", TP0: "S" * 10, TP1: "S" * 10}, {ENGINE: (0.1, 0.1), TP0: (1, 0), TP1: (1, 0.2)})
    assert (said["engine_stopped"], said["engine_waits_for_core"], said["engine_held"]) == (0.9, 0.05, 0.95)
    assert (said["worker_held"], said["engine_held_more"]) == (0.1, 0.85)


def test_the_worker_that_is_held_most_speaks_for_all() -> None:
    """One slow rank is enough to slow the others."""
    said = read({ENGINE: "S" * 4, TP0: "S" * 4, TP1: "TTTS"}, {ENGINE: (0.5, 0), TP0: (1, 0), TP1: (0.4, 0.2)})
    assert (said["worker_held"], said["worker_stopped"], said["engine_held_more"]) == (0.85, 0.75, -0.85)


def test_an_api_server_that_is_held_alone_and_all_that_are_held_together() -> None:
    """Stopped with its engine at work, or with the engine and all workers."""
    run, held = {ENGINE: (1.0, 0.0), TP0: (1.0, 0.0), API: (0.1, 0.0)}, {ENGINE: "TTTS", TP0: "TTTS", API: "TTTS"}
    alone = read({**dict.fromkeys(held, "SSSS"), API: "TTTT"}, run)
    assert (alone["api_server_held_more"], alone["engine_held_more"], alone["held_alike"]) == (1.0, 0.0, 0.0)
    together = read(held, run)
    assert (together["api_server_held"], together["api_server_held_more"], together["held_alike"]) == (0.75, 0, 0.75)


def test_what_the_kernel_does_not_say_is_unknown() -> None:
    """Without its account of waiting for a core, only being stopped is known; one that went away tells nothing."""
    said = read({ENGINE: "TTRR", TP0: "SS-"}, {ENGINE: None, TP0: (1, 0)})
    assert (said["engine_stopped"], said["engine_held"], said["engine_waits_for_core"]) == (0.5, None, None)
    assert (said["worker_held"], said["engine_held_more"], said["held_alike"]) == (None, None, None)
    assert list(core_time.read({}, BRIEF)) == []


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """A process that computes, one that sleeps, one that is stopped."""
    argv = ([sys.executable, "-c", "while True: pass"], ["sleep", "600"], ["sleep", "600"])
    started = [subprocess.Popen(one) for one in argv]
    os.kill(started[2].pid, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while (seen := proc.stat(started[2].pid)) is None or seen.state != "T":
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield started
    for child in started:
        child.kill()
        child.wait()


async def test_real_processes(children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    """All declared facts are given; the stopped one is held all the time, the sleeper never."""
    monkeypatch.setattr(core_time, "LOOKS", 10)
    known = []
    for child, role in zip(children, ("api_server", "engine_core", "worker"), strict=True):
        seen = proc.stat(child.pid)
        assert seen is not None
        told = {"pid": child.pid, "ppid": seen.ppid, "started_at": seen.started_at, "role": role, "name": role}
        known.append(ProcessInfo.model_validate(told))
    async with scene("http://127.0.0.1:9", inventory=Inventory(at=0, local=True, processes=tuple(known))) as where:
        fetched = await core_time.fetch(where, NoParams())
    assert fetched.outcome is Outcome.OK
    found = list(core_time.read(fetched.files, BRIEF))
    assert {fact.name for fact in found} == {spec.name for spec in core_time.STEP.facts}
    said = values(found)
    assert (said["worker_stopped"], said["engine_stopped"], said["engine_on_core"]) == (1.0, 0.0, 0.0)
    assert said["engine_held_more"] == -1.0
    ran, waited = said["api_server_on_core"], said["api_server_waits_for_core"]
    assert isinstance(ran, float)
    assert isinstance(waited, float)
    assert ran + waited > 0


async def test_nothing_is_known_of_a_server_elsewhere() -> None:
    """It says so, and where to run it."""
    far = Inventory(at=0, local=False, processes=(ProcessInfo(pid=1, ppid=0, started_at=1.0, role="worker", name="W"),))
    for inventory, word in ((None, "never seen"), (far, "another host")):
        async with scene("http://127.0.0.1:9", inventory=inventory) as where:
            fetched = await core_time.fetch(where, NoParams())
        assert fetched.outcome is Outcome.SKIPPED
        assert word in fetched.reason
