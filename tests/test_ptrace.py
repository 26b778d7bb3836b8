"""Is no process left stopped by a tool that looked into it, and none touched that is not ours?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from responder import proc, ptrace
from responder.model import Inventory, ProcessInfo


@pytest.fixture
def child() -> Iterator[ProcessInfo]:
    """A process that sleeps."""
    it = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"],
                          stdout=subprocess.PIPE)  # fmt: skip
    assert it.stdout is not None
    it.stdout.readline()
    seen = proc.stat(it.pid)
    assert seen is not None
    yield ProcessInfo(pid=it.pid, ppid=seen.ppid, started_at=seen.started_at, role="worker", name="W", rank=0)
    it.kill()
    it.communicate()


def reaches(pid: int, states: str) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        seen = proc.stat(pid)
        if seen and seen.state in states:
            return True
        time.sleep(0.005)
    return False


async def test_a_process_left_stopped_is_set_going(child: ProcessInfo) -> None:
    """And it is said, because a woken engineer must know that we touched it."""
    os.kill(child.pid, signal.SIGSTOP)
    assert reaches(child.pid, "T")
    assert await ptrace.left_stopped(child) == f"W (pid {child.pid}) was left stopped and was continued"
    assert reaches(child.pid, "SR")


async def test_a_running_process_gets_no_signal(child: ProcessInfo) -> None:
    """Nothing to say, nothing done."""
    assert await ptrace.left_stopped(child) == ""


async def test_another_process_under_the_number_is_left_alone(child: ProcessInfo) -> None:
    """A recycled pid belongs to somebody else, stopped or not."""
    os.kill(child.pid, signal.SIGSTOP)
    assert reaches(child.pid, "T")
    assert await ptrace.left_stopped(child.model_copy(update={"started_at": 5.0})) == ""
    assert reaches(child.pid, "T")


def test_candidates_are_alive_and_in_order(child: ProcessInfo) -> None:
    """Workers before the engine; a dead one is none."""
    dead = child.model_copy(update={"started_at": 5.0, "rank": 1})
    engine = child.model_copy(update={"role": "engine_core", "rank": None})
    known = Inventory(at=0, local=True, processes=(engine, dead, child))
    assert ptrace.candidates(known, ("worker", "engine_core")) == [child, engine]
    assert ptrace.candidates(known, ("worker",), rank=1) == []


def test_complaints_are_the_tools_own_words() -> None:
    """A deadline, a cause, or the bare exit code."""
    assert ptrace.complaint(None, b"", 3.0) == "no answer within 3 s"
    assert ptrace.complaint(1, b"Process 12: x\nPermission Denied: y\n", 3.0) == "Permission Denied: y"
    assert ptrace.complaint(7, b"", 3.0) == "exit 7"
    assert "CAP_SYS_PTRACE" in ptrace.hint(["Permission Denied"])
    assert ptrace.hint(["Bad address"]) == ""


def test_doctor_does_not_promise_what_cannot_run() -> None:
    """No processes, another host, no program: each in words; a step that traces asks before it says yes."""
    from responder.capture import STEPS
    from responder.model import Inventory, ProcessInfo
    from responder.ptrace import cannot

    one = ProcessInfo(pid=1, ppid=0, started_at=1.0, role="worker", name="w")
    assert "never seen alive" in cannot(None, "gdb")
    assert "no processes known" in cannot(Inventory(at=0, local=True), "py-spy")
    assert "another host" in cannot(Inventory(at=0, local=False, processes=(one,)), "gdb")
    assert "not installed" in cannot(Inventory(at=0, local=True, processes=(one,)), "no-such-tracer")
    assert cannot(Inventory(at=0, local=True, processes=(one,)), "py-spy") == ""
    for name in ("stacks_blocking", "stacks_native", "flame_graph", "gdb", "gcore"):
        assert STEPS[name].ready is not None
