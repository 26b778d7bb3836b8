"""Drawn servers: the fast engine is the slow one, gauges freeze with a hung engine, what nobody felt is no fault."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.faults.drawn import history
from bench.faults.drawn.calm import CALM, rolling
from bench.faults.drawn.controls import CONTROLS
from bench.faults.drawn.engine import Call, Engine
from bench.faults.drawn.everyday import EVERYDAY
from bench.faults.drawn.faults import FAULTS, Drawn, Truth
from bench.faults.drawn.played import Felt, Played, Scraper, felt, suffered
from bench.faults.drawn.table import Said, Sheet, rows, text
from bench.faults.drawn.unusual import UNUSUAL
from bench.faults.drawn.unusual_ok import UNUSUAL_OK
from bench.faults.drawn.world import Dice, World, request
from bench.faults.simulate import Machine, Stream
from bench.scoring.histories import Told
from responder.capture import STEPS
from responder.config import Config
from responder.content import load

SMALL = Machine(0.05, 0.001, 0.0001, 0.0, slots=8, kv_tokens=20_000, budget=512)
USUAL = Stream(1.0, 100, 30, 0.5, 0.2)


def world(**changes: object) -> World:
    """A small server at two calls a second, half a minute before and during the fault."""
    return World(SMALL, USUAL, 0.45, Dice(3), 30.0, 30.0, **changes)  # type: ignore[arg-type]


def played(here: World, scraper: Scraper | None = None) -> tuple[Played, list[tuple[str, str, float, float]]]:
    run = Played(here, scraper or Scraper(5.0, (0, 32)), 10.0, 1000.0)
    return run, list(run.rows())


def finished(*, fast: bool) -> tuple[float, dict[str, float]]:
    dice, now = random.Random(1), 0.0
    engine = Engine(Machine(0.05, 0.001, 0.0001, 0.00001, slots=8, kv_tokens=1500, budget=512))
    for _ in range(12):
        engine.waiting.append(request(USUAL, 0.0, SMALL, dice))
    while engine.running or engine.waiting:
        then = engine.decode(now, now + 0.3, 1.0, 0.0) if fast else now
        now = then if then > now else engine.step(now, 1.0)
    return now, {name: value for name, value in engine.counters.items() if value}


def test_many_steps_at_a_time_are_the_same_steps() -> None:
    """Every counter and bucket, preemptions included."""
    (slow_end, slow), (fast_end, fast) = finished(fast=False), finished(fast=True)
    assert fast_end == pytest.approx(slow_end)
    assert fast == pytest.approx(slow)
    assert slow["success"] == 12


def test_gauges_of_a_hung_engine_are_those_of_its_last_step() -> None:
    """Whoever comes meanwhile is seen in open files only."""
    here = world()
    here.frozen = here.inside
    run, rows = played(here)
    waiting = {at: value for name, _, at, value in rows if name == "vllm:num_requests_waiting" and 0 < at < 30}
    files = {at: value for name, _, at, value in rows if name == "process_open_fds"}
    assert len(set(waiting.values())) == 1
    assert files[max(waiting)] > files[min(waiting)]
    then = felt(run.calls, 0, 20)
    assert then is not None
    assert then.unanswered > 0.9


def test_a_dead_server_refuses_and_counts_from_zero_when_it_is_back() -> None:
    """Scrapes fail meanwhile, its process is younger afterwards."""
    here = world(back=(20.0,))
    here.dead = lambda t: 0 <= t < 20
    _, rows = played(here)
    up = {at: value for name, _, at, value in rows if name == "up"}
    assert {value for at, value in up.items() if 0 <= at < 20} == {0.0}
    assert {value for at, value in up.items() if at < 0 or at > 21} == {1.0}
    starts = [value for name, _, _, value in rows if name == "process_start_time_seconds"]
    assert starts[-1] == pytest.approx(1020.0, abs=1)
    counts = [value for name, _, _, value in rows if name == "vllm:generation_tokens_total"]
    assert any(later < earlier for earlier, later in zip(counts, counts[1:], strict=False))


def test_an_old_version_has_other_names() -> None:
    """And what a site drops is not there."""
    _, rows = played(world(), Scraper(5.0, (0, 9), ("process_",), gpu=True))
    names = {name for name, *_ in rows}
    assert {"vllm:gpu_cache_usage_perc", "vllm:gpu_prefix_cache_hits_total", "DCGM_FI_DEV_GPU_UTIL"} <= names
    assert "vllm:time_per_output_token_seconds_bucket" in names
    assert not any(name.startswith(("process_", "vllm:inter_token", "vllm:prompt_tokens_by_source")) for name in names)


def test_a_call_knows_how_long_its_client_waited() -> None:
    """A stop of three seconds is the worst wait of those who were being answered."""
    here = world()
    here.frozen = lambda t: 5 <= t < 8
    run, _ = played(here)
    then = felt(run.calls, 0, 10)
    assert then is not None
    assert 2.9 < max(call.worst for call in run.calls) < 3.5
    assert then.gap_share > 0


@pytest.mark.parametrize(("ttft", "way"), [(0.2, ""), (0.9, "ttft_p50"), (math.inf, "ttft_p50")])
def test_three_times_the_usual_is_felt_where_people_notice(ttft: float, way: str) -> None:
    """Against the usual, and not below half a second."""
    usual = Felt(50, 0.05, 0.08, 0.02, 0.0, 0.0, 0.0, 100.0, 0.04)
    assert suffered(usual, Felt(50, ttft, 0.9, 0.02, 0.0, 0.0, 0.0, 100.0, 0.04)) == way


def test_what_nobody_felt_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is named; a control that was felt, too."""

    def unfelt(dice: Dice) -> Drawn:
        return World(SMALL, USUAL, 0.1, dice, 30.0, 30.0), Truth("slow_accelerator", "slow_decode")

    def stopped(dice: Dice) -> World:
        here = World(SMALL, USUAL, 0.1, dice, 30.0, 30.0)
        here.frozen = here.inside
        return here

    monkeypatch.setattr(history, "FAULTS", (unfelt,))
    monkeypatch.setattr(history, "CONTROLS", (stopped,))
    for count in ("FAULTS_A_SEED", "CONTROLS_A_SEED"):
        monkeypatch.setattr(history, count, 1)
    rejected: list[str] = []
    assert list(history.drawn(1, rejected)) == []
    assert len(rejected) == 2 * history.TRIES
    assert "not felt" in rejected[0]


