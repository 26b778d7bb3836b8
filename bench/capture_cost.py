"""What does each capture cost the server's users? One table: per step the time, the pause users see, TTFT, bytes.

    python -m bench.capture_cost [rounds=3] [steps=stacks,canary,…] [rate=4] [url=http://host:8000] [unsafe=no]

Without `url` a vLLM is started here, on CPU and safely; with it, any running server is measured: the way
to use it on a GPU machine, where the server is started by hand. Every step runs `rounds` times under a steady load
of real streams, measured before and after each run, too. A control row runs nothing at all: what
it shows is the server's own jitter. `unsafe=yes` also starts a server with vLLM's default profiler options, where the
torch profiler must refuse: 0 s of outage.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from bench import machine
from responder import inventory
from responder.allowance import Allowance
from responder.byhand import Hand, capture
from responder.capture import STEPS
from responder.model import CapturePolicy, Target
from responder.obligations import Obligations
from responder.runner import LocalRunner
from responder.store_sqlite import SqliteStore
from tests.live.harness import scenarios
from tests.live.harness.load import Call, Load, Traffic, quantile
from tests.live.harness.vllm_server import VllmServer

BESIDE_S = 5.0
"""Measured before and after each run."""
DEFAULT_STEPS = ("endpoints", "scrape", "server_config", "log_tail", "processes", "kernel", "gpu", "system", "stacks",
                 "canary", "stacks_blocking", "stacks_native", "flame_graph", "gdb", "torch_profiler")  # fmt: skip
SAFE = {"profiler": "torch", "torch_profiler_with_stack": False, "ignore_frontend": True, "max_iterations": 5,
        "torch_profiler_dump_cuda_time_total": False}  # fmt: skip


@dataclass
class Row:
    """One step, all rounds."""

    step: str
    outcomes: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    gaps: tuple[list[float], list[float], list[float]] = field(default_factory=lambda: ([], [], []))
    """Longest gap between two tokens of any client: before, during, after."""
    ttfts: tuple[list[float], list[float], list[float]] = field(default_factory=lambda: ([], [], []))
    bytes: int = 0
    says: str = ""


async def measure(row: Row, load: Load, work: Callable[[], Any]) -> None:
    """Before, during and after one run of `work`; requests count where they began, gaps where they ended."""
    marks = [time.time()]
    await asyncio.sleep(BESIDE_S)
    marks.append(time.time())
    await work()
    marks.append(time.time())
    await asyncio.sleep(BESIDE_S)
    marks.append(time.time())
    for part in range(3):
        since, until = marks[part], marks[part + 1]
        row.ttfts[part].extend(c.ttft for c in load.calls if c.ttft is not None and since <= c.at < until)
        row.gaps[part].append(max((g for c in load.calls for g in ended(c, since, until)), default=0.0))


def ended(call: Call, since: float, until: float) -> list[float]:
    """The gaps of one request that ended in a stretch of time; while it still waits, the wait so far."""
    at, found = call.at + (call.ttft or 0.0), []
    for gap in call.gaps:
        at += gap
        if since <= at < until:
            found.append(gap)
    return found


async def run(url: str, folder: pathlib.Path, steps: list[str], rounds: int, rate: float) -> list[Row]:
    """Every step under load."""
    policy = CapturePolicy(max_rung=3, last_replica=True, cpu_load=1e6, heavy_per_hour=10_000, abort_after=10.0)
    target = Target(name="t", url=url, capture=policy)
    store = SqliteStore(folder / "data")
    store.open()
    rows = []
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http:
            duties = Obligations(store, http, folder / "data" / "obligations")
            allowance = Allowance(store, time.time, lambda: {"t": target}, set, dict)
            found = await inventory.discover(target, time.time())
            hand = Hand(steps=STEPS, http=http, runner=LocalRunner(), data_dir=folder / "data", duties=duties,
                        allowance=allowance, inventories={"t": found})  # fmt: skip
            traffic = Traffic(rate=rate, prompt_tokens=150, output_tokens=100, shared=0.0)
            async with Load(url, traffic, longest_s=3600) as load:
                await asyncio.sleep(8.0)
                rows.append(await control(load, rounds))
                print(line(rows[-1]), flush=True)
                for name in steps:
                    rows.append(await one(hand, target, name, load, rounds))
                    print(line(rows[-1]), flush=True)
            await duties.stop(patience_s=30)
    finally:
        store.close()
    return rows


async def control(load: Load, rounds: int) -> Row:
    """Nothing at all, for as long as a quick capture: the server's own jitter."""
    row = Row("(nothing)")
    for _ in range(rounds):
        await measure(row, load, lambda: asyncio.sleep(3.0))
        row.outcomes.append("ok")
        row.seconds.append(3.0)
    return row


