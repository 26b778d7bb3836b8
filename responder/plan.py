"""What do we capture, in which order, and what do we refuse? An incident and its playbooks in, a plan out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from responder.model import Incident, Noun, Plan, Playbook, Refusal, StepCall

HEAVY_RUNG = 2
"""From here on a capture disturbs the server's users."""
ASK_RUNG = 3
"""From here on a person must approve, or the operator must have allowed it for this target."""

SENDS_REQUESTS = frozenset({"canary", "canary_compare"})
"""Steps that put requests of their own into the server; a target may switch them off."""


class Harm(Protocol):
    """What a plan must know of a step (`capture.step.Step` has it)."""

    @property
    def rung(self) -> int:
        """Rung in order of harm."""

    @property
    def worst_pause_s(self) -> float:
        """Declared worst-case pause of the server."""


class Budget(Noun):
    """How far the owner of a target lets us go."""

    max_rung: int = 1
    """Highest rung that runs without asking."""
    only_rung: int | None = None
    """Choose calls of this rung alone, for a flow that climbs rung by rung; refusals are told for all rungs."""
    pause_s: float = 1.0
    """Sum of the declared worst-case pauses of what is chosen."""
    canary: bool = True
    """Whether requests of our own may be sent; with rung 0 it is so only where the owner said it in as many words."""
    approved: frozenset[str] = frozenset()
    """Steps a person has approved for this incident, whatever their rung and pause."""
    must_ask: frozenset[str] = frozenset()
    """Steps this target wants a person to approve, whatever their rung."""
    learned: Mapping[str, float] = {}
    """Step -> the worst pause it has caused on this target, where it was measured; instead of the declared one."""
    heavy_left: int = 5
    """Captures of rung 2 and up that still fit into this hour."""
    not_now: str = ""
    """Why nothing of rung 2 and up may run at this moment."""
    nothing: str = ""
    """Why nothing at all may run at this moment."""


def playbooks_for(incident: Incident, playbooks: Sequence[Playbook]) -> tuple[Playbook, ...]:
    """Every playbook whose class or one of whose alerts the incident shows, in the order of ids."""
    classes = {incident.incident_class, *(symptom.incident_class for symptom in incident.symptoms)}
    alerts = {symptom.alert for symptom in incident.symptoms}
    matched = [book for book in playbooks if book.incident_class in classes or alerts & set(book.alerts)]
    return tuple(sorted(matched, key=lambda book: book.id))


def plan(
    incident: Incident,
    playbooks: Sequence[Playbook],
    steps: Mapping[str, Harm],
    budget: Budget,
    done: Collection[str] = (),
) -> Plan:
    """The ladders of all matching playbooks as one: least harmful first, duplicates once, the rest refused with why.

    `done` are steps that have run; they are neither chosen nor refused again.
    """
    left, heavy_left = budget.pause_s, budget.heavy_left
    chosen: list[StepCall] = []
    refused: list[Refusal] = []
    for call in _in_order(_merged(playbooks_for(incident, playbooks)), steps):
        if call.step in done:
            continue
        step = steps.get(call.step)
        why = "this responder has no such capture" if step is None else _refusal(call, step, budget, left, heavy_left)
        if why:
            refused.append(Refusal(call=call, why=why))
        elif budget.only_rung is None or call.rung == budget.only_rung:
            chosen.append(call)
            left -= pause_of(call.step, step, budget) if step else 0.0
            heavy_left -= call.rung >= HEAVY_RUNG
    return Plan(chosen=tuple(chosen), refused=tuple(refused))


def pause_of(name: str, step: Harm, budget: Budget) -> float:
    """The pause to reckon with, seconds: as measured on this target, else as declared."""
    return budget.learned.get(name, step.worst_pause_s)


def highest(step: str, budget: Budget) -> int:
    """The rung up to which this step runs without asking: `canary: true` beside `max_rung: 0` allows requests alone."""
    return max(budget.max_rung, 1) if budget.canary and step in SENDS_REQUESTS else budget.max_rung


def asks(call: StepCall, budget: Budget) -> bool:
    """Whether only a person can let this call run: its rung, or this target's policy."""
    return call.step not in budget.approved and (call.rung >= ASK_RUNG or call.step in budget.must_ask)


def _refusal(call: StepCall, step: Harm, budget: Budget, left: float, heavy_left: int) -> str:
    """Why this call may not run, or nothing."""
    if budget.nothing:
        return budget.nothing
    if call.step in SENDS_REQUESTS and not budget.canary:
        if budget.max_rung < 1:
            return "requests of our own are not sent where `max_rung` is 0; `canary: true` of the target allows them"
        return "requests of our own are switched off for this target (`canary: false`)"
    allowed = call.step in budget.approved or call.rung <= highest(call.step, budget)
    if call.rung >= HEAVY_RUNG and budget.not_now and allowed:
        return f"not now: {budget.not_now}"
    if call.step in budget.approved:
        return ""
    if asks(call, budget) and call.rung < ASK_RUNG:
        return "this target wants a person's approval for it"
    if call.rung > budget.max_rung and call.rung >= ASK_RUNG:
        return f"rung {call.rung} stops the server for seconds or longer: it needs a person's approval"
    if call.rung > highest(call.step, budget):
        return f"rung {call.rung} is above rung {budget.max_rung}, which is as far as this target allows"
    if call.rung >= HEAVY_RUNG and heavy_left <= 0:
        return "this hour's captures of rung 2 and up, of this server and its host, are used up"
    pause = pause_of(call.step, step, budget)
    if pause > left:
        return (
            f"may pause the server for {pause:.3g} s; "
            f"{max(left, 0.0):g} s are left of the {budget.pause_s:g} s this target allows"
        )
    return ""


def _merged(playbooks: Sequence[Playbook]) -> list[StepCall]:
    """One call for each step with the same parameters, with everybody's reasons for it."""
    merged: dict[tuple[str, tuple[tuple[str, str], ...]], StepCall] = {}
    for call in (call for book in playbooks for call in book.ladder):
        key = (call.step, tuple(sorted((name, repr(value)) for name, value in call.params.items())))
        first = merged.get(key)
        if first is None:
            merged[key] = call
            continue
        reasons = dict.fromkeys(why for why in (*first.why.split("; "), *call.why.split("; ")) if why)
        merged[key] = first.model_copy(update={"rung": min(first.rung, call.rung), "why": "; ".join(reasons)})
    return list(merged.values())


def _in_order(calls: Sequence[StepCall], steps: Mapping[str, Harm]) -> list[StepCall]:
    """By rung, then by what they may cost; a step never runs on a rung below the one it declares for itself."""
    honest = [
        call.model_copy(update={"rung": max(call.rung, steps[call.step].rung)}) if call.step in steps else call
        for call in calls
    ]
    pause = {name: step.worst_pause_s for name, step in steps.items()}
    return sorted(honest, key=lambda call: (call.rung, pause.get(call.step, 0.0)))