def test_a_seed_is_one_history_with_its_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes each time; even seeds are for the score only."""
    monkeypatch.setattr(history, "FAULTS", (next(f for f in FAULTS if f.__name__ == "killed"),))
    monkeypatch.setattr(history, "CONTROLS", (next(c for c in CONTROLS if c.__name__ == "steady"),))
    for count in ("FAULTS_A_SEED", "CONTROLS_A_SEED"):
        monkeypatch.setattr(history, count, 1)
    monkeypatch.setattr("bench.faults.drawn.world.MOST_CALLS", 300)
    first, again = (history.write(4, tmp_path / name) for name in ("a.om.gz", "b.om.gz"))
    assert first == again
    assert gzip.decompress((tmp_path / "a.om.gz").read_bytes()) == gzip.decompress((tmp_path / "b.om.gz").read_bytes())
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["part"] == "score"
    fault, control = told["targets"]["s4_killed:8000"], told["targets"]["s4_steady_ok:8000"]
    assert fault["incidents"][0]["cause"] == "engine_crash"
    assert control["incidents"] == []
    assert fault["to"] < control["from"]


def test_every_truth_is_a_known_cause() -> None:
    """A misspelt one would be a miss for ever."""
    known = {cause.id for cause in load(Config(), STEPS).causes} | {"unknown"}
    truths = [build(Dice(5))[1] for build in FAULTS]
    assert {cause for truth in truths for cause in (truth.cause, *truth.causes)} <= known
    assert len({build.__name__ for build in (*FAULTS, *CONTROLS)}) == len(FAULTS) + len(CONTROLS)


def test_four_replicas_are_started_anew_one_after_the_other() -> None:
    """Never two at once, and each once."""
    every = [rolling(Dice(5))]
    while every[-1].sibling is not None:
        every.append(every[-1].sibling)
    down = [[t for t in range(int(every[0].fault_s)) if one.dead(t)] for one in every]
    assert len(every) == 4
    assert all(down)
    assert len(set().union(*down)) == sum(map(len, down))


def test_who_calls_once_a_minute_is_not_measured_by_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """One document at night is no bad minute."""

    def slow(dice: Dice) -> World:
        machine, calls = replace(SMALL, per_prefill_token_s=0.01), replace(USUAL, prompt=400, shared=0.0)
        here = World(machine, calls, 0.05, dice, 600.0, 300.0)
        here.seldom = seldom
        return here

    monkeypatch.setattr(history, "CONTROLS", ())
    monkeypatch.setattr(history, "CONTROLS_A_SEED", 0)
    monkeypatch.setattr(history, "CALM", (slow,))
    monkeypatch.setattr(history, "EVERYDAY", ())
    seldom, rejected = True, list[str]()
    assert [one.name for one in history.drawn(1, rejected, kind="calm")] == ["s1_slow_ok"]
    seldom = False
    assert list(history.drawn(1, rejected, kind="calm")) == []


def test_calls_are_no_longer_than_the_cache() -> None:
    """A call that never fits would stop everything behind it."""
    dice = random.Random(2)
    calls = [request(Stream(1.0, 90_000, 90_000, 0.0, 1.0), 0.0, SMALL, dice) for _ in range(50)]
    assert all(isinstance(call, Call) and call.prompt + call.output <= SMALL.kv_tokens * 0.6 for call in calls)


def test_sheets_of_several_seeds_are_one() -> None:
    """Counts add up, both parts are shown with their intervals, and each miss is named."""
    sheet = Sheet()
    for part, first, status in (("tune", "engine_crash", "confirmed"), ("score", "engine_hang", "probable")):
        causes = frozenset({"engine_crash"})
        said = Said(
            part,
            f"s1_{part}",
            causes,
            True,
            first,
            status,
            0.9,
            (first,),
            4.0,
            "probable",
            f"{first} {status}",
            False,
            False,
            False,
        )
        told = Told(faults={part: 2}, found={part: 1}, false={part: []}, days={part: 0.5}, missed=["s1_other:8000"])
        sheet.join(Sheet(told, [said]))
    assert dict(rows(sheet, "tune"))["first cause right, of those found"].endswith("1/1")
    assert dict(rows(sheet, "score"))["first cause right, of those found"].endswith("0/1")
    assert dict(rows(sheet, "score"))["false incidents"] == "0 in 0.50 replica-days, at most 6.0 per day"
    shown = text(sheet)
    assert "WRONG s1_score: engine_crash; said engine_hang probable" in shown
    assert "not found, by kind: other 2" in shown


@pytest.mark.parametrize("build", EVERYDAY)
def test_an_everyday_server_is_asked_something_and_never_stands_still_for_a_second(
    build: Callable[[Dice], World],
) -> None:
    """Whatever is drawn: some calls before or during, rates of no less than nothing, stops that nobody calls one."""
    for seed in range(5):
        here = build(Dice(seed))
        times = [-here.before_s + 1 + n * (here.before_s + here.fault_s - 2) / 50 for n in range(51)]
        rates = [rate for t in times for _, rate in here.streams(t)]
        assert min(rates) >= 0 < max(rates)
        assert not any(all(here.frozen(at + n * 0.1) for n in range(10)) for at in times)


def test_everyday_servers_are_drawn_after_the_other_calm_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a calm seed drew before stays what it was."""

    def quiet(dice: Dice) -> World:
        here = world()
        here.during = lambda t: [replace(USUAL, rate=1.0)]
        return here

    def first(dice: Dice) -> World:
        return quiet(dice)

    monkeypatch.setattr(history, "CONTROLS", (first,))
    monkeypatch.setattr(history, "CONTROLS_A_SEED", 0)
    monkeypatch.setattr(history, "CALM", ())
    monkeypatch.setattr(history, "EVERYDAY", (quiet,))
    assert [one.name for one in history.drawn(1, [], kind="calm")] == ["s1_first_ok", "s1_quiet_ok"]


