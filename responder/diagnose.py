"""What is the likely cause, and what is not known? Evidence and playbook content in, ranked hypotheses out.

Weights are decibans (10 dB = ten to one). W = 10·log10(prior) + one vote per group of evidence - 3 dB for every
symptom the cause does not explain; probabilities are the softmax over all causes that compete, `unknown` among them.
Evidence may have been collected several times. A claim counts when it held at any look, since a verdict is about the
episode; a disproof counts only when no look refutes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from responder.claims import Facts, cited_facts, looks_of, over_looks
from responder.classes import UNKNOWN
from responder.model import (
    Cause,
    Disproof,
    Evidence,
    Finding,
    Hypothesis,
    Incident,
    Missing,
    Outcome,
    Plan,
    Playbook,
    Scalar,
    Status,
    Truth,
    Verdict,
    Weight,
)
from responder.plan import playbooks_for

VOTE_LIMIT_DB = 15.0
UNEXPLAINED_DB = -3.0
DISPROVED_DB = -30.0
UNSUPPORTED_DB = -1.0
"""Below `unknown`: where a cause for which nothing speaks stands at best, however high its prior."""
UNKNOWN_PRIOR = 0.08
CONFIRMED_P = 0.9
PROBABLE_P = 0.6
POSSIBLE_P = 0.05
ALWAYS_LISTED = 3
MISSING_WORDS = 3
"""How many of the claims a missing step would have decided are spelled out."""

STEP_OF_PREFIX = {
    "profile": "torch_profiler",
    "trace": "torch_profiler",
    "metrics": "metrics_window",
    "config": "server_config",
    "log": "log_tail",
    "ras": "nccl_ras",
    "requests": "request_traces",
    "canaries": "canary_compare",
    "steps": "step_recorder",
}
"""Facts are named after their step; these steps have a shorter prefix."""


def diagnose(
    incident: Incident,
    playbooks: Sequence[Playbook],
    causes: Sequence[Cause],
    evidence: Sequence[Evidence],
    plan: Plan | None = None,
) -> Verdict:
    """Ranked hypotheses of all causes the matching playbooks list. `plan` tells why evidence is missing."""
    matched = playbooks_for(incident, playbooks)
    priors = _priors(matched, causes)
    looks = looks_of(evidence)
    absent = _Absent(evidence, plan or Plan())
    alerts = tuple(dict.fromkeys(symptom.alert for symptom in incident.symptoms))
    judged = [
        _judge(cause, priors[cause.id], looks, alerts, absent)
        for cause in sorted(causes, key=lambda cause: cause.id)
        if cause.id in priors
    ]
    ranked = _ranked([*judged, _unknown(judged)])
    return Verdict(
        hypotheses=tuple(ranked),
        playbooks=tuple(book.id for book in matched),
        notes=tuple(_notes(matched, ranked)),
    )


def _finding(weight: Weight, looks: Sequence[Facts]) -> Finding:
    truth, facts = over_looks(weight.test, looks, Truth.YES, Truth.NO)
    says = weight.says
    if truth is Truth.NO:
        says = weight.says_not or f"not so: {weight.says}"
    decibans = {Truth.YES: weight.yes, Truth.NO: weight.no, Truth.UNKNOWN: 0.0}[truth]
    return Finding(
        weight=weight.id,
        group=weight.group,
        truth=truth,
        decibans=max(-VOTE_LIMIT_DB, min(VOTE_LIMIT_DB, decibans)),
        counted=False,
        says=says,
        facts=cited_facts(weight.test, truth, facts),
    )


def _votes(findings: Sequence[Finding]) -> list[Finding]:
    """The same findings, with the one of each group counted that speaks loudest; of equals, the one against."""
    loudest: dict[str, Finding] = {}
    for finding in findings:
        if finding.truth is Truth.UNKNOWN or finding.decibans == 0:
            continue
        held = loudest.get(finding.group)
        if held is None or (abs(finding.decibans), -finding.decibans) > (abs(held.decibans), -held.decibans):
            loudest[finding.group] = finding
    counted = {finding.weight for finding in loudest.values()}
    return [f.model_copy(update={"counted": True}) if f.weight in counted else f for f in findings]


def _disproofs(cause: Cause, looks: Sequence[Facts]) -> list[Finding]:
    found: list[Finding] = []
    for number, test in enumerate(cause.disproved_by, start=1):
        truth, facts = over_looks(test, looks, Truth.NO, Truth.YES)
        if truth is Truth.YES:
            cited = cited_facts(test, truth, facts)
            found.append(
                Finding(
                    weight=f"disproof-{number}",
                    group="disproof",
                    truth=truth,
                    decibans=DISPROVED_DB,
                    counted=not found,
                    says="ruled out by " + " and ".join(f"`{fact.name}` = {_word(fact.value)}" for fact in cited),
                    facts=cited,
                )
            )
    return found


def _word(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _judge(
    cause: Cause, prior: float, looks: Sequence[Facts], alerts: Sequence[str], absent: _Absent
) -> Hypothesis:  # fmt: skip
    """One cause with its weight; probability and status come with the ranking."""
    findings = _votes([_finding(weight, looks) for weight in cause.evidence])
    disproofs = _disproofs(cause, looks)
    unexplained = () if "*" in cause.explains else tuple(a for a in alerts if a not in cause.explains)
    counted = [f for f in (*findings, *disproofs) if f.counted]
    decibans = 10 * math.log10(prior) + sum(f.decibans for f in counted) + UNEXPLAINED_DB * len(unexplained)
    if not any(f.decibans > 0 for f in counted):
        decibans = min(decibans, 10 * math.log10(UNKNOWN_PRIOR) + UNSUPPORTED_DB)
    holds = {f.weight for f in findings if f.truth is Truth.YES}
    confirmed = bool(cause.confirm) and holds.issuperset(cause.confirm)
    return Hypothesis(
        cause=cause.id,
        title=cause.title,
        says=cause.says,
        status=Status.POSSIBLE if disproofs else Status.CONFIRMED if confirmed else Status.PROBABLE,
        probability=0.0,
        decibans=round(decibans, 6),
        supports=tuple(sorted((f for f in findings if f.decibans > 0), key=_loudness)),
        contradicts=tuple(sorted((f for f in (*findings, *disproofs) if f.decibans < 0), key=_loudness)),
        missing=absent.of(cause, findings),
        unexplained=unexplained,
        would_disprove=cause.would_disprove,
        remedies=cause.remedies,
    )


def _loudness(finding: Finding) -> tuple[bool, float, str]:
    return not finding.counted, -abs(finding.decibans), finding.weight


def _unknown(judged: Sequence[Hypothesis]) -> Hypothesis:
    tried = ", ".join(h.cause for h in judged) or "none"
    return Hypothesis(
        cause=UNKNOWN,
        title="None of the known causes fits",
        says=f"Causes considered: {tried}.",
        status=Status.UNKNOWN,
        probability=0.0,
        decibans=round(10 * math.log10(UNKNOWN_PRIOR), 6),
        would_disprove=Disproof(says="Any listed cause with evidence of its own, once the missing evidence is there."),
    )


def _ranked(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """With probabilities and final statuses, best first; the unlikely ones left out but for the best few."""
    top = max(h.decibans for h in hypotheses)
    shares = [10 ** ((h.decibans - top) / 10) for h in hypotheses]
    total = math.fsum(shares)
    ranked = [
        h.model_copy(update={"probability": round(share / total, 6), "status": _status(h, share / total)})
        for h, share in zip(hypotheses, shares, strict=True)
    ]
    ranked.sort(key=lambda h: (-h.probability, h.cause != UNKNOWN, h.cause))
    return [
        h
        for place, h in enumerate(ranked)
        if place < ALWAYS_LISTED or h.probability >= POSSIBLE_P or h.cause == UNKNOWN
    ]


def _status(hypothesis: Hypothesis, probability: float) -> Status:
    """`hypothesis.status` holds the highest it may reach: possible when disproved, confirmed with all its proof."""
    if hypothesis.status in (Status.UNKNOWN, Status.POSSIBLE):
        return hypothesis.status
    supported = any(finding.counted for finding in hypothesis.supports)
    if probability >= CONFIRMED_P and hypothesis.status is Status.CONFIRMED and supported:
        return Status.CONFIRMED
    return Status.PROBABLE if probability >= PROBABLE_P and supported else Status.POSSIBLE


def _priors(playbooks: Sequence[Playbook], causes: Sequence[Cause]) -> dict[str, float]:
    """Prior of every cause that competes: the highest that a matching playbook gives it."""
    own = {cause.id: cause.prior for cause in causes}
    priors: dict[str, float] = {}
    for book in playbooks:
        for name in book.causes:
            if name in own:
                priors[name] = max(priors.get(name, 0.0), book.priors.get(name, own[name]))
    return priors


def _notes(matched: Sequence[Playbook], ranked: Sequence[Hypothesis]) -> Iterable[str]:
    if not matched:
        yield "no playbook covers these symptoms"
    best = ranked[0]
    if best.unexplained and best.cause != UNKNOWN:
        others = [h for h in ranked[1:] if h.supports and set(best.unexplained) - set(h.unexplained)]
        left = ", ".join(best.unexplained)
        also = f"; `{others[0].cause}` would, so there may be two faults" if others else ""
        yield f"`{best.cause}` does not explain {left}{also}"


class _Absent:
    """Why facts are unknown: which step should have brought them, and how that went."""

    def __init__(self, evidence: Sequence[Evidence], plan: Plan) -> None:
        self.ran: dict[str, Evidence] = {}
        for item in sorted(evidence, key=lambda item: (item.started_at, item.id)):
            self.ran[item.step] = item
        self.refused = {refusal.call.step: refusal.why for refusal in plan.refused}
        self.chosen = {call.step for call in plan.chosen}
        self.known = {fact.name for look in looks_of(evidence) for fact in look.values()}

    def of(self, cause: Cause, findings: Sequence[Finding]) -> tuple[Missing, ...]:
        """One entry for each step that could have decided an undecided claim of this cause."""
        undecided = {finding.weight for finding in findings if finding.truth is Truth.UNKNOWN}
        claims: dict[str, list[str]] = {}
        for weight in cause.evidence:
            if weight.id in undecided:
                facts = (clause.fact for clause in (*weight.test.all, *weight.test.any))
                for step in dict.fromkeys(_step(fact) for fact in facts if fact not in self.known):
                    claims.setdefault(step, []).append(weight.says)
        return tuple(
            Missing(step=step, why=self._why(step), would_tell="; ".join(claims[step][:MISSING_WORDS]))
            for step in sorted(claims)
        )

    def _why(self, step: str) -> str:
        item = self.ran.get(step)
        if item is not None and item.outcome is Outcome.OK:
            return "it ran, but could not tell"
        if item is not None:
            return f"{item.outcome.value}: {item.reason}" if item.reason else item.outcome.value
        if step in self.refused:
            return f"refused: {self.refused[step]}"
        return "has not come back yet" if step in self.chosen else "not in the playbooks of this incident"


def _step(fact: str) -> str:
    prefix = fact.partition(".")[0]
    return STEP_OF_PREFIX.get(prefix, prefix)
