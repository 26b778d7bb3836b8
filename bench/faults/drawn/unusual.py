"""Which faults have a shape that `FAULTS` lacks? By other traffic, slowly, in waves, after a deploy, to one of three.

Written by somebody (author `relief`) who knew the list of causes and the simulator, and nothing of rules or playbooks.
`--unusual` draws one of each kind, and the healthy servers of the same shapes that are in `unusual_ok`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.faults.drawn.faults import Drawn, Truth, roomy, wide
from bench.faults.drawn.unusual_broken import (
    beside,
    deployed,
    grammars,
    hung_after_deploy,
    late_large_batch,
    one_slow_of_three,
    slow_kernel_after_deploy,
    slow_nearly_idle,
    slow_then_gone,
    slow_when_full,
    stalls_minutes_apart,
    stalls_seconds_apart,
    stalls_then_hang,
    stalls_under_load,
    throttled_in_waves,
    throttled_slowly,
    tokenizer_slow,
    upto,
)  # fmt: skip
from bench.faults.drawn.world import Dice, World, drawn_machine, drawn_world, full_rate
from bench.faults.simulate import Stream

AUTHOR = "relief"


def agents_grow(dice: Dice) -> Drawn:
    """Agents send all they did so far with each turn, more by the minute; the cache has all but the last turn."""
    world = wide(drawn_world(dice))
    world.share = min(world.share, 0.3) / 4
    first, turn = world.usual.prompt, min(world.usual.prompt, 400)
    tokens = world.at(world.share).rate * world.usual.output
    long = round(min(150_000, dice.uniform(0.55, 0.8) / (tokens * world.machine.per_context_token_s)))
    world = roomy(world, long * 2)
    world.fault_s, grows = dice.uniform(600, 1000), dice.uniform(300, 600)
    rate = world.at(world.share).rate

    def turns(t: float) -> list[Stream]:
        prompt = first + (max(first, long) - first) * upto(t, grows)
        shared = max(world.usual.shared, 1 - turn / prompt)
        return [replace(world.usual, rate=rate, prompt=round(prompt), shared=shared, spread=0.2)]

    world.during = turns
    return world, Truth("long_context_decode", "slow_decode", ("high_ttft",))


def cache_crowded_out(dice: Dice) -> Drawn:
    """Ever more tenants, each with a long text of its own: what comes back is thrown out before, more by the minute."""
    kind = Stream(1.0, round(dice.log(1200, 6000)), round(dice.log(15, 120)), dice.uniform(0.8, 0.97), 0.15)
    world = roomy(drawn_world(dice, usual=kind))
    cached, left, falls = world.usual.shared, dice.uniform(0, 0.25), dice.uniform(240, 600)
    cold = replace(world.usual, shared=min(cached, left), rate=1.0)
    rate = max(world.share * world.full, dice.log(1.0, 1.7) * full_rate(world.machine, cold))
    world.share, world.fault_s = min(0.7, rate / world.full), falls + dice.uniform(150, 300)
    world.during = lambda t: [
        replace(world.at(world.share), shared=cached + (cold.shared - cached) * upto(t, falls))]  # fmt: skip
    return world, Truth("prefix_cache_collapse", "high_ttft", ("slow_decode",))


def cache_partly_lost(dice: Dice) -> Drawn:
    """One of two tenants puts the time of day before its long text; the other's prompts are cached as ever."""
    world = drawn_world(dice)
    kind = Stream(1.0, round(dice.log(1500, 6000)), round(dice.log(15, 80)), dice.uniform(0.88, 0.98), 0.15)
    world = roomy(world, 3 * (kind.prompt + kind.output))
    world.share = dice.uniform(0.08, 0.25)
    cold = replace(kind, shared=0.0)
    rate = min(world.of(kind, 0.45).rate, world.of(cold, dice.log(0.8, 1.6)).rate)
    world.before = lambda t: [world.at(world.share), replace(kind, rate=rate)]
    world.during = lambda t: [world.at(world.share), replace(cold, rate=rate)]
    return world, Truth("prefix_cache_collapse", "high_ttft", ("slow_decode",))


def classifier(dice: Dice) -> World:
    """Every answer is a word; what takes the time is reading."""
    world = drawn_world(dice)
    shared = min(world.usual.shared, 0.5)
    reads = dice.log(0.02, 0.15) / world.machine.per_prefill_token_s / (1 - shared)
    usual = replace(world.usual, prompt=round(min(8000, max(100, reads))), output=2, shared=shared)
    world = roomy(replace(world, usual=usual, noise=[]))
    world.share = dice.uniform(0.15, 0.4)
    world.before_s = min(900.0, 8000 / world.at(world.share).rate)
    return world


