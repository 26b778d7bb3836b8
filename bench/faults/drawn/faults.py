"""Which faults are drawn? Each a cause in one line of physics, its strength from a wide range.

A builder gives a world and its truth. Nothing but what the label says may run out: where a fault is about slots there
is room in the KV cache, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.faults.drawn.world import Dice, World, drawn_machine, drawn_stream, drawn_world, full_rate
from bench.faults.simulate import Stream

HANGS = ("engine_hang", "worker_hang", "collective_hang")
"""One answer here: a drawn server has no processes, so that each is right for each hang."""


@dataclass(frozen=True)
class Truth:
    """What is wrong. `causes`: what counts as right where several act or where metrics cannot differ by nature."""

    cause: str
    class_: str
    also: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    pair: bool = False
    """`causes` are two faults at once."""


Drawn = tuple[World, Truth]


def roomy(world: World, longest: int = 0) -> World:
    """KV cache for every slot."""
    needs = max(longest, 3 * (world.usual.prompt + world.usual.output)) * 1.3
    machine = replace(world.machine, kv_tokens=max(world.machine.kv_tokens, round(world.machine.slots * needs)))
    return replace(world, machine=machine, noise=[])


def wide(world: World) -> World:
    """Four times the slots: nobody waits for one."""
    return replace(world, machine=replace(world.machine, slots=world.machine.slots * 4), noise=[])


def ramp(world: World, low: float, high: float) -> Callable[[float], float]:
    """A step, or a rise over a part of the fault."""
    rise = world.dice.choice((0.0, 0.0, world.dice.uniform(10, 60)))
    return lambda t: high if t >= rise else low + (high - low) * t / rise


def more_arrivals(dice: Dice) -> Drawn:
    """More calls than the server can serve."""
    world = roomy(drawn_world(dice))
    share = ramp(world, world.share, dice.log(1.15, 4))
    patience = dice.choice((1e9, 1e9, dice.uniform(10, 60)))
    world.during = lambda t: [replace(world.at(share(t)), patience_s=patience)]
    return world, Truth("capacity_exceeded", "high_ttft", ("slow_decode",))


def new_tenant(dice: Dice) -> Drawn:
    """Somebody else comes with similar requests, too many of them."""
    world = roomy(drawn_world(dice))
    usual = world.usual
    prompt, output = round(usual.prompt * dice.log(0.5, 1.5)), round(usual.output * dice.log(0.5, 2))
    kind = replace(usual, prompt=prompt, output=output)
    other = world.of(kind, dice.log(0.8, 2.5) + 0.2)
    world.during = lambda t: [world.at(world.share), other]
    return world, Truth("capacity_exceeded", "high_ttft", ("slow_decode",))


def slots_full(dice: Dice) -> Drawn:
    """Answers become longer until the slots are full."""
    world = drawn_world(dice)
    factor = dice.log(2.5, 8)
    world = roomy(world, round(world.usual.prompt * 2 + world.usual.output * factor * 2.5))
    world.during = lambda t: [replace(world.at(max(world.share, 0.25)), output=round(world.usual.output * factor))]
    return world, Truth("capacity_exceeded", "high_ttft", ("slow_decode",))


def kv_full(dice: Dice) -> Drawn:
    """Longer contexts or more of them than the KV cache holds, with slots left."""
    world = drawn_world(dice)
    usual = world.usual
    tokens = usual.prompt * (1 - usual.shared * 0.5) + usual.output
    many = max(4.0, world.machine.slots * dice.uniform(0.25, 0.6))
    grown = replace(usual, output=round(usual.output * dice.log(2, 6)), prompt=round(usual.prompt * dice.log(1, 2)))
    kv = max(round(many * tokens * 1.2), round((grown.prompt + grown.output) * 5))
    world = replace(world, machine=replace(world.machine, kv_tokens=kv, slots=max(16, world.machine.slots)), noise=[])
    world.share = min(world.share, 0.4)
    strength = dice.log(1.0, 2.0)
    world.during = lambda t: [world.of(grown, strength)]
    return world, Truth("kv_pressure_preemption", "high_ttft", ("slow_decode", "sporadic_slow"))


def cache_lost(dice: Dice) -> Drawn:
    """Long shared prompts are not found in the cache any more."""
    kind = Stream(1.0, round(dice.log(1200, 6000)), round(dice.log(15, 120)), dice.uniform(0.75, 0.97), 0.15)
    world = drawn_world(dice, usual=kind)
    world = roomy(world)
    left = dice.choice((0.0, 0.0, dice.uniform(0.02, 0.3)))
    cold = replace(world.usual, shared=left)
    rate = max(world.share * world.full, dice.log(0.85, 1.6) * full_rate(world.machine, replace(cold, rate=1.0)))
    world.share = min(0.7, rate / world.full)
    world.during = lambda t: [replace(world.at(world.share), shared=left)]
    return world, Truth("prefix_cache_collapse", "high_ttft", ("slow_decode",))


def long_prompts(dice: Dice) -> Drawn:
    """Prompts become many times longer; reading them takes the time."""
    kind = replace(drawn_stream(dice), prompt=round(dice.log(60, 600)), output=round(dice.log(20, 150)))
    world = drawn_world(dice, usual=kind)
    long = round(world.usual.prompt * dice.log(5, 25))
    world = roomy(world, long * 2)
    new = replace(world.usual, prompt=long, shared=world.usual.shared * dice.uniform(0, 0.3))
    rate = max(world.at(world.share).rate, world.reading(new, dice.log(0.75, 1.5)).rate)
    world.during = lambda t: [replace(new, rate=rate)]
    return world, Truth("long_prompt_blocking", "high_ttft", ("slow_decode",))


def larger_batch(dice: Dice) -> Drawn:
    """Many more at once, slots enough, each step slower because of them."""
    step, slots, heavy = dice.log(0.02, 0.06), round(dice.log(64, 256)), dice.log(3, 10)
    machine = replace(drawn_machine(dice), step_s=step, slots=slots, per_sequence_s=step * heavy / slots,
                      per_prefill_token_s=step / 1200, kv_tokens=slots * 2500)  # fmt: skip
    kind = Stream(1.0, round(dice.log(30, 200)), round(dice.log(60, 400)), 0.0, 0.3)
    world = World(machine, kind, dice.uniform(0.05, 0.12), dice, dice.log(120, 900), dice.log(90, 300))
    strength = dice.uniform(0.75, 0.92)
    world.during = lambda t: [world.at(strength)]
    return world, Truth("batch_saturation", "slow_decode")


def slow_device(dice: Dice) -> Drawn:
    """All work takes longer: clocks down, or somebody else on the device."""
    world = roomy(drawn_world(dice))
    factor, throttled = dice.log(1.8, 14), dice.chance(0.5)
    world.slower = lambda t: factor if world.inside(t) else 1.0
    if throttled:
        world.clock = lambda t: max(0.1, 1 / factor) if world.inside(t) else 1.0
    else:
        world.crowded = world.inside
    return world, Truth("slow_accelerator", "slow_decode", ("high_ttft",))


def late_scheduler(dice: Dice) -> Drawn:
    """The scheduler loses the same time in every step, however much work is in it."""
    world = roomy(drawn_world(dice))
    late = max(0.04, world.machine.step_s * dice.log(1, 12))
    world.late_s = lambda t: late if world.inside(t) else 0.0
    return world, Truth("scheduler_stall", "slow_decode", ("high_ttft", "low_throughput"))


def busy_front_end(dice: Dice) -> Drawn:
    """Each call costs the front end more than there is time for."""
    world = roomy(drawn_world(dice))
    work = dice.log(0.9, 2) / world.at(world.share).rate
    world.door_s = lambda t: work if world.inside(t) else 0.002
    return world, Truth("frontend_bottleneck", "high_ttft", ("low_throughput", "hang_or_crash"))


def starved_front_end(dice: Dice) -> Drawn:
    """The front end runs for moments only."""
    world = roomy(drawn_world(dice))
    period = dice.uniform(1.5, 7)
    share = dice.uniform(0.03, 0.15)
    world.shut = lambda t: world.inside(t) and t % period > share * period
    return world, Truth("frontend_bottleneck", "high_ttft", ("low_throughput", "sporadic_slow", "hang_or_crash"))


def documents_beside(dice: Dice) -> Drawn:
    """Long prompts of others are read in the steps in which everybody decodes."""
    world = wide(drawn_world(dice))
    long = round(max(1500, min(40_000, dice.uniform(0.3, 0.9) / world.machine.per_prefill_token_s)))
    world = roomy(world, long * 2)
    world.share = min(world.share, 0.3) / 4
    documents = world.reading(Stream(1.0, long, 6, 0.0, 0.2), dice.uniform(0.2, 0.45))
    world.during = lambda t: [world.at(world.share), documents]
    both = ("prefill_interference", "long_prompt_blocking")  # a document that is read holds back first tokens, too
    return world, Truth("prefill_interference", "slow_decode", ("high_ttft", "sporadic_slow"), both)


def long_contexts(dice: Dice) -> Drawn:
    """The same calls with contexts so long that reading them makes each step slower; prompts come from the cache."""
    world = wide(drawn_world(dice))
    world.share = min(world.share, 0.3) / 4
    world.usual = replace(world.usual, shared=0.9)
    tokens = world.at(world.share).rate * world.usual.output
    # Above a share of one, reading contexts alone would take more time than there is.
    long = round(min(150_000, dice.uniform(0.5, 0.8) / (tokens * world.machine.per_context_token_s)))
    world = roomy(world, long * 2)
    rate = world.at(world.share).rate
    world.during = lambda t: [replace(world.usual, rate=rate, prompt=long, shared=0.99, spread=0.1)]
    return world, Truth("long_context_decode", "slow_decode", ("high_ttft",))


def stalls(dice: Dice) -> Drawn:
    """The engine stands still for seconds, again and again."""
    world = roomy(drawn_world(dice))
    long, period = dice.uniform(1.5, 6), dice.uniform(10, 40)
    world.frozen = lambda t: world.inside(t) and t % period < long
    return world, Truth("engine_stalls", "sporadic_slow", ("slow_decode", "high_ttft"))


def giants(dice: Dice) -> Drawn:
    """Now and then a prompt that takes seconds to read."""
    world = drawn_world(dice)
    long = round(min(120_000, dice.uniform(2, 7) / world.machine.per_prefill_token_s))
    machine = replace(world.machine, budget=max(world.machine.budget, dice.choice((8192, 16_384, 131_072))))
    world = roomy(replace(world, machine=machine, noise=[]), long * 2)
    world.share = min(world.share, 0.3)
    giant = Stream(1 / dice.uniform(12, 30), long, 6, 0.0, 0.05)
    world.during = lambda t: [world.at(world.share), giant]
    return world, Truth("giant_prompt", "sporadic_slow", ("slow_decode", "high_ttft"))


def leaving(dice: Dice) -> Drawn:
    """Clients hang up after a few tokens."""
    world = roomy(drawn_world(dice))
    share, rate = dice.uniform(0.5, 1.0), max(world.share, dice.uniform(0.2, 0.7))
    few = dice.randint(2, max(3, world.usual.output // 6))
    world.during = lambda t: [world.at(rate * (1 - share)), replace(world.at(rate * share), leaves_after=few)]
    return world, Truth("client_abort_storm", "low_throughput", ("sporadic_slow", "high_ttft"))


def killed(dice: Dice) -> Drawn:
    """The process is gone and stays away."""
    world = roomy(drawn_world(dice))
    world.dead = world.inside
    return world, Truth("engine_crash", "hang_or_crash")


def killed_and_back(dice: Dice) -> Drawn:
    """A supervisor starts it again; metrics do not tell who ended it."""
    world = roomy(drawn_world(dice))
    world.fault_s = dice.uniform(45, 180)
    world.dead, world.back = world.inside, (world.fault_s,)
    return world, Truth("engine_crash", "hang_or_crash", (), ("engine_crash", "server_restart"))


def crash_loop(dice: Dice) -> Drawn:
    """It dies again minutes after it came back."""
    world = roomy(drawn_world(dice))
    down, up = dice.uniform(25, 60), dice.uniform(15, 50)
    world.fault_s = 3 * down + 2 * up
    world.dead = lambda t: world.inside(t) and t % (down + up) < down
    world.back = (down, 2 * down + up, world.fault_s)
    return world, Truth("engine_crash", "hang_or_crash", (), ("engine_crash", "server_restart"))


def hung(dice: Dice) -> Drawn:
    """No step ends any more; which process stands still is not in the metrics."""
    world = roomy(drawn_world(dice))
    world.frozen = world.inside
    return world, Truth("engine_hang", "hang_or_crash", ("low_throughput",), HANGS)


def shut_front_end(dice: Dice) -> Drawn:
    """The front end answers nobody."""
    world = roomy(drawn_world(dice))
    world.shut = world.inside
    return world, Truth("frontend_frozen", "hang_or_crash")


def unfair(dice: Dice) -> Drawn:
    """Some calls are passed over for seconds whatever else happens: no cause that anybody has a name for."""
    world = roomy(drawn_world(dice))
    share, seconds = dice.uniform(0.08, 0.5), dice.uniform(3, 15)
    world.held = lambda t: (share, seconds) if world.inside(t) else (0.0, 0.0)
    return world, Truth("unknown", "sporadic_slow", ("high_ttft",))


def deferred(dice: Dice) -> Drawn:
    """All calls wait for something outside of the scheduler, such as a transfer, with slots and cache free."""
    world = roomy(drawn_world(dice))
    seconds = dice.uniform(1.5, 8)
    world.deferred = True
    world.held = lambda t: (1.0, seconds) if world.inside(t) else (0.0, 0.0)
    return world, Truth("unknown", "high_ttft", ("sporadic_slow",))


def jitter(dice: Dice) -> Drawn:
    """The device is slow for moments."""
    world = roomy(drawn_world(dice))
    factor, long, period = dice.log(8, 30), dice.uniform(1, 4), dice.uniform(8, 25)
    slow = lambda t: world.inside(t) and t % period < long  # noqa: E731
    world.slower = lambda t: factor if slow(t) else 1.0
    world.clock = lambda t: max(0.1, 1 / factor) if slow(t) else 1.0
    return world, Truth("accelerator_jitter", "sporadic_slow", ("slow_decode", "high_ttft"))


def arrivals_and_slow(dice: Dice) -> Drawn:
    """More calls on a slower device."""
    world, _ = slow_device(dice)
    share = dice.log(0.9, 2.5)
    world.during = lambda t: [world.at(share)]
    return world, Truth("capacity_exceeded", "high_ttft", ("slow_decode",), ("capacity_exceeded", "slow_accelerator"),
                        pair=True)  # fmt: skip


def arrivals_and_cold(dice: Dice) -> Drawn:
    """More calls, and none of their prompts is in the cache."""
    world, _ = cache_lost(dice)
    cold, share = replace(world.usual, shared=0.0), world.share * dice.log(1.4, 3)
    world.during = lambda t: [replace(cold, rate=world.at(share).rate)]
    both = ("capacity_exceeded", "prefix_cache_collapse")
    return world, Truth("prefix_cache_collapse", "high_ttft", ("slow_decode",), both, pair=True)


def leaving_and_slow(dice: Dice) -> Drawn:
    """Clients lose patience with a slow device."""
    world, _ = slow_device(dice)
    few = dice.randint(2, max(3, world.usual.output // 6))
    share = max(world.share, 0.3)
    world.during = lambda t: [replace(world.at(share), leaves_after=few)]
    both = ("client_abort_storm", "slow_accelerator")
    return world, Truth("client_abort_storm", "low_throughput", ("slow_decode", "high_ttft", "sporadic_slow"), both,
                        pair=True)  # fmt: skip


def less_work(dice: Dice) -> Drawn:
    """Far less comes than somebody asked of this server."""
    world = roomy(drawn_world(dice))
    world.expect_share, left = dice.uniform(0.6, 0.9), dice.log(0.02, 0.3)
    world.fault_s = dice.uniform(200, 500)
    world.during = lambda t: [world.at(world.share * left)]
    return world, Truth("insufficient_load", "low_throughput")


def one_of_two(dice: Dice) -> Drawn:
    """The router sends nearly everything to one of two replicas."""
    world = roomy(drawn_world(dice))
    world.share = dice.uniform(0.55, 0.75)
    most = dice.uniform(0.88, 1.0)
    other = World(world.machine, world.usual, world.share, dice, world.before_s, world.fault_s, bursts=world.bursts)
    world.during = lambda t: [world.at(max(1.25, 2 * world.share * most))]
    other.during = lambda t: [other.at(2 * other.share * (1 - most))]
    world.sibling = other
    return world, Truth("routing_imbalance", "high_ttft", ("slow_decode",))


FAULTS: tuple[Callable[[Dice], Drawn], ...] = (
    more_arrivals, new_tenant, slots_full, kv_full, cache_lost, long_prompts, larger_batch, slow_device,
    late_scheduler, busy_front_end, starved_front_end, documents_beside, long_contexts, stalls, giants, leaving, killed,
    killed_and_back, crash_loop, hung, shut_front_end, unfair, deferred, jitter, arrivals_and_slow, arrivals_and_cold,
    leaving_and_slow, one_of_two, less_work,
)  # fmt: skip
