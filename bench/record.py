"""What does each fault look like in /metrics? Plays scenarios against a real vLLM and keeps what it exposed.

    python -m bench.record FOLDER [SCENARIO ...]

Writes FOLDER/<scenario>/{metrics.txt.gz, run.json, vllm.log.gz}; all scenarios unless some are named.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import pathlib
import sys
import time
from dataclasses import asdict

from tests.live.harness import scenarios
from tests.live.harness.play import Play, measure_capacity
from tests.live.harness.recorder import Recorder
from tests.live.harness.scenarios import Scenario
from tests.live.harness.vllm_server import VllmServer

BEFORE_S, AFTER_S = 35.0, 20.0


async def record(scenario: Scenario, server: VllmServer, folder: pathlib.Path, capacity: float) -> None:
    """Play one scenario and write its folder."""
    log_from = server.log.stat().st_size
    async with Recorder(server.url, folder), Play(scenario.on(capacity), server) as play:
        await asyncio.sleep(BEFORE_S)
        async with play.fault():
            await asyncio.sleep(scenario.fault_s)
        await asyncio.sleep(AFTER_S)
    run = play.record() | {
        "server_flags": server.flags,
        "capacity_per_s": capacity,
        "truth": {"class": scenario.incident_class, "causes": scenario.causes},
    }
    (folder / "run.json").write_text(json.dumps(run, indent=1))
    with server.log.open("rb") as log, gzip.open(folder / "vllm.log.gz", "wb") as kept:
        log.seek(log_from)
        kept.write(log.read(2 << 20))
    for name in ("usual", "fault", "after"):
        print(f"  {name:6} {asdict(play.felt(name))}", flush=True)


async def main(folder: pathlib.Path, names: list[str]) -> None:
    """Group by server, so that each is started once; start it again when a scenario killed it."""
    chosen = [s for s in scenarios.ALL if not names or s.name in names]
    for flags in dict.fromkeys(s.server for s in chosen):
        with VllmServer(folder / "servers", flags) as server:
            capacity = await measure_capacity(server, scenarios.USUAL)
            print(f"server up in {server.started_in_s:.0f} s, capacity {capacity:.1f} requests/s", flush=True)
            for scenario in (s for s in chosen if s.server == flags):
                if not server.alive():
                    server.end()
                    server.start()
                began = time.monotonic()
                print(scenario.name, flush=True)
                await record(scenario, server, folder / scenario.name, capacity)
                if scenario.deadly:
                    server.end()
                serves = server.alive() and server.completes(timeout_s=60)
                print(f"  took {time.monotonic() - began:.0f} s, serves on: {serves}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]))
