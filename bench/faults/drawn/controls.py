"""Which healthy servers are drawn? What happens in any week and must wake nobody.

Where clients did suffer the draw is rejected: a control is one whose clients felt nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from bench.faults.drawn.faults import roomy
from bench.faults.drawn.world import Dice, World, drawn_world
from bench.faults.simulate import Stream


def steady(dice: Dice) -> World:
    """Nothing at all."""
    return drawn_world(dice)


def burst(dice: Dice) -> World:
    """Seconds of much more."""
    world = roomy(drawn_world(dice))
    long, high = dice.uniform(3, 20), dice.uniform(0.6, 1.3)
    world.during = lambda t: [world.at(high if t < long else world.share)]
    return world


def bursts(dice: Dice) -> World:
    """A batch job that sends its calls every half minute or so."""
    world = roomy(drawn_world(dice))
    period, high = dice.uniform(15, 60), dice.uniform(0.5, 0.9)
    world.during = lambda t: [world.at(high if t % period < 0.15 * period else world.share)]
    return world


def ramp_up(dice: Dice) -> World:
    """Morning in minutes."""
    world = roomy(drawn_world(dice))
    high, long = dice.uniform(0.5, 0.75), dice.uniform(30, 300)
    world.during = lambda t: [world.at(world.share + (high - world.share) * min(1.0, t / long))]
    return world


def ramp_to_nothing(dice: Dice) -> World:
    """The day's last calls."""
    world = drawn_world(dice)
    world.during = lambda t: [world.at(world.share * max(0.0, 1 - 1.3 * t / world.fault_s))]
    return world


def waves(dice: Dice) -> World:
    """Up and down, before as well."""
    world = roomy(drawn_world(dice))
    period, depth = dice.uniform(12, 120), dice.uniform(0.4, 0.95)
    world.before = world.during = lambda t: [world.at(0.35 * (1 + depth * math.sin(2 * math.pi * t / period)))]
    return world


def night(dice: Dice) -> World:
    """Hardly anybody."""
    world = drawn_world(dice)
    left = dice.log(0.003, 0.1)
    world.fault_s = dice.uniform(120, 900)
    world.during = lambda t: [world.at(world.share * left)]
    return world


def idle(dice: Dice) -> World:
    """Nobody for minutes, then as before."""
    world = drawn_world(dice)
    quiet = world.fault_s * dice.uniform(0.3, 0.8)
    world.during = lambda t: [] if t < quiet else [world.at(world.share)]
    return world


def deploy(dice: Dice) -> World:
    """Drained, ended, started anew, with a cold cache."""
    world = roomy(drawn_world(dice))
    slowest = 3 * world.usual.output * (world.machine.step_s + world.machine.per_sequence_s * world.machine.slots)
    drained, down = slowest + dice.uniform(15, 40), dice.uniform(15, 100)
    world.fault_s = drained + down + dice.uniform(60, 200)
    up = drained + down
    world.dead = lambda t: drained <= t < up
    world.back = (up,)
    world.during = lambda t: [] if t < up + 5 else [
        replace(world.at(world.share), shared=world.usual.shared * min(1.0, (t - up) / 90))]  # fmt: skip
    return world


def restart_while_idle(dice: Dice) -> World:
    """Gone and back while nobody was there; counters begin at zero."""
    world = drawn_world(dice)
    world.before = lambda t: [world.at(world.share)] if t < -60 else []
    up = dice.uniform(25, 70)
    world.dead, world.back = lambda t: 5 <= t < up, (up,)
    world.during = lambda t: [] if t < up + 10 else [world.at(world.share)]
    return world


def warm_up(dice: Dice) -> World:
    """Started a moment ago; its cache fills."""
    kind = Stream(1.0, round(dice.log(800, 4000)), round(dice.log(20, 150)), dice.uniform(0.7, 0.95), 0.2)
    world = roomy(drawn_world(dice, usual=kind))
    world.new, world.before_s = True, dice.uniform(60, 150)
    begin, long = -world.before_s, dice.uniform(60, 240)
    world.before = world.during = lambda t: [
        replace(world.at(world.share), shared=world.usual.shared * max(0.0, min(1.0, (t - begin) / long)))]  # fmt: skip
    return world


def longer_prompts(dice: Dice) -> World:
    """Within what the server reads easily."""
    world = drawn_world(dice)
    factor = dice.log(1.5, 6)
    world = roomy(world, round(world.usual.prompt * factor * 2))
    world.share = min(world.share, 0.25)
    world.during = lambda t: [replace(world.at(world.share), prompt=round(world.usual.prompt * factor))]
    return world


