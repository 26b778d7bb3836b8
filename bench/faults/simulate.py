"""What would other machines show? A vLLM scheduler in discrete events, with step times of any machine, as a history.

    python -m bench.faults.simulate --to FILE.om.gz [--machine h200|cpu|…] [--scrape 5]

No substitute for recordings: it tells whether a verdict hangs on constants of the machine it was tuned on. Modelled:
token budget and chunked prefill, slots, KV blocks with preemption, prefix hits, clients that leave; not modelled: the
front end, several ranks, the content of answers.
"""

from __future__ import annotations

import argparse
import bisect
import functools
import gzip
import json
import pathlib
import random
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

TTFT = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)
STARTED_AT = 1_790_000_000.0
LIMIT_S = 0.2
SLICE_S = 30
"""A control whose clients wait longer between tokens than the shipped limit is none on that machine."""
Row = tuple[str, str, float, float]
"""Metric, labels, seconds since the fault began, value."""


@dataclass(frozen=True)
class Machine:
    """Seconds per engine step, and what fits."""

    step_s: float
    per_sequence_s: float
    per_prefill_token_s: float
    per_context_token_s: float
    slots: int
    kv_tokens: int
    budget: int = 8192


MACHINES = {
    "h200": Machine(0.0048, 0.00008, 0.000016, 0.00000006, 64, 600_000),
    "h200_large": Machine(0.022, 0.00009, 0.00009, 0.0000003, 256, 400_000),
    "a10": Machine(0.028, 0.0003, 0.00022, 0.0000012, 48, 60_000, 2048),
    "cpu": Machine(0.005, 0.0009, 0.00012, 0.000001, 16, 400_000, 2048),
    "slow_cpu": Machine(0.02, 0.004, 0.0005, 0.000004, 16, 200_000, 2048),
    "edge": Machine(0.06, 0.0005, 0.0008, 0.000003, 8, 24_000, 1024),
    "wide_moe": Machine(0.015, 0.00003, 0.00001, 0.00000004, 384, 1_500_000, 16384),
}
"""The last one is of a later date than all weights: no figure of it was looked at while any was set."""


@dataclass(frozen=True)
class Stream:
    """Requests of one kind."""

    rate: float
    prompt: int = 400
    output: int = 150
    shared: float = 0.4
    spread: float = 0.3
    leaves_after: int = 0
    patience_s: float = 1e9


@dataclass(eq=False)
class Request:
    """One of them on its way; two that look alike are two."""

    arrived: float
    prompt: int
    output: int
    hits: int
    leaves_after: int
    patience_s: float
    computed: int = 0
    generated: int = 0
    scheduled: float = 0.0
    first: float = 0.0
    last: float = 0.0

    @property
    def context(self) -> int:
        """Tokens that a step reads for it."""
        return self.computed + self.generated

    @property
    def own(self) -> int:
        """Tokens of KV cache that it holds alone; what is shared is there once, the newest token is not there yet."""
        return self.computed + max(0, self.generated - 1) - self.hits


@dataclass(frozen=True)
class Case:
    """A simulated experiment: streams and machine by time since the fault began (negative before it)."""

    name: str
    cause: str | None
    class_: str | None
    streams: Callable[[float, Machine, float], list[Stream]]
    """(seconds since the fault began, machine, capacity) -> what clients send."""
    slower: Callable[[float], float] = lambda t: 1.0
    frozen: Callable[[float], bool] = lambda t: False
    shape: Callable[[Machine], Machine] = lambda machine: machine
    also: tuple[str, ...] = ()
    fault_s: float = 100.0
    lost: Callable[[float], float | None] = lambda t: None
    """Seconds a scrape takes to fail; None: it is answered. What runs meanwhile is nobody's business."""
    back_at: float = 1e9
    """From then on it is another process, whose counters begin at zero."""
    new: bool = False
    """The server was started when its history begins; else an hour before."""
    causes: tuple[str, ...] = ()


