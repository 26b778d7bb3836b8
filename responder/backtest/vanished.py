"""Which servers left the history while they were at work? A loss, as far as a history can tell it from a scale-down.

Lost is who leaves with requests in flight while Prometheus goes on about others, and is not replaced by another server
of the same model. Prometheus marks what it scrapes no longer: there the series ends at once. A history that was put
together from files simply ends, and what is left of its last sample fades for minutes; that is no loss.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from responder.capture.step import RangeQuery
from responder.model import Target

Rows = Sequence[tuple[Mapping[str, str], Sequence[tuple[float, float | None]]]]
LOOKBACK_S = 330.0
"""Prometheus shows a sample for five minutes when nothing marks the end of its series."""
REPLACED_WITHIN_S = 600.0
MATTERS_S = 600.0
"""For so long after it left a server's absence is a symptom; later nobody waits for it."""


class Lost(NamedTuple):
    """A server that was gone from `since` until `until` (unix seconds)."""

    target: str
    since: float
    until: float


def leavings(moments: Collection[float], step: float, end: float) -> list[tuple[float, float]]:
    """(last seen, seen again or infinity) wherever a server was missing for more than one point of a grid of `step`
    seconds; not where the history ends."""
    ordered = sorted(set(moments))
    gaps = [(a, b) for a, b in zip(ordered, ordered[1:], strict=False) if b - a > 1.5 * step]
    if ordered and ordered[-1] < end - 1.5 * step:
        gaps.append((ordered[-1], math.inf))
    return gaps


def replaced(target: Target, at: float, first_seen: Mapping[str, float], targets: Sequence[Target]) -> bool:
    """Whether another server of the same model came up around that time, as in a rollout."""
    return any(
        other.name != target.name
        and other.model == target.model
        and abs(first_seen.get(other.name, -math.inf) - at) <= REPLACED_WITHIN_S
        for other in targets
    )


async def lost(
    ask: RangeQuery, targets: Sequence[Target], moments: Mapping[str, Collection[float]], in_flight: str, *,
    start: float, end: float, step: float, interval: float,
) -> list[Lost]:  # fmt: skip
    """Every loss. moments: when each target was seen on a grid of `step` seconds; in_flight: PromQL."""
    first = {name: min(when) for name, when in moments.items() if when and min(when) > start + 1.5 * step}
    found = []
    for target in targets:
        for last, again in leavings(moments.get(target.name, ()), step, end):
            if replaced(target, last, first, targets):
                continue
            gone = await _marked_end(ask, target, last, min(last + step + LOOKBACK_S, end), interval)
            if gone is not None and await _at_work(ask, target, in_flight, gone - interval, interval):
                found.append(Lost(target.name, gone, min(again, gone + MATTERS_S)))
    return found


async def _marked_end(ask: RangeQuery, target: Target, since: float, until: float, interval: float) -> float | None:
    """When scrapes of it ended with a mark, while Prometheus still told of others; else None."""
    fine = max(1.0, interval / 2)
    pairs = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(target.match.items()))
    rows = await ask(f"timestamp(up{{{pairs}}})", since, until, fine)
    points = sorted((at, stamp) for _, row in rows for at, stamp in row if stamp is not None)
    if not points or points[-1][0] > until - 2 * interval - fine:
        return None
    at, stamp = points[-1]
    if at - stamp > 2.5 * interval + fine:
        return None
    after = at + 2 * interval + fine
    others = await ask("timestamp(up)", after, after, 1.0)
    talks = any(stamp is not None and stamp >= at for _, row in others for _, stamp in row)
    return at + fine if talks else None


async def _at_work(ask: RangeQuery, target: Target, in_flight: str, at: float, interval: float) -> bool:
    rows = await ask(in_flight, at - interval, at, max(1.0, interval))
    return any(
        value is not None and value > 0
        for labels, row in rows
        if all(labels.get(name) == wanted for name, wanted in target.match.items())
        for _, value in row
    )
