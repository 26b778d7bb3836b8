"""Slow scrapes: what is over stays visible longer, so rules wait longer; what is fast stays as it was written."""

from __future__ import annotations

import pytest

from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.model import Content, Rule, Severity, Signal
from responder.pace import fitted, fitted_for, sights, unripe_s
from responder.rules import parse_expr

SIGNALS = {"gauge": "waiting", "rate": "rate(x_total[10s])", "usual": "rate(x[10s]) / rate(x[1h] offset 1m)",
           "known": "up unless max_over_time(up[15m]) == 0"}  # fmt: skip


def rule(expr: str, for_s: float) -> Rule:
    return Rule(alert="A", incident_class="high_ttft", severity=Severity.WARNING, expr=expr, terms=parse_expr(expr),
                for_s=for_s)  # fmt: skip


@pytest.mark.parametrize(
    ("expr", "for_s", "scrape_s", "waits"),
    [
        ("signal:gauge > 5", 30.0, 30.0, 55.0),  # a value stays until the next scrape: 25 s more than at 5 s
        ("signal:gauge > 5", 30.0, 15.0, 35.0),  # of which half is waited for where scrapes come often
        ("signal:gauge < 1", 11.0, 60.0, 66.0),  # one failed scrape is over with the next
        ("signal:gauge < 1", 11.0, 15.0, 31.0),  # two in a row are lost by a busy server, too
        ("signal:known < 1", 11.0, 15.0, 31.0),  # a window that asks what was before is none it is visible in
        ("signal:rate > 2", 33.0, 15.0, 38.0),
        ("signal:usual > 3", 25.0, 30.0, 50.0),  # of several windows the shortest is now
        ("signal:rate > 2", 33.0, 5.0, 33.0),
        ("signal:rate > 2", 33.0, 2.0, 33.0),
        ("signal:gauge > 0", 0.0, 60.0, 0.0),  # what waits for nothing has its wait in the signal
        ("responder_probe_refused > 0", 4.0, 60.0, 4.0),  # probes are as fast as ever
    ],
)
def test_a_rule_waits_longer_by_as_much_as_a_burst_is_visible_longer(
    expr: str, for_s: float, scrape_s: float, waits: float
) -> None:
    """At 5 s and below as written."""
    assert fitted_for(rule(expr, for_s), SIGNALS, scrape_s) == pytest.approx(waits)


def test_fast_scrapes_change_nothing() -> None:
    """Not even the object: verdicts of recorded folders stay as they are."""
    content = Content(signals=(Signal(name="rate", expr=SIGNALS["rate"]),), rules=(rule("signal:rate > 2", 33.0),))
    assert fitted(content, 5.0) is content
    assert [r.for_s for r in fitted(content, 15.0).rules] == [38.0]


def test_the_shipped_rules_see_faults_of_minutes_at_the_slowest_usual_scrapes() -> None:
    """At 15 s within about three minutes and at 60 s within about five, but for what has to be slow for ten minutes
    anyway; no rule is quicker for slower scrapes."""
    content = load(Config(), STEPS)
    by = {every: {s.alert: s.needs_s for s in sights(fitted(content, every), every)} for every in (5.0, 15.0, 60.0)}
    assert all(by[every].pop("VLLMITLStaysHigh") > 600 for every in by)
    assert max(by[15.0].values()) <= 200
    assert max(by[60.0].values()) <= 310
    assert all(by[5.0][alert] <= by[15.0][alert] <= by[60.0][alert] for alert in by[5.0])
    assert by[60.0]["VLLMTargetDown"] > 60  # one failed scrape of a minute is no server that is gone


def test_a_first_look_through_slow_scrapes_is_not_the_last() -> None:
    """Four scrapes after the onset the windows hold nothing of what was before."""
    assert unripe_s(100.0, 140.0, 15.0) == pytest.approx(20.0)
    assert unripe_s(100.0, 170.0, 15.0) <= 0
    assert unripe_s(100.0, 101.0, 4.0) == 0
