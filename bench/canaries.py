"""How soon is silent corruption found, what alarms a healthy server, and what do the probes cost?

    python -m bench.canaries [PROBES] [PAIRS]

One real vLLM on CPU. A day of probes at one a minute is PROBES = 1440, asked one after another while the traffic
changes between nothing and over capacity. Weights are then damaged in the running server, and the delay until the
alert's condition holds is counted in probes and turned into time at one probe a minute. Last, the same traffic with and
without probes at twelve times the usual rate, interleaved.
"""

from __future__ import annotations

import asyncio
import math
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace

import aiohttp

from bench import machine
from bench.watch_cost import FIGURES, compare
from responder.canaries.learn import record
from responder.canaries.patrol import AGAIN_AFTER_S, Patrol
from responder.canaries.pins import DEFAULT_PROMPTS
from responder.canaries.stored import Shelf
from responder.model import Target
from tests.live.harness import scenarios
from tests.live.harness.load import Felt, Load, felt
from tests.live.harness.planted import write_plugin
from tests.live.harness.vllm_server import SERVED_AS, VllmServer

INTERVAL_S = 60.0
COST_INTERVAL_S = 5.0
RATES = (0.0, 1.0, 3.0, 6.0)
MOST_OUTSTANDING = 24
"""Eight more than the server runs at a time: there is always a queue, but a probe gets through it."""
DAMAGE = ("nan", "noise 0.5", "noise 0.2", "noise 0.1", "noise 0.05", "noise 0.02")
MEASURE_S, SETTLE_S = 20.0, 5.0


async def main(probes: int, pairs: int) -> None:
    """Record, a healthy day, damage, cost."""
    print(machine.describe())
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        switch = folder / "damage"
        os.environ |= {"PLANTED": "weights", "PLANTED_FILE": str(switch)}
        os.environ["PYTHONPATH"] = f"{write_plugin(folder / 'plugin')}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")
        with VllmServer(folder, scenarios.ROOMY) as server:
            target = Target(name="t", url=server.url, model=SERVED_AS)
            async with aiohttp.ClientSession() as http:
                made = await record(http, target, DEFAULT_PROMPTS, (), say=print)
                for pin in made.record.pins:
                    print(f"  {pin.prompt.id}: noise {pin.noise:.3g} nats, tolerance {pin.tolerance:.3g}")
                Shelf(folder).keep(made.record)
                await healthy_day(http, folder, target, probes)
                for damage in DAMAGE:
                    await damaged(http, folder, target, switch, damage)
                if pairs:
                    await cost(http, folder, target, server, pairs)


async def healthy_day(http: aiohttp.ClientSession, folder: pathlib.Path, target: Target, probes: int) -> None:
    """All the probes of a day, the traffic switched now and then."""
    patrol = Patrol(http, Shelf(folder), lambda _: (), time.time, INTERVAL_S)
    draw, bad, alarms, unanswered, worst, taken = random.Random(3), 0, 0, 0, 0.0, []
    began = time.monotonic()
    async with Load(
        target.url, replace(scenarios.USUAL, rate=0.0, most_outstanding=MOST_OUTSTANDING), longest_s=3600.0
    ) as load:
        for number in range(probes):
            if number % 20 == 0:
                load.switch(replace(scenarios.USUAL, rate=draw.choice(RATES), output_tokens=draw.choice((8, 60, 150)),
                                    most_outstanding=MOST_OUTSTANDING))  # fmt: skip
            before = patrol.watched.get("t")
            counted = before.probes if before else 0
            await patrol.probe(target, patrol.shelf.of("t"))
            state = patrol.watched["t"]
            if state.probes == counted:
                unanswered += 1
                continue
            bad += state.streak > 0
            alarms += state.streak >= 2 or bool(state.judgement and state.judgement.nan)
            worst = max(worst, (state.judgement.tolerances or 0.0) if state.judgement else 0.0)
            taken.append(state.seconds)
            if number % 30 == 29:
                print(f"  {number + 1} probes after {time.monotonic() - began:.0f} s, worst {worst:.2f}", flush=True)
        calls = len(load.calls)
    upper = 1 - 0.05 ** (1 / max(len(taken), 1))
    print(
        f"healthy: {len(taken)} probes, {calls} requests at {min(RATES):g} to {max(RATES):g}/s: {alarms} alarms, "
        f"{bad} suspicious (with none: under {upper:.2%} of probes, 95 %), {unanswered} without an answer in time; "
        f"worst shift {worst:.2f} tolerances; a probe took {statistics.median(taken):.2f} s, at most {max(taken):.2f} s"
    )


