"""Which limits is a server over as ever, so that no incident is opened? People may ask why nobody was told.

The shipped rules with a limit ask for news, too: a server that is over one as in its last hour opens nothing. Whoever
starts the responder in the middle of a long trouble would otherwise see nothing at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import structlog

from responder.evaluate import Observation
from responder.holding import key_of
from responder.model import Rule
from responder.signal_words import summary

log = structlog.get_logger()
MOST = 1000
"""More are not told apart."""
HINT = (
    "over the limit as in the last hour, so no incident: set `thresholds` for this alert if that is your own limit, "
    "then it is told from the first minute on"
)


class Over(NamedTuple):
    """One limit that is passed as ever."""

    alert: str
    target: str
    since: float
    """Unix seconds; seen so without a break."""
    says: str


class Standing:
    """Since when; and who has been told of. A limit counts once it was passed for as long as its rule asks for."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, ...], float] = {}
        self._told: set[tuple[str, str]] = set()
        self.over: tuple[Over, ...] = ()

    def round(self, observations: Iterable[Observation], now: float, rules: Mapping[str, Rule]) -> None:
        """Take in what `as_ever` found; one line of the log for an alert of a target, while this daemon lives."""
        since: dict[tuple[str, ...], float] = {}
        over = []
        for seen in observations:
            key, rule = key_of(seen.alert, seen.target, seen.labels), rules.get(seen.alert)
            if rule is None or len(since) >= MOST:
                continue
            since[key] = min(self._since.get(key, now), now)
            if now - since[key] >= seen.for_s:
                signal = rule.terms[0].signal if rule.terms else ""
                says = summary(rule.summary, signal, seen.value, seen.threshold, seen.labels)
                over.append(Over(seen.alert, seen.target, since[key], says))
        self._since, self.over = since, tuple(sorted(over))
        for one in self.over:
            if (one.alert, one.target) not in self._told and len(self._told) < MOST:
                self._told.add((one.alert, one.target))
                log.warning("limit.passed_as_ever", target=one.target, alert=one.alert, says=one.says, hint=HINT)

    def of(self, target: str) -> tuple[Over, ...]:
        """What this server is over."""
        return tuple(one for one in self.over if one.target == target)

    def stays(self, targets: Collection[str]) -> None:
        """Forget whom it was told of that is no longer there."""
        self._told = {one for one in self._told if one[1] in targets}
