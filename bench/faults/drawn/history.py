"""How does a seed become a history? Ten faults and five controls, one after the other, with their truth beside them."""

from __future__ import annotations

import gzip
import json
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from bench.faults.drawn.calm import CALM
from bench.faults.drawn.controls import CONTROLS
from bench.faults.drawn.everyday import EVERYDAY
from bench.faults.drawn.faults import FAULTS, Truth
from bench.faults.drawn.played import Felt, Played, Row, Scraper, felt, suffered
from bench.faults.drawn.unusual import AUTHOR, UNUSUAL
from bench.faults.drawn.unusual_ok import UNUSUAL_OK
from bench.faults.drawn.world import Dice, World

FAULTS_A_SEED, CONTROLS_A_SEED, TRIES = 10, 5, 5
BEFORE_UNUSUAL_S = -120.0
"""The minute that ends after the fault began is no usual one, nor are calls then still answered; seeds that are older
than the unusual faults do look at it, and stay what they were."""
MOST_SCRAPES = 240
"""Before a fault, so that a seed stays a small file."""
AFTER_S, APART_S = 60.0, 900.0
STARTED_AT = 1_790_000_000.0
VERSIONS = ((0, 9), (0, 10), (0, 11), (0, 14), (0, 18), (0, 22), (0, 26), (0, 30), (0, 32), (0, 32))
DROPPED = (("process_",), ("http_",), ("vllm:iteration",), ("vllm:request_prompt_tokens",), ("vllm:e2e",))


@dataclass
class One:
    """A server with its truth, as it was played."""

    name: str
    world: World
    truth: Truth | None
    scraper: Scraper
    way: str
    """How clients suffered."""
    rows: list[list[Row]] = field(default_factory=list)
    """Of the server and of its sibling."""


def part_of(seed: int) -> str:
    """Weights may be set on odd seeds; even ones are for the score."""
    return "tune" if seed % 2 else "score"


def drawn(seed: int, rejected: list[str], kind: str = "seed") -> Iterator[One]:
    """What a seed holds. Names of draws that clients did not feel, or felt, go into `rejected`. kind `calm`: instead
    one healthy server of each kind; `unusual`: one fault of each unusual kind, and healthy servers like them."""
    dice = Dice(seed)
    chosen: list[Callable[[Dice], Any]] = dice.sample(FAULTS, FAULTS_A_SEED) + dice.sample(CONTROLS, CONTROLS_A_SEED)
    every = {"seed": chosen, "calm": [*CONTROLS, *CALM, *EVERYDAY], "unusual": [*UNUSUAL, *UNUSUAL_OK]}
    for build in every[kind]:
        for _ in range(TRIES):
            one = _played(seed, build, Dice(dice.getrandbits(48)))
            if bool(one.way) is (one.truth is not None):
                yield one
                break
            rejected.append(f"{one.name} ({one.way or 'not felt'})")


def _scraper(dice: Dice, before_s: float, fixed: float | None) -> Scraper:
    often = [every for every in (2.0, 5.0, 5.0, 10.0, 15.0, 15.0) if before_s / every <= MOST_SCRAPES]
    every = dice.choice(often) if fixed is None else fixed
    without = dice.choice(DROPPED) if dice.chance(0.25) else ()
    lost = dice.uniform(0.01, 0.1) if dice.chance(0.15) else 0.0
    return Scraper(every, dice.choice(VERSIONS), without, dice.chance(0.5), lost)


def _played(seed: int, build: Callable[[Dice], Any], dice: Dice) -> One:
    made = build(dice)
    world, truth = made if isinstance(made, tuple) else (made, None)
    scraper = _scraper(dice, world.before_s, world.scrape_s)
    every = [world]
    while every[-1].sibling is not None:
        every.append(every[-1].sibling)
    runs = [Played(each, scraper, AFTER_S, STARTED_AT) for each in every]
    name = f"s{seed}_{build.__name__}" + ("" if truth else "_ok")
    one = One(name, world, truth, scraper, "", [list(run.rows()) for run in runs])
    one.truth = truth = truth and as_played(truth, runs[0], one.rows[0])
    calls = runs[0].calls
    usual = felt(calls, -world.before_s, -1.0)
    then = felt(calls, 0.0, world.fault_s)
    if usual is not None and truth is not None and truth.cause == "insufficient_load":
        fell = then is None or then.tokens_per_second < 0.5 * (world.expect_share or 1) * usual.tokens_per_second
        one.way = "less than was asked for" if fell else ""
    elif usual is not None and then is not None:
        one.way = suffered(usual, then)
        if truth is None:
            if not world.seldom:
                one.way = one.way or _any_minute(runs, world.fault_s, usual if world.as_ever else None)
            one.way = one.way or ("an answer cut off" if any(map(_cut_off, runs)) else "")
        elif truth is not None and _any_minute(runs, BEFORE_UNUSUAL_S if build in UNUSUAL else 0.0):
            one.way = ""  # whose usual time was no good has no usual time to compare with
    if usual is not None and world.expect_share:
        world.expect_share *= usual.tokens_per_second
    return one