async def damaged(
    http: aiohttp.ClientSession, folder: pathlib.Path, target: Target, switch: pathlib.Path, damage: str
) -> None:
    """Damage at a random moment of the interval; probes until the alert's condition holds, at most five minutes."""
    patrol = Patrol(http, Shelf(folder), lambda _: (), time.time, INTERVAL_S)
    await patrol.probe(target, patrol.shelf.of("t"))
    await asyncio.to_thread(switch.write_text, damage)
    await asyncio.sleep(0.3)
    wait, asked, found = INTERVAL_S, 0, False  # the worst moment: right after a probe
    took = 0.0
    while not found and wait + took <= 300.0:
        began = time.monotonic()
        await patrol.probe(target, patrol.shelf.of("t"))
        took += time.monotonic() - began
        asked += 1
        state = patrol.watched["t"]
        it = state.judgement
        found = bool(it and (it.nan or state.streak >= 2))
        wait += 0.0 if found else (AGAIN_AFTER_S if state.streak else INTERVAL_S)
    await asyncio.to_thread(switch.unlink)
    await asyncio.sleep(0.3)
    await patrol.probe(target, patrol.shelf.of("t"))
    healed = patrol.watched["t"].streak == 0
    words = f"found after {math.ceil(wait + took)} s at most ({asked} probes)" if found else "NOT FOUND in 5 minutes"
    shift = f"{it.tolerances:.1f} tolerances" if it and it.tolerances is not None else "-"
    match = f"{it.match:.0%}" if it and it.match is not None else "-"
    print(f"{damage:10}: {words}, NaN {bool(it and it.nan)}, shift {shift}, tokens as recorded {match}; "
          f"{'right again' if healed else 'STILL WRONG'} when undone", flush=True)  # fmt: skip


async def cost(
    http: aiohttp.ClientSession, folder: pathlib.Path, target: Target, server: VllmServer, pairs: int
) -> None:
    """The same traffic without and with probes, interleaved."""
    draw = random.Random(7)
    measured: list[tuple[Felt, Felt]] = []
    for pair in range(pairs):
        halves: dict[bool, Felt] = {}
        for probed in draw.sample([False, True], 2):
            traffic = replace(scenarios.USUAL, rate=4.0, shared=0.0)
            patrol = Patrol(http, Shelf(folder), lambda _: (), time.time, COST_INTERVAL_S)
            async with Load(server.url, traffic, seed=pair, salt=int(probed)) as load:
                await asyncio.sleep(SETTLE_S)
                before = len(load.calls)
                until = time.monotonic() + MEASURE_S
                while time.monotonic() < until:
                    if probed:
                        await patrol.probe(target, patrol.shelf.of("t"))
                    await asyncio.sleep(min(COST_INTERVAL_S, max(0.0, until - time.monotonic())))
                calls = load.calls[before:]
                await load.drain(10)
            halves[probed] = felt(calls, MEASURE_S)
        measured.append((halves[False], halves[True]))
    more = INTERVAL_S / COST_INTERVAL_S
    print(f"cost of a probe every {COST_INTERVAL_S:g} s ({more:g} times the usual), {pairs} pairs:")
    for name, title, scale, unit in FIGURES:
        print(compare(measured, name, title, scale, unit))


if __name__ == "__main__":
    asyncio.run(main(*(int(word) for word in (sys.argv[1:3] + ["1440", "6"][len(sys.argv[1:3]) :]))))
