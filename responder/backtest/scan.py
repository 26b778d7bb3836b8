"""Where in a long history could a rule have fired? What to ask Prometheus coarsely, and which stretches to walk. Pure.

A rule that must hold for half a minute is seen by a question every ten seconds; only around what that finds is every
round of the daemon evaluated. So thirty quiet days cost a few hundred queries that return nothing. What a rule is asked
by, its terms one by one, is in `sieve.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from responder.evaluate import EXPECTED_SHARE
from responder.holding import PENDING_HOLDS_S
from responder.model import Comparison, Rule, Target
from responder.rules import expand, limited, parse_expr, widen

COARSEST_S = 15.0
PATIENT_S = 45.0
"""Rules that must hold for minutes are asked about more coarsely still."""
FINEST_S = 5.0
"""Rules without a `for` are asked about this often at most, and twice a scrape at most: what they compare changes with
scrapes."""


@dataclass(frozen=True)
class Question:
    """One rule as a query whose answer is where it may be true."""

    alert: str
    expr: str
    step: float
    for_s: float
    terms: Mapping[str, Comparison] = field(default_factory=dict)
    """PromQL of each term -> the term, where the rule is a conjunction: where one is not true, the rule is not."""


@dataclass(frozen=True)
class Stretch:
    """When a target must be looked at round by round."""

    target: str
    since: float
    until: float


def questions(
    rules: Iterable[Rule], signals: Mapping[str, str], targets: Sequence[Target], interval_s: float
) -> list[Question]:
    """One per rule; what only informs opens nothing and is not asked about."""
    out = []
    for rule in rules:
        if rule.severity.value == "info":
            continue
        for_s = min([rule.for_s, *(t.thresholds.get(f"{rule.alert}.for", rule.for_s) for t in targets)])
        fast = max(1.0, min(FINEST_S, interval_s), min(COARSEST_S, interval_s / 2))
        step = max(fast, min(COARSEST_S, for_s / 2), min(PATIENT_S, for_s / 4))
        expr = _expr(rule, targets)
        if expr:
            terms = {widen(expand(_text(term), signals), interval_s): term for term in parse_expr(expr)}
            out.append(Question(rule.alert, widen(expand(expr, signals), interval_s), step, for_s, terms))
    return out


def _expr(rule: Rule, targets: Sequence[Target]) -> str:
    """The rule's PromQL with the loosest threshold of any target; of a rule on what somebody expects, the rest."""
    if any(term.signal == EXPECTED_SHARE for term in rule.terms):
        if not any(target.expect for target in targets):
            return ""
        return " and ".join(_text(term) for term in rule.terms if term.signal != EXPECTED_SHARE)
    limits = [target.thresholds[rule.alert] for target in targets if rule.alert in target.thresholds]
    if not limits or not rule.terms:
        return rule.expr
    first = rule.terms[0]
    loosest = (min if first.op in (">", ">=") else max)([first.number, *limits])
    return limited(rule.expr, first, loosest)


def _text(term: Comparison) -> str:
    name = term.signal if term.signal.startswith("responder_") else f"signal:{term.signal}"
    return f"{name} {term.op} {term.number!r}"


def runs(question: Question, hits: Iterable[float]) -> list[tuple[float, float]]:
    """First and last moment of each time a rule may have held long enough. hits: when it was true, in any order."""
    found: list[tuple[float, float]] = []
    for at in sorted(hits):
        if found and at - found[-1][1] <= PENDING_HOLDS_S + question.step:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return [(first, last) for first, last in found if last - first >= question.for_s - 2 * question.step]


def stretches(question: Question, target: str, hits: Iterable[float], round_s: float) -> list[Stretch]:
    """Where a target has to be looked at for that, with what may lie between two questions."""
    pad = question.step + round_s
    return [Stretch(target, first - pad, last + pad) for first, last in runs(question, hits)]


def merged(found: Iterable[Stretch]) -> list[Stretch]:
    """Overlapping stretches of one target as one, in order of time."""
    by_target: dict[str, list[Stretch]] = {}
    for one in sorted(found, key=lambda s: (s.since, s.until)):
        mine = by_target.setdefault(one.target, [])
        if mine and one.since <= mine[-1].until:
            mine[-1] = Stretch(one.target, mine[-1].since, max(mine[-1].until, one.until))
        else:
            mine.append(one)
    return sorted((s for mine in by_target.values() for s in mine), key=lambda s: (s.since, s.target))
