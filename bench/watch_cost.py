"""Does being watched cost the server anything? The same traffic with and without the daemon, interleaved.

    python -m bench.watch_cost [PAIRS]

"With" is the dearest form: `responder run --target` with a private Prometheus on the same machine. Both halves of a
pair get the same arrivals and lengths (with other words, so that no prefix cache helps); which half comes first is
drawn. Printed: the median of the paired differences and its 95 % bootstrap interval.
"""

from __future__ import annotations

import asyncio
import pathlib
import random
import statistics
import sys
import tempfile
from dataclasses import replace

from bench import machine
from tests.live.harness import scenarios
from tests.live.harness.daemon import Daemon
from tests.live.harness.load import Felt, Load, felt
from tests.live.harness.play import measure_capacity
from tests.live.harness.vllm_server import VllmServer

SETTLE_S, MEASURE_S = 6.0, 20.0
SHARE_OF_CAPACITY = 0.4
FIGURES = (
    ("ttft_p50", "TTFT p50", 1e3, "ms"),
    ("ttft_p99", "TTFT p99", 1e3, "ms"),
    ("tpot_p50", "TPOT p50", 1e3, "ms"),
    ("itl_p99", "ITL p99", 1e3, "ms"),
    ("tokens_per_second", "tokens/s", 1.0, ""),
)


async def main(pairs: int) -> None:
    """Measure the pairs and print each figure."""
    print(machine.describe())
    draw = random.Random(7)
    measured: list[tuple[Felt, Felt]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        with VllmServer(folder, scenarios.ROOMY) as server:
            capacity = await measure_capacity(server, scenarios.USUAL)
            traffic = replace(scenarios.USUAL, rate=SHARE_OF_CAPACITY * capacity, shared=0.0)
            print(
                f"capacity {capacity:.1f} requests/s, traffic {traffic.rate:.1f}/s, {pairs} pairs of {MEASURE_S:.0f} s"
            )
            for pair in range(pairs):
                halves: dict[bool, Felt] = {}
                for watched in draw.sample([False, True], 2):
                    load = Load(server.url, traffic, seed=pair, salt=int(watched))
                    halves[watched] = await half(load, server, folder / f"{pair}" if watched else None)
                measured.append((halves[False], halves[True]))
                print(f"  pair {pair + 1} of {pairs} done", flush=True)
    for name, title, scale, unit in FIGURES:
        print(compare(measured, name, title, scale, unit))


async def half(load: Load, server: VllmServer, folder: pathlib.Path | None) -> Felt:
    """What clients felt for `MEASURE_S`; with the daemon when there is a folder for it."""
    daemon = Daemon(folder, server.url, None, None) if folder else None
    if daemon:
        daemon.start()
    try:
        async with load:
            await asyncio.sleep(SETTLE_S)
            before = len(load.calls)
            await asyncio.sleep(MEASURE_S)
            calls = load.calls[before:]
            await load.drain(10)
    finally:
        if daemon:
            daemon.end()
    return felt(calls, MEASURE_S)


def compare(measured: list[tuple[Felt, Felt]], name: str, title: str, scale: float, unit: str) -> str:
    """One line: without, with, difference and its interval."""
    pairs = [(getattr(a, name), getattr(b, name)) for a, b in measured]
    known = [(a * scale, b * scale) for a, b in pairs if a is not None and b is not None]
    without, with_ = statistics.median(a for a, _ in known), statistics.median(b for _, b in known)
    differences = [b - a for a, b in known]
    low, high = interval(differences)
    verdict = "no difference shown" if low <= 0 <= high else "DIFFERENT"
    return (
        f"{title:10} without {without:8.2f} {unit}  with {with_:8.2f} {unit}  difference "
        f"{statistics.median(differences):+7.2f} {unit} (95 %: {low:+.2f} … {high:+.2f})  {verdict}"
    )


def interval(differences: list[float], *, rounds: int = 4000) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    draw = random.Random(11)
    medians = sorted(statistics.median(draw.choices(differences, k=len(differences))) for _ in range(rounds))
    return medians[int(rounds * 0.025)], medians[int(rounds * 0.975)]


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
