"""Which machine is it, and what do clients send it? Drawn from wide ranges that real servers lie in."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bench.faults.drawn.engine import Call
from bench.faults.simulate import Machine, Stream

MOST_STEPS, MOST_CALLS = 150_000, 4_000
"""Of the healthy time before; fast machines get less of it, so that a seed takes seconds."""
NOISE_S = 20.0


class Dice(random.Random):
    """With the two distributions that sizes have."""

    def log(self, low: float, high: float) -> float:
        """Between them, every factor as likely as every other."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def chance(self, share: float) -> bool:
        """True so often."""
        return self.random() < share


def drawn_machine(dice: Dice) -> Machine:
    """From a large CPU to a wide mixture of experts: 4 to 80 ms per step, 8 to 160 slots."""
    step = dice.log(0.004, 0.08)
    slots = round(dice.log(8, 160))
    return Machine(
        step_s=step,
        per_sequence_s=step * dice.log(0.002, 0.06),
        per_prefill_token_s=step / dice.log(60, 1200),
        per_context_token_s=step * dice.log(2e-6, 6e-5),
        slots=slots,
        kv_tokens=round(slots * dice.log(1500, 12_000)),
        budget=dice.choice((1024, 2048, 2048, 4096, 8192, 16_384)),
    )


def drawn_stream(dice: Dice) -> Stream:
    """Requests as one service has them; caching is off on one server of five."""
    shared = 0.0 if dice.chance(0.2) else dice.uniform(0.05, 0.9)
    return Stream(1.0, round(dice.log(60, 2500)), round(dice.log(25, 500)), shared, dice.uniform(0.1, 0.9))