@dataclass
class Server:
    """The scheduler and its counters."""

    machine: Machine
    waiting: deque[Request] = field(default_factory=deque)
    running: list[Request] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    kv: int = 0

    def histogram(self, name: str, edges: tuple[float, ...], value: float) -> None:
        """Count a value as Prometheus' client does (cumulated when written)."""
        place = bisect.bisect_left(edges, value)
        self.counters[f"{name}|{place}"] += 1
        self.counters[f"{name}_sum"] += value
        self.counters[f"{name}_count"] += 1

    def step(self, now: float, slower: float) -> float:
        """One engine step; gives its end."""
        machine, budget, before = self.machine, self.machine.budget, self.counters["preemptions"]
        work: list[tuple[Request, int]] = []
        for request in list(self.running):
            if request not in self.running:
                continue
            left = request.prompt - request.computed
            tokens = min(left, budget) if left > 0 else 1
            if tokens <= 0 or budget <= 0:
                continue
            while self.kv + tokens > machine.kv_tokens and self.running[-1] is not request:
                self._preempt(self.running[-1], work)
            if self.kv + tokens > machine.kv_tokens:
                self._preempt(request, work)
                continue
            self.kv += tokens
            budget -= tokens
            work.append((request, tokens))
        # As vLLM: a step that had to preempt admits nobody.
        preempted = self.counters["preemptions"] > before
        while self.waiting and budget > 0 and len(self.running) < machine.slots and not preempted:
            request = self.waiting[0]
            tokens = min(request.prompt - request.hits, budget)
            if self.kv + tokens > machine.kv_tokens:
                break
            self.waiting.popleft()
            self.running.append(request)
            if request.scheduled == 0:
                request.scheduled = now
                self.counters["queries"] += request.prompt
                self.counters["hits"] += request.hits
            request.computed = request.hits
            self.kv += tokens
            budget -= tokens
            work.append((request, tokens))
        prefill = sum(tokens for request, tokens in work if request.computed < request.prompt)
        took = slower * (
            machine.step_s
            + machine.per_sequence_s * len(work)
            + machine.per_prefill_token_s * prefill
            + machine.per_context_token_s * sum(request.context for request, _ in work)
        )
        end = now + took
        self.histogram("iteration", (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
                       sum(tokens for _, tokens in work))  # fmt: skip
        for request, tokens in work:
            self._advance(request, tokens, end)
        return end

    def _preempt(self, request: Request, work: list[tuple[Request, int]]) -> None:
        self.running.remove(request)
        work[:] = [(other, tokens) for other, tokens in work if other is not request]
        self.kv -= request.own
        self.counters["preemptions"] += 1
        request.prompt += request.generated  # computed again together with what it had answered
        request.output -= request.generated
        request.generated, request.computed, request.hits = 0, 0, 0
        self.waiting.appendleft(request)

    def _advance(self, request: Request, tokens: int, end: float) -> None:
        if request.computed < request.prompt:
            request.computed += tokens
            self.counters["computed"] += tokens
            if request.computed < request.prompt:
                return
            self.counters["prompt"] += request.prompt
        else:
            self.histogram("itl", ITL, end - request.last)
        if request.first == 0:
            request.first = end
            self.histogram("ttft", TTFT, end - request.arrived)
        elif request.generated == 0:
            self.histogram("itl", ITL, end - request.last)
        request.last = end
        request.generated += 1
        self.counters["generated"] += 1
        gone = request.leaves_after and request.generated >= request.leaves_after
        if gone or request.generated >= request.output:
            self.leave(request, finished=not gone, now=end)

    def leave(self, request: Request, *, finished: bool, now: float) -> None:
        """Finished, or its client hung up."""
        if request in self.running:
            self.running.remove(request)
            self.kv -= request.own
        else:
            self.waiting.remove(request)
        self.counters["http"] += 1
        if finished:
            self.counters["success"] += 1
            for name, value in (
                ("e2e", now - request.arrived), ("queue", request.scheduled - request.arrived),
                ("prefill", request.first - request.scheduled), ("decode", now - request.first),
                ("inference", now - request.scheduled),
            ):  # fmt: skip
                self.histogram(name, LATENCY, value)
            self.histogram("prompts", TOKENS, request.prompt)
            self.histogram("answers", TOKENS, request.generated)

    def exposed(self, started: float) -> Iterator[tuple[str, str, float]]:
        """(metric, labels, value) as /metrics would show them now."""
        count, both = self.counters, 'engine="0",model_name="m"'
        for name, value in (
            ("vllm:num_requests_running", len(self.running)), ("vllm:num_requests_waiting", len(self.waiting)),
            ("vllm:kv_cache_usage_perc", self.kv / self.machine.kv_tokens),
            ("vllm:num_preemptions_total", count["preemptions"]),
            ("vllm:prompt_tokens_total", count["prompt"]), ("vllm:generation_tokens_total", count["generated"]),
            ("vllm:prefix_cache_queries_total", count["queries"]), ("vllm:prefix_cache_hits_total", count["hits"]),
        ):  # fmt: skip
            yield name, both, float(value)
        yield "vllm:request_success_total", f'{both},finished_reason="length"', count["success"]
        yield "vllm:request_success_total", f'{both},finished_reason="abort"', 0.0
        yield "vllm:request_success_total", f'{both},finished_reason="error"', 0.0
        yield "vllm:prompt_tokens_by_source_total", f'{both},source="local_compute"', count["computed"]
        yield "vllm:prompt_tokens_by_source_total", f'{both},source="local_cache_hit"', count["hits"]
        yield "http_requests_total", 'handler="/v1/completions",method="POST",status="2xx"', count["http"]
        yield "process_open_fds", "", 40.0 + len(self.running) + len(self.waiting)
        yield "process_start_time_seconds", "", started
        yield "process_cpu_seconds_total", "", 0.00005 * count["generated"] + 0.002 * count["http"]
        steps = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
        for metric, name, edges in (
            ("vllm:time_to_first_token_seconds", "ttft", TTFT), ("vllm:inter_token_latency_seconds", "itl", ITL),
            ("vllm:e2e_request_latency_seconds", "e2e", LATENCY), ("vllm:request_queue_time_seconds", "queue", LATENCY),
            ("vllm:request_prefill_time_seconds", "prefill", LATENCY),
            ("vllm:request_decode_time_seconds", "decode", LATENCY), ("vllm:request_prompt_tokens", "prompts", TOKENS),
            ("vllm:request_generation_tokens", "answers", TOKENS), ("vllm:iteration_tokens_total", "iteration", steps),
        ):  # fmt: skip
            total = 0
            for place, edge in enumerate((*edges, "+Inf")):
                total += count[f"{name}|{place}"]
                yield f"{metric}_bucket", f'{both},le="{edge if edge == "+Inf" else float(edge)}"', total
            yield f"{metric}_sum", both, count[f"{name}_sum"]
            yield f"{metric}_count", both, count[f"{name}_count"]


@functools.lru_cache
def capacity(machine: Machine, stream: Stream) -> float:
    """Requests of a kind per second at full slots."""
    server, now, rng = Server(machine), 0.0, random.Random(1)
    while now < 600 and server.counters["success"] < 600:
        while len(server.waiting) < 8:
            server.waiting.append(_request(stream, now, rng))
        now = server.step(now, 1.0)
    return server.counters["success"] / now


def _request(stream: Stream, now: float, rng: random.Random) -> Request:
    around = lambda mean: max(2, round(rng.gauss(mean, mean * stream.spread)))  # noqa: E731
    prompt = around(stream.prompt)
    hits = min(prompt - 1, int(prompt * stream.shared) // 16 * 16)
    return Request(now, prompt, around(stream.output), hits, stream.leaves_after, stream.patience_s)


USUAL_SHARE = 0.3
USUAL = Stream(0.0)


def simulate(case: Case, machine: Machine, *, before_s: float, after_s: float, scrape_s: float, seed: str) -> Iterator[
    tuple[str, str, float, float]
]:  # fmt: skip
    """(metric, labels, seconds since the fault began, value), a scrape every `scrape_s`."""
    machine, rng = case.shape(machine), random.Random(zlib.crc32(seed.encode()))
    full = capacity(machine, replace(USUAL, rate=1.0))
    server, now, started = Server(machine), -before_s - 30.0, STARTED_AT - (30 if case.new else 4000)
    due = [now] * 4
    scraped = now
    end = case.fault_s + after_s
    while now < end:
        streams = case.streams(now, machine, full)
        for number, stream in enumerate(streams):
            while stream.rate > 0 and due[number] <= now:
                server.waiting.append(_request(stream, max(due[number], now - 1), rng))
                due[number] = max(due[number], now - 1) + rng.expovariate(stream.rate)
            if stream.rate <= 0:
                due[number] = now
        for request in [r for r in (*server.waiting, *server.running) if now - r.arrived > r.patience_s]:
            server.leave(request, finished=False, now=now)
        if case.frozen(now):
            now += 0.05
        elif server.running or server.waiting:
            now = server.step(now, case.slower(now))
        else:
            now += 0.005
        if now >= case.back_at and started < STARTED_AT:
            server, started = Server(machine), STARTED_AT + before_s + now
        while scraped <= now:
            if scraped >= -before_s:
                yield from _scrape(server, case.lost(scraped), scraped, started)
            scraped += scrape_s


def _scrape(server: Server, fails_after_s: float | None, at: float, started: float) -> Iterator[
    tuple[str, str, float, float]
]:  # fmt: skip
    if fails_after_s is None:
        yield from ((name, labels, at, value) for name, labels, value in server.exposed(started))
    yield "up", "", at, 1.0 if fails_after_s is None else 0.0
    yield "scrape_duration_seconds", "", at, fails_after_s or 0.01


def _usual(full: float, share: float = USUAL_SHARE) -> Stream:
    return replace(USUAL, rate=share * full)


def _share(machine: Machine, stream: Stream, share: float) -> Stream:
    """So much of what the machine can do of this kind."""
    return replace(stream, rate=share * capacity(machine, stream))


def _longest(machine: Machine, rate: float, output: int = 150, share: float = 0.85) -> int:
    """Prompt tokens whose reading alone takes this share of the time when nothing else changes, neither rate nor the
    length of answers: much longer ones cannot be served at this rate."""
    return round(share / (rate * output * machine.per_context_token_s))


def cases() -> list[Case]:
    """Faults whose mark is in the metrics, and healthy controls."""

    def during(change: Callable[[Machine, float], list[Stream]], usual: Callable[[float], Stream] = _usual) -> Callable[
        [float, Machine, float], list[Stream]
    ]:  # fmt: skip
        return lambda t, machine, full: change(machine, full) if 0 <= t < 100 else [usual(full)]

    steady = during(lambda m, full: [_usual(full)])
    small = lambda full: _usual(full, 0.1)  # noqa: E731
    cached = lambda full: Stream(0.25 * full, 3000, 40, 0.95, 0.1)  # noqa: E731
    tight = lambda m: replace(m, kv_tokens=max(3000, m.slots * 450))  # noqa: E731
    # A fault is what its label says only where nothing else runs out first: room in the KV cache for every slot.
    wide = lambda m: replace(m, slots=m.slots * 8, kv_tokens=max(m.kv_tokens, m.slots * 8 * 1000))  # noqa: E731
    roomy = lambda m: replace(m, kv_tokens=max(m.kv_tokens, m.slots * 8000))  # noqa: E731
    few_prompts = lambda m: replace(m, kv_tokens=6 * 7000)  # noqa: E731
    long = Stream(0.0, 100, 600, 0.0)
    burst = lambda t: 0 <= t < 10  # noqa: E731
    return [
        Case("twice", "capacity_exceeded", "high_ttft", during(lambda m, f: [_usual(f, 2.0)])),
        Case("half_more", "capacity_exceeded", "high_ttft", during(lambda m, f: [_usual(f, 1.4)])),
        Case(
            "impatient",
            "capacity_exceeded",
            "high_ttft",
            during(lambda m, f: [replace(_usual(f, 2.5), patience_s=20.0)]),
        ),
        Case(
            "long_answers",
            "kv_pressure_preemption",
            "high_ttft",
            during(lambda m, f: [replace(_usual(f, 0.9), output=900)]),
            shape=tight,
            also=("slow_decode",),
        ),
        Case(
            "cache_gone",
            "prefix_cache_collapse",
            "high_ttft",
            during(lambda m, f: [Stream(0.25 * f, 3000, 40, 0.0, 0.1)], cached),
        ),
        Case(
            "long_prompts",
            "long_prompt_blocking",
            "high_ttft",
            during(lambda m, f: [Stream(0.3 * f, 6000, 150, 0.05, 0.1)]),
            shape=roomy,
            also=("slow_decode",),
        ),
        Case(
            "long_prompts_tight",  # the same where six of them fill the KV cache: both are true
            "kv_pressure_preemption",
            "high_ttft",
            during(lambda m, f: [Stream(0.3 * f, 6000, 150, 0.05, 0.1)]),
            shape=few_prompts,
            also=("slow_decode",),
            causes=("kv_pressure_preemption", "long_prompt_blocking"),
        ),
        Case(
            "bigger_batch",
            "batch_saturation",
            "slow_decode",
            lambda t, m, f: [_share(m, long, 0.8 if 0 <= t < 100 else 0.02)],
            shape=wide,
        ),
        Case(
            "slower",
            "slow_accelerator",
            "slow_decode",
            during(lambda m, f: [_usual(f, 0.1)], small),
            slower=lambda t: 12.0 if 0 <= t < 100 else 1.0,
            also=("high_ttft",),
        ),
        Case(
            "slower_busy",
            "slow_accelerator",
            "high_ttft",
            steady,
            slower=lambda t: 5.0 if 0 <= t < 100 else 1.0,
            also=("slow_decode",),
        ),
        Case(
            "prefill_beside",
            "prefill_interference",
            "slow_decode",
            during(
                lambda m, f: [_usual(f, 0.2), Stream(0.6 / (m.per_prefill_token_s * 6000) * 0.6, 6000, 4, 0.0, 0.1)]
            ),
            also=("high_ttft",),
        ),
        Case(
            "long_contexts",
            "long_context_decode",
            "slow_decode",
            during(lambda m, f: [Stream(0.1 * f, _longest(m, 0.1 * f), 150, 0.99, 0.1)], small),
            also=("high_ttft",),
        ),
        Case(
            "stalls",
            "engine_stalls",
            "sporadic_slow",
            steady,
            frozen=lambda t: 0 <= t < 100 and t % 12 < 3,
            also=("slow_decode", "high_ttft"),
        ),
        Case(
            "giants",
            "giant_prompt",
            "sporadic_slow",
            during(lambda m, f: [_usual(f), Stream(0.08, int(1.5 / m.per_prefill_token_s), 4, 0.0, 0.02)]),
            also=("slow_decode", "high_ttft"),
        ),
        Case(
            "leaving",
            "client_abort_storm",
            "low_throughput",
            during(lambda m, f: [replace(_usual(f, 0.5), leaves_after=4)]),
        ),
        Case("killed", "engine_crash", "hang_or_crash", steady, lost=lambda t: 0.002 if t >= 0 else None),
        Case(
            "killed_and_back",
            "engine_crash",
            "hang_or_crash",
            steady,
            lost=lambda t: 0.002 if 0 <= t < 60 else None,
            back_at=60.0,
        ),
        Case("unreachable", "frontend_frozen", "hang_or_crash", steady, lost=lambda t: 4.0 if t >= 0 else None),
        Case("healthy", None, None, steady),
        Case(
            "deploy",
            None,
            None,
            lambda t, m, f: [] if -20 <= t < 20 else [_usual(f)],
            lost=lambda t: 0.002 if 0 <= t < 20 else None,
            back_at=20.0,
        ),
        Case("burst", None, None, lambda t, m, f: [_usual(f, 0.9 if burst(t) else 0.3)]),
        Case("burst_over", None, None, lambda t, m, f: [_usual(f, 1.4 if burst(t) else 0.3)]),
        Case("ramp", None, None, lambda t, m, f: [_usual(f, 0.2 + 0.5 * min(max(t / 100, 0), 1))]),
        Case("night", None, None, during(lambda m, f: [_usual(f, 0.005)])),
        Case("prompts_twice", None, None, during(lambda m, f: [replace(_usual(f, 0.2), prompt=800)])),
        Case(
            "warm_up",
            None,
            None,
            lambda t, m, f: [replace(cached(f), shared=min(0.95, max(0.0, (t + 60) / 160)))],
            new=True,
        ),
    ]


def felt(rows: Sequence[Row]) -> bool:
    """Whether one in a hundred tokens came later than LIMIT_S for a minute on end."""
    slow = run = 0
    for since in range(0, int(rows[-1][2]), SLICE_S):
        run = run + 1 if _p99(rows, since, since + SLICE_S) > LIMIT_S else 0
        slow = max(slow, run)
    return slow * SLICE_S >= 60


def _p99(rows: Sequence[Row], since: float, until: float) -> float:
    buckets: dict[float, list[float]] = {}
    for metric, labels, at, value in rows:
        if metric == "vllm:inter_token_latency_seconds_bucket" and since <= at <= until:
            buckets.setdefault(float(labels.rpartition("le=")[2].strip('"')), []).append(value)
    grown = sorted((edge, values[-1] - values[0]) for edge, values in buckets.items())
    return next((edge for edge, count in grown if count >= 0.99 * grown[-1][1] > 0), 0.0)


def write(to: pathlib.Path, machines: list[str], scrape_s: float, before_s: float) -> int:
    """Write all cases on these machines as one history with its truth; the number of targets."""
    series: dict[str, list[str]] = {}
    targets = {}
    offset = 0.0
    for name in machines:
        for case in cases():
            target, began = f"{name}_{case.name}:8000", STARTED_AT + before_s + offset
            rows = list(simulate(case, MACHINES[name], before_s=before_s, after_s=30, scrape_s=scrape_s, seed=target))
            if case.cause is None and not case.new and felt(rows):
                print(f"REJECTED {target}: no control, every hundredth token takes over {LIMIT_S:g} s for a minute")
                continue
            for metric, labels, at, value in rows:
                where = f'{labels}{"," if labels else ""}instance="{target}",job="vllm"'
                series.setdefault(metric, []).append(
                    f"{metric}{{{where}}} {value:g} {began + at:.3f}"
                    if value < 1e5
                    else f"{metric}{{{where}}} {value!r} {began + at:.3f}"
                )
            incidents = [] if case.cause is None else [{
                "cause": case.cause, "class": case.class_, "classes": [case.class_, *case.also],
                "onset_at": began, "ended_at": began + case.fault_s, "causes": list(case.causes or [case.cause]),
            }]  # fmt: skip
            targets[target] = {"from": began - before_s, "to": began + case.fault_s + 30, "part": "tune",
                               "author": "simulated", "incidents": incidents}  # fmt: skip
    text = [line for metric in sorted(series) for line in (f"# TYPE {metric} unknown", *series[metric])]
    with gzip.GzipFile(to, "wb", compresslevel=6, mtime=0) as file:
        file.write("\n".join([*text, "# EOF"]).encode() + b"\n")
    about = {"from": "simulated by bench.faults.simulate", "scrape_interval_s": scrape_s, "targets": targets}
    to.with_name(to.name.replace(".om.gz", ".json")).write_text(json.dumps(about, indent=1) + "\n")
    return len(targets)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.faults.simulate", description=__doc__)
    parser.add_argument("--to", type=pathlib.Path, required=True)
    parser.add_argument("--machine", choices=sorted(MACHINES), action="append")
    parser.add_argument("--scrape", type=float, default=5.0, help="seconds between scrapes")
    parser.add_argument("--before", type=float, default=120.0, help="seconds of usual traffic before the fault")
    given = parser.parse_args()
    print(f"{write(given.to, given.machine or sorted(MACHINES), given.scrape, given.before)} targets in {given.to}")
