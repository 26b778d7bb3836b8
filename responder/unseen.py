"""Of which targets does Prometheus, though it answers, have nothing? Of those no hang and no slowness can be seen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import structlog

from responder.model import Target
from responder.table import UP, Answers, Table

log = structlog.get_logger()
STEPS = "progress_total"
AFTER_S = 30.0
"""A few scrapes: at a start, and while a server is moved, there is nothing for a moment."""
HINT = (
    "Prometheus answers and has no vLLM metrics with these labels, so no hang can be seen: is `match` right, is the "
    "server scraped?"
)


class Unseen:
    """Remembers since when, and who has been told of. `count`: told how many there are."""

    def __init__(self, count: Callable[[float], None]) -> None:
        self.count = count
        self._since: dict[str, float] = {}
        self.told: frozenset[str] = frozenset()

    def tell(self, answers: Answers, targets: Iterable[Target], known: Collection[str], now: float) -> None:
        """A line of the log for each that is unseen from now on, with its labels, and for each that is seen again."""
        fresh, again = self.round(answers, targets, known, now)
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
        if table.silent(UP) or table.silent(STEPS):
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
