"""What is the likely cause, and what is not known? Evidence and playbook content in, ranked hypotheses out.

Weights are decibans (10 dB = ten to one). W = 10·log10(prior) + one vote per group of evidence - 3 dB for every
symptom the cause does not explain; probabilities are the softmax over all causes that compete, `unknown` among them,
sharpened (`TEMPER`) and mixed with a little of nothing known (`LAPSE`): playbooks are sometimes wrong. Statuses:
`confirmed` needs 95 %, every `confirm` claim of the cause, a look at what tells it from its look-alikes (`told_apart`),
no disproof, nothing serious against it (`SERIOUS_DB`), the agreement of the second opinion (`cover.py`).
`probable` needs 60 %.
`unknown` gains where symptoms stay unexplained and where the best causes lack what would prove them.
Evidence may have been collected several times. A claim counts when it held at any look, since a verdict is about the
episode; a disproof counts only when no look refutes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from responder.absence import Absent, not_told_apart, why_unknown
from responder.beside import Pair, likeliest_pair, proofs_beside, with_proof_of
from responder.claims import Facts, cited_facts, looks_of, over_looks, weighed
from responder.classes import UNKNOWN
from responder.cover import Cover, disproved, smallest
from responder.model import (
    Cause,
    Disproof,
    Evidence,
    Finding,
    Hypothesis,
    Incident,
    Plan,
    Playbook,
    Scalar,
    Status,
    Truth,
    Verdict,
    Weight,
)
from responder.plan import playbooks_for
from responder.remedies import applicable

VOTE_LIMIT_DB = 15.0
UNEXPLAINED_DB = -3.0
DISPROVED_DB = -30.0
SERIOUS_DB = -12.0
"""One group of evidence that speaks so loudly against a cause keeps it from being confirmed, whatever its proof."""
UNSUPPORTED_DB = -1.0
"""Below `unknown`: where the likeliest cause for which nothing speaks stands; others keep their distance to it."""
UNKNOWN_PRIOR = 0.08
UNEXPLAINED_BY_ALL_DB = 3.0
"""What `unknown` gains for each symptom that none of the three best causes explains."""
UNPROVEN_DB = 5.0
"""What `unknown` gains when what would prove each of the three best causes was looked for and is not so."""
TEMPER = 0.7
"""Decibans are divided by this before they become probabilities: evidence was weighed a little timidly. Fitted on part
`tune` with one case in ten whose cause nobody knows (`python -m bench.calibration`); ranks do not feel it."""
LAPSE = 0.01
"""The share of cases in which a playbook may be wrong whatever it says: no cause is ever surer than 1 - LAPSE (and a
bit). The one place where over-confidence is taken away; ranks and statuses hardly feel it. Of 918 verdicts on drawn
servers that were as sure as can be 6 were wrong, and none of 234 on recorded incidents."""
CONFIRMED_P = 0.95
PROBABLE_P = 0.6
TWO_P = 0.9
"""How often two causes that are named together are two faults: 63 of 69 on drawn servers. The first one of them was
right in 67."""
POSSIBLE_P = 0.05
ALWAYS_LISTED = 3


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
    absent = Absent(evidence, plan or Plan())
    alerts = tuple(dict.fromkeys(symptom.alert for symptom in incident.symptoms))
    likeliest = max(priors.values(), default=1.0)
    known = {cause.id: cause for cause in sorted(causes, key=lambda cause: cause.id) if cause.id in priors}
    judged = [_judge(cause, priors[cause.id], likeliest, looks, alerts, absent) for cause in known.values()]
    ranked = _ranked([*judged, _unknown(judged, alerts)])
    cover = smallest(ranked, alerts)
    if len(cover.causes) < 2:

        def again(cause: Cause, other: Hypothesis) -> Hypothesis:
            return _judge(cause, priors[cause.id], likeliest, looks, other.unexplained, absent)

        pair = likeliest_pair(ranked, known, looks, again)
        ranked, cover = (ranked, cover) if pair is None else _with_pair(ranked, pair, cover)
    ranked = _beside_each_other([_second_opinion(hypothesis, ranked, cover) for hypothesis in ranked], cover)
    return Verdict(
        hypotheses=tuple(h for place, h in enumerate(ranked) if _listed(place, h, cover)),
        playbooks=tuple(book.id for book in matched),
        together=cover.causes if len(cover.causes) > 1 else (),
        notes=tuple(_notes(matched, ranked, cover)),
    )


def _finding(weight: Weight, looks: Sequence[Facts]) -> Finding:
    truth, facts = weighed(weight, looks)
    says = weight.says
    if truth is Truth.NO:
        says = weight.says_not or f"it is not so that {weight.says}"
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


def _title(cause: Cause, looks: Sequence[Facts]) -> str:
    """As what was seen calls it: one cause may have come about in ways that ask for other hands."""
    holding = (one.says for one in cause.titles if over_looks(one.test, looks, Truth.YES, Truth.NO)[0] is Truth.YES)
    return next(holding, cause.title)


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
    cause: Cause, prior: float, likeliest: float, looks: Sequence[Facts], alerts: Sequence[str], absent: Absent
) -> Hypothesis:  # fmt: skip
    """One cause with its weight; probability and status come with the ranking. likeliest: the highest prior of all."""
    findings = _votes([_finding(weight, looks) for weight in cause.evidence])
    disproofs = _disproofs(cause, looks)
    unexplained = () if "*" in cause.explains else tuple(a for a in alerts if a not in cause.explains)
    counted = [f for f in (*findings, *disproofs) if f.counted]
    decibans = 10 * math.log10(prior) + sum(f.decibans for f in counted) + UNEXPLAINED_DB * len(unexplained)
    if not any(f.decibans > 0 for f in counted):
        decibans = min(decibans, 10 * math.log10(UNKNOWN_PRIOR * prior / likeliest) + UNSUPPORTED_DB)
    proof, unseen = _proof(cause, findings), not_told_apart(cause, looks)
    if unseen and proof is Truth.YES:
        proof = Truth.UNKNOWN
    sound = proof is Truth.YES and not _serious(counted)
    return Hypothesis(
        cause=cause.id,
        title=_title(cause, looks),
        says=cause.says,
        status=Status.POSSIBLE if disproofs else Status.CONFIRMED if sound else Status.PROBABLE,
        probability=0.0,
        decibans=round(decibans, 6),
        supports=tuple(sorted((f for f in findings if f.decibans > 0), key=_loudness)),
        contradicts=tuple(sorted((f for f in (*findings, *disproofs) if f.decibans < 0), key=_loudness)),
        missing=absent.of(cause, findings),
        unexplained=unexplained,
        proof=proof,
        confirm=tuple(way for ways in _proofs(cause) for way in ways),
        would_confirm=(*(w.says for w in cause.evidence if w.id in _unproven(cause, findings)), *unseen),
        why_unknown=why_unknown(cause, looks),
        would_disprove=cause.would_disprove,
        remedies=applicable(cause.remedies, looks),
    )


def _proof(cause: Cause, findings: Sequence[Finding]) -> Truth:
    """Whether all that `confirm` names holds. A claim that louder evidence of its own group speaks against is no
    proof: the group as a whole says no."""
    against = {f.group for f in findings if f.counted and f.decibans < 0}
    truths = {f.weight: Truth.NO if f.group in against else f.truth for f in findings}
    wanted = [_any_of([truths.get(name, Truth.UNKNOWN) for name in ways]) for ways in _proofs(cause)]
    if Truth.NO in wanted:
        return Truth.NO
    return Truth.YES if wanted and Truth.UNKNOWN not in wanted else Truth.UNKNOWN


def _proofs(cause: Cause) -> tuple[tuple[str, ...], ...]:
    """What `confirm` names, each with the others of which one is enough."""
    return tuple((way,) if isinstance(way, str) else way for way in cause.confirm)


def _any_of(truths: Sequence[Truth]) -> Truth:
    if Truth.YES in truths:
        return Truth.YES
    return Truth.UNKNOWN if Truth.UNKNOWN in truths else Truth.NO


def _unproven(cause: Cause, findings: Sequence[Finding]) -> set[str]:
    """Of each proof that is wanted still, the first way to it that was not found to be closed."""
    truths = {f.weight: f.truth for f in findings}
    open_ones = (ways for ways in _proofs(cause) if all(truths.get(way) is not Truth.YES for way in ways))
    return {next((way for way in ways if truths.get(way) is not Truth.NO), ways[0]) for ways in open_ones}


def _loudness(finding: Finding) -> tuple[bool, float, str]:
    return not finding.counted, -abs(finding.decibans), finding.weight


def _unknown(judged: Sequence[Hypothesis], alerts: Sequence[str]) -> Hypothesis:
    """That no known cause fits, with what the known ones fail to account for in its favour."""
    tried = ", ".join(h.cause for h in judged) or "none"
    best = sorted(judged, key=lambda h: (-h.decibans, h.cause))[:3]
    decibans = 10 * math.log10(UNKNOWN_PRIOR)
    decibans += UNEXPLAINED_BY_ALL_DB * sum(all(a in h.unexplained for h in best) for a in alerts if best)
    if best and all(h.proof is Truth.NO or disproved(h) for h in best):
        decibans += UNPROVEN_DB
    return Hypothesis(
        cause=UNKNOWN,
        title="None of the known causes fits",
        says=f"Causes considered: {tried}.",
        status=Status.UNKNOWN,
        probability=0.0,
        decibans=round(decibans, 6),
        would_disprove=Disproof(says="Any listed cause with evidence of its own, once the missing evidence is there."),
    )


def _ranked(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """With probabilities and statuses, best first."""
    top = max(h.decibans for h in hypotheses)
    shares = [10 ** ((h.decibans - top) / (10 * TEMPER)) for h in hypotheses]
    total = math.fsum(shares)
    ranked = []
    for hypothesis, share in zip(hypotheses, shares, strict=True):
        probability = (1 - LAPSE) * share / total + LAPSE / len(hypotheses)
        status = _status(hypothesis, probability)
        ranked.append(hypothesis.model_copy(update={"probability": round(probability, 6), "status": status}))
    return sorted(ranked, key=_place)


def _place(hypothesis: Hypothesis) -> tuple[float, bool, str]:
    """Likeliest first; of equals, `unknown`."""
    return -hypothesis.probability, hypothesis.cause != UNKNOWN, hypothesis.cause


def _with_pair(ranked: Sequence[Hypothesis], pair: Pair, cover: Cover) -> tuple[list[Hypothesis], Cover]:
    """Where the pair holds the leading cause, weights stay as they are: that one is right, and the other comes beside
    it. Else both are weighed beside each other, and lead."""
    beside = {h.cause: h for h in (pair.first, pair.second)}
    if ranked[0].cause in beside:
        again = [with_proof_of(h, beside[h.cause]) if h.cause in beside else h for h in ranked]
    else:
        again = _ranked([beside.get(h.cause, h) for h in ranked])
    named = tuple(h.cause for h in again if h.cause in beside)
    return again, cover.model_copy(update={"causes": named})


def _listed(place: int, hypothesis: Hypothesis, cover: Cover) -> bool:
    """The unlikely ones are left out, but for the best few, `unknown`, and what is named beside the first."""
    named = hypothesis.cause == UNKNOWN or (len(cover.causes) > 1 and hypothesis.cause in cover.causes)
    return place < ALWAYS_LISTED or hypothesis.probability >= POSSIBLE_P or named


def _status(hypothesis: Hypothesis, probability: float) -> Status:
    """`hypothesis.status` holds the highest it may reach: possible when disproved, confirmed with all its proof."""
    if hypothesis.status in (Status.UNKNOWN, Status.POSSIBLE):
        return hypothesis.status
    supported = any(finding.counted for finding in hypothesis.supports)
    if probability >= CONFIRMED_P and hypothesis.status is Status.CONFIRMED and supported:
        return Status.CONFIRMED
    return Status.PROBABLE if probability >= PROBABLE_P and supported else Status.POSSIBLE


def _second_opinion(hypothesis: Hypothesis, ranked: Sequence[Hypothesis], cover: Cover) -> Hypothesis:
    """Where the smallest explaining set does not hold the first cause, that is not confirmed; two faults share the
    weight between them: both are probable, and the first is confirmed with all its own proof, if so much is left for
    the two."""
    if hypothesis.status is Status.CONFIRMED and hypothesis.cause not in cover.causes:
        return hypothesis.model_copy(update={"status": Status.PROBABLE})
    if len(cover.causes) > 1 and hypothesis.cause in cover.causes and _proven(hypothesis):
        together = math.fsum(h.probability for h in ranked if h.cause in cover.causes)
        if hypothesis.cause == ranked[0].cause and together >= CONFIRMED_P and _sound(hypothesis):
            return hypothesis.model_copy(update={"status": Status.CONFIRMED})
        if hypothesis.status is Status.POSSIBLE and together >= PROBABLE_P:
            return hypothesis.model_copy(update={"status": Status.PROBABLE})
    return hypothesis


def _beside_each_other(ranked: Sequence[Hypothesis], cover: Cover) -> list[Hypothesis]:
    """Shares of the weight are of one fault alone. Where two are named together, the first is there if either is, and
    so is the other if they are two: how likely each is, so that these probabilities no longer add up to one."""
    named = {h.cause: h.probability for h in ranked if h.cause in cover.causes}
    if len(named) < 2 or ranked[0].cause not in named:
        return list(ranked)
    either = math.fsum(named.values())
    likely = {cause: max(own, TWO_P * either) for cause, own in named.items()} | {ranked[0].cause: either}
    again = [h.model_copy(update={"probability": round(likely.get(h.cause, h.probability), 6)}) for h in ranked]
    return sorted(again, key=_place)


def _sound(hypothesis: Hypothesis) -> bool:
    """Whether all its own proof was found and nothing serious speaks against it."""
    return hypothesis.proof is Truth.YES and not _serious(f for f in hypothesis.contradicts if f.counted)


def _serious(counted: Iterable[Finding]) -> bool:
    return any(finding.decibans <= SERIOUS_DB for finding in counted)


def _proven(hypothesis: Hypothesis) -> bool:
    return hypothesis.proof is Truth.YES or bool(proofs_beside(hypothesis))


def _priors(playbooks: Sequence[Playbook], causes: Sequence[Cause]) -> dict[str, float]:
    """Prior of every cause that competes: the highest that a matching playbook gives it."""
    own = {cause.id: cause.prior for cause in causes}
    priors: dict[str, float] = {}
    for book in playbooks:
        for name in book.causes:
            if name in own:
                priors[name] = max(priors.get(name, 0.0), book.priors.get(name, own[name]))
    return priors


def _notes(matched: Sequence[Playbook], ranked: Sequence[Hypothesis], cover: Cover) -> Iterable[str]:
    if not matched:
        yield "no playbook covers these symptoms"
    best = ranked[0]
    if len(cover.causes) > 1:
        names = " and ".join(f"`{cause}`" for cause in cover.causes)
        yield f"there are probably {len(cover.causes)} faults at once, each with its own proof: {names}"
        for hypothesis in ranked:
            yield from (f"`{hypothesis.cause}` beside the other: {f.says}" for f in proofs_beside(hypothesis))
    elif cover.causes and best.cause != UNKNOWN and best.cause not in cover.causes:
        yield (
            f"a second opinion differs: `{cover.causes[0]}` alone accounts for more of what was seen than "
            f"`{best.cause}`, so the first cause is not confirmed"
        )
    if best.unexplained and best.cause != UNKNOWN:
        others = [h for h in ranked[1:] if h.supports and set(best.unexplained) - set(h.unexplained)]
        left = ", ".join(best.unexplained)
        also = f"; `{others[0].cause}` would, so there may be two faults" if others else ""
        yield f"`{best.cause}` does not explain {left}{also}"
