"""Which capture next? The one that best tells the leading causes apart for what it costs the server and the clock.

For every capture that could decide something: if each leading cause in turn were the true one, the claims of that cause
which the capture decides would hold and those of the others would not; what is then left of the doubt (entropy, bits),
weighed by how likely each of them is, against the doubt now. That drop for a unit of cost is what a capture is worth.
When a cause is confirmed there is nothing to buy; what tells nobody apart is not worth any disturbance. While no known
cause fits, whoever must find out is helped by every look that does not disturb.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from responder.absence import step_of
from responder.claims import looks_of
from responder.classes import UNKNOWN
from responder.model import (
    Cause,
    Evidence,
    Finding,
    Hypothesis,
    Incident,
    Noun,
    Refusal,
    Status,
    StepCall,
    Verdict,
)
from responder.plan import HEAVY_RUNG

HIT = 0.85
"""How often a capture shows what is there."""
LEAST_BITS = 0.01
"""Less than this is no reason to touch a server."""
PAUSE_COSTS = 10.0
"""One second of pause weighs as much as so many seconds of waiting."""
RUNG_COSTS = 2.0
VOLATILE = "hang_or_crash"
"""In this class evidence dies with the processes: everything is looked at at once, whatever it is worth."""


class Costs(Protocol):
    """What a choice must know of a step (`capture.step.Step` has it)."""

    @property
    def worst_pause_s(self) -> float:
        """Declared worst-case pause of the server."""

    @property
    def timeout_s(self) -> float:
        """The longest it takes."""


class Choice(Noun):
    """Calls worth running, best first, and those that are not, with the reason."""

    chosen: tuple[StepCall, ...] = ()
    refused: tuple[Refusal, ...] = ()


def choose(
    incident: Incident,
    calls: Sequence[StepCall],
    verdict: Verdict | None,
    causes: Sequence[Cause],
    steps: Mapping[str, Costs],
    evidence: Sequence[Evidence],
) -> Choice:
    """The calls in the order of their worth, after what `evidence` says already."""
    classes = {incident.incident_class, *(symptom.incident_class for symptom in incident.symptoms)}
    if verdict is None or VOLATILE in classes:
        return Choice(chosen=tuple(calls))
    top = verdict.hypotheses[0]
    if top.status is Status.CONFIRMED:
        return Choice(refused=tuple(Refusal(call=c, why=f"not needed: `{top.cause}` is confirmed") for c in calls))
    known = {name for look in looks_of(evidence) for name in look}
    by_id = {cause.id: cause for cause in causes}
    rows: list[tuple[float, int, StepCall]] = []
    refused: list[Refusal] = []
    for place, call in enumerate(calls):
        bits, names = _tells(call.step, verdict.hypotheses, by_id, known)
        if bits < LEAST_BITS and not (top.cause == UNKNOWN and call.rung < HEAVY_RUNG):
            refused.append(Refusal(call=call, why="not needed: it would not tell the leading causes apart"))
            continue
        tells = "tells " + " from ".join(f"`{name}`" for name in names[:2]) if names else "for whoever looks into it"
        why = f"{call.why}; {tells}" if call.why else tells
        rows.append((-bits / _cost(call, steps), place, call.model_copy(update={"why": why})))
    ordered = sorted(rows, key=lambda row: (row[0], row[1]))
    return Choice(chosen=tuple(call for *_, call in ordered), refused=tuple(refused))


def _cost(call: StepCall, steps: Mapping[str, Costs]) -> float:
    step = steps.get(call.step)
    if step is None:
        return math.inf
    return 1.0 + step.timeout_s / 10 + PAUSE_COSTS * step.worst_pause_s + RUNG_COSTS * call.rung


def _tells(
    step: str, hypotheses: Sequence[Hypothesis], causes: Mapping[str, Cause], known: Collection[str]
) -> tuple[float, list[str]]:
    """Expected drop of entropy in bits, and the causes it speaks of, likeliest first."""
    yes = {h.cause: _swing(h, causes.get(h.cause), step, known, holds=True) for h in hypotheses}
    no = {h.cause: _swing(h, causes.get(h.cause), step, known, holds=False) for h in hypotheses}
    if not any(yes.values()) and not any(no.values()):
        return 0.0, []
    now = [max(h.probability, 1e-9) for h in hypotheses]
    before, left = _entropy(now), 0.0
    for true in hypotheses:
        shifted = [
            max(h.probability, 1e-9) * 10 ** ((HIT * (yes[h.cause] if h.cause == true.cause else no[h.cause])) / 10)
            for h in hypotheses
        ]
        left += true.probability / math.fsum(now) * _entropy(shifted)
    spoken_of = [h.cause for h in hypotheses if yes[h.cause] or no[h.cause]]
    others = [h.cause for h in hypotheses if h.cause not in spoken_of and h.cause != UNKNOWN]
    return before - left, [*spoken_of, *others, "all else"]


def _swing(hypothesis: Hypothesis, cause: Cause | None, step: str, known: Collection[str], *, holds: bool) -> float:
    """Decibans this step may add to a cause when its claims hold, or when they do not: the loudest of each group, as
    far as it is louder than what the group says already."""
    if cause is None:
        return 0.0
    decided = {f.weight for f in (*hypothesis.supports, *hypothesis.contradicts)}
    held = {f.group: f for f in (*hypothesis.supports, *hypothesis.contradicts) if f.counted}
    loudest: dict[str, float] = {}
    for weight in cause.evidence:
        clauses = (*weight.test.all, *weight.test.any)
        if weight.id in decided or not any(step_of(c.fact) == step and c.fact not in known for c in clauses):
            continue
        says = weight.yes if holds == (weight.yes >= weight.no) else weight.no
        if abs(says) > abs(loudest.get(weight.group, 0.0)):
            loudest[weight.group] = says
    return math.fsum(_beyond(held.get(group), says) for group, says in loudest.items())


def _beyond(held: Finding | None, says: float) -> float:
    if held is None:
        return says
    return says - held.decibans if abs(says) > abs(held.decibans) else 0.0


def _entropy(weights: Sequence[float]) -> float:
    total = math.fsum(weights)
    return -math.fsum(w / total * math.log2(w / total) for w in weights if w > 0)
