"""Which dear questions need an answer this round, and about whom? Pure.

A signal that looks back an hour costs Prometheus as much as ten that look at now, and most rules are refuted by what is
cheap: a server whose first tokens come in time needs no comparison with its last hour. So cheap signals are asked
first, and dear ones only about the servers for which a rule that names them can still come true, or already holds.

What is left out can make no rule true: a rule with a term that does not hold is *no* or *unknown* whatever its other
terms say, and of a rule that does not hold yet both are the same to `holding.py`. `backtest/sieve.py` does the like
over time, for all servers at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping

from responder.evaluate import COMPARE, EXPECTED_SHARE
from responder.model import Comparison, Rule, Target
from responder.rules import NEWS, QUOTED, ranges
from responder.table import Answers, Table

LOOKS_BACK_S = 600.0
"""A range as long as this is dear: at a scrape each 5 s it reads 120 samples of each series, a minute reads 12."""
FEW_RANGES = 4
"""A signal with more of them than this is asked after those with fewer."""
LONGEST = 8000
"""Characters; some proxies refuse a longer query, so more servers than that fits are not named but all asked about."""

_SELECTOR = re.compile(rf"({QUOTED})|(?<![\w:])(vllm:\w+)(\s*\{{)?")
_SUBQUERY = re.compile(r"\[[^\]:]*:")
_AGGREGATION = re.compile(
    r"\b(?:sum|avg|min|max|count|group|stddev|stdvar|topk|bottomk|quantile|count_values)\b(?!_)"
    r"\s*(?P<kind>by|without)?\s*\((?P<labels>[^()]*)"
)
_MATCHING = re.compile(r"\b(?P<kind>on|ignoring)\s*\((?P<labels>[^()]*)\)")
_OF_ALL = re.compile(r"\b(?:scalar|absent|absent_over_time)\s*\(")


def stage(expr: str) -> int:
    """0: cheap, asked about all servers; 1: looks back for long; 2: does so more often, or again and again."""
    long = sum(seconds >= LOOKS_BACK_S for seconds in ranges(expr))
    if not long:
        return 0
    return 1 if long <= FEW_RANGES and not _SUBQUERY.search(_plain(expr)) else 2


class Undecided:
    """What a round still has to ask, and about whom.

    answers: of what was asked so far; grows. held: (alert, target) of rules that hold, or held within the hour: all
    their signals are asked, for there *no* and *unknown* differ.
    """

    def __init__(
        self, rules: Iterable[Rule], answers: Answers, targets: Collection[Target], held: Collection[tuple[str, str]]
    ) -> None:
        self.rules, self.targets, self.held = tuple(rules), targets, frozenset(held)
        self._table = Table(answers)
        self._everybody = frozenset(target.name for target in targets)
        self._holding: dict[Comparison, frozenset[str]] = {}

    def of(self, dear: Collection[str]) -> dict[str, frozenset[str]]:
        """Signal of `dear` -> names of the targets about which it must be asked."""
        needed: dict[str, frozenset[str]] = dict.fromkeys(dear, frozenset())
        for rule in self.rules:
            if wants := [term.signal for term in rule.terms if term.signal in needed]:
                left = self._open(rule)
                needed |= {name: needed[name] | left for name in wants}
        return needed

    def _open(self, rule: Rule) -> frozenset[str]:
        """Targets of which the rule may still come true, or of which it holds."""
        first, *others = rule.terms
        left = self._everybody
        for term in others:
            left &= self._may_hold(term)
        own = {target.name: target.thresholds[rule.alert] for target in self.targets if rule.alert in target.thresholds}
        over = {n for n, limit in own.items() if n in self._may_hold(first.model_copy(update={"number": limit}))}
        left &= (self._may_hold(first) - own.keys()) | over
        return left | {name for alert, name in self.held if alert == rule.alert and name in self._everybody}

    def _may_hold(self, term: Comparison) -> frozenset[str]:
        # News is left open: a limit that is passed as ever is told of, too. What probes know is not among the answers.
        signal = term.signal
        if signal.endswith(NEWS) or signal == EXPECTED_SHARE or signal not in self._table.answers:
            return self._everybody
        known = self._holding.get(term)
        if known is None:
            column, compare = self._table.column(signal), COMPARE[term.op]
            known = self._holding[term] = frozenset(
                target.name
                for target in self.targets
                if any(s.value is not None and compare(s.value, term.number) for s in column.of(target))
            )
        return known


def about(expr: str, some: Collection[Target], everybody: Collection[Target]) -> str:
    """The expression, asked about some servers only; as it is where that cannot be said in its selectors."""
    label = _label(everybody)
    if label is None or len(some) == len(everybody) or _across(expr, label):
        return expr
    values = sorted({target.match[label] for target in some})
    one = len(values) == 1
    words = label + (f"={_text(values[0])}" if one else f"=~{_text('|'.join(map(_meant, values)))}")

    def selected(got: re.Match[str]) -> str:
        if got[1]:
            return got[1]
        return f"{got[2]}{{{words}," if got[3] else f"{got[2]}{{{words}}}"

    narrowed = _SELECTOR.sub(selected, expr)
    return narrowed if len(narrowed) <= max(LONGEST, len(expr)) else expr


def _label(targets: Collection[Target]) -> str | None:
    """The label that all targets are matched by and that tells most of them apart."""
    shared = set.intersection(*(set(target.match) for target in targets)) if targets else set()
    told_apart: Mapping[str, int] = {label: len({target.match[label] for target in targets}) for label in shared}
    return max(sorted(told_apart), key=lambda label: told_apart[label], default=None)


def _across(expr: str, label: str) -> bool:
    """Whether one server's value may come from others' series: then all must be asked about."""
    text = _plain(expr)
    if _OF_ALL.search(text):
        return True
    for got in (*_AGGREGATION.finditer(text), *_MATCHING.finditer(text)):
        named = label in re.split(r"[\s,]+", got["labels"])
        if got["kind"] in ("by", "on") and not named or got["kind"] in ("without", "ignoring") and named:
            return True
        if got["kind"] is None:
            return True
    return False


def _plain(expr: str) -> str:
    """Without what is quoted."""
    return re.sub(QUOTED, '""', expr)


def _meant(value: str) -> str:
    """As a regular expression that means the text itself."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
