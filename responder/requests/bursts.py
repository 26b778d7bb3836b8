"""Were slow requests slow together? Moments at which nearly everything in flight was slow. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from responder.requests.record import Replica, Request

HIT_SHARE = 0.8
FEWEST = 2
MOST_BURSTS = 100
REGULAR = 0.25


@dataclass(frozen=True)
class Burst:
    """One moment that made everything slow that was in flight."""

    at: float
    """Unix seconds, the middle of the time all its requests have in common."""
    seconds: float
    """How much time it cost those it hit: the upper quartile of their excess."""
    hit: int
    in_flight: int
    replica: Replica
    ids: tuple[str, ...]
    """Of the requests it cost most."""


def bursts_of(slow: Sequence[tuple[Request, float]], fast: Sequence[Request]) -> list[Burst]:
    """Bursts of every replica, in order of time; a slow request (with its excess seconds) counts in one only."""
    found: list[Burst] = []
    for replica in sorted({r.replica for r, _ in slow}):
        mine = [(r, e) for r, e in slow if r.replica == replica]
        found += _of_replica(mine, [r for r in fast if r.replica == replica], replica)
    return sorted(found, key=lambda b: b.at)


def _of_replica(slow: list[tuple[Request, float]], fast: Sequence[Request], replica: Replica) -> list[Burst]:
    starts, ends = sorted(r.start for r in fast), sorted(r.end for r in fast)
    left = list(slow)
    out: list[Burst] = []
    while len(left) >= FEWEST and len(out) < MOST_BURSTS:
        best = _fullest(left, starts, ends)
        if best is None:
            break
        at, others = best
        members = [(r, e) for r, e in left if r.start <= at <= r.end]
        since, until = max(r.start for r, _ in members), min(r.end for r, _ in members)
        worst = sorted(members, key=lambda m: (-m[1], m[0].id))
        excess = sorted(e for _, e in members)
        out.append(Burst((since + until) / 2, excess[(3 * len(excess)) // 4], len(members), len(members) + others,
                         replica, tuple(r.id for r, _ in worst[:5])))  # fmt: skip
        left = [(r, e) for r, e in left if not r.start <= at <= r.end]
    return out


def _fullest(
    slow: Sequence[tuple[Request, float]], starts: Sequence[float], ends: Sequence[float]
) -> tuple[float, int] | None:
    """The moment with most slow requests alive among those at which nearly all alive are slow, and how many are not.

    Only arrivals of slow and departures of fast ones need be looked at: nowhere else does their share grow."""
    arrivals = sorted(r.start for r, _ in slow)
    departures = sorted(r.end for r, _ in slow)
    gone = ends[bisect_left(ends, arrivals[0]) : bisect_right(ends, departures[-1])]
    best: tuple[int, float, int] | None = None
    for at in sorted({*arrivals, *gone}):
        alive = bisect_right(arrivals, at) - bisect_left(departures, at)
        # A fast one that arrives or leaves at this very moment was not hit, nor does it speak against it.
        others = bisect_left(starts, at) - bisect_right(ends, at)
        if alive < FEWEST or alive < HIT_SHARE * (alive + max(0, others)):
            continue
        if best is None or alive > best[0]:
            best = (alive, at, max(0, others))
    return None if best is None else (best[1], best[2])


def regular(times: Sequence[float]) -> float | None:
    """The distance of events that come regularly (three or more), else None."""
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    if len(gaps) < 2:
        return None
    middle = median(gaps)
    spread = median(abs(g - middle) for g in gaps)
    return middle if middle > 0 and spread <= REGULAR * middle else None
