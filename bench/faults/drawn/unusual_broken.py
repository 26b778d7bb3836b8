"""Unusual faults of the server itself: device, kernel, scheduler, front end, stops; and what all unusual ones use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.faults.drawn.faults import HANGS, Drawn, Truth, roomy
from bench.faults.drawn.world import Dice, World, drawn_world
from bench.faults.simulate import Stream


def upto(t: float, long: float) -> float:
    """From 0 to 1 within so many seconds, then 1."""
    return min(1.0, max(0.0, t / long))


def deployed(world: World, ago: float) -> World:
    """Drained, ended and started anew so long before the fault; its counters begin anew with it."""
    machine = world.machine
    slowest = 3 * world.usual.output * (machine.step_s + machine.per_sequence_s * machine.slots)
    down, drains = world.dice.uniform(15, 60), slowest + 15
    world.before_s = max(world.before_s, ago + down + drains + 300)
    world.back, world.dead = (-ago,), lambda t: -ago - down <= t < -ago
    world.before = lambda t: [] if -ago - down - drains <= t < 3 - ago else [world.at(world.share)]
    return world


def beside(world: World, share: float) -> World:
    """One more replica of the same kind, the last of the row."""
    last = world
    while last.sibling is not None:
        last = last.sibling
    last.sibling = World(world.machine, world.usual, share, world.dice, world.before_s, world.fault_s, world.bursts)
    return last.sibling


def on_device(world: World, slower: Callable[[float], float]) -> World:
    """As much slower as that: by its clock, or because somebody else computes there."""
    world.slower = slower
    if world.dice.chance(0.5):
        world.clock = lambda t: max(0.1, 1 / slower(t))
    else:
        world.crowded = lambda t: slower(t) > 1
    return world


SLOW = Truth("slow_accelerator", "slow_decode", ("high_ttft",))


def slow_kernel_after_deploy(dice: Dice) -> Drawn:
    """The new image falls back to an attention kernel that reads contexts many times slower."""
    world = roomy(drawn_world(dice))
    world.share, world.fault_s = min(world.share, 0.2), dice.uniform(150, 400)
    usual, machine = world.usual, world.machine
    contexts = max(2.0, machine.slots * world.share) * (usual.prompt + usual.output / 2)
    world.later = replace(
        machine, per_context_token_s=machine.per_context_token_s + dice.log(1.2, 5) * machine.step_s / contexts,
        per_prefill_token_s=machine.per_prefill_token_s * dice.uniform(1.2, 3),
    )  # fmt: skip
    same = ("slow_kernel", "slow_accelerator")  # which of them makes the same work slower is not in the metrics
    return deployed(world, 3), Truth("slow_kernel", "slow_decode", ("high_ttft",), same)


def slow_nearly_idle(dice: Dice) -> Drawn:
    """A slow device that somebody asks once in ten or thirty seconds."""
    world = roomy(drawn_world(dice))
    world.before_s, world.fault_s, world.bursts = 1800.0, dice.uniform(400, 900), 0.3
    factor, rate = dice.log(3, 15), 1 / dice.uniform(8, 30)
    world.before = world.during = lambda t: [replace(world.usual, rate=rate)]
    return on_device(world, lambda t: factor if world.inside(t) else 1.0), SLOW


def slow_when_full(dice: Dice) -> Drawn:
    """A device that is a little slower on a server with hardly any room left: calls queue."""
    world = roomy(drawn_world(dice))
    world.share, world.bursts, world.fault_s = dice.uniform(0.68, 0.8), 1.0, dice.uniform(150, 420)
    world.before_s = min(world.before_s, 1200.0)
    factor = dice.uniform(1.4, 2.2)
    return on_device(world, lambda t: factor if world.inside(t) else 1.0), SLOW


def throttled_slowly(dice: Dice) -> Drawn:
    """A fan died: minutes go by until the clock is as low as it will be."""
    world = roomy(drawn_world(dice))
    rises, factor = dice.uniform(200, 500), dice.log(2.5, 9)
    world.fault_s = rises + dice.uniform(120, 300)
    world.slower = lambda t: 1 + (factor - 1) * upto(t, rises) if world.inside(t) else 1.0
    world.clock = lambda t: max(0.1, 1 / world.slower(t))
    return world, SLOW


def throttled_in_waves(dice: Dice) -> Drawn:
    """Too hot, slow, cool again, fast, too hot again."""
    world = roomy(drawn_world(dice))
    hot, cool, factor = dice.uniform(30, 80), dice.uniform(40, 150), dice.log(2.5, 9)
    world.fault_s = 4 * (hot + cool)
    world.slower = lambda t: factor if world.inside(t) and t % (hot + cool) < hot else 1.0
    world.clock = lambda t: max(0.1, 1 / world.slower(t))
    return world, replace(SLOW, causes=("slow_accelerator", "accelerator_jitter"))


def late_large_batch(dice: Dice) -> Drawn:
    """Since somebody's logits processor came, the scheduler is late in steps with many requests, and only in those."""
    world = roomy(drawn_world(dice))
    world.bursts, world.fault_s = 1.0, dice.uniform(240, 500)
    few = max(3.0, dice.uniform(0.15, 0.3) * world.machine.slots)
    late, period, high = dice.log(0.05, 0.2), dice.uniform(60, 160), dice.uniform(0.55, 0.7)
    world.late_batch_s = lambda t, n: late if world.inside(t) and n > few else 0.0
    world.before = world.during = lambda t: [world.at(high if t % period < 0.5 * period else min(0.15, world.share))]
    return world, Truth("scheduler_stall", "slow_decode", ("high_ttft", "low_throughput", "sporadic_slow"))


