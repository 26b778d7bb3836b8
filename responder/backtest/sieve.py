"""In which moments may a rule hold at all? Its cheap terms are asked first, the dear ones only where those held.

A rule is a conjunction: where one term is not true, nothing else of it needs to be known. Which term says no most
cheaply is estimated from its text and learned from what it said of the history so far. The order changes what is asked,
never what is found: the rule itself is asked on the same grid, wherever it may have held for long enough.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from responder.backtest.past import Rows
from responder.backtest.scan import Question, runs
from responder.evaluate import GUARD
from responder.model import Comparison
from responder.rules import ranges

FEW_POINTS = 60
"""So few moments are looked at with the whole rule at once: a query has a price of its own."""
NEAR_POINTS = 20
"""Windows that are closer are one."""
PRIOR_POINTS = 1000.0
"""What is expected of a term before it was asked weighs as much as so many moments."""
SAYS_NO, MAY_SAY_NO, HARDLY = 0.05, 0.5, 0.9
BUCKETS, NARROWED, RENAMED = 12.0, 1.5, 3.0
"""What a histogram, one that is asked for single edges, and a label that is made up cost, in plain series."""
SAMPLES = 200.0
"""A range of so many samples costs as much again as the series."""
_SELECTOR = re.compile(r"(?<![\w:\"])((?:vllm:|http_|process_|scrape_|responder_)\w+|up\b)(\{[^}]*\})?(\[[^\]]*\])?")

Window = tuple[float, float]
"""First and last moment, unix seconds; on the grid of a question."""
Ask = Callable[[str, str, float, float, float], Awaitable[Rows | None]]
"""(alert, PromQL, start, end, step) -> rows; None: nobody answered, which is told under the alert, if one is named."""


@dataclass
class Sieve:
    """What is known of each term, by its text: at how many moments it was looked at, and held on any server."""

    interval_s: float
    looked: dict[str, float] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)

    def order(self, question: Question) -> list[str]:
        """The terms that are worth asking before the whole rule, best first: each costs less than it may save."""
        prices = {text: cost(text, self.interval_s) for text in question.terms}
        whole = sum(prices.values())
        saved = {text: 1 - self.share(text, term) for text, term in question.terms.items()}
        best = sorted((text for text in prices if saved[text] > 0), key=lambda text: prices[text] / saved[text])
        out = []
        for text in best:
            if prices[text] < saved[text] * whole and len(prices) > 1:
                out.append(text)
                whole *= 1 - saved[text]
        return out

    def share(self, text: str, term: Comparison) -> float:
        """Of how many moments it is expected to hold on some server, 0 to 1."""
        told = self.held.get(text, 0.0) + PRIOR_POINTS * _prior(term)
        return told / (self.looked.get(text, 0.0) + PRIOR_POINTS)

    async def hits(self, question: Question, ask: Ask, since: float, until: float) -> Rows:
        """Every series and moment at which the rule is true, but for those that cannot have lasted long enough."""
        rows: Rows = []
        for first, last in await self._narrowed(question, ask, since, until):
            rows += await ask(question.alert, question.expr, first, last, question.step) or []
        return rows

    async def _narrowed(self, question: Question, ask: Ask, since: float, until: float) -> list[Window]:
        """Where the rule may have held long enough, between two moments."""
        windows = [(since, until)]
        for text in self.order(question):
            looked = sum(_points(window, question.step) for window in windows)
            if looked <= FEW_POINTS:
                break
            moments: set[float] = set()
            for first, last in windows:
                rows = await ask("", f"count({text})", first, last, question.step)
                if rows is None:
                    return windows
                moments.update(at for _, points in rows for at, _ in points)
            self.looked[text] = self.looked.get(text, 0.0) + looked
            self.held[text] = self.held.get(text, 0.0) + len(moments)
            windows = joined(runs(question, moments), NEAR_POINTS * question.step)
        return windows


def cost(expr: str, interval_s: float) -> float:
    """What PromQL costs a server, about, in plain series: a histogram is many, a range has to be read."""
    found = 1.0
    for got in _SELECTOR.finditer(expr):
        name, matchers, window = got.groups()
        wide = 1.0 if not name.endswith("_bucket") else NARROWED if "le=" in (matchers or "") else BUCKETS
        found += wide * (1 + sum(ranges(window or "")) / interval_s / SAMPLES)
    return found + RENAMED * expr.count("label_replace(")


def joined(windows: Iterable[Window], near: float) -> list[Window]:
    """Those that are nearer to each other than this as one, in order of time."""
    out: list[Window] = []
    for first, last in sorted(windows):
        if out and first - out[-1][1] <= near:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out


def _points(window: Window, step: float) -> int:
    return int((window[1] - window[0]) / step + 1e-6) + 1


def _prior(term: Comparison) -> float:
    """Before anything is known: too few samples are rare, too much of something is rarer; the rest may be either."""
    if term.op not in (">", ">=", "!="):
        return MAY_SAY_NO
    return HARDLY if term.signal.endswith(GUARD) else SAYS_NO
