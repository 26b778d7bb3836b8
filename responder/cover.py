"""What is the smallest set of causes that accounts for everything seen? A second opinion beside the ranking.

The ranking weighs causes against each other as if there were one; two faults at once share its probability. Here every
symptom, and every signal on which a proven cause rests, must be accounted for by somebody: greedily, the cause that
accounts for most first, then whoever accounts for the rest. Another cause joins only with all its proof, which must
rest on signals that the causes before it do not speak of, with nothing serious against it, and far likelier than that
none fits: one fault has many faces, and none of these is a second fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from responder.classes import UNKNOWN
from responder.model import Finding, Hypothesis, Noun, Truth

JOINS_DB = 13.0
"""So much likelier than `unknown` (twenty to one) must another cause be to be named beside the first: were the first
not there, this one would be confirmed."""
AGAINST_DB = -5.0
"""One group of evidence so loud against a cause keeps it from being named beside another."""


class Cover(Noun):
    """The smallest set, the one that accounts for most first; `left` is what nobody in it accounts for."""

    causes: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    cause: str
    decibans: float
    proven: bool
    accounts: frozenset[str]
    joins: frozenset[str]
    """Signals of its loudest proof when it is good enough to be named beside another; else empty."""


def smallest(hypotheses: Sequence[Hypothesis], alerts: Iterable[str]) -> Cover:
    """The smallest set of `hypotheses` for these alerts. Empty when none has evidence of its own."""
    none_fits = next((h.decibans for h in hypotheses if h.cause == UNKNOWN), 0.0)
    possible = [_candidate(h, alerts, h.decibans - none_fits >= JOINS_DB) for h in hypotheses if _possible(h)]
    wanted = set(alerts) | {signal for one in possible for signal in one.joins}
    chosen: list[_Candidate] = []
    while wanted:
        best = min(
            (one for one in possible if _may(one, chosen)),
            key=lambda one: (-len(one.accounts & wanted), -one.decibans, one.cause),
            default=None,
        )
        if best is None or not best.accounts & wanted:
            break
        chosen.append(best)
        wanted -= best.accounts
    return Cover(causes=tuple(one.cause for one in chosen), left=tuple(sorted(wanted)))


def signal_of(fact: str) -> str:
    """What a fact speaks of: `metrics.waiting.now` and `metrics.waiting.max` are one signal, `metrics.waiting`, and so
    is `siblings.waiting_ratio`, which compares it with the other replicas'."""
    parts = fact.split(".")
    if parts[0] == "siblings" and fact.endswith("_ratio"):
        return f"metrics.{parts[1].removesuffix('_ratio')}"
    return ".".join(parts[:2]) if parts[0] == "metrics" else fact


def disproved(hypothesis: Hypothesis) -> bool:
    """Whether something rules this cause out."""
    return any(finding.group == "disproof" for finding in hypothesis.contradicts)


def evidence_db(hypothesis: Hypothesis) -> float:
    """The votes for and against a cause, without its prior."""
    return sum(f.decibans for f in (*hypothesis.supports, *hypothesis.contradicts) if f.counted)


def _possible(hypothesis: Hypothesis) -> bool:
    supported = any(f.counted for f in hypothesis.supports)
    return hypothesis.cause != UNKNOWN and supported and not disproved(hypothesis) and evidence_db(hypothesis) > 0


def _candidate(hypothesis: Hypothesis, alerts: Iterable[str], likely: bool) -> _Candidate:
    explained = set(alerts) - set(hypothesis.unexplained)
    cited = _signals(hypothesis.supports)
    strong = (
        likely
        and hypothesis.proof is Truth.YES
        and not any(f.counted and f.decibans <= AGAINST_DB for f in hypothesis.contradicts)
    )
    proofs = [f for f in hypothesis.supports if f.weight in hypothesis.confirm]
    loudest = sorted(proofs, key=lambda f: (-f.decibans, f.weight))[:1]
    return _Candidate(
        cause=hypothesis.cause,
        decibans=hypothesis.decibans,
        proven=hypothesis.proof is Truth.YES,
        accounts=frozenset(explained | cited),
        joins=_signals(loudest) if strong else frozenset(),
    )


def _may(one: _Candidate, chosen: Sequence[_Candidate]) -> bool:
    """Whether it may stand in the set beside those already there."""
    if not chosen:
        return True
    if not all(other.proven for other in chosen):
        return False
    kin = {other.cause.partition("/")[0] for other in chosen}
    spoken_of = {signal for other in chosen for signal in other.accounts}
    return one.cause.partition("/")[0] not in kin and bool(one.joins) and not one.joins & spoken_of


def _signals(findings: Iterable[Finding]) -> frozenset[str]:
    return frozenset(signal_of(fact.name) for finding in findings for fact in finding.facts)
