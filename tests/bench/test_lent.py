"""Threads that a tracer holds stand still and go on; who is lent the GPU computes now and then."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.faults import lent
from tests.live.harness import find

TWO_THREADS = """
import ctypes, threading, time
def other():
    ctypes.CDLL(None).prctl(15, b"Errand/1", 0, 0, 0)
    time.sleep(60)
threading.Thread(target=other, daemon=True).start()
time.sleep(60)
"""


@pytest.fixture
def child() -> Iterator[int]:
    """A process of two threads that sleep, one of them called Errand/1."""
    process = subprocess.Popen([sys.executable, "-c", TWO_THREADS])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait(10)


def states(pid: int) -> dict[str, str]:
    """What each thread does, by its name."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text()
        found[(task / "comm").read_text().strip()] = fields.rpartition(")")[2].split()[0]
    return found


async def until(pid: int, wanted: set[str]) -> None:
    """States of all threads are these."""
    async with asyncio.timeout(20):
        while set(states(pid).values()) != wanted or len(states(pid)) != 2:
            await asyncio.sleep(0.001)


async def test_only_threads_of_that_name_are_held(child: int, tmp_path: Path) -> None:
    """The process goes on, but for that one; afterwards that one does, too."""
    await until(child, {"S"})
    async with lent.traced(child, "Errand", 1.0, 0.0, tmp_path / "log"):
        await until(child, {"S", "t"})
        assert states(child)["Errand/1"] == "t"
    await until(child, {"S"})


async def test_all_are_held_again_and_again(child: int, tmp_path: Path) -> None:
    """And nobody traces it in between, so that others may."""
    await until(child, {"S"})
    async with lent.traced(child, "", 0.1, 0.2, tmp_path / "log"):
        for wanted in ({"t"}, {"S"}, {"t"}, {"S"}):
            await until(child, wanted)
    os.kill(child, 0)
    await until(child, {"S"})


async def test_no_such_thread_is_no_fault(child: int, tmp_path: Path) -> None:
    """It is not taken for one that was made."""
    with pytest.raises(RuntimeError, match="no thread"):
        async with lent.traced(child, "Nobody", 1.0, 0.0, tmp_path / "log"):
            pass


async def test_tenants_compute_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from the beginning, not all the time, and not afterwards."""
    tenant = "import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\ntime.sleep(60)"
    monkeypatch.setattr(lent, "TENANT", tenant)
    monkeypatch.setattr(find, "vllm_python", lambda: sys.executable)
    go = tmp_path / "lent" / "go"
    async with lent.lent(2, 0.05, 0.1, tmp_path / "lent"), asyncio.timeout(20):
        for wanted in (False, True, False, True):
            while go.exists() is not wanted:
                await asyncio.sleep(0.001)


async def test_a_tenant_that_ends_at_once_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a GPU, say."""
    monkeypatch.setattr(lent, "TENANT", "raise SystemExit('no GPU here')")
    monkeypatch.setattr(find, "vllm_python", lambda: sys.executable)
    with pytest.raises(RuntimeError, match="no GPU here"):
        async with lent.lent(1, 0.05, 0.1, tmp_path / "lent"):
            pass
