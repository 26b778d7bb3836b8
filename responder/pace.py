"""How long must a rule hold where scrapes are slower than it was written for, and what can it see there? Pure.

A burst of twenty seconds is visible for as long as the windows it stands in, and these grow with the time between two
scrapes: what a rule waits for must grow along, or every burst, and every scrape that fails, becomes an incident.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from responder.model import Content, Rule, Signal
from responder.rules import WRITTEN_FOR_S, expand, ranges, widen

SETTLED_SCRAPES = 4
"""So many scrapes after the onset the shortest windows hold nothing of what was before it, and not one value alone."""


FEW_SCRAPES = 3
"""What waits for less than that waits for failed scrapes to be over."""
LOST_IN_A_ROW, RARE_S = 2, 30.0
"""So many a busy server lets time out and is still there; from 30 s on two are a minute and more, and one must do."""
USUAL_S = 600.0
"""A window as long as that looks back at what is usual, not at what is."""
HALF, SLOW_S = 0.5, 25.0
"""Of what is visible longer, half is waited for at scrapes up to 15 s apart: a fault of 40 s is still found there, and
bursts are over by then; all of it at 30 s and more, where a burst is in one scrape or in two by chance."""


class Sight(NamedTuple):
    """One rule and the shortest fault it can see, in seconds."""

    alert: str
    needs_s: float


def fitted(content: Content, scrape_interval_s: float) -> Content:
    """The same content, its rules fitted to a scrape interval. Faster scrapes than 5 s change nothing."""
    if scrape_interval_s <= WRITTEN_FOR_S:
        return content
    recorded = _recorded(content.signals)
    rules = tuple(
        rule.model_copy(update={"for_s": fitted_for(rule, recorded, scrape_interval_s)}) for rule in content.rules
    )
    return content.model_copy(update={"rules": rules})


def fitted_for(rule: Rule, recorded: Mapping[str, str], scrape_interval_s: float) -> float:
    """Its `for` in seconds. Longer by as much as what is over stays visible longer: a value until the next scrape, a
    rate until the scrapes around it have left the window. A rule that waits for nothing goes on waiting for nothing.

    rule: as written; recorded: signal -> PromQL.
    """
    expr = _first(rule, recorded)
    if rule.for_s <= 0 or expr is None or scrape_interval_s <= WRITTEN_FOR_S:
        return rule.for_s
    longer = _visible(widen(expr, scrape_interval_s), scrape_interval_s) - _visible(expr, WRITTEN_FOR_S)
    few = rule.for_s < FEW_SCRAPES * WRITTEN_FOR_S
    if few and not _windows(expr) and scrape_interval_s < RARE_S:
        return round(rule.for_s + LOST_IN_A_ROW * (scrape_interval_s - WRITTEN_FOR_S), 1)
    if not few:
        longer *= min(1.0, max(HALF, (scrape_interval_s - WRITTEN_FOR_S) / SLOW_S))
    return round(rule.for_s + max(0.0, longer), 1)


def sights(content: Content, scrape_interval_s: float) -> list[Sight]:
    """Per rule that reads scrapes the shortest fault it can see, by length. content: as fitted to that interval."""
    recorded = _recorded(content.signals)
    found = []
    for rule in content.rules:
        expr = _first(rule, recorded)
        if expr is None or rule.severity.value == "info":
            continue
        fills = scrape_interval_s if rule.for_s else 2 * scrape_interval_s
        found.append(Sight(rule.alert, rule.for_s + fills))
    return sorted(found, key=lambda one: (one.needs_s, one.alert))


def unripe_s(onset_at: float, now: float, scrape_interval_s: float) -> float:
    """For how many seconds more metrics show an incident half as it was before; not above 0: no longer. Scrapes as fast
    as rules are written for have come often enough when one opens."""
    return onset_at + SETTLED_SCRAPES * scrape_interval_s - now if scrape_interval_s > WRITTEN_FOR_S else 0.0


def _recorded(signals: Iterable[Signal]) -> dict[str, str]:
    return {signal.name: signal.expr for signal in signals}


def _first(rule: Rule, recorded: Mapping[str, str]) -> str | None:
    """PromQL of what the rule's first term compares; None where that is no question of scrapes."""
    if not rule.terms:
        return expand(rule.expr, recorded)
    first = rule.terms[0].signal
    return expand(recorded[first], recorded) if first in recorded else None


def _visible(expr: str, scrape_interval_s: float) -> float:
    """For how long something that was over in a moment can be seen, seconds. Of several windows the shortest counts:
    the long ones are what is usual."""
    found = _windows(expr)
    return max(scrape_interval_s, min(found) - scrape_interval_s) if found else scrape_interval_s


def _windows(expr: str) -> list[float]:
    """Seconds of the ranges in which something stays visible; the hour and its quarter are what is usual."""
    return [seconds for seconds in ranges(expr) if seconds < USUAL_S]