@pytest.mark.parametrize("build", [*UNUSUAL, *UNUSUAL_OK])
def test_an_unusual_server_is_the_same_each_time(build: Callable[[Dice], Drawn | World]) -> None:
    """Of one draw: traffic and strength at any moment; and somebody asks it something in its usual time."""
    for seed in range(5):
        found = []
        for _ in range(2):
            made = build(Dice(seed))
            here = made[0] if isinstance(made, tuple) else made
            times = [-here.before_s + 1 + n * (here.before_s + here.fault_s - 2) / 50 for n in range(51)]
            found.append(
                [(here.streams(t), here.slower(t), here.late_s(t), here.frozen(t), here.dead(t)) for t in times]
            )
        assert found[0] == found[1]
        rates = [rate for moment in found[0] for _, rate in moment[0]]
        assert min(rates) >= 0 < max(rates)


@pytest.mark.parametrize("build", UNUSUAL)
def test_an_unusual_fault_can_be_felt(build: Callable[[Dice], Drawn], monkeypatch: pytest.MonkeyPatch) -> None:
    """By clients of one of a few draws."""
    monkeypatch.setattr(history, "UNUSUAL", (build,))
    monkeypatch.setattr(history, "UNUSUAL_OK", ())
    monkeypatch.setattr("bench.faults.drawn.world.MOST_CALLS", 300)
    monkeypatch.setattr(Played, "_scrape", lambda *_: iter(()))
    (one,) = history.drawn(2, [], "unusual")
    assert one.name == f"s2_{build.__name__}"


