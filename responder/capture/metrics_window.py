"""How did every signal go before and since the onset? Prometheus range queries; the server is not touched.

`series.json` is what facts are read from and what charts are drawn from.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, RangeQuery, Scene, Step, skipped
from responder.lengths import (
    batch_by_arrivals,
    length_peak,
    long_prompt_reads,
    long_share,
    longest_prompts,
    prefill_between,
)
from responder.model import Fact, Outcome, Scalar
from responder.rush import arrivals_rush
from responder.signals import bucket_of
from responder.slowing import (
    growth_with_work,
    itl_at_equal_batch,
    itl_beyond_reading,
    late_in_short_stops,
    late_in_stops,
    light_steps_ratio,
    outside_engine,
    outside_engine_share,
    prefill_beyond_tokens,
    prompts_being_read,
    reading_share_of_wait,
    slowed_alike,
)
from responder.stepwork import itl_beyond_work
from responder.stops import down, ended_at_work, prefill_at_stops, reset, scrape_gap, silence, standing
from responder.window import (
    COMPUTED,
    SCRAPED_AT,
    UNTOLD,
    Rows,
    Window,
    decode,
    encode,
    gather,
    grid,
    series_of,
    unit_of,
)
from responder.windowfacts import (
    BASELINE_S,
    cached_tokens_ratio,
    computed_beyond_cache,
    delay_in_decode,
    first_mover,
    first_token_steps,
    growth_by_length,
    history_s,
    itl_beyond_batch,
    itl_with_prefill,
    less_done,
    most_done,
    movers,
    pinned,
    prefill_mix_ratio,
    slowed_before_batch,
    summary,
    unknown_signals,
)

__all__ = ["STEP", "series_of"]

FILE = "series.json"
AT_ONCE = 4
OURS_SHOWS_S = 20.0
"""For so long after a disturbing capture its traces stand in rates and in the queue."""
MOVERS_TOLD = 8
QUERY_TIMEOUT_S = 8.0
BUDGET_S = 20.0
MAX_POINTS = 11_000
"""Prometheus' own limit per series; we keep to it over all servers of the answer together."""
SCRAPED_AT_EXPR = "timestamp(vllm:generation_tokens_total)"
PROGRESS_EXPR = "vllm:generation_tokens_total"
COMPUTED_EXPR = (
    'sum without (source) (vllm:prompt_tokens_by_source_total{source="local_compute"})'
    " or (vllm:prompt_tokens_total - (vllm:prefix_cache_hits_total or vllm:gpu_prefix_cache_hits_total))"
    " or vllm:prompt_tokens_total"
)
"""Prompt tokens computed since the server started: as a counter, since a rate smears the step that ended a stop."""
COMPARED: Mapping[str, tuple[Callable[[Window], float | None], str]] = {
    "itl_equal_batch_ratio": (itl_at_equal_batch, ""),
    "itl_beyond_batch_ratio": (itl_beyond_batch, ""),
    "itl_beyond_work_ratio": (itl_beyond_work, ""),
    "arrivals_rush_ratio": (arrivals_rush, ""),
    "itl_with_prefill_ratio": (itl_with_prefill, ""),
    "delay_in_decode": (delay_in_decode, "share"),
    "less_done_ratio": (less_done, ""),
    "most_done_ratio": (most_done, ""),
    "first_token_steps": (first_token_steps, ""),
    "growth_with_work": (growth_with_work, "share"),
    "slowed_alike": (slowed_alike, "share"),
    "late_in_stops": (late_in_stops, "share"),
    "late_in_short_stops": (late_in_short_stops, "share"),
    "prefill_beyond_tokens": (prefill_beyond_tokens, ""),
    "reading_share_of_wait": (reading_share_of_wait, "share"),
    "outside_engine_s": (outside_engine, "s"),
    "outside_engine_share": (outside_engine_share, "share"),
    "prompts_being_read": (prompts_being_read, ""),
    "light_steps_ratio": (light_steps_ratio, ""),
    "itl_beyond_reading_ratio": (itl_beyond_reading, ""),
    "cached_tokens_ratio": (cached_tokens_ratio, ""),
    "computed_beyond_cache_ratio": (computed_beyond_cache, ""),
    "prefill_mix_ratio": (prefill_mix_ratio, ""),
    "growth_by_length": (growth_by_length, "share"),
    "longest_prompts_ratio": (longest_prompts, ""),
    "long_prompt_share": (long_share, "share"),
    "long_prompt_reads_s": (long_prompt_reads, "s"),
    "prompt_length_peak_ratio": (length_peak, ""),
    "prefill_between_ratio": (prefill_between, ""),
    "batch_by_arrivals": (batch_by_arrivals, "share"),
}
"""What a window says as a whole, of now against before: name -> how it is worked out, and its unit."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Ask for one signal first: a Prometheus that does not answer is found out once, not eighty times."""
    if scene.range_query is None:
        return skipped("no Prometheus: start the responder with `--prometheus URL`, or with `--target` alone")
    start = scene.onset_at - BASELINE_S
    step, length = grid(start, scene.now, scene.scrape_interval_s, MAX_POINTS // (1 + len(scene.siblings)))
    # The grid ends now: it is the newest points that matter.
    start = scene.now - (length - 1) * step
    queries = {"progress_total": PROGRESS_EXPR, COMPUTED: COMPUTED_EXPR, **scene.signals, SCRAPED_AT: SCRAPED_AT_EXPR}
    first = next((name for name in ("up", "running") if name in queries), next(iter(queries)))
    ask = _Asking(scene.range_query, start, scene.now, step)
    await ask.all({first: queries.pop(first)}, QUERY_TIMEOUT_S)
    if ask.failed:
        return Fetched(outcome=Outcome.FAILED, reason=f"Prometheus did not answer: {ask.failed[first]}")
    await ask.all(queries, BUDGET_S)
    window = Window(
        start,
        step,
        length,
        scene.onset_at,
        scene.scrape_interval_s,
        failed=ask.failed,
        asked=tuple(sorted(scene.signals)),
        ours=tuple((since, until + OURS_SHOWS_S) for since, until in scene.disturbed),
    )
    window = gather(window, ask.answers, scene.target.match)
    files = {FILE: encode(window)}
    if not window.signals:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(scene.target.match.items()))
        return Fetched(files, Outcome.FAILED, f"Prometheus has no series of this server in the window ({labels})")
    if ask.failed:
        name, why = next(iter(sorted(ask.failed.items())))
        return Fetched(files, Outcome.PARTIAL, f"{len(ask.failed)} signals were not answered: {name}: {why}")
    return Fetched(files)


