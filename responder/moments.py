"""Did a look come at the wrong moment? What users got while it looked, beside what they get now and usually.

A fault that comes in spells leaves quiet stretches between them. A look that falls into one (stacks, time on a core,
the load of a GPU) sees a healthy server: it says nothing of the fault, neither for nor against a cause. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from responder.model import Evidence, Served

RISEN = 2.0
"""What users wait must have grown so much before one can tell a quiet stretch from the fault."""
AS_USUAL = 1.5
"""No longer than so many times the usual, nor than the middle (geometric) between usual and fault: as usual."""
WAITS: Mapping[str, str] = {"itl_s": "metrics.itl_mean", "ttft_s": "metrics.ttft_mean"}
"""Field of `Served` -> the signal whose mean it is, both in seconds."""
BETWEEN_SPELLS = "it looked while users got what they usually get, so it says nothing of the fault"


class Level(NamedTuple):
    """A mean wait in seconds: before the onset, and since."""

    usual: float
    now: float

    @property
    def quiet(self) -> float:
        """The longest that counts as usual."""
        return self.usual * min(AS_USUAL, math.sqrt(self.now / self.usual))


def levels(evidence: Sequence[Evidence]) -> dict[str, Level]:
    """Which waits have grown since the onset, by field of `Served`; of several metrics windows, the worst."""
    found: dict[str, Level] = {}
    for item in evidence:
        facts = {fact.name: fact.value for fact in item.facts if not fact.subject}
        for field, signal in WAITS.items():
            usual, now = facts.get(f"{signal}.baseline"), facts.get(f"{signal}.now")
            if isinstance(usual, float) and isinstance(now, float) and 0 < usual * RISEN <= now:
                known = found.get(field)
                found[field] = Level(usual, now) if known is None or now > known.now else known
    return found


def served(item: Evidence) -> Served | None:
    """What users got while this step looked; in records of older releases, known of what touched the server only."""
    if item.served is None and item.cost is not None:
        return Served(itl_s=item.cost.itl_s[1], ttft_s=item.cost.ttft_s[1], tokens_per_s=item.cost.tokens_per_s[1])
    return item.served


def as_usual(got: Served | None, grown: Mapping[str, Level]) -> bool:
    """Whether everything that has grown was as before in these seconds; False where one of it could not be seen."""
    waits = {field: getattr(got, field) for field in grown} if got is not None else {}
    return bool(waits) and all(wait is not None and wait <= grown[field].quiet for field, wait in waits.items())


def in_spell(got: Served, grown: Mapping[str, Level], running: float | None) -> bool:
    """Whether users wait as in the fault in these seconds: longer than usual, or for tokens that do not come."""
    waits = {field: getattr(got, field) for field in grown}
    longer = any(wait is not None and wait > grown[field].quiet for field, wait in waits.items())
    return longer or (got.tokens_per_s == 0 and bool(running))


def between_spells(evidence: Sequence[Evidence]) -> frozenset[str]:
    """Ids of evidence with facts of its moment only, looked at while users got what they usually get."""
    looked = [item for item in evidence if any(fact.momentary for fact in item.facts)]
    grown = levels(evidence) if looked else {}
    return frozenset(item.id for item in looked if as_usual(served(item), grown))
