"""Does a case of a playbook test come out as expected? Content and a case in, failures in words out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from responder.authoring.testfile import ExpectPart
from responder.classes import PRECEDENCE
from responder.model import (
    Content,
    Incident,
    Plan,
    Report,
    Rule,
    Scalar,
    Severity,
    Status,
    Symptom,
    Verdict,
)

AT = 1_700_000_000.0
"""The virtual now of a case without a history of its own."""
TARGET = "case"


@dataclass(frozen=True)
class Came:
    """What a case led to; of a case without an incident all is empty."""

    incident_class: str = ""
    verdict: Verdict | None = None
    plan: Plan = field(default_factory=Plan)
    fired: Mapping[str, float] = field(default_factory=dict)
    """Alert -> seconds after the first sample."""
    opened_s: float | None = None
    facts: Mapping[str, Scalar] = field(default_factory=dict)
    wrong: Sequence[str] = ()
    """What is wrong with the case itself, in words: an output that its pattern does not fit."""
    why_silent: Sequence[str] = ()
    """Of a case with series that opened nothing: which condition of which rule was false, or had no data."""


def incident_of(alerts: Sequence[str], content: Content) -> Incident:
    """The incident that these alerts make when they fire together; ValueError where no rule of them is in force."""
    rules = {rule.alert: rule for rule in content.rules}
    mine = [rules[name] for name in alerts if name in rules]
    if not mine:
        raise ValueError(f"no alert of this case is in force: {', '.join(alerts)} (disabled in the configuration?)")
    return _incident(mine)


def of_report(report: Report, since: float | None = None) -> Came:
    """What a stored or replayed incident came to; `since` is the first moment of its history, unix seconds."""
    incident = report.incident
    fired = {s.alert: s.fired_at - (since or incident.opened_at) for s in incident.symptoms}
    opened = incident.opened_at - since if since is not None else None
    facts = {fact.name: fact.value for item in report.evidence for fact in item.facts if not fact.subject}
    return Came(incident.incident_class, report.verdict, report.plan, fired, opened, facts)


def failures(expect: ExpectPart, came: Came) -> list[str]:
    """Everything that is not as expected, in words; nothing when all is."""
    if expect.silent:
        loud = f"expected silence, but an incident of class {came.incident_class} opened"
        return [*came.wrong, *([loud] if came.verdict else [])]
    if came.verdict is None:
        fired = ", ".join(came.fired) or "none"
        return [*came.wrong, f"expected an incident, but none opened (alerts that fired: {fired})", *came.why_silent]
    return [
        *came.wrong,
        *_of_the_incident(expect, came),
        *_of_the_facts(expect, came.facts),
        *_of_the_verdict(expect, came.verdict),
        *_of_the_plan(expect, came.plan),
    ]


def _of_the_incident(expect: ExpectPart, came: Came) -> Iterable[str]:
    if expect.incident_class and expect.incident_class != came.incident_class:
        yield f"class: expected {expect.incident_class}, got {came.incident_class}"
    for name in expect.alerts:
        if name not in came.fired:
            yield f"alerts: {name} did not fire; fired: {', '.join(sorted(came.fired)) or 'none'}"
    if expect.within is not None and (came.opened_s is None or came.opened_s > expect.within):
        yield f"within: expected {expect.within:g} s, it took {came.opened_s:g} s"


def _of_the_facts(expect: ExpectPart, facts: Mapping[str, Scalar]) -> Iterable[str]:
    for name, wanted in expect.facts.items():
        got = facts.get(name)
        same = type(got) is type(wanted) if isinstance(wanted, bool) or isinstance(got, bool) else True
        if not same or got != wanted:
            yield f"facts: {name} expected {wanted!r}, got {'nothing' if got is None else repr(got)}"


def _of_the_verdict(expect: ExpectPart, verdict: Verdict) -> Iterable[str]:
    lead = verdict.hypotheses[0]
    for name in expect.playbooks:
        if name not in verdict.playbooks:
            yield f"playbooks: {name} does not match; matching: {', '.join(verdict.playbooks) or 'none'}"
    if expect.first and lead.cause not in expect.first:
        ranked = ", ".join(f"{h.cause} {h.probability:.0%}" for h in verdict.hypotheses[:3])
        yield f"first: expected {' or '.join(expect.first)}, got {ranked}"
    if expect.status and lead.status.value not in expect.status:
        yield f"status: expected {' or '.join(expect.status)}, {lead.cause} is {lead.status.value}"
    for hypothesis in verdict.hypotheses:
        if hypothesis.cause in expect.not_confirmed and hypothesis.status is Status.CONFIRMED:
            yield f"not_confirmed: {hypothesis.cause} is confirmed"
    spoken = {finding.weight for finding in lead.contradicts}
    for name in expect.against:
        if name not in spoken:
            said = ", ".join(sorted(spoken)) or "nothing"
            yield f"against: {name} does not speak against {lead.cause}; what does: {said}"


def _of_the_plan(expect: ExpectPart, wished: Plan) -> Iterable[str]:
    chosen = [call.step for call in wished.chosen]
    refused = {refusal.call.step: refusal.why for refusal in wished.refused}
    for name in expect.runs:
        if name not in chosen:
            yield f"runs: {name} would not run: {refused.get(name, 'no playbook of this incident asks for it')}"
    for name in expect.refuses:
        if name not in refused:
            yield f"refuses: {name} is not refused: {'it would run' if name in chosen else 'no playbook asks for it'}"


def _incident(rules: Sequence[Rule]) -> Incident:
    classes = {rule.incident_class for rule in rules}
    named = next((name for name in PRECEDENCE if name in classes), rules[0].incident_class)
    loudest = max((rule.severity for rule in rules), key=list(Severity).index)
    symptoms = tuple(
        Symptom(alert=rule.alert, incident_class=rule.incident_class, severity=rule.severity, target=TARGET,
                since=AT - rule.for_s, fired_at=AT)
        for rule in rules
    )  # fmt: skip
    return Incident(id="case", target=TARGET, incident_class=named, severity=loudest,
                    onset_at=min(s.since for s in symptoms), opened_at=AT, symptoms=symptoms)  # fmt: skip
