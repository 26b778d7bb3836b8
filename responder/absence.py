"""What do we not have? Which step should have decided a claim and how it went; and why a cause came about at all."""

from __future__ import annotations

from collections.abc import Sequence

from responder.claims import Facts, looks_of, over_looks
from responder.model import Cause, Evidence, Finding, Missing, Outcome, Plan, Truth, WhyUnknown
from responder.moments import BETWEEN_SPELLS, between_spells

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


def step_of(fact: str) -> str:
    """The step that brings a fact, by its name."""
    prefix = fact.partition(".")[0]
    return STEP_OF_PREFIX.get(prefix, prefix)


class Absent:
    """Why facts are unknown: which step should have brought them, and how that went."""

    def __init__(self, evidence: Sequence[Evidence], plan: Plan) -> None:
        self.calm = between_spells(evidence)
        self.ran: dict[str, Evidence] = {}
        for item in sorted(evidence, key=lambda item: (item.started_at, item.id)):
            self.ran[item.step] = item
        self.refused = {refusal.call.step: refusal.why for refusal in plan.refused}
        self.chosen = {call.step for call in plan.chosen}
        self.known = {fact.name for look in looks_of(evidence) for fact in look.values()}

    def of(self, cause: Cause, findings: Sequence[Finding]) -> tuple[Missing, ...]:
        """One entry for each step that could have decided an undecided claim of this cause, the weightiest first."""
        undecided = {finding.weight for finding in findings if finding.truth is Truth.UNKNOWN}
        claims: dict[str, list[str]] = {}
        weighs: dict[str, float] = {}
        for weight in cause.evidence:
            if weight.id in undecided:
                facts = (clause.fact for clause in (*weight.test.all, *weight.test.any))
                for step in dict.fromkeys(step_of(fact) for fact in facts if fact not in self.known):
                    claims.setdefault(step, []).append(weight.says)
                    weighs[step] = max(weighs.get(step, 0.0), abs(weight.yes), abs(weight.no))
        return tuple(
            Missing(step=step, why=self._why(step), would_tell="; ".join(claims[step][:MISSING_WORDS]))
            for step in sorted(claims, key=lambda step: (-weighs[step], step))
        )

    def _why(self, step: str) -> str:
        item = self.ran.get(step)
        if item is not None and item.id in self.calm:
            return BETWEEN_SPELLS
        if item is not None and item.outcome is Outcome.OK:
            return "it ran, and what it brought does not say"
        if item is not None:
            return f"{item.outcome.value}: {item.reason}" if item.reason else item.outcome.value
        if step in self.refused:
            return f"refused: {self.refused[step]}"
        return "has not come back yet" if step in self.chosen else "it is not run for this kind of incident"


def not_told_apart(cause: Cause, looks: Sequence[Facts]) -> tuple[str, ...]:
    """What was not seen that would tell this cause from its look-alikes, as nouns. Nobody confirms what another cause
    would look like as well, for want of a look."""
    return tuple(
        part.says for part in cause.told_apart if over_looks(part.test, looks, Truth.YES, Truth.NO)[0] is not Truth.YES
    )


def why_unknown(cause: Cause, looks: Sequence[Facts]) -> WhyUnknown | None:
    """That nothing told why this cause came about; None where something did, or where nobody asks."""
    truths = [(over_looks(reason.test, looks, Truth.YES, Truth.NO)[0], reason.says) for reason in cause.why]
    if not truths or any(truth is Truth.YES for truth, _ in truths):
        return None
    return WhyUnknown(
        not_found=tuple(says for truth, says in truths if truth is Truth.NO),
        not_seen=tuple(says for truth, says in truths if truth is Truth.UNKNOWN),
        otherwise=cause.why_otherwise,
    )
