"""In which way did a server become slower: every step by the same time or in proportion to its work, all tokens or a
few, in the engine or in front of it?

Pure statistics over a `Window`, of what lies between the moment tokens slowed down and now: an onset is sometimes put
before that, and what was healthy then would blur it.
"""

from __future__ import annotations

from itertools import pairwise
from math import log
from statistics import fmean, median

from responder.batchslope import growth_with_batch
from responder.signals import bucket_of
from responder.stepwork import itl_beyond_work
from responder.window import Window
from responder.windowfacts import (
    BASELINE_POINTS,
    GROUP_POINTS,
    NEAR_ZERO,
    SAME_LOAD,
    prefill_mix_ratio,
    summary,
    usual_band,
    usual_points,
)

SETTLED_S = 45.0
"""So long after it began medians are of the time since, and most of those who finish began in it."""
LATELY_S = 90.0
GUARD_S = 10.0
SLOWER = 1.5
"""Growth of the time per token from which on it can be asked what grew."""
GREW = 1.2
"""Growth of the mean from which on it is worth asking whose it is."""
FEW_LATE = 3.0
"""Fewer tokens that come late, beyond the usual share, tell nothing of their kind."""
OFTEN_LATE = 0.01
"""From such a usual share on late tokens are those beside prompts, and more work makes more of them."""
SHORT_STOP_S, NO_SLOW_STEP = 0.4, 30.0
"""A GPU's lowest clock is a tenth of its highest; a step that takes thirty times as long is no slower work."""
SLOW_TOKEN_S = 0.5
"""A median token that takes so long makes a second of any two steps."""
PROMPTS_A_STEP = 0.5
"""From so many on the usual token waits for a prompt, too: then there is no light step to compare with."""
IN_PROPORTION = 0.5
BATCH_GREW = 4.0
"""Times as many requests in each step make the light ones heavier by themselves."""
SPREAD_WANTED = 0.8
"""How much longer than a usual one a heavier step must have been before, in times, for the two ways to differ."""
READING_S = 30.0
READING_VARIES = 0.5
AS_BEFORE = (0.5, 1.3)
STRETCHED = 2.0
BEYOND_BATCH = 1.5
ONE_STEP = 1.5
MORE_TO_READ = 1.4
"""Times: what reading a prompt adds to a step varies by a half at most, is as before up to 30 % more, or stretched from
twice on, with no more to read. Below one and a half steps a prompt was read in one, and its token told in it."""
A_STEP = 0.8
"""Of the time between tokens: prefill that takes less was not of the same time."""
LATER_S = 0.02
"""Less than that later on average, first tokens tell nothing of what they wait for."""
READS_MOST = 0.9
"""Share of the time spent on reading prompts from which on nothing can be said of the steps that read none."""


def slowed_since(window: Window) -> float:
    """Since when tokens have been slow without a break, seconds; the onset where they are not now, or always were."""
    band = usual_band(window, "itl_mean")
    since = window.points("itl_mean", window.onset_at, window.end)
    if band is None:
        return window.onset_at
    slow = [value > band[1] for _, value in since]
    breaks = [at for at, pair in enumerate(pairwise(slow)) if not any(pair)]
    first = breaks[-1] + 2 if breaks else 0
    return since[first][0] if len(slow) - first >= 2 * GROUP_POINTS else window.onset_at


def itl_at_equal_batch(window: Window) -> float | None:
    """Inter-token latency since tokens slowed down against before, at the same number of running requests (±25 %)."""
    since = slowed_since(window)
    usual_itl, usual_load = (dict(_before_slow(window, name, since)) for name in ("itl_mean", "running"))
    usual = [(load, usual_itl[at]) for at, load in usual_load.items() if at in usual_itl and load > 0]
    timed = dict(window.points("itl_mean", since, window.end))
    matched = [
        (timed[at], [old for load, old in usual if abs(load - running) <= SAME_LOAD * load])
        for at, running in window.points("running", since, window.end)
        if at in timed
    ]
    matched = [(itl, old) for itl, old in matched if len(old) >= GROUP_POINTS]
    if len(matched) < GROUP_POINTS:
        return None
    was = median(median(old) for _, old in matched)
    return median(itl for itl, _ in matched) / was if was > 0 else None


def _before_slow(window: Window, signal: str, since: float) -> list[tuple[float, float]]:
    """The baseline, and what lies between it and the moment tokens slowed down, where the onset was put before that."""
    guard = max(GUARD_S, 2 * window.interval)
    return usual_points(window, signal) + window.points(signal, window.onset_at, since - guard)