def longer_answers(dice: Dice) -> World:
    """With slots and cache for them."""
    world = drawn_world(dice)
    factor = dice.log(1.5, 4)
    world = roomy(world, round(world.usual.output * factor * 2.5 + world.usual.prompt * 2))
    world.share = min(world.share, 0.6 / factor)
    world.during = lambda t: [replace(world.at(world.share), output=round(world.usual.output * factor))]
    return world


def shorter_calls(dice: Dice) -> World:
    """Many small calls instead of few large ones."""
    world = roomy(drawn_world(dice))
    small = replace(world.usual, prompt=max(10, world.usual.prompt // 8), output=max(3, world.usual.output // 8))
    share = dice.uniform(0.2, 0.5)
    world.during = lambda t: [world.of(small, share)]
    return world


def twice(dice: Dice) -> World:
    """Twice as much, which it can do."""
    world = roomy(drawn_world(dice))
    world.share = min(world.share, 0.3)
    world.during = lambda t: [world.at(world.share * 2)]
    return world


def other_prompts(dice: Dice) -> World:
    """Hardly a hit in the cache, and it does not matter."""
    world = roomy(drawn_world(dice))
    left = dice.uniform(0, 0.1)
    world.during = lambda t: [replace(world.at(world.share), shared=left)]
    return world


def few_documents(dice: Dice) -> World:
    """A stream of long prompts that takes a little of the time."""
    world = drawn_world(dice)
    long = round(min(20_000, dice.uniform(0.03, 0.12) / world.machine.per_prefill_token_s))
    world = roomy(world, long * 2)
    documents = world.reading(Stream(1.0, max(200, long), 30, 0.0, 0.2), dice.uniform(0.03, 0.15))
    world.during = lambda t: [world.at(world.share), documents]
    return world


def some_leave(dice: Dice) -> World:
    """As many clients hang up as always do."""
    world = drawn_world(dice)
    share = dice.uniform(0.02, 0.12)
    leave = lambda t: [  # noqa: E731
        world.at(world.share * (1 - share)),
        replace(world.at(world.share * share), leaves_after=max(2, world.usual.output // 3)),
    ]
    world.before = world.during = leave
    return world


def wrong_calls(dice: Dice) -> World:
    """Somebody asks for a model that is not there, many times a second."""
    world = drawn_world(dice)
    rate = dice.log(1, 100)
    world.refused = lambda t: rate if world.inside(t) else 0.0
    return world


def scrapes_lost(dice: Dice) -> World:
    """A scrape or two in a row do not come back. Three are what a frozen server looks like for as long."""
    world = drawn_world(dice)
    left = [1 + (dice.uniform(5, 25) >= 15)]

    def lost(t: float) -> bool:
        left[0] -= t >= 30
        return t >= 30 and left[0] >= 0

    world.lost = lost
    return world


def scrapes_late(dice: Dice) -> World:
    """A scrape that takes seconds."""
    world = drawn_world(dice)
    slow, long = dice.uniform(0.5, 4), dice.uniform(1, 12)
    world.slow_scrape_s = lambda t: slow if 20 <= t < 20 + long else 0.01
    return world


def short_stop(dice: Dice) -> World:
    """Once, for less than a second: a garbage collection."""
    world = drawn_world(dice)
    long = dice.uniform(0.3, 0.9)
    world.frozen = lambda t: 20 <= t < 20 + long
    return world


def exporter_gone(dice: Dice) -> World:
    """The GPU's exporter is silent."""
    world = drawn_world(dice)
    world.gpu_lost = world.inside
    return world


def clock_down(dice: Dice) -> World:
    """The GPU clocks down because little is asked of it."""
    world = drawn_world(dice)
    clock = dice.uniform(0.2, 0.6)
    world.clock = lambda t: clock if world.inside(t) else 1.0
    world.during = lambda t: [world.at(world.share * 0.1)]
    return world


def two_replicas(dice: Dice) -> World:
    """Both get the same."""
    world = roomy(drawn_world(dice))
    world.sibling = World(world.machine, world.usual, world.share, dice, world.before_s, world.fault_s)
    return world


def moved_over(dice: Dice) -> World:
    """One of two replicas takes the other's traffic while that is drained; it can."""
    world = two_replicas(dice)
    world.share = min(world.share, 0.35)
    other = world.sibling
    assert other is not None
    other.share = world.share
    world.during = lambda t: [world.at(2 * world.share)]
    other.during = lambda t: []
    return world


CONTROLS: tuple[Callable[[Dice], World], ...] = (
    steady, burst, bursts, ramp_up, ramp_to_nothing, waves, night, idle, deploy, restart_while_idle, warm_up,
    longer_prompts, longer_answers, shorter_calls, twice, other_prompts, few_documents, some_leave, wrong_calls,
    scrapes_lost, scrapes_late, short_stop, exporter_gone, clock_down, two_replicas, moved_over,
)  # fmt: skip
