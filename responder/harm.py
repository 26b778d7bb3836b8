"""Did a capture hurt the server's users, and is it hurting them too much right now?

Two witnesses. `Tick`: the server's own counters, read a few times a second. `Beat`: one token of a stream of our own,
which is what a user sees, to the millisecond. A freeze that was there before the capture is not the capture's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from responder.exposition import parse
from responder.model import Cost, Served, Three

RUNNING = ("vllm:num_requests_running",)
TOKENS = ("vllm:generation_tokens_total", "vllm:generation_tokens")
STEPS = ("vllm:iteration_tokens_total_count",)
TTFT = "vllm:time_to_first_token_seconds"
ITL = ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")
WANTED = {*RUNNING, *TOKENS, *STEPS, "process_start_time_seconds",
          *(f"{name}_{part}" for name in (TTFT, *ITL) for part in ("sum", "count"))}  # fmt: skip
STOOD_STILL_S = 1.0
"""So long without a token while requests ran, and without one all the while it was watched: it stands still."""
VISIBLE_S = 0.010
"""Differences below are noise of the measurement, and are called none."""


class Tick(NamedTuple):
    """The server's counters at one moment; None: not there."""

    at: float
    running: float | None = None
    tokens: float | None = None
    steps: float | None = None
    ttft: tuple[float, float] | None = None
    """(sum in seconds, count)"""
    itl: tuple[float, float] | None = None


class Beat(NamedTuple):
    """A token of our own stream: when, and how long after the one before (or after the request, for the first)."""

    at: float
    gap_s: float
    first: bool = False


class Window(NamedTuple):
    """A stretch of time."""

    since: float
    until: float


ALL = Window(-math.inf, math.inf)


def tick_of(raw: bytes, at: float) -> Tick:
    """Read one scrape of /metrics."""
    page = parse(raw, lambda name: name in WANTED)

    def pair(*names: str) -> tuple[float, float] | None:
        total = page.total(*(f"{name}_sum" for name in names))
        count = page.total(*(f"{name}_count" for name in names))
        return None if total is None or count is None else (total, count)

    return Tick(at, page.total(*RUNNING), page.total(*TOKENS), page.total(*STEPS), pair(TTFT), pair(*ITL))


def silence(ticks: Sequence[Tick], beats: Sequence[Beat], window: Window) -> float | None:
    """Longest time without a token in the window, seconds; None when nobody was there to be served.

    The server's counters count as silent only while requests run; our own stream counts whenever it runs.
    """
    longest: float | None = None
    inside = [tick for tick in ticks if window.since <= tick.at <= window.until]
    since: float | None = None
    for one, two in zip(inside, inside[1:], strict=False):
        moved = two.tokens != one.tokens or two.steps != one.steps or two.tokens is None
        quiet = not moved and one.running
        since = (one.at if since is None else since) if quiet else None
        # Between two looks a token may have come right after the first: only what is certain is counted.
        longest = max(longest or 0.0, two.at - since if since is not None else 0.0)
    for beat in beats:
        overlap = min(beat.at, window.until) - max(beat.at - beat.gap_s, window.since)
        if overlap > 0:
            longest = max(longest or 0.0, overlap)
    return longest


def too_much(ticks: Sequence[Tick], beats: Sequence[Beat], began: float, now: float, limit_s: float) -> str:
    """Why a capture that began then must be ended now, or ''. What was already silent before it began is no reason."""
    before = silence(ticks, beats, Window(-math.inf, began)) or 0.0
    if before >= limit_s:
        return ""
    last = [tick for tick in ticks if tick.at > began]
    flat_since = now
    for one, two in zip(reversed(last[:-1]), reversed(last[1:]), strict=False):
        if two.tokens != one.tokens or two.steps != one.steps or not one.running:
            break
        flat_since = one.at
    waiting = now - beats[-1].at if beats else None
    flat = now - flat_since if last else 0.0
    worst = flat if waiting is None else max(waiting if beats[-1].at > began - limit_s else 0.0, flat)
    if worst >= limit_s:
        return f"no token for {worst:.1f} s while it ran (limit {limit_s:g} s)"
    return ""


