"""Do gdb, gcore and the flame graph bring what they promise from a real process, and leave it running?"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from responder import flame, proc, ptrace, pyspy
from responder.capture import flame_graph, gcore, gdb
from responder.capture.step import Command, Fetched, Scene
from responder.model import Inventory, Outcome, ProcessInfo
from responder.runner import LocalRunner
from tests.doubles import BRIEF, scene

needs_gdb = pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")
WAITS = "import queue; print(1, flush=True); queue.Queue().get()"
BUSY = "print(1, flush=True)\ndef spin():\n  while True: sum(range(200))\nspin()"


def start(code: str) -> Iterator[Inventory]:
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    seen = proc.stat(child.pid)
    assert seen is not None
    worker = ProcessInfo(pid=child.pid, ppid=1, started_at=seen.started_at, role="worker", name="W", rank=0)
    yield Inventory(at=0, local=True, processes=(worker,))
    child.kill()
    child.communicate()


@pytest.fixture
def waiting() -> Iterator[Inventory]:
    """A worker below a C call."""
    yield from start(WAITS)


@pytest.fixture
def busy() -> Iterator[Inventory]:
    """A worker that computes in Python."""
    yield from start(BUSY)


async def fetch(step: ModuleType, params: type, known: Inventory | None, **given: object) -> Fetched:
    async with scene(inventory=known, runner=LocalRunner()) as where:  # type: ignore[arg-type]
        return await step.fetch(where, params.model_validate(given))  # type: ignore[attr-defined, no-any-return]


def runs(known: Inventory) -> bool:
    return all(thread.state not in proc.STOPPED for thread in proc.threads(known.processes[0].pid).values())


@needs_gdb
async def test_gdb_tells_what_native_threads_wait_for(waiting: Inventory) -> None:
    """A thread that waits for a queue stands in a lock of libc."""
    fetched = await fetch(gdb, gdb.Whom, waiting, deadline_s=30)
    assert fetched.outcome is Outcome.OK, fetched.reason
    found = list(gdb.read(fetched.files, BRIEF))
    assert {fact.name for fact in found} == {spec.name for spec in gdb.STEP.facts}
    assert {fact.name: fact.value for fact in found}["gdb.stands_in"] == "lock"
    assert fetched.pause_seconds > 0
    assert runs(waiting)


@needs_gdb
async def test_gdb_leaves_pure_python_alone(busy: Inventory) -> None:
    """What Python's own stack explains is not worth a stop."""
    fetched = await fetch(gdb, gdb.Whom, busy)
    if fetched.outcome is not Outcome.SKIPPED:  # a torn first dump makes it a case for gdb
        pytest.skip("the stack could not be read without stopping")
    assert "below its last Python frame" in fetched.reason