def as_played(truth: Truth, run: Played, rows: list[Row]) -> Truth:
    """The truth that was meant, or what came of it: where the slots were full before the KV cache was, nobody was
    thrown out, and it was slots that were missing; where they never were full and nobody waited, more ran at once."""

    def most(gauge: str) -> float:
        return max((value for metric, _, at, value in rows if metric == gauge and at >= 0), default=0.0)

    full = most("vllm:num_requests_running") >= run.world.machine.slots
    if truth.cause == "kv_pressure_preemption" and full and not run.engine.counters["preemptions"]:
        return replace(truth, cause="capacity_exceeded", causes=())
    free = not full and most("vllm:num_requests_waiting") < 1
    if truth.cause == "capacity_exceeded" and free and not truth.causes:
        return replace(truth, cause="batch_saturation", causes=())
    return truth


def _any_minute(runs: list[Played], until: float, as_ever: Felt | None = None) -> str:
    """A control is one whose clients were well in every minute, the usual ones too; with `as_ever` as well as ever."""
    for run in runs:
        for since in range(int(-run.world.before_s), int(until), 60):
            minute = felt(run.calls, since, since + 60)
            if minute and as_ever:
                if suffered(as_ever, minute):
                    return "a minute worse than ever"
                continue
            if minute and (minute.ttft_p95 > 2.0 or minute.late_tokens > 1.0 or minute.token_p50 > 0.2):
                return "a bad minute"
    return ""


def _cut_off(run: Played) -> bool:
    """Somebody was still being answered when the server was stopped: not drained, whatever it was meant to be."""
    world = run.world
    died = next((at / 4 for at in range(int(4 * world.fault_s)) if world.dead(at / 4)), None)
    return died is not None and any(call.arrived < died and not call.ended for call in run.calls)


def write(seed: int, to: pathlib.Path, kind: str = "seed") -> dict[str, Any]:
    """TO.om.gz and TO.json; gives what the latter says. kind: as of `drawn`."""
    series: dict[str, list[str]] = {}
    targets: dict[str, Any] = {}
    rejected: list[str] = []
    began = STARTED_AT
    for one in drawn(seed, rejected, kind):
        began += one.world.before_s
        for number, rows in enumerate(one.rows):
            _lines(series, rows, one, number, began)
        targets[f"{one.name}:8000"] = _about(one, seed, began, AUTHOR if kind == "unusual" else "drawn")
        began += one.world.fault_s + AFTER_S + APART_S
    text = [line for metric in sorted(series) for line in (f"# TYPE {metric} unknown", *series[metric])]
    with gzip.GzipFile(to, "wb", compresslevel=6, mtime=0) as file:
        file.write("\n".join([*text, "# EOF"]).encode() + b"\n")
    about = {"from": f"drawn by bench.faults.drawn, seed {seed}", "part": part_of(seed), "rejected": rejected,
             "targets": targets}  # fmt: skip
    to.with_name(to.name.replace(".om.gz", ".json")).write_text(json.dumps(about, indent=1) + "\n")
    return about


def _lines(series: dict[str, list[str]], rows: list[Row], one: One, number: int, began: float) -> None:
    for metric, labels, at, value in rows:
        if labels == "gpu":
            where = f'Hostname="{one.name}",gpu="{number}",instance="{one.name}:9400",job="dcgm"'
        else:
            where = f'{labels}{"," if labels else ""}instance="{one.name}:{8000 + number}",job="vllm"'
        shown = f"{value:g}" if value < 1e5 else repr(value)
        series.setdefault(metric, []).append(f"{metric}{{{where}}} {shown} {began + at:.3f}")


def _about(one: One, seed: int, began: float, author: str) -> dict[str, Any]:
    world, truth = one.world, one.truth
    incidents = [] if truth is None else [{
        "cause": truth.cause, "class": truth.class_, "classes": [truth.class_, *truth.also],
        "causes": list(truth.causes or [truth.cause]), "onset_at": round(began, 3),
        "ended_at": round(began + world.fault_s, 3), "felt": one.way, **({"pair": True} if truth.pair else {}),
    }]  # fmt: skip
    about: dict[str, Any] = {
        "from": round(began - world.before_s, 3), "to": round(began + world.fault_s + AFTER_S, 3),
        "part": part_of(seed), "author": author, "incidents": incidents,
        "drawn": {
            "step_s": round(world.machine.step_s, 4), "slots": world.machine.slots,
            "usual_rate": round(world.at(world.share).rate, 3), "before_s": round(world.before_s),
            "fault_s": round(world.fault_s), "prompt": world.usual.prompt, "output": world.usual.output,
            "scrape_s": one.scraper.every_s, "vllm": ".".join(map(str, one.scraper.version)),
            "without": list(one.scraper.without), "gpu": one.scraper.gpu,
        },
    }  # fmt: skip
    if truth is not None and world.expect_share:
        about["expect"] = {"generation_tokens_per_second": round(world.expect_share, 3)}
    return about