def cost_of(ticks: Sequence[Tick], beats: Sequence[Beat], window: Window, aborted: str = "") -> Cost:
    """What a capture that ran in `window` cost, compared with all that was seen before and after it."""
    spans = (Window(-math.inf, window.since), window, Window(window.until, math.inf))
    silences = _three(silence(ticks, beats, span) for span in spans)
    gaps = _three(_p99([b.gap_s for b in beats if not b.first and _in(b.at, span)]) for span in spans)
    ttft = _three(_mean(ticks, span, "ttft") for span in spans)
    itl = _three(_mean(ticks, span, "itl") for span in spans)
    rate = _three(_rate(ticks, span) for span in spans)
    before, during, _ = silences
    pause = max(0.0, during - (before or 0.0)) if during is not None else 0.0
    pause = 0.0 if stood_still(silences, rate) else pause
    cost = Cost(
        seconds=round(window.until - window.since, 3), pause_s=round(pause, 3), silence_s=silences, gap_p99_s=gaps,
        ttft_s=ttft, itl_s=itl, tokens_per_s=rate, aborted=aborted,
    )  # fmt: skip
    return cost.model_copy(update={"says": in_words(cost)})


def served_in(ticks: Sequence[Tick], window: Window) -> Served:
    """What users got in the window, and in what little is between it and the nearest counts."""
    before = [tick for tick in ticks if tick.at < window.since][-1:]
    after = [tick for tick in ticks if tick.at > window.until][:1]
    since, until = (before or [Tick(window.since)])[0].at, (after or [Tick(window.until)])[0].at
    spans = [tick for tick in ticks if since <= tick.at <= until]
    itl, ttft, rate = _three((_mean(spans, ALL, "itl"), _mean(spans, ALL, "ttft"), _rate(spans, ALL)))
    return Served(itl_s=itl, ttft_s=ttft, tokens_per_s=rate)


def stood_still(silences: Three, rates: Three) -> bool:
    """Whether the server made no token before, during and after: then its silence is what the capture was to look at,
    and none of it is the capture's. One that goes on afterwards may have been held up by it."""
    return (silences[0] or 0.0) >= STOOD_STILL_S and rates[0] == 0 and rates[1] == 0 and not rates[2]


def in_words(cost: Cost) -> str:
    """'between two tokens (p99) +8 ms for 3 s; longest silence 40 ms more'; says so when nothing could be seen."""
    if stood_still(cost.silence_s, cost.tokens_per_s) and not cost.aborted:
        return "the server stood still before it, and all the while"
    parts = []
    for name, (before, during, _) in (
        ("between two tokens (p99)", cost.gap_p99_s), ("between two tokens (mean)", cost.itl_s),
        ("time to first token (mean)", cost.ttft_s),
    ):  # fmt: skip
        if before is None or during is None:
            continue
        change = during - before
        parts.append(f"{name} {change * 1e3:+.0f} ms" if abs(change) >= VISIBLE_S / 10 else f"{name} unchanged")
        if name.endswith("(p99)") and len(parts) == 1:
            parts[0] += f" for {cost.seconds:.1f} s"
            break
    if cost.pause_s >= VISIBLE_S:
        parts.append(f"longest time without a token {cost.pause_s * 1e3:.0f} ms more than before")
    before_rate, during_rate, _ = cost.tokens_per_s
    if before_rate and during_rate is not None:
        parts.append(f"{before_rate:.0f} → {during_rate:.0f} tokens/s")
    if cost.aborted:
        parts.append(f"ended early: {cost.aborted}")
    return "; ".join(parts) or "its cost could not be seen: nothing was being served"


def _in(at: float, span: Window) -> bool:
    return span.since <= at <= span.until


def _three(values: Iterable[float | None]) -> Three:
    before, during, after = (None if value is None else round(value, 4) for value in values)
    return before, during, after


def _p99(values: list[float]) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else None


def _ends(ticks: Sequence[Tick], span: Window) -> tuple[Tick, Tick] | None:
    """The last tick before the span (or its first) and the last in it, or the next after it."""
    inside = [tick for tick in ticks if _in(tick.at, span)]
    earlier = [tick for tick in ticks if tick.at < span.since]
    later = [tick for tick in ticks if tick.at > span.until]
    row = [*earlier[-1:], *(inside or later[:1])]
    return (row[0], row[-1]) if len(row) > 1 else None


def _mean(ticks: Sequence[Tick], span: Window, what: str) -> float | None:
    ends = _ends(ticks, span)
    one, two = (getattr(ends[0], what), getattr(ends[1], what)) if ends else (None, None)
    if one is None or two is None or two[1] <= one[1]:
        return None
    return float((two[0] - one[0]) / (two[1] - one[1]))


def _rate(ticks: Sequence[Tick], span: Window) -> float | None:
    ends = _ends(ticks, span)
    if ends is None or ends[0].tokens is None or ends[1].tokens is None or ends[1].at <= ends[0].at:
        return None
    rate = (ends[1].tokens - ends[0].tokens) / (ends[1].at - ends[0].at)
    return rate if rate >= 0 else None