def classifier_rush(dice: Dice) -> Drawn:
    """A classifier gets more calls than it can read."""
    world = classifier(dice)
    high, rises = dice.log(1.15, 2.5), dice.choice((0.1, dice.uniform(20, 120)))
    world.fault_s = rises + dice.uniform(60, 180)
    world.during = lambda t: [world.at(world.share + (high - world.share) * upto(t, rises))]
    return world, Truth("capacity_exceeded", "high_ttft")


def morning_rush(dice: Dice) -> Drawn:
    """The day's rise takes a quarter of an hour and does not end where the server's strength does."""
    world = roomy(drawn_world(dice))
    rises, high = dice.uniform(500, 1000), dice.log(1.15, 1.7)
    world.bursts, world.share = 1.0, min(world.share, 0.25)
    world.before_s, world.fault_s = rises + 300, 0.4 * rises + dice.uniform(100, 200)
    low, near = world.share, 0.75
    world.before = lambda t: [world.at(low + (near - low) * upto(t + rises, rises))]
    world.during = lambda t: [world.at(near + (high - near) * upto(t, 0.4 * rises))]
    return world, Truth("capacity_exceeded", "high_ttft", ("slow_decode",))


def waves_over(dice: Dice) -> Drawn:
    """A job that is run every few minutes sends for half a minute more than can be served; then all is well again."""
    world = roomy(drawn_world(dice))
    period, long, high = dice.uniform(140, 300), dice.uniform(30, 80), dice.log(1.5, 3.5)
    world.fault_s = 3 * period
    world.during = lambda t: [world.at(high if t % period < long else world.share)]
    return world, Truth("capacity_exceeded", "high_ttft", ("slow_decode",))


def herd(dice: Dice) -> Drawn:
    """Nobody for minutes, as something before it was broken; then everybody at once with what is left to do."""
    world = roomy(drawn_world(dice))
    quiet, backlog, high = dice.uniform(60, 240), dice.uniform(40, 150), dice.log(1.6, 5)
    world.before_s, world.fault_s = max(world.before_s, quiet + 300), backlog + dice.uniform(30, 120)
    world.before = lambda t: [] if t > -quiet else [world.at(world.share)]
    world.during = lambda t: [world.at(high if t < backlog else world.share)]
    return world, Truth("capacity_exceeded", "high_ttft", ("slow_decode",))


def retry_storm(dice: Dice) -> Drawn:
    """Seconds of too many calls; who waited too long asks again, so it stays too many for minutes."""
    world = roomy(drawn_world(dice))
    machine = replace(world.machine, slots=min(48, world.machine.slots))
    took = world.usual.output * (machine.step_s + machine.per_sequence_s * machine.slots)
    world = replace(world, machine=machine, noise=[])
    world.share, world.bursts, world.fault_s = dice.uniform(0.5, 0.7), 1.0, dice.uniform(120, 300)
    patience, again = dice.uniform(2.5, 5) * took + 4, dice.uniform(0.75, 0.95)
    long, high = dice.uniform(2, 4) * patience, dice.uniform(1.8, 3)
    world.again = lambda t: again if t < world.fault_s else 0.0
    world.before = lambda t: [replace(world.at(world.share), patience_s=patience)]
    world.during = lambda t: [replace(world.at(high if t < long else world.share), patience_s=patience)]
    both = ("capacity_exceeded", "client_abort_storm")  # each keeps the other going
    return world, Truth("capacity_exceeded", "high_ttft", ("low_throughput", "sporadic_slow", "slow_decode"), both)


def thinking_on(dice: Dice) -> Drawn:
    """Some calls think before they answer, for thousands of tokens; within minutes these fill the KV cache."""
    world = drawn_world(dice)
    usual = replace(world.usual, output=min(world.usual.output, 150))
    kind = replace(usual, output=round(usual.output * dice.log(8, 25)), spread=0.5)
    needs = world.machine.slots * world.share * 2.5 * (usual.prompt + usual.output)
    kv = round(needs + dice.uniform(5, 12) * (kind.prompt + kind.output))
    machine = replace(world.machine, kv_tokens=kv, slots=max(64, world.machine.slots))
    world = replace(world, machine=machine, usual=usual, noise=[])
    world.share, world.fault_s = min(world.share, 0.3), dice.uniform(300, 600)
    thinks = world.of(kind, dice.log(1.1, 2.2))
    world.during = lambda t: [world.at(world.share), thinks]
    return world, Truth("kv_pressure_preemption", "high_ttft", ("slow_decode", "sporadic_slow"))


