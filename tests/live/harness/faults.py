"""How is a fault made, and undone? Async context managers: the fault holds inside, and is over afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from tests.live.harness.vllm_server import VllmServer

Fault = Callable[[VllmServer], AbstractAsyncContextManager[None]]
PidOf = Callable[[VllmServer], int]


@contextlib.asynccontextmanager
async def nothing(server: VllmServer) -> AsyncIterator[None]:
    """No fault in the server; the traffic alone changes."""
    yield


def stopped(pid_of: PidOf) -> Fault:
    """The process stands still (SIGSTOP), and goes on afterwards."""

    @contextlib.asynccontextmanager
    async def hold(server: VllmServer) -> AsyncIterator[None]:
        pid = pid_of(server)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    return hold


def killed(pid_of: PidOf) -> Fault:
    """The process is gone (kill -9); nobody brings it back."""

    @contextlib.asynccontextmanager
    async def hold(server: VllmServer) -> AsyncIterator[None]:
        os.kill(pid_of(server), signal.SIGKILL)
        yield

    return hold


def slowed(pid_of: PidOf, *, stopped_share: float, period_s: float = 0.05) -> Fault:
    """The process runs only part of the time: an accelerator that clocks down or is shared with a neighbour."""

    async def stutter(pid: int) -> None:
        try:
            while True:
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(period_s * stopped_share)
                os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(period_s * (1 - stopped_share))
        except ProcessLookupError:
            return  # the server died under us: nothing left to slow

    @contextlib.asynccontextmanager
    async def hold(server: VllmServer) -> AsyncIterator[None]:
        pid = pid_of(server)
        task = asyncio.create_task(stutter(pid), name="faults.stutter")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    return hold


def stalling(pid_of: PidOf, *, stop_s: float, every_s: float) -> Fault:
    """The process stands still for `stop_s` every `every_s`: a few requests are far slower than the rest."""
    return slowed(pid_of, stopped_share=stop_s / every_s, period_s=every_s)


@contextlib.asynccontextmanager
async def restarted(server: VllmServer) -> AsyncIterator[None]:
    """A graceful restart on the same port, as a deploy does it; over when it serves again."""
    await asyncio.to_thread(server.terminate)
    server.launch()  # not in a thread: Linux would end the server together with the thread that started it
    await asyncio.to_thread(server.wait_until_up)
    yield


def engine_core(server: VllmServer) -> int:
    """Pid of the engine."""
    return server.engine_core


def worker(server: VllmServer) -> int:
    """Pid of the worker."""
    return server.worker


def last_worker(server: VllmServer) -> int:
    """Pid of the last rank's worker."""
    return server.last_worker


def api_server(server: VllmServer) -> int:
    """Pid of the front end."""
    return server.api_server