def growth_with_work(window: Window) -> float | None:
    """Whether steps became longer in proportion to their work (1) or all by the same time (0), by two kinds of heavy
    steps: those that read a prompt (prefill time) and the slowest in a hundred between tokens, each against the usual
    one. A slow device stretches all it does; who is late loses the same time in each step, whatever is in it.

    None unless it has been slower by half for SETTLED_S, and heavy steps were clearly heavier before. Where light steps
    have more work than before, only growth in proportion can be told: they grew by that, too, so all look alike. Where
    that tells nothing, what reading a prompt takes beyond a usual step may. Before all that it goes by what one request
    more adds to a step, where the batch differed enough to know that of both times and as many prompts are read.
    """
    mix = prefill_mix_ratio(window)
    if mix is not None and mix < MORE_TO_READ and _moved(window, "itl_mean") is not None:
        guard = max(GUARD_S, 2 * window.interval)
        share = growth_with_batch(window, slowed_since(window), guard)
        if share is not None:
            return share
    heavy = [
        grown
        for light, other in (("itl_mean", "prefill_time_mean"), ("itl_p50", "itl_p99"))
        if (grown := _grown(window, light, other)) is not None
    ]
    spread = sum(was - 1 for _, was in heavy)
    if spread >= SPREAD_WANTED:
        share = sum(now - 1 for now, _ in heavy) / spread
        if share >= IN_PROPORTION or (_light_as_before(window) and _prefill_is_of_now(window)):
            return share
    return _reading_growth(window)


