"""How fast and how right is it? Plays faults of known truth against a real vLLM and times what a receiver was told.

python -m bench.detection [SCENARIO ...]
"""

from __future__ import annotations

import asyncio
import pathlib
import statistics
import sys
import tempfile

from rich.console import Console
from rich.table import Table

from bench import machine
from tests.live.harness import scenarios
from tests.live.harness.scenarios import Scenario
from tests.live.harness.watched import Servers, Told, watched

console = Console(width=150)
FAULTS = (
    scenarios.SPIKE,
    scenarios.PREFIX_COLLAPSE,
    scenarios.ENGINE_HANG,
    scenarios.WORKER_HANG,
    scenarios.WORKER_HANG_IDLE,
    scenarios.FRONTEND_FROZEN,
    scenarios.ENGINE_KILLED,
    scenarios.KV_STARVATION,
)


async def main(names: list[str]) -> None:
    """One row per scenario, medians below."""
    print(machine.describe())
    chosen = [s for s in scenarios.ALL if s.name in names] if names else list(FAULTS)
    table = Table("scenario", "message", "cause named", "report", "class", "first cause", "p", "right")
    told: list[Told] = []
    right = 0
    with tempfile.TemporaryDirectory() as scratch:
        servers = Servers(pathlib.Path(scratch))
        try:
            for scenario in chosen:
                result = await play(scenario, servers, pathlib.Path(scratch) / scenario.name)
                if result is None:
                    table.add_row(scenario.name, "nothing")
                    continue
                told.append(result)
                right += add(table, scenario, result)
        finally:
            servers.end()
    console.print(table)
    print("message: fault → first message received. cause named: opened → a cause. report: opened → complete. Seconds.")
    if told:
        named = [t.cause_named_after_s for t in told if t.cause_named_after_s is not None]
        print(f"median message {statistics.median(t.reported_after_s for t in told):.1f} s, cause named ", end="")
        print(f"{statistics.median(named):.1f} s" if named else "never", end="")
        print(f", report {statistics.median(t.final.body['timings']['report_s'] for t in told):.1f} s")
    print(f"class and first cause right in {right} of {len(chosen)}")


async def play(scenario: Scenario, servers: Servers, folder: pathlib.Path) -> Told | None:
    """One experiment; None when nothing was told in time."""
    print(f"{scenario.name}: {scenario.says}", flush=True)
    try:
        async with watched(scenario, servers, folder) as lab:
            return await lab.investigate(until_resolved=False)
    except AssertionError as nothing:
        print(f"  {nothing}", flush=True)
        return None


def add(table: Table, scenario: Scenario, told: Told) -> bool:
    """One row; whether class and first cause were right."""
    report = told.final.body
    lead, timings = report["hypotheses"][0], report["timings"]
    right = report["incident"]["class"] == scenario.incident_class and lead["cause"] in scenario.causes
    cells = [scenario.name, f"{told.reported_after_s:.1f}", _s(timings["first_cause_s"]), _s(timings["report_s"])]
    cells += [report["incident"]["class"], lead["cause"], f"{lead['probability']:.2f}", "yes" if right else "NO"]
    table.add_row(*cells)
    return right


def _s(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
