"""Which healthy servers did nobody think of at first? Slow by nature, hardly asked, new, or looked at with long pauses.

Not among `CONTROLS`, of which a seed draws five: published seeds stay what they were. `--calm` draws one of each kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from bench.faults.drawn.controls import deploy
from bench.faults.drawn.faults import roomy
from bench.faults.drawn.world import Dice, World, drawn_world
from bench.faults.simulate import Stream

MINUTE_S = 60.0


def one_a_minute(dice: Dice) -> World:
    """A night with a call a minute, before as well."""
    world = drawn_world(dice)
    world.before_s, world.fault_s, world.bursts = 1800.0, 900.0, 0.05
    world.before = world.during = lambda t: [replace(world.usual, rate=1 / MINUTE_S)]
    return world


def batch_job(dice: Dice) -> World:
    """Each half minute as many calls at once as it has slots, and hardly any between, for as long as anybody knows."""
    world = roomy(drawn_world(dice))
    world.before_s = max(600.0, world.before_s)
    calls = world.machine.slots * dice.uniform(0.4, 0.9)
    world.before = world.during = lambda t: [replace(world.usual, rate=calls if t % 30 < 1 else 0.01)]
    return world


def one_stream(dice: Dice) -> World:
    """One client after the other, each with an answer of thousands of tokens."""
    world = drawn_world(dice)
    output = round(dice.log(2000, 8000))
    world.usual = Stream(1.0, world.usual.prompt, output, world.usual.shared, 0.3)
    world = roomy(world, output * 3)
    world.before_s, world.fault_s, world.bursts = 900.0, 600.0, 0.05
    took = output * (world.machine.step_s + world.machine.per_sequence_s)
    world.before = world.during = lambda t: [replace(world.usual, rate=1 / took)]
    return world


def slow_first(dice: Dice) -> World:
    """First tokens take seconds because documents are read, one after the other, today as ever."""
    world = drawn_world(dice)
    seconds = dice.uniform(2.5, 5)
    long = round(max(300, seconds / world.machine.per_prefill_token_s))
    machine = replace(world.machine, budget=max(world.machine.budget, 8192))
    world = roomy(replace(world, machine=machine, usual=Stream(1.0, long, 60, 0.0, 0.15)), long * 3)
    world.before_s, world.fault_s, world.as_ever = 1500.0, 900.0, True
    world.bursts = 0.05
    world.before = world.during = lambda t: [world.reading(world.usual, 0.3)]
    return world


def slow_tail(dice: Dice) -> World:
    """One call in a hundred or in thirty is a document of seconds, today as ever."""
    world = drawn_world(dice)
    long = round(min(60_000, dice.uniform(1.2, 6) / world.machine.per_prefill_token_s))
    world = roomy(world, long * 2)
    world.share = min(world.share, 0.3)
    world.before_s, world.fault_s, world.as_ever = 1500.0, 900.0, True
    few = world.at(world.share).rate * dice.log(0.01, 0.03)
    documents = Stream(min(few, 0.08 / (long * world.machine.per_prefill_token_s)), long, 60, 0.0, 0.3)
    world.before = world.during = lambda t: [world.at(world.share), documents]
    return world


def slow_tokens(dice: Dice) -> World:
    """Each token takes 0.15 to 0.4 s, today as ever: a model too large for its machine."""
    world = drawn_world(dice)
    step = dice.uniform(0.15, 0.4)
    times = step / world.machine.step_s
    machine = replace(
        world.machine, step_s=step, per_sequence_s=world.machine.per_sequence_s * min(times, 2),
        per_prefill_token_s=world.machine.per_prefill_token_s * min(times, 3),
    )  # fmt: skip
    world = roomy(replace(world, machine=machine))
    world.before_s, world.fault_s, world.as_ever = 1500.0, 900.0, True
    world.share = min(world.share, 0.35)
    return world


def slow_and_new(dice: Dice) -> World:
    """The same, and Prometheus has known it for a minute."""
    world = dice.choice((slow_first, slow_tokens))(dice)
    world.before_s = dice.uniform(10, 90)
    return world


def scraped_rarely(dice: Dice) -> World:
    """Every half or whole minute, with bursts of some seconds."""
    world = roomy(drawn_world(dice))
    world.before_s, world.fault_s, world.scrape_s = 1800.0, 1200.0, dice.choice((30.0, 60.0))
    period, long, high = dice.uniform(120, 400), dice.uniform(3, 20), dice.uniform(0.5, 0.8)
    world.before = world.during = lambda t: [world.at(high if t % period < long else world.share)]
    return world


def rarely_and_lost(dice: Dice) -> World:
    """Every half or whole minute, and one scrape fails."""
    world = drawn_world(dice)
    world.before_s, world.fault_s, world.scrape_s = 1200.0, 600.0, dice.choice((30.0, 60.0))
    world.lost = lambda t: 100 <= t < 100 + 0.9 * (world.scrape_s or 30.0)
    return world


def prometheus_restarted(dice: Dice) -> World:
    """Nobody scrapes for a while; the last scrape before that may have failed."""
    world = drawn_world(dice)
    gap = dice.log(20, 400)
    world.fault_s = gap + dice.uniform(120, 400)
    world.unseen = lambda t: 30 <= t < 30 + gap
    failed = dice.chance(0.5)
    world.lost = lambda t: failed and 26 <= t < 30
    return world


def added_new(dice: Dice) -> World:
    """An old server that Prometheus has only just been told of, at work."""
    world = drawn_world(dice)
    world.before_s = dice.uniform(1, 20)
    world.fault_s = dice.uniform(300, 900)
    return world


def swapped(dice: Dice) -> World:
    """Drained and replaced within seconds: counters begin anew, and hardly a scrape failed."""
    world = roomy(drawn_world(dice))
    slowest = 3 * world.usual.output * (world.machine.step_s + world.machine.per_sequence_s * world.machine.slots)
    drained, down = slowest + dice.uniform(15, 40), dice.uniform(2, 12)
    up = drained + down
    world.fault_s = up + dice.uniform(120, 300)
    world.dead, world.back = lambda t: drained <= t < up, (up,)
    world.during = lambda t: [] if t < up + 3 else [world.at(world.share)]
    return world


def cold_start(dice: Dice) -> World:
    """After a deploy the first calls wait for kernels to be compiled, and everything gets faster for two minutes."""
    world = deploy(dice)
    (up,) = world.back
    long, cold = dice.uniform(20, 90), dice.uniform(1.5, 3.5)
    world.slower = lambda t: cold - (cold - 1) * min(1.0, max(0.0, t - up) / long) if t >= up else 1.0
    return world


def benchmark(dice: Dice) -> World:
    """Ten minutes of as much as it can do without a queue, out of silence and back into it."""
    world = roomy(drawn_world(dice))
    world.before_s, world.fault_s, world.bursts = dice.choice((300.0, 1800.0)), 900.0, 1.0
    high = dice.uniform(0.5, 0.75)
    world.before = lambda t: []
    world.during = lambda t: [world.at(high if 20 <= t < 620 else 0.0)]
    return world


def completions(dice: Dice) -> World:
    """Most calls are abandoned as somebody types on: an editor's, today as ever."""
    world = drawn_world(dice)
    share, few = dice.uniform(0.25, 0.7), max(2, world.usual.output // 4)
    leave = lambda t: [  # noqa: E731
        world.at(world.share * (1 - share)), replace(world.at(world.share * share), leaves_after=few),
    ]  # fmt: skip
    world.before = world.during = leave
    world.before_s, world.fault_s, world.as_ever = max(900.0, world.before_s), 600.0, True
    return world


def always_full(dice: Dice) -> World:
    """Offline work: as many calls wait as run, all the time; nobody sits in front of it."""
    world = roomy(drawn_world(dice))
    world.before_s, world.fault_s, world.as_ever = 1500.0, 600.0, True
    world.machine = replace(world.machine, slots=max(8, world.machine.slots // 4))
    world.before = world.during = lambda t: [world.at(0.97 + 0.2 * math.sin(2 * math.pi * t / 300))]
    return world


def documents_at_night(dice: Dice) -> World:
    """A call each minute or five, and every fourth of them a document of seconds; before as well."""
    world = drawn_world(dice)
    long = round(min(60_000, dice.uniform(2.6, 8) / world.machine.per_prefill_token_s))
    world = roomy(world, long * 2)
    world.before_s, world.fault_s, world.seldom = 3000.0, 1200.0, True
    rate = 1 / dice.log(60, 300)
    document = replace(world.usual, rate=rate / 4, prompt=long, shared=0.0, spread=0.3)
    world.before = world.during = lambda t: [replace(world.usual, rate=rate), document]
    return world


def morning(dice: Dice) -> World:
    """Half an hour from a night with a call a minute to a day at work."""
    world = roomy(drawn_world(dice))
    world.before_s, world.fault_s = 1200.0, 1800.0
    night, high = min(world.share, 1 / MINUTE_S / world.full), dice.uniform(0.4, 0.65)
    world.before = lambda t: [world.at(night)]
    world.during = lambda t: [world.at(night + (high - night) * min(1.0, t / 1500))]
    return world


def weekly_job(dice: Dice) -> World:
    """Beside the usual calls a report that nobody has seen for a week: longer prompts and answers, a few at a time."""
    world = roomy(drawn_world(dice))
    usual = world.usual
    kind = replace(usual, prompt=round(usual.prompt * dice.log(1.5, 4)), output=round(usual.output * dice.log(1.5, 4)))
    world = roomy(world, 3 * (kind.prompt + kind.output))
    world.share = min(world.share, 0.3)
    world.fault_s = dice.uniform(300, 900)
    job = world.of(replace(kind, shared=0.0), dice.uniform(0.1, 0.3))
    world.during = lambda t: [world.at(world.share), job]
    return world


def scaled_up(dice: Dice) -> World:
    """Prometheus is told of a new replica while that loads its weights; then it takes half of the traffic."""
    world = roomy(drawn_world(dice))
    share, loads = world.share, dice.log(30, 400)
    other = World(world.machine, world.usual, share * 2, dice, 600.0, loads + 300)
    other.during = lambda t: [other.at(share * (2 if t < loads else 1))]
    world.share, world.before_s, world.fault_s = share, 600.0, loads + 300
    world.dead, world.back, world.unseen = lambda t: t < loads, (loads,), lambda t: t < 0
    world.before = lambda t: []
    world.during = lambda t: [] if t < loads + 5 else [world.at(share)]
    world.sibling = other
    return world


def scaled_down(dice: Dice) -> World:
    """One of two is drained, ended and taken out of the list; some scrapes still find nobody."""
    world = roomy(drawn_world(dice))
    world.share = min(world.share, 0.3)
    slowest = 3 * world.usual.output * (world.machine.step_s + world.machine.per_sequence_s * world.machine.slots)
    ended = slowest + dice.uniform(15, 60)
    listed = ended + dice.uniform(0, 40)
    world.fault_s = listed + 120
    world.sibling = other = World(world.machine, world.usual, world.share, dice, world.before_s, world.fault_s)
    world.dead, world.unseen = lambda t: t >= ended, lambda t: t >= listed
    world.during = lambda t: []
    other.during = lambda t: [other.at(2 * other.share)]
    return world


def rolling(dice: Dice) -> World:
    """Four replicas, drained and started anew one after the other; three do the work of four meanwhile."""
    first = roomy(drawn_world(dice))
    first.share = min(first.share, 0.35)
    slowest = 3 * first.usual.output * (first.machine.step_s + first.machine.per_sequence_s * first.machine.slots)
    drained, down = slowest + dice.uniform(15, 40), dice.uniform(15, 100)
    turn = drained + down + 15
    first.fault_s = 4 * turn + 60
    every = [first]
    for _ in range(3):
        every.append(World(first.machine, first.usual, first.share, dice, first.before_s, first.fault_s))
        every[-2].sibling = every[-1]
    for number, world in enumerate(every):
        _in_turn(world, number * turn, drained, down, 4 * turn)
    return first


def _in_turn(world: World, begin: float, drained: float, down: float, over: float) -> None:
    up = begin + drained + down
    world.dead, world.back = lambda t: begin + drained <= t < up, (up,)
    usual, shared = world.at(world.share), world.usual.shared

    def during(t: float) -> list[Stream]:
        if begin <= t < up + 5:
            return []
        warm = min(1.0, (t - up) / 90) if t >= up else 1.0
        return [replace(usual, rate=usual.rate * (4 / 3 if t < over else 1), shared=shared * warm)]

    world.during = during


def looked_at_half_as_often(dice: Dice) -> World:
    """Somebody changes the scrape interval from 15 to 30 s."""
    world = drawn_world(dice)
    world.before_s, world.fault_s, world.scrape_s = dice.uniform(400, 1500), 900.0, 15.0
    world.unseen = lambda t: t >= 0 and int(t / 15) % 2 == 1
    return world


def out_of_sight(dice: Dice) -> World:
    """The way from Prometheus to a busy server is cut for a minute or two; clients come another way."""
    world = drawn_world(dice)
    world.share, long = max(0.2, world.share), dice.log(15, 150)
    world.fault_s = max(world.fault_s, long + 120)
    world.lost = lambda t: 30 <= t < 30 + long
    return world


def reasoning(dice: Dice) -> World:
    """Answers of minutes, some at a time, today as ever."""
    world = drawn_world(dice)
    output = round(dice.log(2500, 8000))
    world.usual = Stream(1.0, world.usual.prompt, output, world.usual.shared, dice.uniform(0.3, 0.8))
    world = roomy(world, output * 4)
    took = output * (world.machine.step_s + world.machine.per_sequence_s * 10)
    at_once = dice.uniform(3, max(4.0, 0.4 * world.machine.slots))
    world.before_s, world.fault_s = 1800.0, 900.0
    world.before = world.during = lambda t: [replace(world.usual, rate=at_once / took)]
    return world


def batch_files(dice: Dice) -> World:
    """A batch API: every ten minutes or so a file of many more calls than it has slots, which wait their turn."""
    world = roomy(drawn_world(dice))
    world.machine = replace(world.machine, slots=min(64, world.machine.slots))
    period, calls = dice.uniform(300, 900), world.machine.slots * dice.uniform(2, 8)
    world.before_s, world.fault_s, world.bursts, world.seldom = 3600.0, 2 * period, 0.05, True
    world.before = world.during = lambda t: [replace(world.usual, rate=calls if t % period < 1 else 0.001)]
    return world


def one_word(dice: Dice) -> World:
    """A classifier: every answer is two tokens."""
    world = drawn_world(dice)
    world.usual = replace(world.usual, output=2)
    world = roomy(world)
    world.share = dice.uniform(0.1, 0.4)
    world.before_s = min(600.0, 8 * 4000 / world.at(world.share).rate)
    return world


def new_system_prompt(dice: Dice) -> World:
    """The text that all prompts begin with is another one: nothing of it is cached, and a minute later all of it."""
    kind = Stream(1.0, round(dice.log(300, 4000)), round(dice.log(20, 300)), dice.uniform(0.5, 0.95), 0.2)
    world = roomy(drawn_world(dice, usual=kind))
    world.share, long = min(world.share, 0.3), dice.uniform(10, 60)
    world.during = lambda t: [replace(world.at(world.share), shared=kind.shared * min(1.0, t / long))]
    return world


def pinged(dice: Dice) -> World:
    """Nobody but a monitor that asks for one word each ten seconds, and now and then a person."""
    world = drawn_world(dice)
    world.before_s, world.fault_s, world.bursts = 1800.0, 900.0, 0.05
    ping = replace(world.usual, rate=0.1, prompt=12, output=2, shared=0.0, spread=0.0)
    world.before = world.during = lambda t: [ping, replace(world.usual, rate=1 / 200)]
    return world


CALM: tuple[Callable[[Dice], World], ...] = (
    one_a_minute, batch_job, one_stream, slow_first, slow_tail, slow_tokens, slow_and_new, scraped_rarely,
    rarely_and_lost, prometheus_restarted, added_new, swapped, cold_start, benchmark, completions, always_full,
    documents_at_night, morning, weekly_job, scaled_up, scaled_down, rolling, looked_at_half_as_often, out_of_sight,
    reasoning, batch_files, one_word, new_system_prompt, pinged,
)  # fmt: skip
