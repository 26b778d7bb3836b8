"""How slow may tokens be for what each step has to do, by what this server showed before?

A step takes a time that nobody adds to, and some for each request in it and for each prompt token it reads. Before the
onset the same latency was seen with smaller and larger batches: the line through these, as steep as they allow, says
how slow a larger batch may make tokens at most. Pure statistics over a `Window`.
"""

from __future__ import annotations

from math import inf, sqrt

from responder.window import Window
from responder.windowfacts import prefill_mix_ratio, summary, usual_points

RATE_S, RATE_SCRAPES = 20.0, 4
"""Latency is that of tokens of the last 20 s, or of four scrapes where that is longer: so is the batch beside it."""
LEAST_POINTS = 10
LEAST_SPANS = 2.0
"""Overlapping spans say little more than one: fewer that do not overlap give no line."""
STEEP = 3.0
"""Standard errors by which the line may be steeper than it looks."""


def itl_beyond_work(window: Window) -> float | None:
    """Mean inter-token latency against the most that the work in a step explains: above 1, something else makes tokens
    slow. Work is the batch, times as many prompt tokens for each that is generated as there are more than before;
    twice of it takes twice as long at most, and no longer than the line says. None where one of these is not known."""
    itl, running, mix = summary(window, "itl_mean"), summary(window, "running"), prefill_mix_ratio(window)
    seen = _seen(window)
    if itl.now is None or running.now is None or mix is None or len(seen) < LEAST_POINTS:
        return None
    batch, usual = sum(batch for batch, _ in seen) / len(seen), sum(value for _, value in seen) / len(seen)
    work = max(1.0, running.now) * max(1.0, mix)
    in_proportion = usual * max(1.0, work / max(1.0, batch))
    by_line = usual + _steepest(window, seen) * max(0.0, work - batch)
    most = min(in_proportion, by_line)
    return itl.now / most if most > 0 else None


def _seen(window: Window) -> list[tuple[float, float]]:
    """(batch, latency) before the onset, both over the same span."""
    latency = usual_points(window, "itl_mean")
    if not latency:
        return []
    span = _span(window)
    batches = window.points("running", latency[0][0] - span, latency[-1][0])
    found, first = [], 0
    for at, value in latency:
        while first < len(batches) and batches[first][0] < at - span:
            first += 1
        mine = [batch for when, batch in batches[first:] if when <= at]
        if mine:
            found.append((sum(mine) / len(mine), value))
    return found


def _span(window: Window) -> float:
    return max(RATE_S, RATE_SCRAPES * window.interval)


def _steepest(window: Window, seen: list[tuple[float, float]]) -> float:
    """Seconds that one request more adds to a step at most; infinite where nothing can be said."""
    count = len(seen)
    spans = count * window.step / _span(window)
    middle, usual = sum(batch for batch, _ in seen) / count, sum(value for _, value in seen) / count
    spread = sum((batch - middle) ** 2 for batch, _ in seen)
    if spans < LEAST_SPANS or spread <= 0:
        return inf
    slope = sum((batch - middle) * (value - usual) for batch, value in seen) / spread
    left = sum((value - usual - slope * (batch - middle)) ** 2 for batch, value in seen)
    error = sqrt(left / (count - 2) / (spread / count * spans))
    return max(0.0, slope + STEEP * error)
