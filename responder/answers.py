"""What does Prometheus answer in this round, and of what does it have nothing? Each is asked once, and said once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

import structlog

from responder.evaluate import needed
from responder.judge import absent
from responder.metrics import Prometheus, PrometheusSilent
from responder.model import Content, Sample, Target
from responder.onsets import PROGRESS
from responder.probe import Probe
from responder.rules import queries, widen
from responder.sparing import Undecided, about, stage
from responder.table import Answers, Table
from responder.telemetry import Telemetry
from responder.unseen import OURS, Unseen

log = structlog.get_logger()
ALWAYS = ("up", "in_flight", PROGRESS)
FEW = 100
"""Answers so small are read on the loop."""
TOLD_APART = 20
"""Targets; more are not told apart in `responder_signal_absent`."""

Got: TypeAlias = dict[str, tuple[Sample, ...] | None]


class Asking:
    """Asks, and remembers what was said already of signals and targets without an answer."""

    def __init__(self, prometheus: Prometheus, telemetry: Telemetry, scrape_interval_s: float) -> None:
        self.prometheus = prometheus
        self.telemetry = telemetry
        self.scrape_interval_s = scrape_interval_s
        self.models: dict[str, frozenset[str]] = {}
        """Target -> names of the models it serves."""
        self.known: frozenset[str] = frozenset()
        """Targets whose metrics Prometheus had in the last round."""
        self._unanswered: Mapping[str, str] = {}
        """Signals nobody answered about in the last round, and why."""
        self._unseen = Unseen(telemetry.targets_unseen.set)
        self._absent: dict[tuple[str, str], bool] = {}
        """What our own metrics say already."""
        self._turn = -1
        self._whole: set[str] = set()
        """What was asked about everybody in this round."""

    async def ask(
        self, content: Content, targets: Collection[Target] = (), held: Collection[tuple[str, str]] = ()
    ) -> Got:  # fmt: skip
        """One query per signal the rules compare (and per rule of another shape), for all targets at once; those that
        look back for long last, and only about targets that need them (`sparing`).

        held: (alert, target) of rules that hold. What was asked about nobody has no samples, and is not silent.
        """
        wanted = queries(content.rules, content.signals, always := (*ALWAYS, *needed(targets)))
        stages = {name: 0 if name in always else stage(wanted[name]) for name in wanted}
        why: dict[str, str] = {}
        got = await self._all({name: wanted[name] for name in wanted if not stages[name]}, why)
        self._whole = set(got)
        turn = self._next([name for name in wanted if stages[name]])
        left = Undecided(content.rules, got, targets, held)
        for dear in sorted({*stages.values()} - {0}):
            names = [name for name in wanted if stages[name] == dear]
            whom = await asyncio.to_thread(left.of, names)
            got |= await self._all(self._of(names, wanted, whom, targets, turn), why)
        if news := sorted(set(why) - set(self._unanswered)):
            # Said once: a signal nobody answers about makes no rule true, for ever.
            log.warning("prometheus.silent", signals=news[:10], count=len(news), of=len(wanted), reason=why[news[0]])
        if back := sorted((set(self._unanswered) & set(got)) - set(why)):
            log.info("prometheus.answers", signals=back[:10], count=len(back), of=len(wanted))
        still = {name: said for name, said in self._unanswered.items() if name in wanted and name not in got}
        self._unanswered = still | why
        silent = sum(answer is None for answer in got.values())
        self.telemetry.evaluations.labels("ok" if silent == 0 else "partial" if silent < len(got) else "silent").inc()
        self.telemetry.prometheus_up.set(float(silent < len(got)))
        return {name: got.get(name, ()) for name in wanted}

    async def _all(self, wanted: Mapping[str, str], why: dict[str, str]) -> Got:
        got = await asyncio.gather(*(self._one(name, expr, why) for name, expr in wanted.items()))
        return dict(zip(wanted, got, strict=True))

    def _next(self, dear: list[str]) -> str:
        """One of the dear signals is asked about everybody each round, in turn: what has rotted must be seen."""
        if not dear:
            return ""
        self._turn = (self._turn + 1) % len(dear)
        return dear[self._turn]

    def _of(
        self, names: Iterable[str], wanted: Mapping[str, str], whom: Mapping[str, frozenset[str]],
        targets: Collection[Target], turn: str,
    ) -> dict[str, str]:  # fmt: skip
        asked = {}
        for name in names:
            if name == turn:
                asked[name] = wanted[name]
            elif whom[name]:
                asked[name] = about(wanted[name], [t for t in targets if t.name in whom[name]], targets)
            if asked.get(name) == wanted[name]:
                self._whole.add(name)
        return asked

    async def _one(self, name: str, expr: str, why: dict[str, str]) -> tuple[Sample, ...] | None:
        try:
            rows = await self.prometheus.instant(widen(expr, self.scrape_interval_s))
        except PrometheusSilent as error:
            why[name] = str(error)
            return None
        if len(rows) < FEW:
            return _samples(name, rows)
        return await asyncio.to_thread(_samples, name, rows)

    async def tell_probes(
        self, answers: Answers, targets: Mapping[str, Target], probes: Mapping[str, Probe], now: float,
        seen: Collection[str],
    ) -> None:  # fmt: skip
        """Each probe hears how far its target's tokens are. `seen`: targets Prometheus has ever known."""
        went = await asyncio.to_thread(_progress, answers, tuple(targets.values()))
        for name, (done, models) in went.items():
            self.models[name] = models
            if name in probes:
                probes[name].progress(done, now)
        self.known = frozenset(name for name, (done, _) in went.items() if done is not None)
        self._unseen.tell(answers, targets.values(), self.known, now, probes, seen)

    async def count(self, content: Content, answers: Answers, targets: Mapping[str, Target]) -> None:
        """Tell in our own metrics which signals no target has: an alias that rotted must be seen."""
        names = {t.signal for rule in content.rules for t in rule.terms if ":" not in t.signal}
        asked = sorted(name for name in names if not name.startswith(OURS))
        told = [name for name in asked if name in self._whole]
        missing = await asyncio.to_thread(absent, told, answers, targets.values())
        told_of = set(targets) if len(targets) <= TOLD_APART else {"*"}
        for name, target in [key for key in self._absent if key[0] not in asked or key[1] not in told_of]:
            # A server that is gone, or a rule: its last word would stand in our metrics for ever.
            del self._absent[name, target]
            self.telemetry.signal_absent.remove(name, target)
        for name, without in missing.items():
            # A thousand targets are told of together: each by itself would be a metric larger than all others.
            few = targets if len(targets) <= TOLD_APART else {}
            rows = {target: target in without for target in few} or {"*": len(without) == len(targets)}
            for target, gone in rows.items():
                if self._absent.get((name, target)) is not gone:
                    self._absent[name, target] = gone
                    self.telemetry.signal_absent.labels(name, target).set(float(gone))


def _progress(answers: Answers, targets: Iterable[Target]) -> dict[str, tuple[float | None, frozenset[str]]]:
    """Target -> (tokens so far, None where Prometheus has nothing of it; names of the models it serves)."""
    table, found = Table(answers), dict[str, tuple[float | None, frozenset[str]]]()
    for target in targets:
        mine = table.scraped(PROGRESS, target)
        values = [s.value for s in mine if s.value is not None]
        models = frozenset(s.labels["model_name"] for s in mine if "model_name" in s.labels)
        found[target.name] = (sum(values) if values else None, models)
    return found


def _samples(name: str, rows: Iterable[tuple[dict[str, str], float, float | None]]) -> tuple[Sample, ...]:
    return tuple(Sample(signal=name, labels=labels, value=value, at=at) for labels, at, value in rows)
