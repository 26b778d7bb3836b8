"""What do Prometheus and the clients see of a drawn server? Scrapes with what a version exposes, and every call."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.faults.drawn.engine import Call, Engine
from bench.faults.drawn.world import World, request
from bench.faults.simulate import Request, Stream

Row = tuple[str, str, float, float]
"""Metric, labels, seconds since the fault began, value."""
TICK_S, RUN_IN_S, OPENS_S = 0.25, 40.0, 0.02
IDLE_W, FULL_W, CLOCK_MHZ = 90.0, 640.0, 1900.0


@dataclass(frozen=True)
class Scraper:
    """How Prometheus looks: how often, which version answers, and what a site's own rules drop."""

    every_s: float
    version: tuple[int, int]
    without: tuple[str, ...] = ()
    """Beginnings of metric names that are not there."""
    gpu: bool = False
    lost_share: float = 0.0
    """Of the scrapes, at random."""

    def named(self, metric: str) -> str | None:
        """What that version calls it; None where it has no such thing."""
        if any(metric.startswith(start) for start in self.without):
            return None
        if self.version < (0, 16) and metric.startswith("vllm:prompt_tokens_by_source"):
            return None
        if self.version < (0, 20) and metric.startswith("vllm:num_requests_waiting_by"):
            return None
        if self.version < (0, 11):
            metric = metric.replace("inter_token_latency_seconds", "time_per_output_token_seconds")
        if self.version < (0, 10):
            for name in ("kv_cache_usage", "prefix_cache_queries", "prefix_cache_hits"):
                metric = metric.replace(f"vllm:{name}", f"vllm:gpu_{name.removeprefix('kv_')}")
        return metric


