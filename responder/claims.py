"""Does a claim hold? Clauses and tests over facts, under three-valued logic, over one look or several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from responder.model import Clause, Evidence, Fact, Scalar, Test, Truth, Weight
from responder.moments import between_spells

Facts = Mapping[str, Fact]
"""By name; only facts about the server as a whole and with a value."""


def evaluate_test(test: Test, facts: Facts) -> Truth:
    """Every `all` and at least one `any`, under Kleene's logic; a test without clauses claims nothing: unknown."""
    parts = [evaluate_clause(clause, facts) for clause in test.all]
    if test.any:
        parts.append(_any(evaluate_clause(clause, facts) for clause in test.any))
    if Truth.NO in parts:
        return Truth.NO
    return Truth.YES if parts and Truth.UNKNOWN not in parts else Truth.UNKNOWN


def evaluate_clause(clause: Clause, facts: Facts) -> Truth:
    """Unknown without the fact, and when fact and literal cannot be compared."""
    fact = facts.get(clause.fact)
    holds = None if fact is None else _compare(fact.value, clause.op, clause.value)
    return Truth.UNKNOWN if holds is None else Truth.YES if holds else Truth.NO


def looks_of(evidence: Sequence[Evidence]) -> list[dict[str, Fact]]:
    """What was known after the first, second, … run of the steps. A step that ran less often keeps its last run.

    What was true of a moment only, and looked at in a moment in which users got what they usually do, is not known.
    """
    calm = between_spells(evidence)
    runs: dict[str, list[Evidence]] = {}
    for item in sorted(evidence, key=lambda item: (item.started_at, item.id)):
        runs.setdefault(item.step, []).append(item)
    looks = []
    for number in range(max(map(len, runs.values()), default=1)):
        facts: dict[str, Fact] = {}
        for step in sorted(runs):
            item = runs[step][min(number, len(runs[step]) - 1)]
            for fact in item.facts:
                if not fact.subject and fact.value is not None and not (fact.momentary and item.id in calm):
                    facts[fact.name] = fact
        looks.append(facts)
    return looks


def _compare(value: Scalar, op: str, literal: Scalar) -> bool | None:
    """None when it cannot be said. `== true` asks of a number whether it is not 0, of text whether it is not empty."""
    if value is None or literal is None:
        return None
    if isinstance(literal, bool):
        return (bool(value) == literal) == (op == "==") if op in ("==", "!=") else None
    if isinstance(literal, str):
        if not isinstance(value, str):
            return None
        return (value == literal) == (op == "==") if op in ("==", "!=") else None
    number = _number(value)
    if number is None:
        return None
    return {
        ">": number > literal,
        ">=": number >= literal,
        "<": number < literal,
        "<=": number <= literal,
        "==": number == literal,
        "!=": number != literal,
    }[op]


def _number(value: Scalar) -> float | None:
    """Also of text that is a number; NaN is unknown."""
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _any(truths: Iterable[Truth]) -> Truth:
    seen = set(truths)
    return Truth.YES if Truth.YES in seen else Truth.UNKNOWN if Truth.UNKNOWN in seen else Truth.NO


def over_looks(test: Test, looks: Sequence[Facts], first: Truth, second: Truth) -> tuple[Truth, Facts]:
    """`first` if any look says so, else `second` if any does, with that look's facts; else unknown."""
    truths = [(evaluate_test(test, facts), facts) for facts in looks]
    for wanted in (first, second):
        for truth, facts in truths:
            if truth is wanted:
                return truth, facts
    return Truth.UNKNOWN, {}


def weighed(weight: Weight, looks: Sequence[Facts]) -> tuple[Truth, Facts]:
    """Whether a piece of evidence holds: at any look, or at the first that can tell."""
    if not weight.first_look:
        return over_looks(weight.test, looks, Truth.YES, Truth.NO)
    judged = ((evaluate_test(weight.test, facts), facts) for facts in looks)
    return next((one for one in judged if one[0] is not Truth.UNKNOWN), (Truth.UNKNOWN, {}))


def cited_facts(test: Test, truth: Truth, facts: Facts) -> tuple[Fact, ...]:
    """The facts that decided a test: those of the clauses whose truth is the test's."""
    if truth is Truth.UNKNOWN:
        return ()
    names = dict.fromkeys(c.fact for c in (*test.all, *test.any) if evaluate_clause(c, facts) is truth)
    return tuple(facts[name] for name in names)
