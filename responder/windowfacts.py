"""What does a metrics window say beyond its numbers: against before, at the same load, and about standing still?

Pure statistics over a `Window`. Thresholds of incidents live in rules and playbooks; the numbers here only say what is
the same, what is different and what cannot be told from so few samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean, median

from responder.window import Window

BASELINE_S = 600.0
BASELINE_GUARDS_S = (20.0, 10.0, 5.0)
"""Rates look back, and an onset may be estimated late: points just before it hold some of the incident. A server
that has been watched for half a minute has no others: the widest that leaves a baseline is used."""
BASELINE_POINTS = 5
RECENT_S = 30.0
NEAR_ZERO = 1e-9
SAME_LOAD = 0.25
GROWTH = 1.1
GROUP_POINTS = 3
PINNED = 0.93
FEW_SLOTS = 8
"""With so many or more, one that just ended leaves the batch full."""
USUAL_PREFILL = 2.0
WAITED_STEPS = 0.5

SPARSE = frozenset({"arrival_rate", "prompt_token_rate", "prompt_computed_rate", "generation_rate"})
"""What few requests make in pieces."""

MOVERS: Mapping[str, float] = {
    "arrival_rate": 0.5,
    "prompt_tokens_mean": 16.0,
    "generation_tokens_mean": 16.0,
    "prefix_hit_rate": 0.1,
    "prompt_computed_rate": 50.0,
    "prompt_token_rate": 50.0,
    "running": 2.0,
    "waiting": 2.0,
    "kv_usage": 0.05,
    "preemption_rate": 0.05,
    "iteration_rate": 1.0,
    "generation_rate": 10.0,
    "itl_mean": 0.005,
    "queue_time_mean": 0.05,
    "ttft_mean": 0.05,
    "error_rate": 0.05,
    "http_4xx_rate": 0.1,
    "http_5xx_rate": 0.05,
    "unfinished_rate": 0.2,
    "open_fds": 5.0,
    "api_server_cpu": 0.3,
}
"""Signals that can be the first to move, in the order a tie is broken (causes before effects), each with the smallest
change worth the name: a signal that was constantly zero has no spread to measure against."""


@dataclass(frozen=True)
class Summary:
    """One signal before and since the onset; None: too few points to say."""

    baseline: float | None
    now: float | None
    highest: float | None
    lowest: float | None
    last: float | None
    last_at: float

    @property
    def ratio(self) -> float | None:
        """Now against the baseline; unknown when the baseline is about zero."""
        if self.now is None or self.baseline is None or abs(self.baseline) < NEAR_ZERO:
            return None
        return self.now / self.baseline

    @property
    def change(self) -> float | None:
        """Now minus the baseline."""
        return None if self.now is None or self.baseline is None else self.now - self.baseline


def summary(window: Window, signal: str) -> Summary:
    """`now` is the median of the last 30 s, or since the onset where that is shorter."""
    before = _baseline(window, signal)
    since = window.points(signal, window.onset_at, window.end)
    recent_s = max(RECENT_S, 2.5 * window.step)
    recent = [value for at, value in since if at >= window.end - recent_s]
    values = [value for _, value in since]
    middle = _middle if signal in SPARSE else median
    return Summary(
        baseline=middle(before) if len(before) >= BASELINE_POINTS else None,
        now=middle(recent) if recent else None,
        highest=max(values, default=None),
        lowest=min(values, default=None),
        last=values[-1] if values else None,
        last_at=since[-1][0] if since else 0.0,
    )


def _middle(values: Sequence[float]) -> float:
    """The median, or the mean where most of the time there is nothing: of a request in ten seconds a rate is zero in
    most windows, and that is no usual rate."""
    return median(values) or fmean(values)


def _baseline(window: Window, signal: str) -> list[float]:
    return [value for _, value in usual_points(window, signal)]


def usual_points(window: Window, signal: str) -> list[tuple[float, float]]:
    """The usual points of a signal: up to ten minutes of them, none that may hold some of the incident."""
    found: list[tuple[float, float]] = []
    for guard in BASELINE_GUARDS_S:
        found = window.points(signal, window.onset_at - BASELINE_S, window.onset_at - guard)
        if len(found) >= BASELINE_POINTS:
            break
    return found


def history_s(window: Window) -> float:
    """Of how many seconds before the onset there are samples, of the signal that has most; 600 at most."""
    return (
        max((len(usual_points(window, signal)) for signal in MOVERS if signal in window.signals), default=0)
        * window.step
    )


def pinned(window: Window) -> bool | None:
    """Whether `running` stands at its maximum in 70 % of the samples with a queue: the batch is full. A full batch of
    64 is seen at 60 to 64, between a request's end and the next step, one of 9 at 8 and 9; one starved of KV blocks at
    half of it. Unknown where a queue has only just begun, beside as many as ever ran."""
    running = dict(window.points("running", window.onset_at, window.end))
    waiting = dict(window.points("waiting", window.onset_at, window.end))
    both = [at for at in running if at in waiting]
    if len(both) < GROUP_POINTS:
        return None
    queued = [running[at] for at in both if waiting[at] > 0]
    if not queued:
        return False
    top = max(queued)
    full = min(PINNED * top, top - 1) if top >= FEW_SLOTS else top
    if len(queued) < GROUP_POINTS:
        most = max([*running.values(), *(value for _, value in usual_points(window, "running"))])
        return None if most > 0 and top >= PINNED * most else False
    return top > 0 and sum(value >= full for value in queued) >= 0.7 * len(queued)


# -------------------------------------------------------------------------------------------------------- comparisons


RISEN_S = 45.0
"""Rates over half a minute tell of what goes on now."""


def less_done(window: Window) -> float | None:
    """How many times fewer tokens are generated than before, by a batch that is no smaller and with no more to prefill.

    More requests in a healthy step never yield fewer tokens, so anything over 1 is a slower engine, whatever the size
    of the batch. No more than each token takes longer: of few requests a gauge sees one that comes or goes as a batch
    that grew. None when the batch is smaller, more is computed for prompts (beyond SAME_LOAD), or nobody can tell.
    """
    running, generated = summary(window, "running"), summary(window, "generation_rate")
    itl = summary(window, "itl_mean").ratio
    prefill = summary(window, "prompt_computed_rate")
    if running.ratio is None or running.ratio < 1 or not generated.now or generated.baseline is None:
        return None
    if prefill.ratio is None or prefill.ratio > 1 + SAME_LOAD:
        return None
    less = generated.baseline / generated.now
    return less if itl is None else min(less, itl)


def most_done(window: Window) -> float | None:
    """How many times more an engine did at its best moment before than at its best since the onset: of tokens generated
    and prompt tokens computed, whichever fell less. More requests take nothing from what an engine can do, so well over
    1 beside a queue is a slower engine. None where one was not seen before and since, or rates had no time to rise."""
    if window.end - window.onset_at < RISEN_S:
        return None
    generated = dict(usual_points(window, "generation_rate"))
    before = [(generated[at], rate) for at, rate in usual_points(window, "prompt_computed_rate") if at in generated]
    wrote, read = (
        max((value for _, value in window.points(name, window.onset_at, window.end)), default=0.0)
        for name in ("generation_rate", "prompt_computed_rate")
    )
    if len(before) < BASELINE_POINTS or not wrote or not read:
        return None
    return max(min(tokens / wrote, prompts / read) for tokens, prompts in before)


def itl_beyond_batch(window: Window) -> float | None:
    """How many times the median inter-token latency grew beyond the batch, both against before: a step has a part that
    every request adds to and one that none does, so twice the batch takes twice as long at most, and anything over 1 is
    another thing than the batch. A token comes out of a batch of one at least. None without a median from before."""
    itl, running = summary(window, "itl_p50"), summary(window, "running")
    if itl.ratio is None or running.now is None or running.baseline is None:
        return None
    return itl.ratio / max(1.0, max(running.now, 1.0) / max(running.baseline, 1.0))


def cached_tokens_ratio(window: Window) -> float | None:
    """Prompt tokens per second that the prefix cache answers, against before: a share alone also falls when longer
    prompts, or more of them, come on top."""
    before = dict(usual_points(window, "prefix_query_rate"))
    usual = [rate * before[at] for at, rate in usual_points(window, "prefix_hit_rate") if at in before]
    recent = max(window.onset_at, window.end - max(RECENT_S, 2.5 * window.step))
    now = [
        rate * queries for queries, rate in _paired(window, "prefix_query_rate", "prefix_hit_rate", recent, window.end)
    ]
    if len(usual) < BASELINE_POINTS or not now or median(usual) < NEAR_ZERO:
        return None
    return median(now) / median(usual)


def computed_beyond_cache(window: Window) -> float | None:
    """Prompt tokens computed per second against what the same prompts would need if the cache answered none of them:
    1 is a cache that was lost altogether; far more comes of other prompts. None without a hit rate from before."""
    computed, hits = summary(window, "prompt_computed_rate"), summary(window, "prefix_hit_rate").baseline
    if computed.ratio is None or hits is None:
        return None
    return computed.ratio * (1.0 - hits)


def prefill_mix_ratio(window: Window) -> float | None:
    """Prompt tokens computed per token generated, against before: more traffic of the same kind changes nothing."""
    computed, generated = summary(window, "prompt_computed_rate"), summary(window, "generation_rate")
    if computed.ratio is None or not generated.ratio:
        return None
    return computed.ratio / generated.ratio


def growth_by_length(window: Window) -> float | None:
    """Of the growth in prompt tokens per second, the share that longer prompts make up and not more requests, on a
    logarithmic scale: 1 is longer prompts alone, 0 more requests alone. None where neither grew by GROWTH."""
    length, arrivals = summary(window, "prompt_tokens_mean").ratio, summary(window, "arrival_rate").ratio
    if length is None or arrivals is None or max(length, arrivals) < GROWTH:
        return None
    longer, more = max(0.0, log(max(length, NEAR_ZERO))), max(0.0, log(max(arrivals, NEAR_ZERO)))
    return longer / (longer + more)


def itl_with_prefill(window: Window) -> float | None:
    """Inter-token latency in the third of samples with most computed prompt tokens against the third with least, at the
    same number of running requests (±25 %): prefill comes with new requests, and a larger batch is slower by itself.
    None unless the thirds differ at least twofold in prompt tokens, and the lesser one is about what was usual before:
    where there is much prefill all the time nothing shows what it is like without."""
    batch = dict(window.points("running", window.onset_at, window.end))
    timed = dict(window.points("itl_mean", window.onset_at, window.end))
    computed = window.points("prompt_computed_rate", window.onset_at, window.end)
    rows = sorted((rate, timed[at], batch[at]) for at, rate in computed if at in timed and at in batch)
    third = len(rows) // 3
    if third < GROUP_POINTS:
        return None
    low, high = rows[:third], rows[-third:]
    little = max(median(rate for rate, _, _ in low), 1.0)
    if median(rate for rate, _, _ in high) < 2 * little:
        return None
    before = summary(window, "prompt_computed_rate").baseline
    if before is not None and little > USUAL_PREFILL * max(before, 1.0):
        return None
    matched = [
        itl / median(alike)
        for _, itl, running in high
        if (alike := [old for _, old, load in low if abs(load - running) <= max(1.0, SAME_LOAD * running)])
    ]
    return median(matched) if len(matched) >= GROUP_POINTS else None


def delay_in_decode(window: Window) -> float | None:
    """Of the time all requests together wait longer than before, the share they wait between tokens and not for their
    first one: near 1, decoding suffers; near 0, the queue or the prefill. None when neither got slower, or to tell."""
    itl, ttft = summary(window, "itl_mean"), summary(window, "ttft_mean")
    tokens, arrivals = summary(window, "generation_rate").now, summary(window, "arrival_rate").now
    if itl.change is None or ttft.change is None or tokens is None or arrivals is None:
        return None
    decode, first = max(0.0, itl.change) * tokens, max(0.0, ttft.change) * arrivals
    return decode / (decode + first) if decode + first > NEAR_ZERO else None


def first_token_steps(window: Window) -> float | None:
    """How many inter-token latencies lie between a request's being scheduled and its first token, for requests that had
    to wait to be scheduled: a step that is slow takes about one or more, whatever it carries; well below one, the time
    between tokens goes before a step and not in it. Both are of requests that finished, and those that finished first
    had their first token before the onset: None unless they waited, in the last 30 s and at last, for half a token's
    time at least (those from before did not), and the greater of both values."""
    itl, queued, prefill = (summary(window, name) for name in ("itl_mean", "queue_time_mean", "prefill_time_mean"))
    lately = _steps(itl.now, queued.now, prefill.now)
    at_last = _steps(itl.last, queued.last, prefill.last)
    return None if lately is None or at_last is None else max(lately, at_last)


def _steps(itl: float | None, queued: float | None, prefill: float | None) -> float | None:
    if itl is None or queued is None or prefill is None or itl < NEAR_ZERO or queued < WAITED_STEPS * itl:
        return None
    return prefill / itl


def _paired(window: Window, one: str, other: str, since: float, until: float) -> list[tuple[float, float]]:
    others = dict(window.points(other, since, until))
    return [(value, others[at]) for at, value in window.points(one, since, until) if at in others]


def movers(window: Window) -> list[tuple[str, float, str]]:
    """(signal, when, up or down) of every signal that left its usual band and stayed out for two points, in the order
    in which they did: what changed first is nearer to the cause. Of those that left it together, causes come first."""
    found = [
        (at, order, signal, way)
        for order, signal in enumerate(MOVERS)
        if (moved := _left_band(window, signal)) is not None
        for at, way in (moved,)
    ]
    return [(signal, at, way) for at, _, signal, way in sorted(found)]


def slowed_before_batch(window: Window) -> float | None:
    """Seconds from the moment tokens slowed down to the moment the batch grew: above 0, the batch grew because tokens
    are slow; below, tokens are slow because the batch grew. None unless both did."""
    moved = {(signal, way): at for signal, at, way in movers(window)}
    slower, larger = moved.get(("itl_mean", "up")), moved.get(("running", "up"))
    return None if slower is None or larger is None else larger - slower


def first_mover(window: Window) -> tuple[str, float, str] | None:
    """The first of `movers`."""
    return next(iter(movers(window)), None)


def _left_band(window: Window, signal: str) -> tuple[float, str] | None:
    band = usual_band(window, signal)
    if band is None:
        return None
    since = window.points(signal, window.onset_at - BASELINE_GUARDS_S[0], window.end)
    for (at, value), (_, following) in zip(since, since[1:], strict=False):
        if all(point > band[1] for point in (value, following)):
            return at, "up"
        if all(point < band[0] for point in (value, following)):
            return at, "down"
    return None


def usual_band(window: Window, signal: str) -> tuple[float, float] | None:
    """Between which values a signal of MOVERS was before the onset, noise included; None: too few points to say."""
    before = _baseline(window, signal)
    if len(before) < BASELINE_POINTS:
        return None
    usual = median(before)
    spread = median(abs(value - usual) for value in before)
    width = max(MOVERS[signal], 0.25 * abs(usual), 5 * 1.4826 * spread)
    return usual - width, usual + width


def unknown_signals(window: Window, asked: Sequence[str]) -> list[str]:
    """Signals without a single value in the window."""
    return [name for name in asked if not any(value is not None for value in window.signals.get(name, ()))]
