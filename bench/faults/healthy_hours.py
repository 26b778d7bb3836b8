"""What do hours look like in which nothing is wrong? Simulated machines whose load wanders, as a history.

    python -m bench.faults.healthy_hours --to DIR [--machine h200 …] [--hours 3] [--seed 1]
    python -m bench.diagnosis --no-peers --histories DIR/*.om.gz

Between 4 and 60 % of capacity, in steps of one to seven minutes; prompts and answers get longer and shorter, more and
less is shared, and one step in seven begins with a burst of 10 s. One file for each machine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import pathlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.faults import simulate

LEAST, MOST, BURST, BURST_S = 0.04, 0.6, 0.9, 10.0
"""Shares of capacity."""
BEFORE_S = 120.0


@dataclass(frozen=True)
class Stretch:
    """Traffic from one moment on; `share` is of what the machine can do of it."""

    since: float
    share: float
    stream: simulate.Stream
    burst: bool


def plan(hours: float, rng: random.Random) -> list[Stretch]:
    """The stretches, from before the history begins to after its end."""
    since, share, out = -BEFORE_S - 60.0, 0.3, []
    while since < hours * 3600:
        share = min(MOST, max(LEAST, share * math.exp(rng.gauss(0, 0.35))))
        stream = simulate.Stream(
            0.0, prompt=rng.choice((250, 300, 400, 400, 500, 600)), output=rng.choice((100, 150, 150, 200)),
            shared=rng.choice((0.2, 0.4, 0.4, 0.6)),
        )  # fmt: skip
        out.append(Stretch(since, share, stream, rng.random() < 0.15))
        since += rng.choice((60, 120, 180, 300, 420))
    return out


def traffic(stretches: list[Stretch]) -> Callable[[float, simulate.Machine, float], list[simulate.Stream]]:
    """What clients send at a moment."""

    def streams(at: float, machine: simulate.Machine, _: float) -> list[simulate.Stream]:
        now = next(s for s in reversed(stretches) if s.since <= at)
        share = min(BURST, 3 * now.share) if now.burst and at - now.since < BURST_S else now.share
        return [replace(now.stream, rate=share * simulate.capacity(machine, now.stream))]

    return streams


def write(to: pathlib.Path, machine: str, hours: float, seed: int) -> int:
    """Write one machine's history and its truth; the number of samples."""
    target = f"{machine}_hours_{seed}:8000"
    case = simulate.Case("hours", None, None, traffic(plan(hours, random.Random(seed))), fault_s=hours * 3600)
    series: dict[str, list[str]] = {}
    end = 0.0
    for metric, labels, at, value in simulate.simulate(
        case, simulate.MACHINES[machine], before_s=BEFORE_S, after_s=0.0, scrape_s=5.0, seed=target
    ):
        end = simulate.STARTED_AT + BEFORE_S + at
        where = f'{labels}{"," if labels else ""}instance="{target}",job="vllm"'
        series.setdefault(metric, []).append(f"{metric}{{{where}}} {value!r} {end:.3f}")
    text = [line for metric in sorted(series) for line in (f"# TYPE {metric} unknown", *series[metric])]
    with gzip.GzipFile(to, "wb", compresslevel=6, mtime=0) as file:
        file.write("\n".join([*text, "# EOF"]).encode() + b"\n")
    truth = {"from": simulate.STARTED_AT, "to": end, "part": "tune", "author": "simulated", "incidents": []}
    about = {"from": "simulated by bench.faults.healthy_hours", "scrape_interval_s": 5.0, "targets": {target: truth}}
    to.with_name(to.name.replace(".om.gz", ".json")).write_text(json.dumps(about, indent=1) + "\n")
    return sum(map(len, series.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.faults.healthy_hours", description=__doc__)
    parser.add_argument("--to", type=pathlib.Path, required=True, help="a folder")
    parser.add_argument("--machine", choices=sorted(simulate.MACHINES), action="append")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    for name in given.machine or sorted(simulate.MACHINES):
        file = given.to / f"{name}.om.gz"
        print(f"{write(file, name, given.hours, given.seed)} samples in {file}")