async def test_gdb_that_hangs_is_killed_and_its_target_goes_on(
    waiting: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A debugger that stops its target and never ends."""
    pid = waiting.processes[0].pid
    tool = tmp_path / "gdb"
    tool.write_text(f"#!/bin/sh\nkill -STOP {pid}; exec sleep 600\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fetched = await fetch(gdb, gdb.Whom, waiting, deadline_s=3)
    assert fetched.outcome is Outcome.FAILED
    assert "was killed" in fetched.reason
    assert "was continued" in fetched.reason
    assert runs(waiting)


RECORDED = """
Thread 2 (Thread 0x7f01 (LWP 12) "worker"):
#0  0x00007f in syscall () from libc.so
#1  0x00007f in ncclGroupEnd () from libnccl.so

Thread 1 (Thread 0x7f02 (LWP 11) "python"):
#0  __futex_abstimed_wait () from libc.so
#1  0x00007f in PyThread_acquire_lock_timed () from libpython
"""


def test_the_most_telling_place_counts() -> None:
    """One thread in NCCL says more than many in locks."""
    meta = {"processes": [{"pid": 11, "name": "W"}]}
    files = {gdb.META: json.dumps(meta).encode(), "gdb-11.txt": RECORDED.encode()}
    found = {fact.name: fact for fact in gdb.read(files, BRIEF)}
    assert found["gdb.in_nccl"].value == 1
    assert found["gdb.stands_in"].value == "nccl"
    assert found["gdb.threads"].says == "1 nccl, 1 lock"


# ---------------------------------------------------------------------------------------------------------- gcore


@needs_gdb
async def test_gcore_writes_beside_the_server_only(waiting: Inventory, tmp_path: Path) -> None:
    """The core is its owner's alone, and not in the evidence."""
    fetched = await fetch(gcore, gcore.CoreOf, waiting, role="worker", folder=str(tmp_path))
    assert fetched.outcome is Outcome.OK, fetched.reason
    assert set(fetched.files) == {gcore.META}
    found = {fact.name: fact.value for fact in gcore.read(fetched.files, BRIEF)}
    core = Path(str(found["gcore.path"]))
    assert core.stat().st_size == found["gcore.bytes"]
    assert stat.S_IMODE(core.stat().st_mode) == 0o600
    assert runs(waiting)


@pytest.mark.parametrize(
    ("size", "free", "why"),
    [
        (2 << 30, 4 << 30, "a core is only written with 5.0 GiB"),
        (20 << 30, 900 << 30, "this call allows 16 GiB"),
        (None, 1 << 40, "cannot be seen"),
        (1 << 30, None, "cannot be seen"),
        (1 << 30, 4 << 30, ""),
    ],
)
def test_gcore_preflight(size: int | None, free: int | None, why: str) -> None:
    """Room for twice the core and a GiB to spare, and no more than was allowed."""
    said = gcore.refusal(size, free, gcore.CoreOf())
    assert (why in said) if why else said == ""


async def test_gcore_refused_leaves_no_file(
    waiting: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Denied is told with its reason, and nothing was written."""
    monkeypatch.setattr(gcore.shutil, "which", lambda name: f"/usr/bin/{name}")
    fetched = await fetch(gcore, gcore.CoreOf, waiting, role="worker", folder=str(tmp_path), max_gib=0.0001)
    assert fetched.outcome is Outcome.DENIED
    assert list(tmp_path.iterdir()) == []


def test_half_a_core_of_an_earlier_life_is_known_by_whose_and_when(tmp_path: Path) -> None:
    """Of this server, begun when the step was; everybody else's and older ones stay."""
    for name in ("responder-core-1000.7", "responder-core-1000.8", "responder-core-500.7", "core.7"):
        (tmp_path / name).write_bytes(b"x")
    assert gcore.remove_half({"folder": str(tmp_path)}, {7}, 998.4) == [str(tmp_path / "responder-core-1000.7")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "core.7", "responder-core-1000.8", "responder-core-500.7",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- flame graph


async def test_flame_graph_of_a_busy_process(busy: Inventory) -> None:
    """One recording becomes a speedscope file, an SVG and the function at the top."""
    fetched = await fetch(flame_graph, flame_graph.What, busy, role="worker", seconds=2)
    assert fetched.outcome is Outcome.OK, fetched.reason
    assert set(fetched.files) == {flame_graph.SPEEDSCOPE, flame_graph.SVG}
    assert fetched.files[flame_graph.SVG].startswith(b"<svg ")
    found = {fact.name: fact.value for fact in flame_graph.read(fetched.files, BRIEF)}
    assert set(found) == {spec.name for spec in flame_graph.STEP.facts}
    assert str(found["flame_graph.top"]).startswith("spin (")
    assert runs(busy)


async def test_flame_graph_leaves_a_stopped_process_alone(busy: Inventory) -> None:
    """There is nothing to record, and it stays stopped: that is evidence."""
    pid = busy.processes[0].pid
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while (seen := proc.stat(pid)) and seen.state != "T":
        assert time.monotonic() < deadline
    fetched = await fetch(flame_graph, flame_graph.What, busy, role="worker")
    assert fetched.outcome is Outcome.SKIPPED
    seen = proc.stat(pid)
    assert seen is not None
    assert seen.state == "T"


def speedscope(*stacks: tuple[list[str], float]) -> bytes:
    names = sorted({name for stack, _ in stacks for name in stack})
    samples = [[names.index(name) for name in stack] for stack, _ in stacks]
    profile = {"samples": samples, "weights": [weight for _, weight in stacks]}
    return json.dumps({"shared": {"frames": [{"name": name} for name in names]}, "profiles": [profile]}).encode()


def test_shares_of_a_recording() -> None:
    """By hand: 3 of 4 in b below a, 1 in c."""
    got = flame.read_speedscope(speedscope((["top", "a", "b"], 3.0), (["top", "c"], 1.0)))
    assert got is not None
    assert got.innermost == (("b", 0.75), ("c", 0.25))
    assert flame.share_of(got, "a") == 0.75
    picture = flame.svg(got, "<x> & y").decode()
    assert "b - 75.0%" in picture
    assert "&lt;x&gt; &amp; y" in picture
    assert "<script" not in picture


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[1]", b'{"shared":{"frames":[]},"profiles":[{"samples":[[9]],"weights":[1]}]}']
)
def test_a_broken_recording_is_none(raw: bytes) -> None:
    """No picture of nothing."""
    assert flame.read_speedscope(raw) is None


# ------------------------------------------------------------------------------------------------------- broken off


class Cut:
    """A runner whose tracer is killed in the middle: its target stands still, and half a core lies there."""

    def __init__(self, known: Inventory, folder: Path) -> None:
        self.pid, self.folder = known.processes[0].pid, folder
        self.begun = asyncio.Event()

    async def run(self, argv: Sequence[str], *, timeout: float, max_bytes: int = 0) -> Command:
        if "--nonblocking" in argv and "dump" in argv:
            return Command(1, b"", b"no", 0.0, False)
        os.kill(self.pid, signal.SIGSTOP)
        while all(thread.state not in proc.STOPPED for thread in proc.threads(self.pid).values()):
            await asyncio.sleep(0.001)
        for core in self.folder.glob("responder-core-*"):
            core.write_bytes(b"half of it")
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError


async def dumped(where: Scene, _: object) -> object:
    assert where.inventory is not None
    how = pyspy.Dumping(where.runner, "py-spy", (), rounds=1, apart_s=0.0, budget_s=9.0, timeout_s=9.0)
    return await pyspy.dump_all(how, where.inventory.processes)


@pytest.mark.parametrize(
    ("fetching", "params"),
    [
        (gdb.fetch, gdb.Whom()),
        (flame_graph.fetch, flame_graph.What(role="worker")),
        (gcore.fetch, gcore.CoreOf(role="worker")),
        (dumped, None),
    ],
)
async def test_a_tracer_that_is_broken_off_leaves_its_target_running(
    waiting: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetching: Any, params: Any
) -> None:
    """The capture is ended because it hurts, or we are stopped: nothing stands still, and no half a core is left."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(ptrace, "find_tool", lambda: "/usr/bin/py-spy")
    monkeypatch.setattr(gcore, "refusal", lambda *_: "")
    if params is not None and "folder" in type(params).model_fields:
        params = params.model_copy(update={"folder": str(tmp_path)})
    runner = Cut(waiting, tmp_path)
    async with scene(inventory=waiting, runner=runner) as where:
        work = asyncio.create_task(fetching(where, params))
        async with asyncio.timeout(30):
            await runner.begun.wait()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    assert work.cancelled()
    assert runs(waiting)
    assert list(tmp_path.iterdir()) == []
