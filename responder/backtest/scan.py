"""Where in a long history could a rule have fired? What to ask Prometheus coarsely, and which stretches to walk. Pure.

A rule that must hold for half a minute is seen by a question every ten seconds; only around what that finds is every
round of the daemon evaluated. So thirty quiet days cost a few hundred queries that return nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from responder.evaluate import EXPECTED_SHARE
from responder.holding import PENDING_HOLDS_S
from responder.model import Comparison, Rule, Target
from responder.rules import expand, limited, widen

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
            out.append(Question(rule.alert, widen(expand(expr, signals), interval_s), step, for_s))
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
    return f"{name} {term.op} {term.number:g}"


def stretches(question: Question, target: str, hits: Iterable[float], round_s: float) -> list[Stretch]:
    """Where the rule may have held long enough. hits: moments it was true, in any order."""
    found: list[Stretch] = []
    first = last = None
    for at in sorted(hits):
        if last is not None and at - last <= PENDING_HOLDS_S + question.step:
            last = at
            continue
        found += _long_enough(question, target, first, last, round_s)
        first = last = at
    return found + _long_enough(question, target, first, last, round_s)


def _long_enough(
    question: Question, target: str, first: float | None, last: float | None, round_s: float
) -> list[Stretch]:
    if first is None or last is None or last - first < question.for_s - 2 * question.step:
        return []
    return [Stretch(target, first - question.step - round_s, last + question.step + round_s)]


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
