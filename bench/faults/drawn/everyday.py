"""Which healthy servers does production have that the other calm ones lack? Releases, jobs, adapters, probes, chats.

Drawn after `CALM`, so that what a calm seed drew before stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.faults.drawn.faults import roomy
from bench.faults.drawn.world import Dice, World, drawn_world
from bench.faults.simulate import Stream


def blue_green(dice: Dice) -> World:
    """A new server is tried out with a few calls, then gets all of the old one's traffic at once, with a cold cache."""
    world = roomy(drawn_world(dice))
    tried, filled = dice.log(40, 400), dice.uniform(15, 90)
    world.new, world.before_s, world.fault_s = True, tried, dice.uniform(200, 600)
    few = replace(world.usual, rate=dice.log(0.1, 1), shared=0.0)
    world.before = lambda t: [few]
    world.during = lambda t: [replace(world.at(world.share), shared=world.usual.shared * min(1.0, t / filled))]
    return world


def autoscaled(dice: Dice) -> World:
    """Load grows until another replica is started, which then takes half of it."""
    world = roomy(drawn_world(dice))
    world.share = min(world.share, 0.3)
    peak, grows = dice.uniform(0.55, 0.75), dice.uniform(120, 600)
    ready = grows + dice.uniform(30, 200)
    world.fault_s = ready + 200
    world.during = lambda t: [
        world.at(world.share + (peak - world.share) * min(1.0, t / grows) if t < ready else peak / 2)
    ]
    return world


def hourly_job(dice: Dice) -> World:
    """Summaries of the last hour's documents, for minutes: the same an hour (here: twenty to forty minutes) ago."""
    world = roomy(drawn_world(dice))
    usual = world.usual
    kind = replace(usual, prompt=round(min(8000, usual.prompt * dice.log(2, 6))), shared=0.0, spread=0.2)
    world = roomy(world, 3 * (kind.prompt + kind.output))
    world.share = min(world.share, 0.3)
    period, long = dice.uniform(1200, 2400), dice.uniform(60, 240)
    world.before_s, world.fault_s = period, long + 200
    job = world.of(kind, dice.uniform(0.1, 0.25))
    sent = lambda t: [world.at(world.share), job] if t % period < long else [world.at(world.share)]  # noqa: E731
    world.before = world.during = sent
    return world


def adapters(dice: Dice) -> World:
    """Everybody waits for some tenths of a second while an adapter is loaded, now and then, as ever."""
    world = drawn_world(dice)
    world.before_s, world.fault_s = max(600.0, world.before_s), 900.0
    stops, at = [], -world.before_s
    while at < world.fault_s:
        at += dice.uniform(15, 120)
        stops.append((at, at + dice.uniform(0.1, 0.5)))
    world.frozen = lambda t: any(since <= t < until for since, until in stops)
    return world


def probed(dice: Dice) -> World:
    """From now on somebody asks for one token each second or few, to see whether it is there."""
    world = drawn_world(dice)
    probe = replace(world.usual, rate=dice.log(0.2, 2), prompt=8, output=1, shared=0.0, spread=0.0)
    world.during = lambda t: [world.at(world.share), probe]
    return world


def structured(dice: Dice) -> World:
    """Long JSON instead of text: longer answers, and each step takes a little longer for the grammar."""
    world = drawn_world(dice)
    factor, grammar = dice.log(1.5, 4), dice.uniform(1.05, 1.35)
    world = roomy(world, round(world.usual.output * factor * 2.5 + world.usual.prompt * 2))
    world.share = min(world.share, 0.5 / factor)
    world.slower = lambda t: grammar if t >= 0 else 1.0
    world.during = lambda t: [replace(world.at(world.share), output=round(world.usual.output * factor))]
    return world


def cache_reset(dice: Dice) -> World:
    """Somebody empties the prefix cache, or all it holds expires at once; it fills again within a minute."""
    kind = Stream(1.0, round(dice.log(200, 3000)), round(dice.log(20, 300)), dice.uniform(0.4, 0.95), 0.3)
    world = roomy(drawn_world(dice, usual=kind))
    world.share, filled = min(world.share, 0.3), dice.uniform(3, 40)
    every = dice.choice((200.0, 600.0, 1e9))
    world.fault_s = dice.uniform(300, 900)
    world.during = lambda t: [replace(world.at(world.share), shared=kind.shared * min(1.0, t % every / filled))]
    return world


def weekend(dice: Dice) -> World:
    """Nobody for minutes, then one who asks for a long answer; the days before were the same."""
    world = drawn_world(dice)
    output = round(dice.log(800, 6000))
    world.usual = Stream(1.0, world.usual.prompt, output, world.usual.shared, 0.5)
    world = roomy(world, output * 4)
    world.before_s, world.fault_s, world.seldom = 3600.0, 1800.0, True
    world.before = world.during = lambda t: [replace(world.usual, rate=1 / 240)]
    return world


def growing_chats(dice: Dice) -> World:
    """Conversations grow longer: each turn sends all of it again, and the cache has all but the last."""
    world = drawn_world(dice)
    first = round(dice.log(100, 800))
    longest = dice.uniform(2, 5)
    world.usual = Stream(1.0, first, world.usual.output, 0.3, 0.4)
    world = roomy(world, round(first * longest * 3 + world.usual.output * 3))
    world.share, world.before_s, world.fault_s = min(world.share, 0.3), 600.0, 1500.0
    own = first * 0.7

    def turns(t: float) -> list[Stream]:
        prompt = first * (1 + (longest - 1) * min(1.0, max(0.0, t) / 1200))
        return [replace(world.at(world.share), prompt=round(prompt), shared=1 - own / prompt)]

    world.before = world.during = turns
    return world


def hedged(dice: Dice) -> World:
    """A gateway begins to ask twice whom it waits for too long, and hangs up on the slower one."""
    world = drawn_world(dice)
    world.share = min(world.share, 0.45)
    twice = dice.uniform(0.03, 0.12)
    world.during = lambda t: [
        world.at(world.share), replace(world.at(world.share * twice), leaves_after=max(2, world.usual.output // 10)),
    ]  # fmt: skip
    return world


def alternating(dice: Dice) -> World:
    """Two services take turns every few minutes: one with long answers, one with long prompts; as ever."""
    world = roomy(drawn_world(dice))
    usual = world.usual
    other = replace(usual, prompt=round(min(6000, usual.prompt * dice.log(2, 5))), output=max(10, usual.output // 3))
    world = roomy(world, 3 * (other.prompt + other.output))
    world.share = min(world.share, 0.3)
    turn = dice.uniform(120, 600)
    second = world.of(other, dice.uniform(0.15, 0.3))
    world.before_s, world.fault_s = max(3 * turn, world.before_s), 4 * turn
    world.before = world.during = lambda t: [world.at(world.share) if t // turn % 2 else second]
    return world


EVERYDAY: tuple[Callable[[Dice], World], ...] = (
    blue_green, autoscaled, hourly_job, adapters, probed, structured, cache_reset, weekend, growing_chats, hedged,
    alternating,
)  # fmt: skip