class _Asking:
    """Range queries side by side, a few at a time, with a deadline for each and for all."""

    def __init__(self, query: RangeQuery, start: float, end: float, step: float) -> None:
        self.query, self.start, self.end, self.step = query, start, end, step
        self.answers: dict[str, Rows] = {}
        self.failed: dict[str, str] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def all(self, queries: Mapping[str, str], budget: float) -> None:
        tasks = {asyncio.create_task(self._one(name, expr)): name for name, expr in queries.items()}
        try:
            _, late = await asyncio.wait(tasks, timeout=budget)
            for task in late:
                self.failed[tasks[task]] = f"no answer within {budget:.0f} s"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, name: str, expr: str) -> None:
        async with self._turn:
            try:
                async with asyncio.timeout(QUERY_TIMEOUT_S):
                    self.answers[name] = await self.query(expr, self.start, self.end, self.step)
            except TimeoutError:
                self.failed[name] = f"no answer within {QUERY_TIMEOUT_S:.0f} s"
            except Exception as error:  # Prometheus is the outside: refused, garbage, too many samples, …
                self.failed[name] = f"{type(error).__name__}: {error}"[:200]


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Per signal: baseline, now, extremes, ratio and change; then what the shapes say together."""
    window = decode(files.get(FILE, b""))
    if window is None:
        return
    yield Fact(name="metrics.seen", value=bool(window.signals), step="metrics_window", file=FILE, at=window.end)
    if not window.signals:
        return
    for signal in sorted(window.signals):
        if signal not in UNTOLD:
            yield from _of_signal(window, signal)

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", at: float | None = None) -> Fact:
        when = window.end if at is None else at
        return Fact(
            name=f"metrics.{name}", value=value, unit=unit, step="metrics_window", file=FILE, at=when, says=says
        )

    yield fact("running.pinned", pinned(window))
    resolution = f"seen in scrapes {window.interval:g} s apart: shorter stops do not show"
    for name, value in standing(window).items():
        yield fact(name, value, "s" if name.endswith("_s") else "", resolution if name != "flat_s" else "")
    arrivals = summary(window, "arrival_rate").ratio
    usual = summary(window, "prompt_computed_rate").baseline
    yield fact("stall_prefill_ratio", prefill_at_stops(window, usual, arrivals))
    yield fact("reset", reset(window))
    yield fact("ended_at_work", ended_at_work(window))
    yield fact("history_s", history_s(window), "s")
    yield fact("scrape_gap_s", scrape_gap(window), "s")
    yield fact("silence_s", silence(window), "s")
    for name, value in down(window).items():
        yield fact(name, value, "s" if name.endswith("_s") else "")
    for name, (worked_out, unit) in COMPARED.items():
        yield fact(name, worked_out(window), unit)
    mover = first_mover(window)
    if mover is None:
        yield fact("first_mover", None)
    else:
        signal, at, way = mover
        when = "before" if at < window.onset_at else "after"
        yield fact(
            "first_mover",
            signal,
            says=f"went {way} first, {abs(at - window.onset_at):.0f} s {when} the onset",
            at=at,
        )
    moved = movers(window)
    order = ", ".join(f"{signal} {way} {at - window.onset_at:+.0f} s" for signal, at, way in moved[:MOVERS_TOLD])
    yield fact("movers", order if moved else None, says="seconds from the onset")
    yield fact("slowed_before_batch_s", slowed_before_batch(window), "s")
    for signal, at, _ in moved:
        yield fact(f"{signal}.moved_s", round(at - window.onset_at, 3), "s", at=at)
    yield fact("signals_unknown", ",".join(unknown_signals(window, window.asked)))
    ttft = summary(window, "ttft_p99")
    value = ttft.now if ttft.now is not None else ttft.last
    yield fact("ttft_p99.bucket", None if value is None else bucket_words(value))


def _of_signal(window: Window, signal: str) -> Iterator[Fact]:
    found = summary(window, signal)
    unit = unit_of(signal)
    for name, value in (
        ("baseline", found.baseline),
        ("now", found.now),
        ("max", found.highest),
        ("min", found.lowest),
        ("last", found.last),
        ("ratio", found.ratio),
        ("change", found.change),
    ):
        at = found.last_at if name == "last" else window.end
        unit_here = "" if name == "ratio" else unit
        rounded = None if value is None else float(f"{value:.12g}")
        yield Fact(
            name=f"metrics.{signal}.{name}", value=rounded, unit=unit_here, step="metrics_window", file=FILE, at=at
        )


def bucket_words(value: float) -> str | None:
    """A TTFT quantile as honestly as its histogram allows."""
    edges = bucket_of("ttft", value)
    if edges is None:
        return None
    low, high = edges
    if math.isinf(high):
        return f"above {low:g} s"
    return f"below {high:g} s" if low == 0 else f"between {low:g} s and {high:g} s"


STEP = Step(
    name="metrics_window",
    rung=0,
    says="asks Prometheus how every signal went in the ten minutes before the onset and since; nothing else",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("metrics.{signal}.baseline", "", "median in the ten minutes before the onset"),
        FactSpec("metrics.{signal}.now", "", "median of the last 30 s"),
        FactSpec("metrics.{signal}.max", "", "highest value since the onset"),
        FactSpec("metrics.{signal}.min", "", "lowest value since the onset"),
        FactSpec("metrics.{signal}.last", "", "last value since the onset"),
        FactSpec("metrics.{signal}.ratio", "", "now against the baseline"),
        FactSpec("metrics.{signal}.change", "", "now minus the baseline"),
        FactSpec("metrics.seen", "", "whether Prometheus has any series of the server in the window"),
        FactSpec("metrics.running.pinned", "", "whether the batch stands at its maximum while requests wait"),
        FactSpec("metrics.flat_s", "s", "for how long no engine step has returned, until now"),
        FactSpec("metrics.flat_with_in_flight", "", "whether no step returns although requests are in flight"),
        FactSpec("metrics.catch_up", "", "whether a freeze of 5 s or more just ended: what follows is its queue"),
        FactSpec("metrics.stalls", "", "stops of a second or more with requests in flight"),
        FactSpec("metrics.longest_stall_s", "s", "longest stop of the engine that scrapes show"),
        FactSpec(
            "metrics.stall_prefill_ratio", "", "prompt tokens computed around them, against the usual in such time"
        ),
        FactSpec("metrics.reset", "", "whether the server was started anew in the window"),
        FactSpec("metrics.history_s", "s", "of how many seconds before the onset there is data: what `usual` rests on"),
        FactSpec("metrics.scrape_gap_s", "s", "longest run of failed scrapes since the onset"),
        FactSpec("metrics.silence_s", "s", "longest run of failed scrapes, from a minute before the onset on"),
        FactSpec("metrics.down_s", "s", "for how long scrapes have failed, until now"),
        FactSpec("metrics.unasked", "", "whether Prometheus no longer scrapes it: it has left service discovery"),
        FactSpec("metrics.answers_between_gaps", "", "scrapes answered between failed ones, since the onset"),
        FactSpec("metrics.failed_scrape_s", "s", "how long a failed scrape took: refused at once, or given up on"),
        FactSpec("metrics.answered_scrape_s", "s", "how long an answered scrape took, median since the onset"),
        FactSpec("metrics.ended_at_work", "", "processes of the server that ended with requests in flight"),
        FactSpec("metrics.late_scrapes", "", "times a scrape was answered late, by ten times most and 0.25 s at least"),
        FactSpec("metrics.itl_equal_batch_ratio", "", "inter-token latency against before at the same batch size"),
        FactSpec("metrics.itl_beyond_batch_ratio", "", "median inter-token latency against before, beyond the batch"),
        FactSpec(
            "metrics.itl_beyond_work_ratio", "", "inter-token latency against the most that batch and prompts explain"
        ),
        FactSpec("metrics.arrivals_rush_ratio", "", "the most requests in a few seconds, against the most before"),
        FactSpec("metrics.itl_with_prefill_ratio", "", "inter-token latency with many prompt tokens against with few"),
        FactSpec("metrics.delay_in_decode", "share", "of the added waiting, what falls between tokens"),
        FactSpec("metrics.less_done_ratio", "", "times fewer tokens than before, by a batch that is no smaller"),
        FactSpec("metrics.most_done_ratio", "", "work at the best moment before, against the best since the onset"),
        FactSpec("metrics.first_token_steps", "", "prefill time in inter-token latencies, of requests that waited"),
        FactSpec("metrics.growth_with_work", "share", "of slower steps: 1 in proportion to their work, 0 all alike"),
        FactSpec("metrics.slowed_alike", "share", "of slower tokens: 1 all of them, 0 a few"),
        FactSpec(
            "metrics.late_in_stops", "share", "of tokens later than 0.1 s, beyond the usual, those later than a second"
        ),
        FactSpec(
            "metrics.late_in_short_stops",
            "share",
            "of the same, those later than 0.4 s, where tokens take milliseconds",
        ),
        FactSpec(
            "metrics.prefill_beyond_tokens",
            "",
            "how many times more prefill time grew than the mean time between tokens",
        ),
        FactSpec(
            "metrics.reading_share_of_wait",
            "share",
            "of the added wait for the first token, by how much longer prompts are read",
        ),
        FactSpec("metrics.outside_engine_s", "s", "added wait for the first token before or after the engine"),
        FactSpec(
            "metrics.outside_engine_share", "share", "of the added wait for the first token, what is not the engine's"
        ),
        FactSpec("metrics.prompts_being_read", "", "requests in prefill at a time, on average, now"),
        FactSpec("metrics.light_steps_ratio", "", "how long steps take that read no prompt, against before"),
        FactSpec(
            "metrics.itl_beyond_reading_ratio", "", "inter-token latency against the most that prompts read explain"
        ),
        FactSpec("metrics.growth_by_length", "share", "of the added prompt tokens, what longer prompts make up"),
        FactSpec("metrics.prefill_mix_ratio", "", "prompt tokens computed per token generated, against before"),
        FactSpec(
            "metrics.computed_beyond_cache_ratio", "", "prompt tokens computed, against a cache that answers none"
        ),
        FactSpec(
            "metrics.longest_prompts_ratio", "", "the longest prompts since the onset, against the longest before"
        ),
        FactSpec("metrics.long_prompt_share", "share", "of the requests since the onset, those far longer than usual"),
        FactSpec("metrics.long_prompt_reads_s", "s", "how long reading one of these far longer ones takes, median"),
        FactSpec("metrics.prompt_length_peak_ratio", "", "mean prompt length at its highest, against before"),
        FactSpec("metrics.prefill_between_ratio", "", "prompt tokens computed at the quietest moments, against before"),
        FactSpec("metrics.batch_by_arrivals", "share", "of the running requests, what more arrivals alone would make"),
        FactSpec("metrics.cached_tokens_ratio", "", "tokens per second from the prefix cache, against before"),
        FactSpec("metrics.first_mover", "", "the signal that left its usual band first"),
        FactSpec("metrics.movers", "", "the signals that left their usual band, in the order in which they did"),
        FactSpec("metrics.slowed_before_batch_s", "s", "from tokens slowing down to the batch growing; below 0: after"),
        FactSpec("metrics.{signal}.moved_s", "s", "when it left its usual band, from the onset"),
        FactSpec("metrics.signals_unknown", "", "signals without any value; empty when there is none"),
        FactSpec("metrics.ttft_p99.bucket", "", "the histogram bucket the TTFT p99 lies in, in words"),
    ),
    timeout_s=QUERY_TIMEOUT_S + BUDGET_S + 2,
    max_bytes=8 << 20,
    needs=("Prometheus",),
)
