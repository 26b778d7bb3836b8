"""Which past incidents left the same evidence? An incident as the set of signs it showed, and the distance of two.

A sign is a claim of a playbook that was decided: shown or not shown. Only what both incidents could decide is compared,
and what neither showed says nothing. Pure; a second opinion for people, which never moves a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from responder.claims import looks_of, weighed
from responder.model import Cause, Evidence, Neighbour, Noun, Opinion, Status, Truth

FEW = 3
"""Fewer signs in common are chance."""
FAR = 0.6
"""Incidents further away than this are not alike."""
SHOWN = 3
NAMED_SIGNS = 5


class Fingerprint(Noun):
    """What is kept of an incident for later ones."""

    incident: str
    target: str
    at: float
    named: str
    status: Status
    signs: dict[str, bool]
    """`cause.claim` -> shown, or looked for and not shown."""


def signs_of(causes: Iterable[Cause], evidence: Sequence[Evidence]) -> dict[str, bool]:
    """Every decided claim of every cause."""
    looks = looks_of(evidence)
    found: dict[str, bool] = {}
    for cause in sorted(causes, key=lambda cause: cause.id):
        for weight in cause.evidence:
            truth, _ = weighed(weight, looks)
            if truth is not Truth.UNKNOWN:
                found[f"{cause.id}.{weight.id}"] = truth is Truth.YES
    return found


def distance(one: Mapping[str, bool], other: Mapping[str, bool]) -> float | None:
    """Share of the signs either showed that the other did not, among those both could decide; None: too few."""
    either = [sign for sign in one if sign in other and (one[sign] or other[sign])]
    if len(either) < FEW:
        return None
    return 1 - sum(one[sign] and other[sign] for sign in either) / len(either)


def nearest(
    now: Fingerprint, past: Iterable[Fingerprint], opinions: Mapping[str, Opinion], count: int = SHOWN
) -> tuple[Neighbour, ...]:
    """The past incidents most like this one, nearest first; of equally near ones the newest first."""
    rows = []
    for one in past:
        away = distance(now.signs, one.signs) if one.incident != now.incident else None
        if away is not None and away <= FAR:
            rows.append((away, -one.at, one.incident, one))
    return tuple(_neighbour(now, one, away, opinions.get(one.incident)) for away, _, _, one in sorted(rows)[:count])


def _neighbour(now: Fingerprint, one: Fingerprint, away: float, opinion: Opinion | None) -> Neighbour:
    both = [sign for sign in now.signs if sign in one.signs]
    turned_out = ""
    if opinion is not None:
        turned_out = opinion.cause or (opinion.named if opinion.right else f"not {opinion.named}")
    return Neighbour(
        incident=one.incident,
        target=one.target,
        at=one.at,
        named=one.named,
        status=one.status,
        turned_out=turned_out,
        distance=round(away, 3),
        shared=tuple(sign for sign in both if now.signs[sign] and one.signs[sign])[:NAMED_SIGNS],
        apart=tuple(sign for sign in both if now.signs[sign] != one.signs[sign])[:NAMED_SIGNS],
    )