def few_huge(dice: Dice) -> Drawn:
    """A handful of huge contexts, quickly read and long at work, fill the KV cache; most slots are empty."""
    world = drawn_world(dice)
    many, reads = dice.uniform(3.5, 7), dice.uniform(0.2, 0.8)
    long = round(max(3000, min(60_000, reads / world.machine.per_prefill_token_s)))
    answers = dice.uniform(3, 6) * many * long * world.machine.per_prefill_token_s / world.machine.step_s
    kind = Stream(1.0, long, round(max(100, min(3000, answers))), 0.0, 0.1)
    needs = world.machine.slots * world.share * 2.5 * (world.usual.prompt + world.usual.output)
    machine = replace(world.machine, kv_tokens=round(needs + many * long), slots=max(32, world.machine.slots))
    world = replace(world, machine=machine, noise=[])
    world.share, world.fault_s = min(world.share, 0.3), dice.uniform(200, 500)
    huge = world.of(kind, dice.log(1.1, 2))
    world.during = lambda t: [world.at(world.share), huge]
    return world, Truth("kv_pressure_preemption", "high_ttft", ("slow_decode", "sporadic_slow"))


def less_memory(dice: Dice) -> Drawn:
    """After a deploy there is a third of the KV cache, as somebody else has the memory; the traffic is what it was."""
    world = drawn_world(dice)
    usual = replace(world.usual, spread=min(0.4, world.usual.spread))
    slots = max(48, world.machine.slots)
    left = round(dice.uniform(12, 0.4 * slots) * (usual.prompt + usual.output))
    machine = replace(world.machine, slots=slots, kv_tokens=3 * left)
    world = replace(world, machine=machine, usual=usual, noise=[])
    world.later = replace(machine, kv_tokens=left)
    world.share = min(0.65, dice.log(1.05, 1.8) * full_rate(world.later, replace(usual, rate=1.0)) / world.full)
    world.fault_s, world.bursts = dice.uniform(150, 400), 1.0
    return deployed(world, 3), Truth("kv_pressure_preemption", "high_ttft", ("slow_decode", "sporadic_slow"))


def too_many_small(dice: Dice) -> Drawn:
    """Calls of a few tokens, so many of them that the front end, which is as slow as ever, has no time for all."""
    world = drawn_world(dice)
    usual = Stream(1.0, round(dice.uniform(20, 60)), round(dice.uniform(2, 5)), 0.0, 0.3)
    world = roomy(replace(world, usual=usual, noise=[]))
    work = max(dice.log(0.012, 0.04), 3 / world.full)
    world.share, world.before_s, world.fault_s = dice.uniform(0.2, 0.6) / work / world.full, 600.0, dice.log(90, 200)
    high = dice.log(1.1, 1.8) / work
    world.door_s = lambda t: work
    world.during = lambda t: [replace(usual, rate=high)]
    return world, Truth("frontend_bottleneck", "high_ttft", ("low_throughput", "hang_or_crash"))


def neighbour_died(dice: Dice) -> Drawn:
    """The other of two replicas is gone, and all of its calls come here."""
    world = roomy(drawn_world(dice))
    world.share, world.bursts = dice.uniform(0.58, 0.72), 1.0
    other = beside(world, world.share)
    other.dead, other.during = other.inside, lambda t: []
    world.during = lambda t: [world.at(2 * world.share)]
    return world, Truth("capacity_exceeded", "high_ttft", ("slow_decode",))


def pinned_sessions(dice: Dice) -> Drawn:
    """Sessions stay where they began: within minutes one of three replicas has nearly all of those that go on."""
    world = roomy(drawn_world(dice))
    world.share, world.bursts = dice.uniform(0.45, 0.6), 1.0
    rises, most = dice.uniform(60, 300), dice.uniform(0.85, 1.0)
    world.fault_s = rises + dice.uniform(100, 250)

    def share(t: float) -> float:
        return 1 / 3 + (most - 1 / 3) * upto(t, rises)

    world.during = lambda t: [world.at(3 * world.share * share(t))]
    for _ in range(2):
        other = beside(world, world.share)
        other.during = lambda t: [world.at(1.5 * world.share * (1 - share(t)))]
    return world, Truth("routing_imbalance", "high_ttft", ("slow_decode",))


