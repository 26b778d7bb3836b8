"""What a process is made to run short of is short while it lasts, and given back afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.faults import scarce


@pytest.fixture
def child() -> Iterator[int]:
    """A process that sleeps."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait(10)


async def test_a_squeezed_process_has_one_core(child: int) -> None:
    """And has those back that it had."""
    usual = os.sched_getaffinity(child)
    async with scarce.squeezed(child, 0):
        assert os.sched_getaffinity(child) == {max(usual)}
    assert os.sched_getaffinity(child) == usual


async def test_a_process_that_ends_meanwhile_is_no_failure(child: int) -> None:
    """An experiment that kills the server ends as well."""
    async with scarce.squeezed(child, 0), scarce.exhausted(child, "http://127.0.0.1:9", 0):
        os.kill(child, 9)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


async def test_processor_time_runs_out() -> None:
    """The kernel ends the process when it has used what it had left."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        async with scarce.limited(process.pid, 1.0):
            assert await asyncio.to_thread(process.wait, 60) == -signal.SIGXCPU
    finally:
        process.kill()
        process.wait(10)


async def test_processor_time_that_is_left_is_no_limit_afterwards(child: int) -> None:
    """Who has used little goes on without one."""
    usual = resource.prlimit(child, resource.RLIMIT_CPU)
    async with scarce.limited(child, 50.0):
        assert resource.prlimit(child, resource.RLIMIT_CPU)[0] in (50, 51)
    assert resource.prlimit(child, resource.RLIMIT_CPU) == usual


async def test_descriptors_are_those_that_are_open(child: int) -> None:
    """The limit is at the highest one, and where it was afterwards."""
    usual = resource.prlimit(child, resource.RLIMIT_NOFILE)
    async with scarce.exhausted(child, "http://127.0.0.1:9", 0):
        soft, hard = resource.prlimit(child, resource.RLIMIT_NOFILE)
        with contextlib.suppress(FileNotFoundError):
            assert soft == 1 + max(int(name) for name in os.listdir(f"/proc/{child}/fd"))
        assert hard == usual[1]
    assert resource.prlimit(child, resource.RLIMIT_NOFILE) == usual