def request(stream: Stream, at: float, machine: Machine, dice: random.Random) -> Call:
    """One call of this kind: lengths are lognormal, and never more than the KV cache holds."""
    most = machine.kv_tokens * 3 // 5

    def around(mean: int) -> int:
        return max(2, min(most // 2, round(mean * dice.lognormvariate(-(stream.spread**2) / 2, stream.spread))))

    prompt = around(stream.prompt)
    hits = min(prompt - 1, int(prompt * stream.shared) // 16 * 16)
    return Call(at, prompt, around(stream.output), hits, stream.leaves_after, stream.patience_s)


def full_rate(machine: Machine, stream: Stream) -> float:
    """Requests of this kind per second with as many at once as slots and cache allow: each token of an answer costs its
    share of a step, and the prompt what of it is not cached."""
    own = stream.prompt * (1 - stream.shared)
    at_once = max(1.0, min(machine.slots, machine.kv_tokens / (own + stream.output / 2)))
    step = machine.step_s + at_once * (
        machine.per_sequence_s + machine.per_context_token_s * (stream.prompt + stream.output / 2)
    )
    return 1 / (stream.output * step / at_once + own * machine.per_prefill_token_s)


def never(t: float) -> bool:
    """At no time."""
    return False


@dataclass
class World:
    """One server with its traffic; times are seconds since the fault began, negative before it."""

    machine: Machine
    usual: Stream
    share: float
    """Of what the machine can do with requests of this kind."""
    dice: Dice
    before_s: float
    fault_s: float
    bursts: float = 1.0
    """Variance of the time between arrivals in terms of a Poisson process' variance."""
    during: Callable[[float], list[Stream]] | None = None
    """What is sent while the fault holds; None: the usual."""
    before: Callable[[float], list[Stream]] | None = None
    slower: Callable[[float], float] = lambda t: 1.0
    late_s: Callable[[float], float] = lambda t: 0.0
    """Seconds that the scheduler loses per step, however much work is in it."""
    late_batch_s: Callable[[float, int], float] = lambda t, running: 0.0
    """Besides, what it loses with so many requests at once."""
    frozen: Callable[[float], bool] = never
    dead: Callable[[float], bool] = never
    """Nobody listens: calls are refused and so are scrapes."""
    shut: Callable[[float], bool] = never
    """The front end takes nothing; calls and scrapes wait."""
    door_s: Callable[[float], float] = lambda t: 0.002
    """Front end work per call."""
    door_token_s: Callable[[float], float] = lambda t: 0.0
    """And per token of its prompt."""
    again: Callable[[float], float] = lambda t: 0.0
    """So many of those whose patience is over ask the same again, at once; meant for servers that preempt nobody."""
    held: Callable[[float], tuple[float, float]] = lambda t: (0.0, 0.0)
    """(share of the calls, seconds) that the scheduler passes over."""
    back: tuple[float, ...] = ()
    """Another process from then on."""
    later: Machine | None = None
    """What such a process makes of the machine; None: the same."""
    new: bool = False
    lost: Callable[[float], bool] = never
    """A scrape that fails although nothing is wrong with the server."""
    slow_scrape_s: Callable[[float], float] = lambda t: 0.01
    clock: Callable[[float], float] = lambda t: 1.0
    """Clock of the GPU in terms of the usual one."""
    crowded: Callable[[float], bool] = never
    """Somebody else computes on the GPU."""
    refused: Callable[[float], float] = lambda t: 0.0
    """Calls per second that are answered with 4xx."""
    deferred: bool = False
    """Who is held waits for something else than room, and the server says so."""
    gpu_lost: Callable[[float], bool] = never
    noise: list[float] = field(default_factory=list)
    _at_usual: tuple[float, list[Stream]] = (-1.0, [])
    expect_share: float | None = None
    """What somebody asks of it, in terms of its usual tokens per second."""
    sibling: World | None = None
    """The next replica."""
    scrape_s: float | None = None
    """How often Prometheus looks; None: as drawn."""
    unseen: Callable[[float], bool] = never
    """Prometheus itself is not there."""
    as_ever: bool = False
    """Slow by nature: its usual time is what it is measured by, not what people like."""
    seldom: bool = False
    """One call in a minute is no minute to measure by; only the whole time is."""

    def __post_init__(self) -> None:
        """The weather of arrivals: wanders around 1, with a slope of the day."""
        sigma, slope, value = self.dice.uniform(0.02, 0.12), self.dice.uniform(-0.25, 0.25), 0.0
        for number in range(int((self.before_s + self.fault_s + 300) / NOISE_S) + 2):
            value = 0.85 * value + self.dice.gauss(0, sigma * 0.53)
            self.noise.append(math.exp(value) * (1 + slope * (number * NOISE_S - self.before_s) / 3600))

    @property
    def full(self) -> float:
        """Usual requests per second at full slots."""
        return full_rate(self.machine, replace(self.usual, rate=1.0, leaves_after=0, patience_s=1e9))

    def weather(self, t: float) -> float:
        """Factor on all rates."""
        return self.noise[max(0, min(len(self.noise) - 1, int((t + self.before_s + 60) / NOISE_S)))]

    def at(self, share: float) -> Stream:
        """Usual requests at this share of the capacity."""
        return replace(self.usual, rate=share * self.full)

    def of(self, stream: Stream, share: float) -> Stream:
        """Requests of another kind at this share of what the machine can do with them."""
        return replace(stream, rate=share * full_rate(self.machine, replace(stream, rate=1.0)))

    def reading(self, stream: Stream, share: float) -> Stream:
        """So much of the time that goes into reading prompts of this kind when nothing else happens."""
        mine = max(16.0, stream.prompt * (1 - stream.shared)) * self.machine.per_prefill_token_s
        return replace(stream, rate=share / mine)

    def streams(self, t: float) -> list[tuple[Stream, float]]:
        """What is sent at that time, and calls per second of it."""
        if 0 <= t < self.fault_s and self.during is not None:
            found = self.during(t)
        elif t < 0 and self.before is not None:
            found = self.before(t)
        else:
            if self.share != self._at_usual[0]:
                self._at_usual = (self.share, [self.at(self.share)])
            found = self._at_usual[1]
        weather = self.weather(t)
        return [(stream, stream.rate * weather) for stream in found]

    def inside(self, t: float) -> bool:
        """The fault holds."""
        return 0 <= t < self.fault_s


def drawn_world(dice: Dice, machine: Machine | None = None, usual: Stream | None = None) -> World:
    """A server that is neither idle nor full. Machines that serve less than a request in four seconds are drawn again:
    nobody could say anything of them within minutes."""
    while True:
        here, stream = machine or drawn_machine(dice), usual or drawn_stream(dice)
        share = dice.uniform(0.08, 0.5)
        needs = (stream.prompt + stream.output) * 2.5
        roomy = here.kv_tokens > needs * max(4, here.slots * share)
        rate = share * full_rate(here, stream) if roomy else 0.0
        mild = here.step_s + here.per_sequence_s * here.slots * 0.6 < 0.15
        if rate > 0.25 and mild:
            break
        machine, usual = None, usual if dice.chance(0.5) else None
    before = dice.log(120, 3600)
    before = max(120.0, min(before, MOST_STEPS * here.step_s, MOST_CALLS / rate))
    return World(here, stream, share, dice, before, dice.log(90, 420), bursts=dice.choice((1, 1, 2, 4)))