def test_unusual_truths_are_known_causes() -> None:
    """No kind has a name that another one has."""
    known = {cause.id for cause in load(Config(), STEPS).causes} | {"unknown"}
    truths = [build(Dice(5))[1] for build in UNUSUAL]
    assert {cause for truth in truths for cause in (truth.cause, *truth.causes)} <= known
    every = [build.__name__ for build in (*FAULTS, *CONTROLS, *CALM, *EVERYDAY, *UNUSUAL, *UNUSUAL_OK)]
    assert len(set(every)) == len(every)


def test_who_gave_up_asks_again() -> None:
    """As often as they are told to, and with the same prompt."""
    here = world(again=lambda t: 1.0 if t < 30 else 0.0)
    here.during = lambda t: [replace(USUAL, rate=2.0, patience_s=1.0)]
    here.frozen = lambda t: 5 <= t < 8
    run, _ = played(here)
    begun = [call for call in run.calls if 0 <= call.arrived < 30]
    assert len(begun) > 75
    assert sum(call.ended - call.arrived >= 1.0 for call in begun) > 10


def test_a_front_end_may_be_slow_for_long_prompts_only() -> None:
    """A token costs it a hundredth of a second, so a hundred cost one, and the queue grows."""
    run, _ = played(world(door_token_s=lambda t: 0.01 if t >= 0 else 0.0))
    then, usual = felt(run.calls, 0, 25), felt(run.calls, -30, -5)
    assert then is not None
    assert usual is not None
    assert then.ttft_p50 > 3 > 1 > usual.ttft_p50


def test_another_process_may_have_less_of_the_machine() -> None:
    """From its start on."""
    run, _ = played(world(back=(10.0,), later=replace(SMALL, slots=2)))
    assert run.engine.machine.slots == 2


def test_a_scheduler_may_be_late_with_many_only() -> None:
    """With one request at a time it is not."""
    paces = []
    for rate in (0.2, 3.0):
        here = world(late_batch_s=lambda t, n: 0.5 if t >= 0 and n > 2 else 0.0)
        here.during = lambda t, rate=rate: [replace(USUAL, rate=rate, output=10)]
        then = felt(played(here)[0].calls, 0, 20)
        assert then is not None
        paces.append(then.token_p50)
    assert paces[0] < 0.2 < paces[1]


@pytest.mark.parametrize(("kv_tokens", "cause"), [(500, "kv_pressure_preemption"), (20_000, "capacity_exceeded")])
def test_a_cache_that_never_filled_was_not_what_was_missing(kv_tokens: int, cause: str) -> None:
    """Too many calls for eight slots or for the cache: what is called the truth is what ran out."""
    here = world(during=lambda t: [replace(USUAL, rate=40.0)])
    here.machine = replace(SMALL, kv_tokens=kv_tokens)
    run, seen = played(here)
    meant = Truth("kv_pressure_preemption", "high_ttft", ("slow_decode",))
    assert history.as_played(meant, run, seen).cause == cause
    assert history.as_played(Truth("giant_prompt", "high_ttft"), run, seen).cause == "giant_prompt"


@pytest.mark.parametrize(("slots", "cause"), [(2, "capacity_exceeded"), (64, "batch_saturation")])
def test_slots_that_never_filled_were_not_what_was_missing(slots: int, cause: str) -> None:
    """Longer answers: the truth is what users felt, a queue or a larger batch. Of two faults both stay."""
    here = world(during=lambda t: [replace(USUAL, output=60)])
    here.machine = replace(SMALL, slots=slots, kv_tokens=200_000)
    run, seen = played(here)
    meant = Truth("capacity_exceeded", "high_ttft", ("slow_decode",))
    assert history.as_played(meant, run, seen).cause == cause
    both = Truth("capacity_exceeded", "high_ttft", (), ("capacity_exceeded", "slow_accelerator"), pair=True)
    assert history.as_played(both, run, seen) == both
