"""Which healthy servers look like the unusual faults? The same shapes, within what the server can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.faults.drawn.faults import roomy
from bench.faults.drawn.unusual_broken import beside, deployed, upto
from bench.faults.drawn.world import Dice, World, drawn_world
from bench.faults.simulate import Stream


def agents_fit(dice: Dice) -> World:
    """Contexts of agents grow for minutes; each step reads a little more."""
    world = roomy(drawn_world(dice))
    world.share = min(world.share, 0.25)
    first, turn = world.usual.prompt, min(world.usual.prompt, 400)
    tokens = world.at(world.share).rate * world.usual.output
    long = max(first, round(min(60_000, dice.uniform(0.05, 0.12) / (tokens * world.machine.per_context_token_s))))
    world = roomy(world, long * 2)
    world.fault_s, grows = dice.uniform(500, 900), dice.uniform(300, 600)
    rate = world.at(world.share).rate

    def turns(t: float) -> list[Stream]:
        prompt = first + (long - first) * upto(t, grows)
        shared = max(world.usual.shared, 1 - turn / prompt)
        return [replace(world.usual, rate=rate, prompt=round(prompt), shared=shared)]

    world.during = turns
    return world


def some_think(dice: Dice) -> World:
    """A few calls think for thousands of tokens, with slots and KV cache for them."""
    world = drawn_world(dice)
    kind = replace(world.usual, output=round(world.usual.output * dice.log(5, 15)), spread=0.5)
    world = roomy(world, 2 * (kind.prompt + kind.output))
    world.share, world.fault_s = min(world.share, 0.25), dice.uniform(200, 600)
    thinks = world.of(kind, dice.uniform(0.03, 0.15))
    world.during = lambda t: [world.at(world.share), thinks]
    return world


def morning_below(dice: Dice) -> World:
    """The day's rise ends below what the server can do."""
    world = roomy(drawn_world(dice))
    rises, high = dice.uniform(500, 1000), dice.uniform(0.45, 0.62)
    world.share, world.bursts, world.fault_s = min(world.share, 0.25), 1.0, rises + 200
    low = world.share
    world.during = lambda t: [world.at(low + (high - low) * upto(t, rises))]
    return world


def waves_below(dice: Dice) -> World:
    """From now on a job every few minutes, for half a minute, which is served without a queue."""
    world = roomy(drawn_world(dice))
    period, long, high = dice.uniform(140, 300), dice.uniform(30, 80), dice.uniform(0.45, 0.62)
    world.bursts, world.fault_s = 1.0, 3 * period
    world.during = lambda t: [world.at(high if t % period < long else min(0.4, world.share))]
    return world


def back_after_quiet(dice: Dice) -> World:
    """Nobody for minutes; then all of them, and some more for a while."""
    world = roomy(drawn_world(dice))
    quiet, backlog = dice.uniform(60, 240), dice.uniform(20, 60)
    world.before_s, world.bursts, world.share = max(world.before_s, quiet + 300), 1.0, min(0.35, world.share)
    world.before = lambda t: [] if t > -quiet else [world.at(world.share)]
    world.during = lambda t: [world.at(world.share * (1.5 if t < backlog else 1))]
    return world


def smaller_after_deploy(dice: Dice) -> World:
    """A deploy with half the slots and half the KV cache, which are enough."""
    world = roomy(drawn_world(dice))
    world.share, world.bursts, world.fault_s = min(world.share, 0.2), 1.0, dice.uniform(150, 400)
    machine = world.machine
    world.later = replace(machine, slots=max(8, machine.slots // 2), kv_tokens=round(machine.kv_tokens * 0.62))
    return deployed(world, 3)


def warm_room(dice: Dice) -> World:
    """The clock falls by a tenth over minutes."""
    world = roomy(drawn_world(dice))
    rises, factor = dice.uniform(200, 500), dice.uniform(1.04, 1.15)
    world.fault_s = rises + 200
    world.slower = lambda t: 1 + (factor - 1) * upto(t, rises) if world.inside(t) else 1.0
    world.clock = lambda t: 1 / world.slower(t)
    return world


def words_beside(dice: Dice) -> World:
    """A classifier that reads a little beside everybody else."""
    world = drawn_world(dice)
    kind = Stream(1.0, round(dice.log(300, 1500)), 2, 0.0, 0.3)
    world = roomy(world, 3 * kind.prompt)
    world.share = min(world.share, 0.3)
    words = world.reading(kind, dice.uniform(0.04, 0.12))
    world.during = lambda t: [world.at(world.share), words]
    return world


def third_drained(dice: Dice) -> World:
    """One of three replicas is drained; the two others take its calls, which is nothing to them."""
    world = roomy(drawn_world(dice))
    world.share = min(world.share, 0.35)
    still, drained = beside(world, world.share), beside(world, world.share)
    world.during = still.during = lambda t: [world.at(1.5 * world.share)]
    drained.during = lambda t: []
    return world


UNUSUAL_OK: tuple[Callable[[Dice], World], ...] = (
    agents_fit, some_think, morning_below, waves_below, back_after_quiet, smaller_after_deploy, warm_room, words_beside,
    third_drained,
)  # fmt: skip