class Played:
    """One run of a world: `rows` as Prometheus stored them, `calls` as clients lived them."""

    def __init__(self, world: World, scraper: Scraper, after_s: float, started_at: float) -> None:
        self.world, self.scraper, self.after_s = world, scraper, after_s
        self.calls: list[Call] = []
        self.engine = Engine(world.machine)
        self.door: deque[Call] = deque()
        self.impatient = False
        self.sent: list[tuple[Stream, float]] = []
        """Kinds of calls and their rates, as of the last look."""
        self.free_at, self.door_busy_s = -1e9, 0.0
        self.credit: dict[int, float] = {}
        self.wanted: dict[int, float] = {}
        self.started_at = started_at
        self.started = -world.before_s - (30.0 if world.new else 4000.0)
        self.before_busy_s, self.before_at = 0.0, 0.0
        self.backs = list(world.back)
        self.refused = 0.0

    def rows(self) -> Iterator[Row]:
        """Everything from the first scrape to the last."""
        world = self.world
        now = -world.before_s - RUN_IN_S
        due = -world.before_s + world.dice.uniform(0, self.scraper.every_s)
        end = world.fault_s + self.after_s
        while now < end:
            self.sent = world.streams(now)
            then = self._move(now, min(now + TICK_S, due))
            if self.backs and then >= self.backs[0]:
                self.backs.pop(0)
                self.engine, self.door, self.started = Engine(world.later or world.machine), deque(), then
                self.door_busy_s = self.before_busy_s = 0.0
            self._arrive(now, then)
            now = then
            while due <= now:
                if not world.unseen(due):
                    yield from self._scrape(due)
                due += self.scraper.every_s

    def _move(self, now: float, until: float) -> float:
        world, engine = self.world, self.engine
        if world.dead(now):
            return until if until > now else now + 0.01
        if world.frozen(now):
            return now + 0.05
        self._hand_over(now)
        if self.impatient:
            for call in [c for c in (*engine.waiting, *engine.running) if now - c.arrived > c.patience_s]:
                engine.leave(call, finished=False, now=now)
                self._again(call, now)
        if not engine.running and not engine.waiting:
            return max(now + 0.002, min(until, self._next(now)))
        slower, late = world.slower(now), world.late_s(now) + world.late_batch_s(now, len(engine.running))
        then = engine.decode(now, min(until, self._next(now)), slower, late)
        return then if then > now else engine.step(now, slower, late)

    def _next(self, now: float) -> float:
        """When the next call comes in, as things are."""
        soon = [max(self.door[0].entered, now + OPENS_S if self.world.shut(now) else now)] if self.door else []
        for number, (_, rate) in enumerate(self.sent):
            left = self.wanted.get(number, 0.0) - self.credit.get(number, 0.0)
            if rate > 0:
                soon.append(now + left / rate)
        soon += [until for until, _ in self.engine.held]
        return min(soon, default=now + TICK_S)

    def _arrive(self, since: float, until: float) -> None:
        world, dice = self.world, self.world.dice
        self.refused += world.refused(since) * (until - since)
        for number, (stream, rate) in enumerate(self.sent):
            if rate <= 0:
                continue
            at = since
            while True:
                wanted = self.wanted.setdefault(number, self._gap())
                wait = (wanted - self.credit.get(number, 0.0)) / rate
                if at + wait > until:
                    self.credit[number] = self.credit.get(number, 0.0) + (until - at) * rate
                    break
                at += wait
                self.credit[number], self.wanted[number] = 0.0, self._gap()
                call = request(stream, at, world.machine, dice)
                self.calls.append(call)
                self.impatient = self.impatient or call.patience_s < 1e6
                if not world.dead(at):
                    self._enter(call)

    def _again(self, call: Request, now: float) -> None:
        """Who hung up may ask the same once more."""
        share = self.world.again(now)
        if share and self.world.dice.chance(share):
            self.calls.append(Call(now, call.prompt, call.output, call.hits, call.leaves_after, call.patience_s))
            self._enter(self.calls[-1])

    def _gap(self) -> float:
        shape = 1 / self.world.bursts
        return self.world.dice.gammavariate(shape, 1 / shape)

    def _enter(self, call: Call) -> None:
        """Through the front end, one after the other."""
        work = self.world.door_s(call.arrived) + self.world.door_token_s(call.arrived) * call.prompt
        begin = max(call.arrived, self.free_at)
        self.free_at = call.entered = begin + work
        self.door_busy_s += work
        self.door.append(call)

    def _hand_over(self, now: float) -> None:
        world, engine = self.world, self.engine
        if self.door and not world.shut(now):
            while self.door and self.door[0].entered <= now:
                call = self.door.popleft()
                call.entered = now if world.shut(call.entered) else call.entered
                share, seconds = world.held(now)
                if share and world.dice.random() < share:
                    engine.held.append((now + seconds, call))
                else:
                    engine.waiting.append(call)
        for item in [h for h in engine.held if h[0] <= now]:
            engine.held.remove(item)
            engine.waiting.append(item[1])

    def _scrape(self, at: float) -> Iterator[Row]:
        world, scraper = self.world, self.scraper
        took, limit = world.slow_scrape_s(at), min(10.0, scraper.every_s)
        if world.dead(at):
            took, answered = 0.002, False
        elif world.shut(at):
            wait = next((n * 0.1 for n in range(1, 120) if not world.shut(at + n * 0.1)), math.inf)
            took, answered = min(limit, wait), wait < limit
        else:
            took += max(0.0, min(limit * 0.9, world.dice.expovariate(1) * (self.free_at - at) * 0.1))
            answered = took < limit and not world.lost(at) and not world.dice.chance(scraper.lost_share)
            took = took if answered else limit
        if answered:
            for metric, labels, value in self._exposed(at):
                name = scraper.named(metric)
                if name:
                    yield name, labels, at, value
        yield "up", "", at, float(answered)
        yield "scrape_duration_seconds", "", at, took
        if scraper.gpu and not world.gpu_lost(at):
            yield from self._gpu(at)

    def _exposed(self, at: float) -> Iterator[tuple[str, str, float]]:
        engine = self.engine
        running, waiting, kv = engine.shown
        gauges = {"vllm:num_requests_running": running, "vllm:num_requests_waiting": waiting,
                  "vllm:kv_cache_usage_perc": kv, "process_start_time_seconds": self.started_at + self.started,
                  "process_open_fds": 40 + sum(map(len, (engine.running, engine.waiting, engine.held, self.door))),
                  "process_cpu_seconds_total": 0.00005 * engine.counters["generated"] + max(
                      0.0, self.door_busy_s - max(0.0, self.free_at - at))}  # fmt: skip
        for metric, labels, value in engine.exposed(0.0):
            yield metric, labels, float(gauges.get(metric, value))
        names = 'engine="0",model_name="m"'
        passed_over = len(engine.held) if self.world.deferred else 0
        for reason, value in (("capacity", waiting - passed_over), ("deferred", passed_over)):
            yield "vllm:num_requests_waiting_by_reason", f'{names},reason="{reason}"', float(max(0, value))
        if self.refused:
            yield "http_requests_total", 'handler="/v1/completions",method="POST",status="4xx"', self.refused

    def _gpu(self, at: float) -> Iterator[Row]:
        world, span = self.world, max(0.5, at - self.before_at)
        busy = min(1.0, max(0.0, self.engine.busy_s - self.before_busy_s) / span)
        self.before_busy_s, self.before_at = self.engine.busy_s, at
        clock, crowd = world.clock(at), world.crowded(at)
        busy = 1.0 if crowd else busy
        fill = len(self.engine.running) / world.machine.slots
        watts = IDLE_W + (FULL_W - IDLE_W) * busy * clock * (0.9 if crowd else 0.45 + 0.4 * fill)
        for name, value in (
            ("GPU_UTIL", round(100 * busy)), ("MEM_COPY_UTIL", round(45 * busy * clock)), ("POWER_USAGE", watts),
            ("SM_CLOCK", CLOCK_MHZ * clock), ("GPU_TEMP", 40 + 30 * busy),
        ):  # fmt: skip
            yield f"DCGM_FI_DEV_{name}", "gpu", at, float(value)


