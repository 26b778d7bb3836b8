"""What may a process of the server run short of? Its core, which others compute on, file descriptors, processor time.

One asynchronous context manager each; everything is given back afterwards. Nothing here needs to be root.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pathlib
import resource
import time
from collections.abc import AsyncIterator

from bench.faults import bystanders

LONGEST_S = 600.0


@contextlib.asynccontextmanager
async def squeezed(pid: int, others: int) -> AsyncIterator[None]:
    """All threads of the process get one core between them, and so many other processes compute on it without end."""
    kept = {thread: os.sched_getaffinity(thread) for thread in _threads(pid)}
    core = max(kept[pid])
    context = multiprocessing.get_context("spawn")
    neighbours = [context.Process(target=_compute, args=(core, LONGEST_S), daemon=True) for _ in range(others)]
    for neighbour in neighbours:
        neighbour.start()
    _bind({thread: {core} for thread in kept})
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.terminate()
            neighbour.join(10)
        _bind({thread: kept.get(thread, kept[pid]) for thread in _threads(pid)})


@contextlib.asynccontextmanager
async def exhausted(pid: int, url: str, clients: int) -> AsyncIterator[None]:
    """The process can open no more files than it has open now, and that many idle clients ask for the next one."""
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, usual[1]))
    try:
        async with bystanders.connected(url, clients):
            yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


@contextlib.asynccontextmanager
async def limited(pid: int, seconds: float) -> AsyncIterator[None]:
    """The process may use so much more processor time; then the kernel sends it SIGXCPU, of which it dies."""
    usual = {what: resource.prlimit(pid, what) for what in (resource.RLIMIT_CPU, resource.RLIMIT_CORE)}
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, usual[resource.RLIMIT_CORE][1]))  # it would write gigabytes
    resource.prlimit(pid, resource.RLIMIT_CPU, (round(used + seconds), usual[resource.RLIMIT_CPU][1]))
    try:
        yield
    finally:
        for what, limits in usual.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, what, limits)


def _threads(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(entry.name) for entry in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return []


def _bind(cores: dict[int, set[int]]) -> None:
    for thread, allowed in cores.items():
        with contextlib.suppress(ProcessLookupError):  # threads come and go
            os.sched_setaffinity(thread, allowed)


def _compute(core: int, longest_s: float) -> None:
    limit = time.monotonic() + longest_s
    # A session of its own: where the kernel shares the processor out by session first, each takes a whole share.
    os.setsid()
    os.sched_setaffinity(0, {core})
    while time.monotonic() < limit:
        sum(range(10_000))
