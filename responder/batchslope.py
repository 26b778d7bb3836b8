"""How much longer does one request more make a step, against before?

A slow device stretches what each request costs as it stretches the rest of a step. Who is late on the host loses the
same time whatever the batch is: then a request more costs what it cost. Requests stay longer when tokens are slow, so
the batch grows by itself and shows which it is. Pure statistics over a `Window`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, sqrt
from statistics import median

from responder.window import Window
from responder.windowfacts import usual_points

SPAN_S, SPAN_SCRAPES = 10.0, 2
"""Rates look so far back: what is seen sooner after it began mixes both times."""
LEAST_POINTS, LEAST_SPANS = 5, 2.0
"""Overlapping spans say little more than one."""
SURE = 3.0
"""Standard errors between what is seen and what the other way of being slow would show."""
NEAR = 4.0
"""Times the largest batch from before: the cost of a request at far larger ones was never seen."""
SLOWER = 1.5
STILL = 0.7
"""Of the time per token while it is slow: after less it has ended, and what was seen shortly before mixes both."""
NOISE = 0.003
"""Of the time of a step: no line is surer than that."""
COUNTING = 0.1
"""Of how much the batch seems to vary, what counting whole steps makes of it; more of that flattens the line."""
LEAST, MOST = -0.25, 1.5
"""Of what is in proportion: beyond, it became slower or faster while the batch changed, and not by that."""


@dataclass(frozen=True)
class Line:
    """Seconds per step over requests in it, through (batch, seconds) seen in a stretch of time."""

    batch: float
    seconds: float
    slope: float
    error: float
    """Standard error of the slope."""
    least: float
    most: float
    """The smallest and the largest batch seen."""
    counting: float
    """Of how much the batch varied, what counting whole steps explains: nearly all where the slots are always full."""

    def at(self, batch: float) -> float:
        """Seconds of a step with so many requests."""
        return self.seconds + self.slope * (batch - self.batch)


def growth_with_batch(window: Window, since: float, guard: float) -> float | None:
    """1 where a request more costs a step as many times more as the step became longer, 0 where it costs what it did.
    `since`: when tokens became slow; `guard`: seconds before that which may hold some of it. None where the one cannot
    be told from the other, or the batch is far larger than any from before."""
    usual = usual_points(window, "itl_mean")
    if not usual:
        return None
    span = max(SPAN_S, SPAN_SCRAPES * window.interval)
    was = _line(window, usual[0][0], since - guard, span)
    now = _line(window, since + span, _still_slow(window, since + span, span), span)
    if was is None or now is None or was.slope < SURE * was.error or now.least > NEAR * was.most:
        return None
    expected = was.at(now.batch)
    times = now.seconds / expected if expected > 0 else 0.0
    if times < SLOWER:
        return None
    more = now.slope - was.slope >= SURE * hypot(now.error, was.error)
    flat = now.counting > COUNTING
    less = not flat and times * was.slope - now.slope >= SURE * hypot(now.error, times * was.error)
    share = (now.slope / was.slope - 1) / (times - 1)
    return max(0.0, share) if (more or less) and LEAST <= share <= MOST else None


def _still_slow(window: Window, begin: float, span: float) -> float:
    """Until when tokens were slow, without what mixes in the time after it."""
    seen = window.points("itl_mean", begin, window.end)
    usual = median(took for _, took in seen) if seen else 0.0
    last = max((at for at, took in seen if took >= STILL * usual), default=window.end)
    return window.end if not seen or last == seen[-1][0] else last - span


def _line(window: Window, begin: float, end: float, span: float) -> Line | None:
    """Tokens per second times seconds per token are those who were being answered, on average of the same time."""
    rate = dict(window.points("generation_rate", begin, end))
    seen = [(rate[at] * took, took) for at, took in window.points("itl_mean", begin, end) if at in rate]
    count, spans = len(seen), len(seen) * window.step / span
    if count < LEAST_POINTS or spans < LEAST_SPANS:
        return None
    batch, seconds = sum(many for many, _ in seen) / count, sum(took for _, took in seen) / count
    spread = sum((many - batch) ** 2 for many, _ in seen)
    if spread <= 0:
        return None
    slope = sum((many - batch) * (took - seconds) for many, took in seen) / spread
    left = sum((took - seconds - slope * (many - batch)) ** 2 for many, took in seen) / (count - 2)
    left = max(left, (NOISE * seconds) ** 2)
    error = sqrt(left / spread * max(1.0, span / window.step))
    # A span holds a step more or less than its share: two ends, each anywhere in a step.
    counting = count * (batch * seconds / span) ** 2 / 6 / spread
    return Line(batch, seconds, slope, error, min(many for many, _ in seen), max(many for many, _ in seen), counting)
