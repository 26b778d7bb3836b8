"""Who is told of this incident? The first route that matches it, and every later one until one that does not go on."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from responder.model import Incident, Noun, Target

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FIELDS = ("severity", "class", "model", "target", "alert")
"""What a route may match besides the target's own labels."""


class Hours(Noun):
    """A part of the week: from `start` to `end` minutes after midnight, over midnight when `end` is not later."""

    days: tuple[int, ...] = tuple(range(7))
    """0 is Monday. The day on which the hours begin."""
    start: int = 0
    end: int = 1440
    zone: str = "UTC"


class Route(Noun):
    """Matchers, and the receivers that are told where all of them hold."""

    match: dict[str, str] = {}
    """Field or label of the target -> regular expression, fully anchored."""
    hours: tuple[Hours, ...] = ()
    """Only in these hours; empty: always."""
    receivers: tuple[str, ...]
    goes_on: bool = False
    """Whether later routes are looked at, too."""


def receivers_for(
    incident: Incident, target: Target | None, routes: Iterable[Route], known: Collection[str], now: float
) -> tuple[str, ...]:
    """Names of receivers, in order; all that are `known` where no route matches, for nobody must be left untold."""
    values = values_of(incident, target)
    chosen: dict[str, None] = {}
    for route in routes:
        if not matches(route, values, now):
            continue
        chosen |= dict.fromkeys(route.receivers)
        if not route.goes_on:
            break
    return tuple(name for name in chosen if name in known) or tuple(known)


def values_of(incident: Incident, target: Target | None) -> dict[str, tuple[str, ...]]:
    """What a route can match: every field with all the values it has in this incident."""
    models = {s.labels["model_name"] for s in incident.symptoms if s.labels.get("model_name")}
    if target is not None and target.model:
        models.add(target.model)
    labels = {name: (value,) for name, value in (target.labels if target else {}).items()}
    return labels | {
        "severity": (incident.severity.value,),
        "class": (incident.incident_class,),
        "model": tuple(sorted(models)),
        "target": (incident.target,),
        "alert": tuple(dict.fromkeys(s.alert for s in incident.symptoms)),
    }


def matches(route: Route, values: Mapping[str, tuple[str, ...]], now: float) -> bool:
    """Every matcher holds for one of its field's values, and it is the hour for it."""
    for field, pattern in route.match.items():
        if not any(re.fullmatch(pattern, value) for value in values.get(field, ("",)) or ("",)):
            return False
    return not route.hours or any(within(hours, now) for hours in route.hours)


def within(hours: Hours, now: float) -> bool:
    """Whether this moment lies in the hours, by the clocks of their time zone."""
    local = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(hours.zone))
    minute, day = local.hour * 60 + local.minute, local.weekday()
    if hours.start < hours.end:
        return day in hours.days and hours.start <= minute < hours.end
    # Over midnight: the hours belong to the day on which they began.
    return (day in hours.days and minute >= hours.start) or ((day - 1) % 7 in hours.days and minute < hours.end)