async def one(hand: Hand, target: Target, name: str, load: Load, rounds: int) -> Row:
    """One step, so many times."""
    row = Row(name)

    async def work() -> None:
        item, _ = await capture(replace(hand, clock=time.time), target, name, {})
        row.outcomes.append(item.outcome.value)
        row.seconds.append(item.seconds)
        row.bytes = max(row.bytes, item.bytes)
        row.says = item.cost.says if item.cost else item.reason

    for _ in range(rounds):
        await measure(row, load, work)
        if row.outcomes[-1] == "skipped":
            break
    return row


HEAD = (
    f"{'step':18} {'ended':9} {'seconds':>8} {'longest gap between tokens, ms':>32} {'TTFT p50, ms':>20} "
    f"{'TTFT p99, ms':>20} {'bytes':>9}\n"
    f"{'':37} {'before / during / after':>32} {'b / d / a':>20} {'b / d / a':>20}"
)


def line(row: Row) -> str:
    """One line of the table: medians over rounds; quantiles over all requests."""
    gaps = " / ".join(f"{statistics.median(part) * 1e3:.0f}" for part in row.gaps)
    p50, p99 = (" / ".join(_ms(quantile(part, q)) for part in row.ttfts) for q in (0.5, 0.99))
    ends = ",".join(dict.fromkeys(row.outcomes))
    took = statistics.median(row.seconds)
    return f"{row.step:18} {ends:9} {took:8.2f} {gaps:>32} {p50:>20} {p99:>20} {row.bytes:>9}  {row.says}"[:260]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value * 1e3:.0f}"


def options(folder: pathlib.Path, profiler: Mapping[str, Any]) -> tuple[str, ...]:
    """Flags of a server that can be profiled."""
    return ("--profiler-config", json.dumps({**profiler, "torch_profiler_dir": str(folder / "traces")}))


def main(argv: list[str]) -> None:
    """Print the table."""
    asked = {"rounds": "3", "steps": ",".join(DEFAULT_STEPS), "rate": "4", "url": "", "unsafe": "no"}
    asked |= dict(word.split("=", 1) for word in argv)
    steps = [name for name in asked["steps"].split(",") if name in STEPS]
    rounds, rate = int(asked["rounds"]), float(asked["rate"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        if asked["url"]:
            print(f"{asked['url']}, load {rate:g} requests/s of 150 + 100 tokens\n{HEAD}")
            asyncio.run(run(asked["url"], folder, steps, rounds, rate))
            return
        print(machine.describe())
        print(f"load {rate:g} requests/s of 150 + 100 tokens\n{HEAD}")
        with VllmServer(folder, (*scenarios.ROOMY, *options(folder, SAFE))) as server:
            asyncio.run(run(server.url, folder, steps, rounds, rate))
        if asked["unsafe"] == "yes":
            print("the same server launched with vLLM's default profiler options:")
            flags = (*scenarios.ROOMY, *options(folder, {"profiler": "torch"}))
            with VllmServer(folder, flags, name="unsafe") as server:
                asyncio.run(run(server.url, folder / "unsafe", ["torch_profiler"], rounds, rate))


if __name__ == "__main__":
    main(sys.argv[1:])