def _reading_growth(window: Window) -> float | None:
    """The same, by what reading a prompt adds to a step: prefill time less the time between tokens. Requests come at
    any moment, so beside its own prompt each finds as many others in its step as the usual token does: the difference
    is its own, however full steps became. It stays as it was where time is lost beside the work.

    Both are means of requests that finished, and those who finish first began before: for as long as a request takes
    the difference must have been what it is. None where it varied before, or a larger batch may make tokens slow.
    """
    since, moved = slowed_since(window), _moved(window, "itl_mean")
    answers, mix, beyond = (
        _moved(window, "generation_tokens_mean"),
        prefill_mix_ratio(window),
        itl_beyond_work(window),
    )
    if moved is None or answers is None or mix is None or beyond is None:
        return None
    if moved[0] <= 0 or moved[1] < STRETCHED * moved[0]:
        return None
    lately = max(READING_S, answers[1] * moved[1])
    usual = _reading(usual_points(window, "itl_mean"), usual_points(window, "prefill_time_mean"))
    first = max(window.end - lately, since + SETTLED_S / 2)
    names = ("itl_mean", "prefill_time_mean")
    now = _reading(*(window.points(name, first, window.end) for name in names))
    if len(usual) < BASELINE_POINTS or len(now) < GROUP_POINTS or window.end - since < lately + SETTLED_S / 2:
        return None
    was = median(usual)
    if was <= 0 or median(abs(value - was) for value in usual) > READING_VARIES * was:
        return None
    halves = [median(now[: (len(now) + 1) // 2]) / was, median(now[len(now) // 2 :]) / was]
    grown = median(now) / was
    share = (grown - 1) / (moved[1] / moved[0] - 1)
    if beyond >= BEYOND_BATCH and all(AS_BEFORE[0] <= half <= AS_BEFORE[1] for half in halves):
        return share
    in_one_step = was <= (ONE_STEP - 1) * moved[0]
    stretched = min(halves) >= STRETCHED and share >= IN_PROPORTION and mix < MORE_TO_READ
    return share if stretched and in_one_step else None


def _reading(light: list[tuple[float, float]], heavy: list[tuple[float, float]]) -> list[float]:
    """Seconds a step that reads a prompt takes longer than the usual one, at each moment at which both are known."""
    steps = dict(light)
    return [seconds - steps[at] for at, seconds in heavy if at in steps]


def _light_as_before(window: Window) -> bool:
    """Whether most steps still read no prompt, for hardly more requests at once than before."""
    arrivals, steps, batch = (_moved(window, name) for name in ("arrival_rate", "itl_mean", "running"))
    if arrivals is None or steps is None or batch is None:
        return False
    return arrivals[1] * steps[1] <= PROMPTS_A_STEP and batch[1] <= BATCH_GREW * max(1.0, batch[0])


def _prefill_is_of_now(window: Window) -> bool:
    """Whether those who finish lately had their prompt read while it was slow, too: else prefill looks as before. It
    takes a step at least; and where answers take longer than it has been slow, those who finish began before."""
    answers, steps, prefill = (
        _moved(window, name) for name in ("generation_tokens_mean", "itl_mean", "prefill_time_mean")
    )
    if steps is None or (prefill is not None and prefill[1] < A_STEP * steps[1]):
        return False
    return answers is None or window.end - slowed_since(window) >= answers[1] * steps[1] + SETTLED_S / 2


def _grown(window: Window, light: str, heavy: str) -> tuple[float, float] | None:
    """(how many times the added time of the light the heavy one gained, how many times as long it was before)."""
    pairs = [_moved(window, name) for name in (light, heavy)]
    if pairs[0] is None or pairs[1] is None:
        return None
    (light_was, light_is), (heavy_was, heavy_is) = pairs[0], pairs[1]
    if light_was <= 0 or heavy_was < light_was or light_is < SLOWER * light_was:
        return None
    if heavy == "itl_p99" and not _told_apart(light_was, heavy_was):
        return None
    return (heavy_is - heavy_was) / (light_is - light_was), heavy_was / light_was


def _told_apart(light: float, heavy: float) -> bool:
    """Where percentiles lie inside one bucket, or inside the first, is a guess."""
    lower, upper = bucket_of("itl", light), bucket_of("itl", heavy)
    return lower is not None and lower[0] > 0 and lower != upper


def _moved(window: Window, signal: str) -> tuple[float, float] | None:
    """Medians before the onset and lately, of a time in which it was slow; None: too few points of either."""
    since = slowed_since(window)
    if window.end - since < SETTLED_S:
        return None
    since = max(since + SETTLED_S / 2, window.end - LATELY_S)
    usual = [value for _, value in usual_points(window, signal)]
    lately = [value for _, value in window.points(signal, since, window.end)]
    if len(usual) < BASELINE_POINTS or len(lately) < GROUP_POINTS:
        return None
    return median(usual), median(lately)


def slowed_alike(window: Window) -> float | None:
    """Of the growth of the mean time per token, on a logarithmic scale, what its median shows as well: 1 where all
    tokens became slower, 0 where a few did. None where the mean did not grow by GREW."""
    mean, middle = summary(window, "itl_mean"), summary(window, "itl_p50")
    if mean.ratio is None or middle.ratio is None or mean.ratio < GREW or middle.ratio <= 0:
        return None
    return log(middle.ratio) / log(mean.ratio)


def late_in_stops(window: Window) -> float | None:
    """Of the tokens that come later than 0.1 s, beyond the usual share of them, those that come later than a second:
    who waits for an engine that stops, waits for the whole stop; on a device slow for moments many wait a little.
    The median of the half minutes since the onset in which FEW_LATE or more came late; None where there is none, and
    where OFTEN_LATE are late in usual times, too: what piled up in a stop makes more of those afterwards. Nor where the
    median token takes SLOW_TOKEN_S: it comes later than a second in any slow step; where none comes any more, as of a
    server that died, the one before counts."""
    tokens = summary(window, "itl_p50")
    middle = tokens.last if tokens.now is None else tokens.now
    return None if middle is not None and middle >= SLOW_TOKEN_S else _in_gaps(window, "itl_long_gaps")


def late_in_short_stops(window: Window) -> float | None:
    """The same of those later than SHORT_STOP_S, where usual tokens come NO_SLOW_STEP times sooner than that."""
    usual = summary(window, "itl_mean").baseline
    return _in_gaps(window, "itl_short_gaps") if usual and usual * NO_SLOW_STEP <= SHORT_STOP_S else None


def _in_gaps(window: Window, gaps: str) -> float | None:
    """Of the tokens that are late beyond the usual share of them, those that this signal counts."""
    usual = summary(window, "itl_late_share").baseline
    if usual is None or usual >= OFTEN_LATE:
        return None
    stops = dict(window.points(gaps, window.onset_at, window.end))
    tokens = dict(window.points("itl_recent_samples", window.onset_at, window.end))
    shares = [
        stops[at] / late
        for at, share in window.points("itl_late_share", window.onset_at, window.end)
        if at in stops and at in tokens and (late := (share - usual) * tokens[at]) >= FEW_LATE
    ]
    return min(1.0, median(shares)) if shares else None


def prefill_beyond_tokens(window: Window) -> float | None:
    """How many times more the mean prefill grew than the mean time between tokens. Requests come at any moment, tokens
    in steps: where some moments are slow few of the steps and as many of the requests as ever fall into them. About 1
    or less where every step became slower, and where an engine stops, as it has not scheduled who comes meanwhile.

    Prefill is told when a request finishes: where tokens come in time again, it is still that of slow times. So what
    most tokens took since the onset counts, where that is more."""
    prefill, tokens = summary(window, "prefill_time_mean").ratio, summary(window, "itl_mean")
    since = [value for _, value in window.points("itl_mean", window.onset_at, window.end)]
    if prefill is None or tokens.ratio is None or not tokens.baseline:
        return None
    return prefill / max(1.0, tokens.ratio, median(since) / tokens.baseline)


def prompts_being_read(window: Window) -> float | None:
    """Requests whose prompt is being read at a time, on average: those that arrive in the time that one takes (Little's
    law). Below a half, most tokens come out of steps that read no prompt. None where one is not known."""
    arrivals, reading = summary(window, "arrival_rate").now, summary(window, "prefill_time_mean").now
    return None if arrivals is None or reading is None else arrivals * reading


def light_steps_ratio(window: Window) -> float | None:
    """How long a step takes that reads no prompt, now against before. The mean step is that and, for each prompt that
    comes in its time, what reading one adds (prefill time less the mean step, as in `_reading_growth`): 1 where prompts
    are all that tokens take longer for. None where one is not known, or reading takes all of the time (READS_MOST)."""
    steps, reading, arrivals = (summary(window, name) for name in ("itl_mean", "prefill_time_mean", "arrival_rate"))
    was = _light_step(steps.baseline, reading.baseline, arrivals.baseline)
    now = _light_step(steps.now, reading.now, arrivals.now)
    return None if not was or now is None else now / was


def _light_step(step: float | None, reading: float | None, arrivals: float | None) -> float | None:
    if step is None or reading is None or arrivals is None:
        return None
    share = arrivals * max(0.0, reading - step)
    return step * (1 - share) if share <= READS_MOST else None


def itl_beyond_reading(window: Window) -> float | None:
    """Mean inter-token latency against the most that prompts and batch explain where answers break off: few tokens come
    for each prompt then, and yet a token waits only for the prompts that come between it and the one before. So a gap
    is a step that reads none and what reading adds to it, as in `light_steps_ratio`; as much of the time as before goes
    to reading, and more by as many times as there are prompt tokens computed: who leaves is in no histogram of
    finished requests. None where one is not known, or reading may take all of the time (READS_MOST)."""
    steps, reading, arrivals = (summary(window, name) for name in ("itl_mean", "prefill_time_mean", "arrival_rate"))
    running, more = summary(window, "running"), summary(window, "prompt_computed_rate").ratio
    light = _light_step(steps.baseline, reading.baseline, arrivals.baseline)
    if light is None or not steps.baseline or steps.now is None or more is None:
        return None
    if running.now is None or running.baseline is None:
        return None
    share = (1 - light / steps.baseline) * max(1.0, more)
    most = light / (1 - share) * max(1.0, running.now / max(1.0, running.baseline)) if share <= READS_MOST else 0.0
    return steps.now / most if most > 0 else None


def reading_share_of_wait(window: Window) -> float | None:
    """Of the seconds that first tokens take longer since the onset than before, on average, the share by which reading
    a prompt takes longer. Who comes while an engine stands still waits for its next step and is then read as fast as
    ever. Where steps are slow at moments, one's own is as slow as the one waited for: half of it, less where requests
    wait for slots. None where first tokens are hardly later though reading takes longer, or one is not known."""
    reading, wait = (_added(window, name) for name in ("prefill_time_mean", "ttft_mean"))
    if reading is None or wait is None or (reading > 0 and wait < LATER_S):
        return None
    return min(1.0, reading / wait) if reading > 0 else 0.0


def _added(window: Window, signal: str) -> float | None:
    """Mean since the onset less the usual one: each wait counts, and at a moment few may be slow."""
    usual = [value for _, value in usual_points(window, signal)]
    since = [value for _, value in window.points(signal, window.onset_at, window.end)]
    return fmean(since) - fmean(usual) if len(usual) >= BASELINE_POINTS and len(since) >= GROUP_POINTS else None


def outside_engine_share(window: Window) -> float | None:
    """Of the seconds that the first token takes longer than before, the share that the engine knows nothing of: near 1
    who waits, waits in front of it. None where the first token comes as before."""
    outside, later = outside_engine(window), summary(window, "ttft_mean").change
    return None if outside is None or later is None or later < NEAR_ZERO else min(1.0, max(0.0, outside / later))


def outside_engine(window: Window) -> float | None:
    """Seconds of the time to the first token that are neither waiting in the engine's queue nor prefill, beyond those
    of usual times: the API server's, and what it takes until the step before is done. None where one is not known."""
    parts = [summary(window, name) for name in ("ttft_mean", "queue_time_mean", "prefill_time_mean")]
    rows = [(part.baseline, part.now) for part in parts]
    known = [(was, now) for was, now in rows if was is not None and now is not None]
    if len(known) < len(rows):
        return None
    (ttft_was, ttft), (queue_was, queue), (prefill_was, prefill) = known
    return max(0.0, ttft - queue - prefill) - max(0.0, ttft_was - queue_was - prefill_was)
