"""When did it begin? A change point, looked for backwards from the alert, in the data itself.

An alert comes late by its window and its `for`. The onset is the last moment the series was still as it used to be:
never later than the alert, and unknown where the data cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Literal

Point = tuple[float, float | None]
Direction = Literal["up", "down", "either"]

MIN_BASELINE = 5
"""Fewer points are no baseline."""
BASELINE_SHARE = 0.5
"""The baseline is the older half of what lies before the alert, but no less than MIN_BASELINE points."""
BAND = 4.0
"""Robust standard deviations that are still as usual."""
USUAL = 0.75
"""So much of the baseline is as usual, however it is spread: a percentile out of a histogram jumps between two buckets,
and the median of such jumps is 0."""
FLOOR = 0.1
"""A band is at least this share of the baseline: quantised series have a spread of 0."""
DRIFT = 1.0
"""Half of the band: what lies inside it takes away from the evidence."""
CAP = 3.0
"""How much one point can say, and DEBT how much evidence can pile up: one outlier is forgotten after three points
as usual, a long one after ten."""
DEBT = 10.0


def onset(points: Iterable[Point], alert_at: float, direction: Direction = "either") -> float | None:
    """The time of the first point that belongs to the change which still holds at the alert; None: cannot tell.

    points: (unix seconds, value), in order; None marks a gap. Points after the alert are not looked at.
    """
    known = [(t, v) for t, v in points if t <= alert_at and v is not None and v == v]
    if len(known) < MIN_BASELINE + 1:
        return None
    baseline = [v for _, v in known[: max(MIN_BASELINE, int(len(known) * BASELINE_SHARE))]]
    centre = median(baseline)
    strayed = sorted(abs(v - centre) for v in baseline)
    spread = 1.4826 * median(strayed)
    unit = max(spread * BAND, strayed[int((len(strayed) - 1) * USUAL)], abs(centre) * FLOOR, 1e-9)
    scores = [(t, (v - centre) / unit) for t, v in known]
    if direction == "either":
        ups, downs = _began(scores), _began([(t, -score) for t, score in scores])
        found = [began for began in (ups, downs) if began is not None]
        return min(found) if found else None
    return _began(scores if direction == "up" else [(t, -score) for t, score in scores])


def _began(scores: Sequence[tuple[float, float]]) -> float | None:
    """CUSUM: where the sum that is above zero at the end left zero for the last time."""
    total = 0.0
    began: float | None = None
    for t, score in scores:
        total = min(DEBT, max(0.0, total + min(score, CAP) - DRIFT))
        if total == 0.0:
            began = None
        elif began is None:
            began = t
    return began if began is not None and began > scores[0][0] else None


def last_moved(points: Iterable[Point], alert_at: float) -> float | None:
    """For hangs: the last time a counter (or a sum of counters) changed before the alert; None: it never did.

    The engine returned a step somewhere between the scrape before this time and this time.
    """
    moved: float | None = None
    before: float | None = None
    for t, value in points:
        if t > alert_at:
            break
        if value is None or value != value:
            continue
        if before is not None and value != before:
            moved = t
        before = value
    return moved


def earliest(candidates: Iterable[float | None], alert_at: float, not_before: float = 0.0) -> float | None:
    """The earliest of several onsets that is neither after the alert nor older than the window looked at."""
    found = [t for t in candidates if t is not None and not_before <= t <= alert_at]
    return min(found) if found else None
