"""Which of our incidents did the existing alerts see, when, and what did they see that we did not? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from responder.backtest.times import rfc3339
from responder.model import Incident, Noun, Target
from responder.window import host_of

QUERY = 'ALERTS{alertstate="firing"}'
BESIDE_S = 300.0
"""An alert that close to an incident is about the same trouble."""


class Episode(Noun):
    """One alert of somebody's rules, from firing to silence."""

    alert: str
    target: str
    """Empty: it names none of our servers."""
    since: float
    until: float


def episodes(
    rows: Iterable[tuple[Mapping[str, str], Sequence[tuple[float, float | None]]]],
    targets: Sequence[Target],
    step: float,
) -> list[Episode]:
    """`ALERTS` series as episodes; those of the same alert and server that touch are one."""
    spans: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for labels, points in rows:
        key = (labels.get("alertname", "?"), _of(labels, targets))
        spans.setdefault(key, []).extend((at, at) for at, value in points if value)
    out = []
    for (alert, target), moments in spans.items():
        held: list[tuple[float, float]] = []
        for since, until in sorted(moments):
            if held and since - held[-1][1] <= 2.5 * step:
                held[-1] = (held[-1][0], until)
            else:
                held.append((since, until))
        out += [Episode(alert=alert, target=target, since=since, until=until) for since, until in held]
    return sorted(out, key=lambda e: (e.since, e.alert, e.target))


def _of(labels: Mapping[str, str], targets: Sequence[Target]) -> str:
    """The server an alert is about: by the labels it shares with the server's series, else by its host."""
    for target in targets:
        shared = {k: v for k, v in target.match.items() if k in labels and k != "job"}
        if shared and all(labels[k] == v for k, v in shared.items()):
            return target.name
    hosts = {host_of(labels.get(name, "")) for name in ("instance", "node", "Hostname")} - {""}
    named = [t.name for t in targets if host_of(t.match.get("instance", "")) in hosts]
    return named[0] if len(named) == 1 else ""


def overlap(incidents: Sequence[Incident], found: Sequence[Episode]) -> dict[str, Any]:
    """Per incident the alerts beside it, with our lead in seconds; and alerts about our servers that opened nothing."""
    seen: dict[str, list[dict[str, Any]]] = {}
    beside: set[int] = set()
    for incident in incidents:
        end = incident.resolved_at if incident.resolved_at is not None else float("inf")
        for number, one in enumerate(found):
            near = one.since <= end + BESIDE_S and one.until >= incident.onset_at - BESIDE_S
            if near and one.target in ("", incident.target):
                beside.add(number)
                lead = round(one.since - incident.opened_at, 3)
                seen.setdefault(incident.id, []).append(
                    {"alert": one.alert, "fired_at": rfc3339(one.since), "lead_s": lead, "target": one.target}
                )
    missed = [one for number, one in enumerate(found) if one.target and number not in beside]
    return {
        "alerts": len(found),
        "about_our_servers": sum(1 for one in found if one.target),
        "also_alerted": seen,
        "only_ours": [incident.id for incident in incidents if incident.id not in seen],
        "only_theirs": [
            {"alert": o.alert, "target": o.target, "since": rfc3339(o.since), "until": rfc3339(o.until)} for o in missed
        ],
    }