@dataclass(frozen=True)
class Felt:
    """What clients lived through in a stretch of time, by the calls that began in it."""

    calls: int
    ttft_p50: float
    ttft_p95: float
    token_p50: float
    """Median over calls of their mean seconds per token."""
    gap_share: float
    """Of the calls, those with a wait of a second between tokens."""
    unanswered: float
    left: float
    tokens_per_second: float
    late_tokens: float
    """Worst wait between tokens of one call in twenty."""


def felt(calls: Sequence[Call], since: float, until: float) -> Felt | None:
    """None where nobody came."""
    mine = [c for c in calls if since <= c.arrived < until]
    if not mine:
        return None
    ttft = sorted(c.first - c.arrived if 0 != c.first < until + 5 else math.inf for c in mine)
    pace = sorted((c.last - c.first) / (c.answered - 1) for c in mine if c.answered > 1)
    gaps = sorted(c.worst for c in mine)
    count = len(mine)
    return Felt(
        count, ttft[count // 2], ttft[min(count - 1, int(0.95 * count))], pace[len(pace) // 2] if pace else 0.0,
        sum(g >= 1.0 for g in gaps) / count, sum(math.isinf(t) for t in ttft) / count,
        sum(bool(c.leaves_after) or (c.ended and c.ended - c.arrived >= c.patience_s) for c in mine) / count,
        sum(c.answered for c in mine) / (until - since), gaps[min(count - 1, int(0.95 * count))],
    )  # fmt: skip


def suffered(usual: Felt, then: Felt) -> str:
    """In which way clients were worse off than usual, in a way that people notice; empty: they were not."""
    ways = {
        "unanswered": then.unanswered >= 0.3 and usual.unanswered < 0.05,
        "aborted": then.left >= 0.3 and usual.left < 0.1,
        "ttft_p50": then.ttft_p50 >= max(0.5, 3 * usual.ttft_p50),
        "ttft_p95": then.ttft_p95 >= max(1.0, 3 * usual.ttft_p95),
        "token_p50": then.token_p50 >= max(0.06, 1.8 * usual.token_p50),
        "late_tokens": then.late_tokens >= max(0.25, 3 * usual.late_tokens),
        "gap_share": then.gap_share >= max(0.05, 3 * usual.gap_share),
    }
    return next((name for name, holds in ways.items() if holds), "")