def tokenizer_slow(dice: Dice) -> Drawn:
    """The front end needs long for long prompts, and everybody waits behind those few; short ones cost it nothing."""
    world = drawn_world(dice)
    long = round(max(1500, min(20_000, dice.uniform(0.08, 0.3) / world.machine.per_prefill_token_s)))
    world = roomy(world, long * 2)
    world.share = min(world.share, 0.35)
    documents = world.reading(Stream(1.0, long, 30, 0.0, 0.2), dice.uniform(0.06, 0.15))
    tokens = world.at(world.share).rate * world.usual.prompt + documents.rate * long
    each = dice.log(0.65, 1.5) / tokens
    world.before = world.during = lambda t: [world.at(world.share), documents]
    world.door_token_s = lambda t: each if world.inside(t) else 0.0
    return world, Truth("frontend_bottleneck", "high_ttft", ("low_throughput", "sporadic_slow", "hang_or_crash"))


def stalls_minutes_apart(dice: Dice) -> Drawn:
    """The engine stands still for seconds, and then for minutes it does not."""
    world = roomy(drawn_world(dice))
    long, period = dice.uniform(4, 9), dice.uniform(70, 170)
    world.fault_s = 5 * period
    world.frozen = lambda t: world.inside(t) and 5 <= t % period < 5 + long
    return world, Truth("engine_stalls", "sporadic_slow", ("slow_decode", "high_ttft"))


def stalls_seconds_apart(dice: Dice) -> Drawn:
    """The engine stands still for most of a second, every few seconds."""
    world = roomy(drawn_world(dice))
    long, period = dice.uniform(0.5, 1.2), dice.uniform(2.5, 6)
    world.frozen = lambda t: world.inside(t) and t % period < long
    return world, Truth("engine_stalls", "sporadic_slow", ("slow_decode", "high_ttft"))


def stalls_then_hang(dice: Dice) -> Drawn:
    """Each stop is longer than the one before, until one does not end."""
    world = roomy(drawn_world(dice))
    period, first = dice.uniform(20, 50), dice.uniform(1, 2)
    hangs = 4 * period
    world.fault_s = hangs + dice.uniform(90, 240)
    world.frozen = lambda t: world.inside(t) and (t >= hangs or t % period < first * 1.7 ** (t // period))
    return world, Truth("engine_hang", "hang_or_crash", ("low_throughput", "sporadic_slow", "slow_decode", "high_ttft"),
                        (*HANGS, "engine_stalls"))  # fmt: skip


def hung_after_deploy(dice: Dice) -> Drawn:
    """A new server works for a minute and then does not end its step."""
    world = deployed(roomy(drawn_world(dice)), dice.uniform(25, 100))
    world.frozen = world.inside
    return world, Truth("engine_hang", "hang_or_crash", ("low_throughput",), HANGS)


def one_slow_of_three(dice: Dice) -> Drawn:
    """Three replicas get the same; this one's device is slow."""
    world = roomy(drawn_world(dice))
    factor = dice.log(2, 9)
    beside(world, world.share)
    beside(world, world.share)
    return on_device(world, lambda t: factor if world.inside(t) else 1.0), SLOW


def grammars(dice: Dice) -> Drawn:
    """Waves of calls whose answers must fit a scheme that has to be compiled first: they wait for that, nobody else."""
    world = roomy(drawn_world(dice))
    share, seconds, period = dice.uniform(0.15, 0.5), dice.uniform(4, 20), dice.uniform(60, 150)
    world.fault_s, world.deferred = 3 * period, True
    world.held = lambda t: (share, seconds) if world.inside(t) and t % period < 0.5 * period else (0.0, 0.0)
    return world, Truth("unknown", "sporadic_slow", ("high_ttft",))


def stalls_under_load(dice: Dice) -> Drawn:
    """More calls than can be served, and an engine that stops for seconds besides."""
    world = roomy(drawn_world(dice))
    long, period, share = dice.uniform(2, 5), dice.uniform(12, 40), dice.log(1.1, 2)
    world.frozen = lambda t: world.inside(t) and t % period < long
    world.during = lambda t: [world.at(share)]
    both = ("capacity_exceeded", "engine_stalls")
    return world, Truth("capacity_exceeded", "high_ttft", ("sporadic_slow", "slow_decode"), both, pair=True)


def slow_then_gone(dice: Dice) -> Drawn:
    """A device that is slow for minutes, and then the process dies of it."""
    world = roomy(drawn_world(dice))
    slow, factor = dice.uniform(80, 240), dice.log(2, 9)
    world.fault_s = slow + dice.uniform(60, 150)
    world.dead = lambda t: slow <= t < world.fault_s
    both = ("slow_accelerator", "engine_crash")
    return on_device(world, lambda t: factor if 0 <= t < slow else 1.0), replace(
        SLOW, also=("high_ttft", "hang_or_crash"), causes=both)  # fmt: skip
