"""Why did no alert fire over these series? Rule by rule: which condition held, which was false, which had no data."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from responder.authoring.testfile import ExpectPart
from responder.backtest.past import Past
from responder.evaluate import COMPARE, EXPECTED_SHARE
from responder.model import Comparison, Content, Rule, Severity
from responder.rules import SIGNAL, expand, widen

ROUND_S = 2.0
SHOWN = 6
"""More rules than that nobody reads; the expected ones come first."""
METRIC = re.compile(r"(?<![\w:])(?:vllm:[a-zA-Z0-9_:]+|up)(?![\w:(])")
Span = tuple[float, float, float]
"""First and last moment, unix seconds, and the seconds between samples."""


@dataclass(frozen=True)
class Condition:
    """What became of one condition of a rule."""

    term: Comparison
    held: frozenset[int] = frozenset()
    """At which moments (numbers of the grid)."""
    nearest: float | None = None
    """The value that came closest; None: no data at all."""
    needs: str = ""
    """Metrics it reads that the case does not give, in words."""

    def told(self) -> str:
        """`queue_seconds > 1: no data (needs …)`."""
        said = f"{self.term.signal} {self.term.op} {self.term.number:g}"
        if self.held:
            return f"{said} yes"
        if self.nearest is None:
            return f"{said} no data" + (f" (needs {self.needs})" if self.needs else "")
        word = {">": "at most ", ">=": "at most ", "<": "at least ", "<=": "at least "}.get(self.term.op, "")
        return f"{said} no ({word}{self.nearest:.3g})"


async def why_silent(
    past: Past, content: Content, span: Span, given: Collection[str], expect: ExpectPart
) -> tuple[list[str], list[str]]:
    """(a line for each rule that could have fired, doubts: rules that were silent only for want of data).

    given: names of the metrics the case holds. Of rules with several conditions only those are looked into whose first
    condition held, unless the case expects them.
    """
    asking = _Asking(past, content, span, given)
    rules = [rule for rule in content.rules if rule.terms and rule.severity is not Severity.INFO]
    named = [rule for rule in rules if rule.alert in expect.alerts]
    looked = named or [rule for rule in rules if (await asking.of(rule.terms[0])).held]
    lines, doubts = [], []
    for rule in sorted(looked, key=lambda rule: (rule.incident_class != expect.incident_class, rule.alert)):
        conditions = [await asking.of(term) for term in rule.terms]
        line = f"{rule.alert}: " + "; ".join(condition.told() for condition in conditions) + asking.for_long(
            rule, conditions)  # fmt: skip
        lines.append(line)
        unknown = [condition for condition in conditions if not condition.held]
        if unknown and all(condition.nearest is None and condition.needs for condition in unknown):
            doubts.append(f"this silence proves nothing, for want of data: {line}")
    more = f"and {len(lines) - SHOWN} more rules of which the first condition held"
    lines = lines[:SHOWN] + ([more] if len(lines) > SHOWN else [])
    return lines or ["of no rule did the first condition hold at any moment"], doubts


class _Asking:
    """Asks for each signal once."""

    def __init__(self, past: Past, content: Content, span: Span, given: Collection[str]) -> None:
        self.past, self.span, self.given = past, span, set(given)
        self.recorded = {signal.name: signal.expr for signal in content.signals}
        self.answers: dict[str, dict[int, list[float]]] = {}
        self.step = min(span[2], ROUND_S)

    async def of(self, term: Comparison) -> Condition:
        """What became of one condition."""
        if term.signal not in self.recorded or term.signal == EXPECTED_SHARE:
            return Condition(term)  # what probes say of a live server is in no series
        expr = widen(expand(f"{SIGNAL}{term.signal}", self.recorded), self.span[2])
        if term.signal not in self.answers:
            start, end, _ = self.span
            points: dict[int, list[float]] = {}
            for _, row in await self.past.range(expr, start, end, self.step):
                for at, value in row:
                    if value is not None:
                        points.setdefault(round((at - start) / self.step), []).append(value)
            self.answers[term.signal] = points
        return _condition(term, self.answers[term.signal], _needs(expr, self.given))

    def for_long(self, rule: Rule, conditions: Sequence[Condition]) -> str:
        """For a rule whose conditions all held: for how long together, against what it takes."""
        if not all(condition.held for condition in conditions):
            return ""
        together = sorted(frozenset.intersection(*(condition.held for condition in conditions)))
        longest = run = 0
        for before, at in zip([None, *together], together, strict=False):
            run = run + 1 if before is not None and at == before + 1 else 1
            longest = max(longest, run)
        return f"; all of it at once for {max(longest - 1, 0) * self.step:g} s, and it takes {rule.for_s:g} s"


def _condition(term: Comparison, points: Mapping[int, Sequence[float]], needs: str) -> Condition:
    compare = COMPARE[term.op]
    held = frozenset(at for at, values in points.items() if any(compare(value, term.number) for value in values))
    every = [value for values in points.values() for value in values]
    if not every:
        return Condition(term, needs=needs)
    return Condition(term, held, min(every, key=lambda value: abs(value - term.number)), needs)


def _needs(expr: str, given: Collection[str]) -> str:
    """Metrics an expression reads that are not given; where it joins any by `or`, not all of them are needed."""
    names = [name for name in dict.fromkeys(METRIC.findall(expr)) if name not in given]
    some = len(names) > 1 and re.search(r"\bor\b", expr)
    return ("some of " if some else "") + ", ".join(names)
