"""Did requests come faster than they ever did before? Pure statistics over a `Window`.

A server whose clients wait for their answers gets no more requests than it finishes, however many want something: only
in the first seconds it shows that more of them are there.
"""

from __future__ import annotations

from responder.window import Window
from responder.windowfacts import BASELINE_S, NEAR_ZERO, usual_points

SPAN_S, SPAN_SCRAPES = 10.0, 4
"""What finishes is counted over 10 s, or four scrapes where that is longer: so must be what comes on top."""
LEAST_SPANS = 2
"""As long the usual time must be: the most of a moment is no measure."""


def arrivals_rush(window: Window) -> float | None:
    """The most requests that came in ten seconds since the onset, against the most that ever did before: 1 is as
    usual. By what is in flight and what finishes. None where that is not known from before."""
    span = max(SPAN_S, SPAN_SCRAPES * window.interval)
    before = [at for at, _ in usual_points(window, "running")]
    if not before or before[-1] - before[0] < LEAST_SPANS * span:
        return None
    came = _came(window, span)
    usual = [rate for at, rate in came if at <= before[-1]]
    since = [rate for at, rate in came if at >= window.onset_at]
    if not usual or not since or max(usual) < NEAR_ZERO:
        return None
    return max(since) / max(usual)


def _came(window: Window, span: float) -> list[tuple[float, float]]:
    """(time, requests per second that came in the span up to it)."""
    begin = window.onset_at - BASELINE_S
    waiting = dict(window.points("waiting", begin, window.end))
    flying = {at: value + waiting[at] for at, value in window.points("running", begin, window.end) if at in waiting}
    done = dict(window.points("finish_rate", begin, window.end))
    times, steps = sorted(flying), max(1, round(span / window.step))
    return [
        (late, (flying[late] - flying[early]) / (late - early) + done[late])
        for early, late in zip(times, times[steps:], strict=False)
        if late in done and late - early < (steps + 0.5) * window.step
    ]
