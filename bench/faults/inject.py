"""What is done to a server? One asynchronous context manager per kind: it holds inside, and is over afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pathlib
import shutil
import signal
import time
from collections.abc import AsyncIterator, Sequence

import aiohttp

from bench.faults import bystanders, lent, scarce
from bench.faults.scenario import Injection
from tests.live.harness import faults, find, processes
from tests.live.harness.vllm_server import VllmServer

CROWD_READY_S = 60.0
PIDS = {
    "worker": faults.worker,
    "last_worker": faults.last_worker,
    "engine_core": faults.engine_core,
    "api_server": faults.api_server,
}


@contextlib.asynccontextmanager
async def injected(injections: Sequence[Injection], server: VllmServer, switch: pathlib.Path) -> AsyncIterator[None]:
    """All of them at once. `switch` is the file a planted defect looks at."""
    async with contextlib.AsyncExitStack() as stack:
        for injection in injections:
            await stack.enter_async_context(_timed(injection, server, switch))
        yield


def _timed(what: Injection, server: VllmServer, switch: pathlib.Path) -> contextlib.AbstractAsyncContextManager[None]:
    """From the beginning to the end, unless it says otherwise."""
    if what.after_s == 0 and what.lasts_s is None:
        return _one(what, server, switch)
    return bystanders.in_spells(lambda: _one(what, server, switch), what.after_s, what.lasts_s, what.every_s)


def _one(what: Injection, server: VllmServer, switch: pathlib.Path) -> contextlib.AbstractAsyncContextManager[None]:
    pid_of = PIDS[what.process]
    match what.kind:
        case "stop":
            return faults.stopped(pid_of)(server)
        case "kill":
            return _killed(pid_of(server), signal.Signals[f"SIG{what.signal}"])
        case "stutter":
            return faults.slowed(pid_of, stopped_share=what.stopped_share, period_s=what.period_s)(server)
        case "restart":
            return faults.restarted(server) if what.signal == "TERM" else _crashed(server)
        case "profile":
            return _profiled(server, what.hold_s)
        case "plant":
            return _planted(switch, what.plant)
        case "burn":
            return _burned(what.cores)
        case "crowd":
            return _crowded(what.cores, switch.with_name("crowd"))
        case "pause":
            return _paused(server)
        case "freeze":
            return bystanders.frozen(pid_of(server), what.hold_s)
        case "ask":
            return bystanders.asking(server.url, what)
        case "connect":
            return bystanders.connected(server.url, what.clients)
        case "linger":
            return bystanders.lingering(server.url, what.clients)
        case "hiccup":
            return bystanders.hiccuping(pid_of(server), what.hold_s, what.period_s)
        case "throttle":
            pids = [server.api_server, server.engine_core, server.worker]
            return bystanders.throttled(pids, what.stopped_share, what.period_s)
        case "squeeze":
            return scarce.squeezed(pid_of(server), what.cores)
        case "exhaust":
            return scarce.exhausted(server.api_server, server.url, what.clients)
        case "limit":
            return scarce.limited(pid_of(server), what.hold_s)
        case "trace":
            log = switch.with_name(f"tracer-{what.process}.log")
            return lent.traced(pid_of(server), what.thread, what.hold_s, what.period_s, log)
        case "lend":
            return lent.lent(what.cores, what.hold_s, what.period_s, switch.with_name("lent"))
        case "knock":
            return bystanders.knocking(server.url, what.per_second)


@contextlib.asynccontextmanager
async def _killed(pid: int, number: signal.Signals) -> AsyncIterator[None]:
    os.kill(pid, number)
    yield


@contextlib.asynccontextmanager
async def _crashed(server: VllmServer) -> AsyncIterator[None]:
    """The front end dies, and a supervisor starts the server anew."""
    os.kill(server.api_server, signal.SIGKILL)
    await asyncio.sleep(3)
    server.end()
    server.launch()
    await asyncio.to_thread(server.wait_until_up)
    yield


@contextlib.asynccontextmanager
async def _profiled(server: VllmServer, seconds: float) -> AsyncIterator[None]:
    """Somebody profiles `seconds` and has it written out; both go on without us until the fault is over."""

    async def profile() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=240)) as http:
            await http.post(f"{server.url}/start_profile")
            await asyncio.sleep(seconds)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                await http.post(f"{server.url}/stop_profile")

    task = asyncio.create_task(profile(), name="inject.profile")
    try:
        yield
    finally:
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _paused(server: VllmServer) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        await http.post(f"{server.url}/pause", params={"mode": "keep"})
        try:
            yield
        finally:
            await http.post(f"{server.url}/resume")


@contextlib.asynccontextmanager
async def _planted(switch: pathlib.Path, text: str) -> AsyncIterator[None]:
    switch.write_text(text)
    try:
        yield
    finally:
        switch.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def _burned(cores: int) -> AsyncIterator[None]:
    """A neighbour computes on every core: processes of higher priority that never sleep."""
    context = multiprocessing.get_context("spawn")
    burners = [context.Process(target=_burn, args=(600.0,), daemon=True) for _ in range(cores)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.terminate()
            burner.join(10)


CROWD = """
import pathlib, sys, time
import torch
matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
matrix @ matrix
torch.cuda.synchronize()
mine, go = map(pathlib.Path, sys.argv[1:])
mine.touch()
limit = time.monotonic() + 600
while time.monotonic() < limit:
    if go.exists():
        for _ in range(4):
            matrix @ matrix
        torch.cuda.synchronize()
    else:
        time.sleep(0.02)
"""


@contextlib.asynccontextmanager
async def _crowded(count: int, folder: pathlib.Path) -> AsyncIterator[None]:
    """Other processes compute on the server's GPU: matrix products without a pause. All begin at the same moment."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ready = [folder / f"ready-{number}" for number in range(count)]
    neighbours = [
        processes.start([find.vllm_python(), "-c", CROWD, str(mine), str(folder / "go")], folder / "neighbour.log")
        for mine in ready
    ]
    try:
        async with asyncio.timeout(CROWD_READY_S):
            while not all(mine.exists() for mine in ready):
                if any(neighbour.poll() is not None for neighbour in neighbours):
                    raise RuntimeError(f"no neighbour on the GPU: {(folder / 'neighbour.log').read_text()[-500:]}")
                await asyncio.sleep(0.1)
        (folder / "go").touch()
        yield
    finally:
        for neighbour in neighbours:
            processes.end(neighbour, patience_s=2)


def _burn(longest_s: float) -> None:
    limit = time.monotonic() + longest_s
    # Where the kernel shares the processor out by session first (autogroup), a priority counts within a session alone:
    # each in its own takes a whole share.
    os.setsid()
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    while time.monotonic() < limit:
        sum(range(10_000))
