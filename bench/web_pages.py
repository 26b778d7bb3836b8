"""How long does a page of the user interface take with so many incidents in the store?

`python -m bench.web_pages --incidents 10000 --rounds 20` prints milliseconds per request over loopback,
median and p95, and the CPU that server, store and client together took for one.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import aiohttp

from tests.sample_report import sample
from tests.web.scene import Scene, scene

ASKED = (
    "incidents?limit=50", "incidents?limit=50&offset={last}", "incidents?state=resolved", "incidents?class=high_ttft",
    "incidents?q=past-00077", "incidents?q=nothing-like-it", "incidents/past-00077", "playbooks", "deliveries",
)  # fmt: skip


async def fill(at: Scene, count: int) -> int:
    """Incidents as large as a real one, 200 of them open; returns the bytes of one."""
    base, now = sample().incident, time.time()
    await at.remember(*(
        base.model_copy(update={
            "id": f"past-{n:05}", "target": f"gpu-{n % 40}:8000", "state": "open" if n < 200 else "resolved",
            "opened_at": now - 60 * n, "resolved_at": None if n < 200 else now - 60 * n + 30,
        })
        for n in range(count)
    ))  # fmt: skip
    return len(base.model_dump_json())


async def measure(count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with scene(Path(folder)) as at, aiohttp.ClientSession() as http:
            size = await fill(at, count)
            print(f"{count} incidents of {size} bytes, {rounds} rounds")
            for path in ASKED:
                url, took = f"{at.url}/api/v1/ui/{path.format(last=max(0, count - 100))}", []
                burnt = time.process_time()
                for _ in range(rounds):
                    began = time.perf_counter()
                    async with http.get(url) as answer:
                        answer.raise_for_status()
                        body = await answer.read()
                    took.append(1000 * (time.perf_counter() - began))
                burnt = 1000 * (time.process_time() - burnt) / rounds
                took.sort()
                p95 = took[min(len(took) - 1, int(0.95 * len(took)))]
                half = took[len(took) // 2]
                print(f"{path:36} median {half:6.1f} ms  p95 {p95:6.1f} ms  CPU {burnt:5.1f} ms  {len(body)} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--incidents", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    asyncio.run(measure(given.incidents, given.rounds))
