"""When did an incident begin? The onset of each of its signals, looked for in Prometheus, live and in a history."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from responder.capture.step import RangeQuery
from responder.metrics import PrometheusSilent
from responder.model import Content, Incident, TimelineEntry
from responder.onset import Direction, earliest, last_moved, onset
from responder.rules import expand, widen

PROGRESS = "progress_total"
ONSET_WINDOW_S = 600.0


async def with_onset(
    incident: Incident, content: Content, match: Mapping[str, str], query: RangeQuery, interval_s: float,
    within_s: float | None,
) -> Incident:  # fmt: skip
    """The incident as it opened, with its onset from the data; at most `within_s` seconds are spent on it."""
    recorded = {signal.name: signal.expr for signal in content.signals}
    rules = {rule.alert: rule for rule in content.rules}
    at = incident.opened_at
    terms = [rules[s.alert].terms[0] for s in incident.symptoms if s.alert in rules and rules[s.alert].terms]
    ways: dict[str, Direction] = {t.signal: "up" if t.op in (">", ">=") else "down" for t in terms}
    if incident.incident_class == "hang_or_crash":
        ways = {PROGRESS: "either"}
    try:
        async with asyncio.timeout(within_s):
            found = await asyncio.gather(
                *(
                    _onset_of(name, way, widen(expand(recorded[name], recorded), interval_s), at, match, query,
                              max(interval_s, 1.0))
                    for name, way in sorted(ways.items())
                    if name in recorded
                )
            )  # fmt: skip
    except TimeoutError:
        found = []
    first = min(s.since for s in incident.symptoms)
    began = earliest([*found, first], at, at - ONSET_WINDOW_S) or first
    entry = TimelineEntry(at=began, kind="onset", says="the first sign of trouble in the data")
    return incident.model_copy(update={"onset_at": min(began, at), "timeline": (entry, *incident.timeline)})


async def _onset_of(
    name: str, way: Direction, expr: str, end: float, match: Mapping[str, str], query: RangeQuery, step: float
) -> float | None:
    try:
        rows = await query(expr, end - ONSET_WINDOW_S, end, step)
    except PrometheusSilent:
        return None
    mine = [points for labels, points in rows if all(labels.get(k) == v for k, v in match.items())]
    if name == PROGRESS:
        return earliest([last_moved(points, end) for points in mine], end)
    return earliest([onset(points, end, way) for points in mine], end)
