"""Limits a server is over as ever open no incident, but people can see them."""

from __future__ import annotations

import structlog.testing

from responder.evaluate import Observation
from responder.holding import Held, States, as_ever
from responder.model import Comparison, Rule, Severity, Truth
from responder.standing import MOST, Over, Standing

RULE = Rule(alert="Slow", expr="ttft > 2.5 and ttft_grown >= 2", incident_class="high_ttft", severity=Severity.WARNING,
            summary="The first token takes {{ $value }}", unit="seconds",
            terms=(Comparison(signal="ttft", op=">", number=2.5),
                   Comparison(signal="ttft_grown", op=">=", number=2.0)))  # fmt: skip
RULES = {"Slow": RULE}


def seen(target: str = "a", *, truth: Truth = Truth.NO, passed: bool = True, for_s: float = 20.0) -> Observation:
    return Observation(
        alert="Slow", target=target, labels={}, truth=truth, value=4.0, threshold=2.5, for_s=for_s, passed=passed
    )


def held(fired_at: float | None) -> States:
    one = Held(alert="Slow", target="a", labels={}, since=0.0, fired_at=fired_at, true_at=1.0, known_at=1.0)
    return States(at=1.0, held=(one,))


def test_only_what_is_passed_and_no_news_and_told_by_no_alert_counts() -> None:
    """News opens an incident by itself; an alert that stands has told already; unknown is not over."""
    assert as_ever([seen()], States()) == (seen(),)
    assert as_ever([seen()], held(None)) == (seen(),)
    assert as_ever([seen()], held(5.0)) == ()
    assert as_ever([seen(passed=False), seen(truth=Truth.YES), seen(truth=Truth.UNKNOWN)], States()) == ()


def test_a_limit_counts_once_it_was_passed_as_long_as_its_rule_asks_for() -> None:
    """And begins anew after a break."""
    standing = Standing()
    standing.round([seen()], 100.0, RULES)
    assert standing.over == ()
    standing.round([seen()], 120.0, RULES)
    assert standing.over == (Over("Slow", "a", 100.0, "The first token takes 4 (limit 2.5)"),)
    assert standing.of("a") == standing.over
    assert standing.of("b") == ()
    standing.round([], 122.0, RULES)
    standing.round([seen()], 124.0, RULES)
    assert standing.over == ()


def test_the_log_says_it_once() -> None:
    """It may last for weeks."""
    standing = Standing()
    with structlog.testing.capture_logs() as lines:
        for now in (0.0, 30.0, 60.0, 90.0):
            standing.round([seen()] if now != 60.0 else [], now, RULES)
        standing.round([seen()], 120.0, RULES)
    assert [(line["event"], line["target"], line["alert"]) for line in lines] == [("limit.passed_as_ever", "a", "Slow")]


def test_a_server_that_left_and_came_again_is_told_again() -> None:
    """Who left the configuration is forgotten."""
    standing = Standing()
    with structlog.testing.capture_logs() as lines:
        for now in (0.0, 30.0):
            standing.round([seen()], now, RULES)
        standing.stays(["b"])
        standing.round([seen()], 60.0, RULES)
    assert len(lines) == 2


def test_a_thousand_are_enough() -> None:
    """What is kept has a size, whoever invents targets; a rule that is gone says nothing."""
    standing = Standing()
    many = [seen(f"t{n}", for_s=0.0) for n in range(MOST + 50)]
    standing.round(many, 1.0, RULES)
    assert len(standing.over) == MOST
    standing.round(many, 1.0, {})
    assert standing.over == ()


def test_a_clock_that_is_set_back_does_not_make_it_young_for_ever() -> None:
    """It counts from the earlier moment on."""
    standing = Standing()
    for now in (1000.0, 100.0, 120.0):
        standing.round([seen()], now, RULES)
    assert [one.since for one in standing.over] == [100.0]
