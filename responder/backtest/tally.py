"""What does a backtest add up to? Incidents, noise per day, and what captures would have cost. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from responder.model import Incident

DAY_S = 86400.0


class Price(NamedTuple):
    """One capture that would have run, at its declared worst."""

    step: str
    rung: int
    seconds: float
    pause_s: float
    max_bytes: int


class Verdict(NamedTuple):
    """How a report ended: the leading hypothesis."""

    cause: str
    status: str
    probability: float


def summary(
    incidents: Sequence[Incident],
    verdicts: Mapping[str, Verdict],
    prices: Mapping[str, Sequence[Price]],
    watched_s: Mapping[str, float],
) -> dict[str, Any]:
    """watched_s: target -> seconds its series were there; noise is counted against that time."""
    days = sum(watched_s.values()) / DAY_S
    mine = Counter(incident.target for incident in incidents)
    return {
        "incidents": len(incidents),
        "target_days": round(days, 4),
        "incidents_per_target_day": round(len(incidents) / days, 3) if days else None,
        "by_class": dict(sorted(Counter(i.incident_class for i in incidents).items())),
        "by_cause": dict(sorted(Counter(v.cause for v in verdicts.values()).items())),
        "by_status": dict(sorted(Counter(v.status for v in verdicts.values()).items())),
        "by_target": {
            name: {
                "incidents": mine[name],
                "days": round(seconds / DAY_S, 4),
                "per_day": round(mine[name] / (seconds / DAY_S), 3) if seconds else None,
            }
            for name, seconds in sorted(watched_s.items())
        },
        "captures": captures(price for each in prices.values() for price in each),
    }


def captures(prices: Iterable[Price]) -> dict[str, Any]:
    """Captures that would have run, added up at their declared worst."""
    by_step: dict[str, list[Price]] = {}
    for price in prices:
        by_step.setdefault(price.step, []).append(price)
    rows = {
        step: {
            "runs": len(each),
            "rung": each[0].rung,
            "seconds_at_most": round(sum(p.seconds for p in each), 3),
            "pause_seconds_at_most": round(sum(p.pause_s for p in each), 3),
            "bytes_at_most": sum(p.max_bytes for p in each),
        }
        for step, each in sorted(by_step.items())
    }
    return {
        "runs": sum(row["runs"] for row in rows.values()),
        "pause_seconds_at_most": round(sum(row["pause_seconds_at_most"] for row in rows.values()), 3),
        "by_step": rows,
    }
