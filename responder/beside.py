"""Which second fault is there beside the first? What proves a cause even where a certain other one is at work.

The ranking weighs causes as if there were one, and a second fault speaks against the first: a lost cache against too
much traffic, more traffic against a lost cache. A cause file may say what proves its cause *beside* another (`beside`).
Two causes are named together where each is proven: by its own `beside` for the other, or, if it leads, by all of its
`confirm`; and where nothing loud is left against either once the other is taken for granted (`despite`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from responder.claims import Facts, cited_facts, over_looks
from responder.classes import UNKNOWN
from responder.cover import AGAINST_DB, disproved
from responder.model import Beside, Cause, Finding, Hypothesis, Truth

GROUP = "beside"
"""Of a finding that proves its cause beside another."""
Again = Callable[[Cause, Hypothesis], Hypothesis]
"""Judge a cause once more, beside this other one."""


@dataclass(frozen=True)
class Pair:
    """Two causes at once, each as it is judged beside the other; the likelier one first."""

    first: Hypothesis
    second: Hypothesis

    @property
    def causes(self) -> tuple[str, str]:
        """Their names."""
        return self.first.cause, self.second.cause


def likeliest_pair(
    ranked: Sequence[Hypothesis], causes: Mapping[str, Cause], looks: Sequence[Facts], again: Again
) -> Pair | None:
    """The likeliest pair that holds the leading cause, or that leads once each is judged beside the other."""
    if ranked[0].cause == UNKNOWN:
        return None
    known = [h for h in ranked if h.cause in causes and not disproved(h)]
    pairs = sorted(
        (pair for one in known for pair in _with(one, known, ranked[0], causes, looks, again)),
        key=lambda pair: (ranked[0].cause not in pair.causes, -pair.first.decibans - pair.second.decibans, pair.causes),
    )
    return next(iter(pairs), None)


def _with(
    one: Hypothesis, known: Sequence[Hypothesis], lead: Hypothesis, causes: Mapping[str, Cause],
    looks: Sequence[Facts], again: Again,
) -> Iterator[Pair]:  # fmt: skip
    """Pairs of this cause with those it is proven beside."""
    for other in known:
        entry = _holds(causes[one.cause], other.cause, looks)
        back = _holds(causes[other.cause], one.cause, looks)
        if entry is None or _kin(one.cause) == _kin(other.cause):
            continue
        if back is None and not (other.cause == lead.cause and other.proof is Truth.YES):
            continue
        mine = _beside(causes[one.cause], other, entry, looks, again)
        theirs = other if back is None else _beside(causes[other.cause], one, back, looks, again)
        leads = lead.cause in (one.cause, other.cause) or max(mine.decibans, theirs.decibans) > lead.decibans
        if leads and not any(_spoken_against(h) for h in (mine, theirs) if proofs_beside(h)):
            yield Pair(*sorted((mine, theirs), key=lambda h: (-h.decibans, h.cause)))


def _holds(cause: Cause, other: str, looks: Sequence[Facts]) -> Beside | None:
    """What proves this cause beside the other, if anything does."""
    fits = (part for part in cause.beside if other in part.causes or _kin(other) in part.causes)
    return next((part for part in fits if over_looks(part.test, looks, Truth.YES, Truth.NO)[0] is Truth.YES), None)


def _beside(cause: Cause, other: Hypothesis, entry: Beside, looks: Sequence[Facts], again: Again) -> Hypothesis:
    """The cause without what the other one accounts for, and with what proves it nevertheless."""
    left = cause.model_copy(update={"evidence": tuple(w for w in cause.evidence if w.id not in entry.despite)})
    judged = again(left, other)
    return judged.model_copy(update={"supports": (*judged.supports, _proof(entry, looks))})


def _proof(entry: Beside, looks: Sequence[Facts]) -> Finding:
    """As a finding that weighs nothing: it decides whether a second fault is named, and moves no rank."""
    truth, facts = over_looks(entry.test, looks, Truth.YES, Truth.NO)
    return Finding(
        weight=entry.id, group=GROUP, truth=truth, decibans=0.0, counted=False, says=entry.says,
        facts=cited_facts(entry.test, truth, facts),
    )  # fmt: skip


def with_proof_of(hypothesis: Hypothesis, beside: Hypothesis) -> Hypothesis:
    """As it was weighed by itself, with what proves it beside the other."""
    return hypothesis.model_copy(update={"supports": (*hypothesis.supports, *proofs_beside(beside))})


def proofs_beside(hypothesis: Hypothesis) -> tuple[Finding, ...]:
    """What proves it beside another; nothing where it stands for itself."""
    return tuple(f for f in hypothesis.supports if f.group == GROUP)


def _spoken_against(hypothesis: Hypothesis) -> bool:
    return any(f.counted and f.decibans <= AGAINST_DB for f in hypothesis.contradicts)


def _kin(cause: str) -> str:
    return cause.partition("/")[0]
