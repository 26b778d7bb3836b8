"""Of which targets does Prometheus, though it answers, have nothing? Of those no hang and no slowness can be seen.

Soon it is a line of the log and a number; people are told by the rule `VLLMTargetUnseen`, which reads it from a probe.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

import structlog

from responder.model import Rule, Target
from responder.table import UP, Answers, Table

log = structlog.get_logger()
STEPS = "progress_total"
SIGNAL = "responder_probe_unseen"
OURS = "responder_"
"""What the names of signals begin with that the probes know and no Prometheus is asked for."""
AFTER_S = 30.0
"""A few scrapes: at a start, and while a server is moved, there is nothing for a moment."""
HINT = (
    "Prometheus answers and has no vLLM metrics with these labels, so no hang can be seen: is `match` right, is the "
    "server scraped?"
)


class Told(Protocol):
    """A probe, as far as it is told of this."""

    def overlooked(self, unseen: bool | None) -> None:
        """Whether Prometheus has nothing of its target; None: it does not answer."""


class Unseen:
    """Remembers since when, and who has been told of. `count`: told how many there are."""

    def __init__(self, count: Callable[[float], None]) -> None:
        self.count = count
        self._since: dict[str, float] = {}
        self.told: frozenset[str] = frozenset()

    def tell(
        self, answers: Answers, targets: Collection[Target], known: Collection[str], now: float,
        probes: Mapping[str, Told], seen: Collection[str],
    ) -> None:  # fmt: skip
        """A line of the log for each that is unseen from now on, with its labels, and for each that is seen again; and
        its probe is told. `seen`: targets Prometheus has ever known: of one that has vanished there is another alert.
        """
        fresh, again = self.round(answers, targets, known, now)
        table, silent = Table(answers), _silent(answers)
        gone = {t.name for t in targets if t.name in seen and table.vanished(t)}
        for name in probes:
            probes[name].overlooked(None if silent else name in self._since and name not in gone)
        for target in fresh:
            log.warning("target.unseen", target=target.name, match=target.match, hint=HINT)
        for name in again:
            log.info("target.seen_again", target=name)
        self.count(len(self.told))

    def round(
        self, answers: Answers, targets: Iterable[Target], known: Collection[str], now: float
    ) -> tuple[list[Target], list[str]]:
        """(targets that are to be told of now, names of those that are seen again). `known`: those Prometheus has
        metrics of. One whose scrapes fail is seen: there is an alert for that. A silent Prometheus changes nothing."""
        table, waiting, fresh = Table(answers), dict[str, float](), []
        if _silent(answers):
            return [], []
        for target in targets:
            if target.name in known or any(sample.value == 0 for sample in table.scraped(UP, target)):
                continue
            # A clock set back makes nobody wait until it has caught up.
            waiting[target.name] = min(self._since.get(target.name, now), now)
            if now - waiting[target.name] >= AFTER_S and target.name not in self.told:
                fresh.append(target)
        again = sorted(self.told - waiting.keys())
        self._since = waiting
        self.told = (self.told & waiting.keys()) | {target.name for target in fresh}
        return fresh, again


def known_by_probes(rules: Iterable[Rule], answers: Answers) -> set[str]:
    """Signals of rules that the probes are asked for. What Prometheus has nothing of, they know while it answers."""
    names = {term.signal for rule in rules for term in rule.terms if term.signal.startswith(OURS)}
    return names - {SIGNAL} if _silent(answers) else names


def _silent(answers: Answers) -> bool:
    return answers.get(UP) is None or answers.get(STEPS) is None
