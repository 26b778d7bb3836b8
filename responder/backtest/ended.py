"""When did an incident end whose server's history ends first? With the last sample, as far as anybody knows.

A history that was put together from files has no marks at the ends of its series: Prometheus goes on showing the last
samples for five minutes, and whatever they said seems to go on for so long.
"""

from __future__ import annotations

import json

from responder.backtest.find import SEEN
from responder.backtest.vanished import LOOKBACK_S
from responder.capture.step import RangeQuery
from responder.model import Incident, Target

SAYS = "the history of this server ends here"


async def ended(ask: RangeQuery, target: Target, incident: Incident, looked_at: float, interval: float) -> Incident:
    """The incident, resolved no later than the last scrape where its server's samples only faded after that.

    looked_at: unix seconds of the last look, which it does not end before. interval: seconds between scrapes.
    """
    if incident.resolved_at is None:
        return incident
    last = await _faded(ask, target, incident.resolved_at, interval)
    if last is None or last >= incident.resolved_at:
        return incident
    at = max(last, looked_at, incident.opened_at)
    told = [
        entry.model_copy(update={"at": at, "says": SAYS})
        if entry.kind == "resolved" and entry.at == incident.resolved_at
        else entry
        for entry in incident.timeline
    ]
    return incident.model_copy(update={"resolved_at": at, "timeline": tuple(told)})


async def _faded(ask: RangeQuery, target: Target, until: float, interval: float) -> float | None:
    """When the server was last scraped, if what Prometheus shows last before `until` is an old sample; else None."""
    step = max(1.0, interval)
    pairs = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(target.match.items()))
    for metric in ("up", SEEN):
        rows = await ask(f"timestamp({metric}{{{pairs}}})", until - 2 * LOOKBACK_S, until, step)
        points = sorted((at, stamp) for _, row in rows for at, stamp in row if stamp is not None)
        if points:
            at, stamp = points[-1]
            return stamp if at - stamp > 2.5 * interval + step else None
    return None
