"""Which moments are asked of the whole rule, and that nothing is found otherwise than by asking it of all of them."""

from __future__ import annotations

import random
from collections.abc import Mapping

from responder.backtest.past import Rows
from responder.backtest.scan import Question, questions, stretches
from responder.backtest.sieve import Sieve, cost
from responder.model import Rule, Severity, Target
from responder.rules import parse_expr

TARGETS = ("a", "b")
SINCE, STEP, LENGTH = 1_000.0, 15.0, 2_000
UNTIL = SINCE + (LENGTH - 1) * STEP


def question(expr: str, for_s: float = 60.0) -> Question:
    """As a rule of a history makes it, whose signals are metrics of the same name."""
    signals = {name: f"vllm:{name}" for name in ("slow", "late", "few_samples", "dear")}
    made = Rule(
        alert="A", incident_class="high_ttft", severity=Severity.WARNING, expr=expr, terms=parse_expr(expr), for_s=for_s
    )
    (one,) = questions([made], signals, [Target(name="a", url="http://a:1")], 5.0)
    return Question(one.alert, one.expr, STEP, one.for_s, one.terms)


class Store:
    """Where each term holds, as moments of servers; answers terms, and what is neither is the whole rule."""

    def __init__(self, held: Mapping[str, set[tuple[str, float]]], silent: str = "") -> None:
        self.held, self.silent = held, silent
        self.points: dict[str, int] = {}

    async def ask(self, alert: str, expr: str, start: float, end: float, step: float) -> Rows | None:
        """A range query; `count(…)` says nothing of who."""
        term = expr.removeprefix("count(").removesuffix(")") if expr.startswith("count(") else ""
        self.points[term] = self.points.get(term, 0) + int((end - start) / step + 1e-6) + 1
        if term and term == self.silent:
            return None
        true = self.held[term] if term else set.intersection(*self.held.values())
        mine = {(name, at) for name, at in true if start - 1e-6 <= at <= end + 1e-6}
        assert all((at - start) % step == 0 for _, at in mine)  # asked on the grid
        if term:
            return [({}, [(at, 1.0) for at in sorted({at for _, at in mine})])] if mine else []
        return [
            ({"instance": name}, [(at, 1.0) for at in sorted(at for n, at in mine if n == name)]) for name in TARGETS
        ]


def drawn(dice: random.Random, often: float, long: float) -> set[tuple[str, float]]:
    """Stretches in which a term holds on some server."""
    out: set[tuple[str, float]] = set()
    for name in TARGETS:
        on = False
        for index in range(LENGTH):
            on = dice.random() < (1 - 1 / long if on else often / long)
            out |= {(name, SINCE + index * STEP)} if on else set()
    return out


def found(asked: Question, rows: Rows) -> list[object]:
    """What would be walked."""
    hits: dict[str, list[float]] = {}
    for labels, points in rows:
        hits.setdefault(labels["instance"], []).extend(at for at, _ in points)
    return [stretches(asked, name, hits.get(name, []), 2.0) for name in TARGETS]


async def test_what_is_walked_is_what_the_whole_rule_would_say() -> None:
    """Whatever holds when: short and long, on one server or the other, at once or in turn, learned from or not."""
    dice = random.Random(5)
    asked = question("signal:slow > 1 and signal:late < 2 and on (instance) signal:few_samples >= 3")
    sieve = Sieve(5.0)
    some = 0
    for _ in range(60):
        store = Store(
            {term: drawn(dice, dice.choice((0.02, 0.2, 2.0)), dice.choice((2, 8, 40))) for term in asked.terms}
        )
        whole = await store.ask("A", asked.expr, SINCE, UNTIL, STEP)
        assert whole is not None
        got = found(asked, await sieve.hits(asked, store.ask, SINCE, UNTIL))
        assert got == found(asked, whole)
        some += any(map(bool, got))
    assert some > 5


async def test_a_rule_whose_cheap_term_never_holds_is_never_asked_as_a_whole() -> None:
    """A quiet day costs one question of one term; a term that nobody answers is not missed, the rule is asked then."""
    asked = question("signal:slow > 1 and signal:dear > 2")
    cheap = next(iter(asked.terms))
    store = Store({term: set() for term in asked.terms})
    assert await Sieve(5.0).hits(asked, store.ask, SINCE, UNTIL) == []
    assert store.points == {cheap: LENGTH}
    silent = Store({term: set() for term in asked.terms}, silent=cheap)
    await Sieve(5.0).hits(asked, silent.ask, SINCE, UNTIL)
    assert silent.points == {cheap: LENGTH, "": LENGTH}


async def test_a_term_that_says_no_to_nothing_is_not_asked_again() -> None:
    """What held at every moment of the history so far is left out, and the next one is asked first."""
    asked = question("signal:slow > 1 and signal:late > 2")
    slow, late = asked.terms
    always = {(name, SINCE + index * STEP) for name in TARGETS for index in range(LENGTH)}
    sieve = Sieve(5.0)
    for _ in range(4):
        await sieve.hits(asked, Store({slow: always, late: set()}).ask, SINCE, UNTIL)
    assert sieve.order(asked)[0] == late
    last = Store({slow: always, late: set()})
    await sieve.hits(asked, last.ask, SINCE, UNTIL)
    assert last.points == {late: LENGTH}


def test_a_rule_of_one_term_or_of_another_shape_is_asked_as_it_is() -> None:
    """Nothing is cheaper than itself; of what is no conjunction nothing is known."""
    assert Sieve(5.0).order(question("signal:slow > 1")) == []
    assert question("signal:slow > 1 or signal:late > 2").terms == {}


def test_a_histogram_is_dearer_than_a_mean_and_an_hour_dearer_than_ten_seconds() -> None:
    """By the text alone."""
    mean = "rate(vllm:x_seconds_sum[10s]) / rate(vllm:x_seconds_count[10s])"
    assert cost("histogram_quantile(0.99, rate(vllm:x_seconds_bucket[10s]))", 5.0) > 2 * cost(mean, 5.0)
    assert cost(mean.replace("10s", "1h"), 5.0) > 2 * cost(mean, 5.0)
    assert cost('rate(vllm:x_seconds_bucket{le="0.1"}[10s])', 5.0) < cost(mean, 5.0)
