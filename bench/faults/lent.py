"""Who else has the server's processes or its GPU? A tracer that holds threads, programs that compute now and then.

One asynchronous context manager each; both are processes of their own that end with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence

from tests.live.harness import find, processes

TRACER_READY_S = 20.0
TENANT_READY_S = 60.0
TENANT = """
import pathlib, sys, time
import torch
matrix = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
done = torch.cuda.Event(blocking=True)  # waits for the GPU without a core of its own
matrix @ matrix
torch.cuda.synchronize()
mine, go = map(pathlib.Path, sys.argv[1:])
mine.touch()
limit = time.monotonic() + 600
while time.monotonic() < limit:
    if go.exists():
        for _ in range(40):
            matrix @ matrix
        done.record()
        done.synchronize()
    else:
        time.sleep(0.01)
"""


@contextlib.asynccontextmanager
async def traced(pid: int, prefix: str, hold_s: float, period_s: float, log: pathlib.Path) -> AsyncIterator[None]:
    """Threads of that name are held for `hold_s` of each `period_s`, or for good; see `bench.faults.tracer`."""
    log.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "bench.faults.tracer", str(pid), prefix, str(hold_s), str(period_s)]
    tracer = processes.start(argv, log, cwd=find.ROOT)
    try:
        async with asyncio.timeout(TRACER_READY_S):
            while "holding" not in log.read_text():
                _alive([tracer], log)
                await asyncio.sleep(0.05)
        if "holding 0\n" in log.read_text():
            raise RuntimeError(f"no thread of process {pid} is called {prefix}")
        yield
    finally:
        processes.end(tracer, patience_s=2)


@contextlib.asynccontextmanager
async def lent(count: int, hold_s: float, period_s: float, folder: pathlib.Path) -> AsyncIterator[None]:
    """So many programs have memory of the server's GPU, and compute on it together: `hold_s` long every `period_s` on
    average, never regularly."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log, go = folder / "tenants.log", folder / "go"
    ready = [folder / f"ready-{number}" for number in range(count)]
    tenants = [processes.start([find.vllm_python(), "-c", TENANT, str(mine), str(go)], log) for mine in ready]
    task: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(TENANT_READY_S):
            while not all(mine.exists() for mine in ready):
                _alive(tenants, log)
                await asyncio.sleep(0.1)
        task = asyncio.create_task(_now_and_then(go, hold_s, period_s), name="lent.now_and_then")
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for tenant in tenants:
            processes.end(tenant, patience_s=2)


async def _now_and_then(go: pathlib.Path, hold_s: float, period_s: float) -> None:
    when = random.Random(f"{hold_s} {period_s}")  # the same moments in each experiment
    while True:
        # Between a fifth and nine fifths as long as on average.
        await asyncio.sleep((period_s - hold_s) * (0.2 + 1.6 * when.random()))
        go.touch()
        await asyncio.sleep(hold_s * (0.2 + 1.6 * when.random()))
        go.unlink(missing_ok=True)


def _alive(children: Sequence[subprocess.Popen[bytes]], log: pathlib.Path) -> None:
    if any(child.poll() is not None for child in children):
        raise RuntimeError(f"it ended at once: {log.read_text()[-500:]}")
