"""What a process is made to run short of is short while it lasts, and given back afterwards."""

from __future__ import annotations

import contextlib
import os
import resource
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


async def test_descriptors_are_those_that_are_open(child: int) -> None:
    """The limit is at the highest one, and where it was afterwards."""
    usual = resource.prlimit(child, resource.RLIMIT_NOFILE)
    async with scarce.exhausted(child, "http://127.0.0.1:9", 0):
        soft, hard = resource.prlimit(child, resource.RLIMIT_NOFILE)
        with contextlib.suppress(FileNotFoundError):
            assert soft == 1 + max(int(name) for name in os.listdir(f"/proc/{child}/fd"))
        assert hard == usual[1]
    assert resource.prlimit(child, resource.RLIMIT_NOFILE) == usual
