"""Did all requests get longer, did a few, or did more of them come? Pure statistics over a `Window`.

A giant now and then is not in the median of half a minute, nor in the mean of it: these look at the whole time since
the onset, at the highest and at the quiet moments of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from responder.window import COMPUTED, Window
from responder.windowfacts import BASELINE_GUARDS_S, BASELINE_POINTS, GROUP_POINTS, NEAR_ZERO, summary, usual_points

HIGH = 0.9
"""Of the usual time, the share in which the longest prompts were no longer: rates look back, so the last points before
an onset may hold some of it."""
FAR = 2.0
"""Times as long as the longest of usual ones: from there on a prompt is far longer. Buckets are about that wide."""
A_BUCKET = 2.5
"""Times as wide as that a bucket is at most: prompts of one kind may lie in two of them."""
IN_A_PERCENTILE = 300.0
"""Of so many requests a minute, a hundred in the time a rate looks back, a single one is not in the 99th percentile."""
QUIET = 0.25
"""Of the time since the onset, the quietest part."""
SLICE_S = 10.0
"""Quiet is what lasts for so long: between two of many documents there are some seconds as well."""


def longest_prompts(window: Window) -> float | None:
    """The longest prompts since the onset against the longest of the usual time, as far as the histogram tells: it
    knows buckets, each about twice the one before."""
    usual = _usual(window, _longest(window))
    seen = _since(window, _longest(window))
    if len(usual) < BASELINE_POINTS or not seen:
        return None
    longest = _quantile(usual, HIGH)
    return max(seen) / longest if longest > NEAR_ZERO else None


def long_share(window: Window) -> float | None:
    """Of the requests since the onset, the share that is far longer than usual, as their mean length tells: the mean of
    usual requests and of `share` of the longest ones. An upper bound where the longest are beyond the histogram's last
    bucket. None where the longest are not twice the usual mean."""
    usual = _usual(window, "prompt_tokens_mean")
    longest = max(_since(window, _longest(window)), default=None)
    tokens, requests = _since(window, "prompt_token_rate"), _since(window, "ttft_slow_samples")
    if len(usual) < BASELINE_POINTS or longest is None or not tokens or not requests:
        return None
    mean, finished = median(usual), fmean(requests) / 60
    if longest < 2 * mean or finished < NEAR_ZERO:
        return None
    return max(0.0, (fmean(tokens) / finished - mean) / (longest - mean))


def long_prompt_reads(window: Window) -> float | None:
    """Seconds it takes to read the longest prompts, the median of the moments at which far longer ones than usual were
    counted: of a giant whole seconds, of the documents that others send less, even where two of them share their steps.
    By the longest prefill in the same time, as both are counted when a request ends; a bucket's upper end where that
    was asked for. Where nobody counts how long single prompts are, when their mean is far above the usual.
    """
    reading = next((s for s in ("prefill_time_longest", "prefill_time_p99") if _since(window, s)), None)
    requests = _since(window, "ttft_slow_samples")
    if reading == "prefill_time_p99" and requests and fmean(requests) > IN_A_PERCENTILE:
        return None
    lengths = _longest(window) if _since(window, _longest(window)) else "prompt_tokens_mean"
    usual = _usual(window, lengths)
    since = window.points(lengths, window.onset_at, window.end)
    if reading is None or len(usual) < BASELINE_POINTS or not since:
        return None
    least = max(FAR * _quantile(usual, HIGH), max(value for _, value in since) / A_BUCKET)
    took = dict(window.points(reading, window.onset_at, window.end))
    found = [took[at] for at, value in since if value >= least and at in took]
    return median(found) if found else None


def prefill_between(window: Window) -> float | None:
    """Prompt tokens computed per second in the quietest quarter of the time since the onset, against the usual: about 1
    where nothing but a giant now and then is another than before."""
    before = _slices(window, window.start, window.onset_at - BASELINE_GUARDS_S[0])
    since = _slices(window, window.onset_at, window.end)
    if not before:  # recorded when no counter was kept
        before, since = _usual(window, "prompt_computed_rate"), _since(window, "prompt_computed_rate")
    if len(before) < BASELINE_POINTS or len(since) < GROUP_POINTS or fmean(before) < NEAR_ZERO:
        return None
    return _quantile(since, QUIET) / (median(before) or fmean(before))


def _slices(window: Window, start: float, end: float) -> list[float]:
    """Prompt tokens computed per second in slices of SLICE_S, or of one scrape where these are farther apart."""
    rates: list[float] = []
    held: tuple[float, float] | None = None
    for at, total in window.points(COMPUTED, start, end):
        if held is None or total < held[1]:
            held = at, total
        elif at - held[0] >= max(SLICE_S, window.interval) - window.step / 2:
            rates.append((total - held[1]) / (at - held[0]))
            held = at, total
    return rates


def length_peak(window: Window) -> float | None:
    """The mean prompt length of the moment at its highest since the onset, against the usual."""
    found = summary(window, "prompt_tokens_mean")
    if found.highest is None or found.baseline is None or found.baseline < NEAR_ZERO:
        return None
    return found.highest / found.baseline


def batch_by_arrivals(window: Window) -> float | None:
    """Of the requests that run now, the share that more arrivals alone would make, each staying as long as usual
    (Little's law): far below 1, each of them stays longer, and that is what fills the batch."""
    usual, running = _usual(window, "running"), summary(window, "running").now
    arrivals = summary(window, "arrival_rate").ratio
    if len(usual) < BASELINE_POINTS or running is None or running < NEAR_ZERO or arrivals is None:
        return None
    return fmean(usual) * arrivals / running


def _longest(window: Window) -> str:
    """What tells the longest prompts: where it was not asked for, the 99th percentile."""
    return next((s for s in ("prompt_tokens_longest", "prompt_tokens_p99") if _since(window, s)), "prompt_tokens_p99")


def _usual(window: Window, signal: str) -> list[float]:
    return [value for _, value in usual_points(window, signal)]


def _since(window: Window, signal: str) -> list[float]:
    return [value for _, value in window.points(signal, window.onset_at, window.end)]


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