def gateway_impatient(dice: Dice) -> Drawn:
    """The gateway's time limit was set below what most answers take: it hangs up on them, and asks some again."""
    world = drawn_world(dice)
    pace = world.machine.step_s + world.machine.per_sequence_s * world.machine.slots * world.share
    usual = replace(world.usual, output=round(min(1500, max(world.usual.output, dice.uniform(5, 15) / pace))))
    world = roomy(replace(world, usual=usual, noise=[]))
    limit, again = dice.uniform(0.3, 0.9) * usual.output * pace, dice.choice((0.0, 0.3))
    world.again = lambda t: again if world.inside(t) else 0.0
    world.during = lambda t: [replace(world.at(world.share), patience_s=limit)]
    return world, Truth("client_abort_storm", "low_throughput", ("sporadic_slow", "high_ttft"))


def answers_swell(dice: Dice) -> Drawn:
    """As many calls as ever with answers ten times as long: the batch grows for minutes, each step slower for it."""
    step, slots = dice.log(0.02, 0.06), round(dice.log(64, 256))
    machine = replace(drawn_machine(dice), step_s=step, slots=slots, per_sequence_s=step * dice.log(3, 10) / slots,
                      per_prefill_token_s=step / 1200, per_context_token_s=step * 2e-8)  # fmt: skip
    usual = Stream(1.0, round(dice.log(30, 200)), round(dice.log(30, 120)), 0.0, 0.3)
    low, high = dice.uniform(0.05, 0.12), dice.uniform(0.78, 0.92)
    world = roomy(World(machine, usual, low, dice, dice.log(200, 900), dice.uniform(300, 500)),
                  round(3 * usual.output * high / low))  # fmt: skip
    answers = replace(usual, output=round(usual.output * high / low))
    world.during = lambda t: [replace(answers, rate=min(world.at(low).rate, world.of(answers, high).rate))]
    return world, Truth("batch_saturation", "slow_decode")


def classifier_beside(dice: Dice) -> Drawn:
    """Thousands of calls for one word beside people who chat: in every step something is read."""
    world = wide(drawn_world(dice))
    kind = Stream(1.0, round(dice.log(500, 2500)), 2, 0.0, 0.3)
    world = roomy(world, 3 * kind.prompt)
    world.share = min(world.share, 0.3) / 4
    words = world.reading(kind, dice.uniform(0.45, 0.7))
    world.during = lambda t: [world.at(world.share), words]
    both = ("prefill_interference", "long_prompt_blocking")  # as of documents: first tokens wait, too
    return world, Truth("prefill_interference", "slow_decode", ("high_ttft", "sporadic_slow"), both)


def giants_rare(dice: Dice) -> Drawn:
    """A prompt of many seconds, once in a minute or two."""
    world = drawn_world(dice)
    long = round(min(150_000, dice.uniform(4, 9) / world.machine.per_prefill_token_s))
    machine = replace(world.machine, budget=max(world.machine.budget, dice.choice((8192, 16_384, 131_072))))
    world = roomy(replace(world, machine=machine, noise=[]), long * 3)
    world.share, world.fault_s = min(world.share, 0.3), dice.uniform(400, 700)
    # By a rate, not within half a second: what is sent holds for a whole step, and the step that reads one takes many.
    giant = Stream(1 / dice.uniform(50, 110), long, 6, 0.0, 0.05)
    world.bursts = 1.0
    world.during = lambda t: [world.at(world.share), giant]
    return world, Truth("giant_prompt", "sporadic_slow", ("slow_decode", "high_ttft"))


UNUSUAL: tuple[Callable[[Dice], Drawn], ...] = (
    agents_grow, cache_crowded_out, cache_partly_lost, classifier_rush, morning_rush, waves_over, herd, retry_storm,
    thinking_on, few_huge, less_memory, slow_kernel_after_deploy, slow_nearly_idle, slow_when_full, throttled_slowly,
    throttled_in_waves, late_large_batch, tokenizer_slow, too_many_small, stalls_minutes_apart, stalls_seconds_apart,
    stalls_then_hang, hung_after_deploy, one_slow_of_three, neighbour_died, pinned_sessions, gateway_impatient,
    answers_swell, classifier_beside, giants_rare, grammars, stalls_under_load, slow_then_gone,
)  # fmt: skip
