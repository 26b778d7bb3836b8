"""How is a history worked through? Scan coarsely, walk round by round where something may be wrong, look, go on.

Time only moves forward: a chunk is scanned, then walked, and whatever is open at its end goes on in the next. Memory
holds one chunk and the open incidents; finished reports lie in a file.
"""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import aiohttp

from responder.backtest import alerts, find, lived, scan, vanished
from responder.backtest.ended import ended
from responder.backtest.look import FROM_HISTORY, Case, Looking, report_of, write_folder
from responder.backtest.past import MAX_POINTS, HistorySilent, Past, Rows
from responder.backtest.sieve import Sieve
from responder.backtest.sight import Blind, blind
from responder.backtest.tally import Price, Verdict, summary
from responder.backtest.walk import DRAINED, DRAINED_BY_ITS_LAST_SCRAPE, UP_WHILE_SCRAPED, Rounds, Walk
from responder.capture import STEPS
from responder.correlate import Policy
from responder.evaluate import UP, needed
from responder.folder import folder_of
from responder.metrics import gap_of
from responder.model import Change, Content, Incident, Silence, Status, Target
from responder.onsets import with_onset
from responder.pace import fitted, unripe_s
from responder.report import contract
from responder.respond import GREW_SETTLES_S, SECOND_LOOK_S
from responder.rules import WRITTEN_FOR_S, expand, queries, widen
from responder.spelling import ASK, spelling

ROUND_S = 2.0
"""Of the daemon, also when scrapes are slower."""
ROUNDS_AT_ONCE = 150
OLD_S = 600.0
SLOWEST_S = 10.0
"""Between rounds while only incidents older than that go on; a pause of 30 s would count as not watched."""
ALWAYS = ("up", "in_flight", "progress_total", "drained")
USUAL_INTERVAL_S = 15.0
SEEN_POINTS = 720
FRESH_S = 60.0
"""Older samples are of a server that is gone, or not scraped."""
Progress = Callable[[float, str], None]
"""Unix seconds reached, and what is being done."""


@dataclass(frozen=True)
class Wish:
    """What is to be worked through. Times are unix seconds; step 0: as the daemon would."""

    start: float
    end: float
    step: float = 0.0
    targets: tuple[str, ...] = ()
    folders: Path | None = None
    """Write every incident as a folder here."""


@dataclass
class Found:
    """The result. `reports` reads contract objects back from a file, in order of opening."""

    targets: list[Target]
    interval_s: float
    round_s: float
    summary: dict[str, Any]
    overlap: dict[str, Any]
    would_capture: Mapping[str, Sequence[Price]]
    unanswered: Mapping[str, str]
    queries: int
    blind: Blind
    warnings: Sequence[str]
    """What Prometheus said beside its answers: that they are partial, mostly."""
    spool: IO[bytes]
    index: list[tuple[float, str, int, int]] = field(default_factory=list)

    def reports(self) -> Iterator[dict[str, Any]]:
        """Each report as the contract object."""
        for _, _, offset, length in sorted(self.index):
            self.spool.seek(offset)
            yield json.loads(self.spool.read(length))


class Backtest:
    """One run over a history."""

    def __init__(
        self, past: Past, content: Content, wish: Wish, configured: Sequence[Target] = (), *,
        policy: Policy | None = None, silences: Sequence[Silence] = (), progress: Progress = lambda _, __: None,
    ) -> None:  # fmt: skip
        self.past, self.content, self.wish, self.configured = past, content, wish, configured
        self.policy, self.silences, self.progress = policy or Policy(), silences, progress
        self.cases: dict[str, Case] = {}
        self.closed: list[Incident] = []
        self.verdicts: dict[str, Verdict] = {}
        self.prices: dict[str, list[Price]] = {}
        self.unanswered: dict[str, str] = {}
        self.pending: list[scan.Stretch] = []
        self.now = wish.start
        self.spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - handed on in the result
        self.index: list[tuple[float, str, int, int]] = []

    async def run(self) -> Found:
        """Work through it all. HistorySilent, or ValueError for what an operator asked in vain."""
        try:
            return await self._run()
        except BaseException:
            self.spool.close()
            raise

    async def _run(self) -> Found:
        await self._learn_spelling()
        seen = await self._seen()
        found = find.find([(labels, [at for at, _ in points]) for labels, points in seen])
        if not found:
            raise ValueError(f"no vLLM metrics ({find.SEEN}) in this history between the two times")
        self.targets = find.choose(found, self.wish.targets, self.configured)
        self.interval_s = await self._interval(seen)
        self.round_s = self.wish.step or min(self.interval_s, ROUND_S)
        self.content = fitted(self.content, self.interval_s)
        recorded = {signal.name: signal.expr for signal in self.content.signals}
        asked = queries(self.content.rules, self.content.signals, (*ALWAYS, *needed(self.targets)))
        asked[UP] = UP_WHILE_SCRAPED
        if self.interval_s > WRITTEN_FOR_S:
            asked[DRAINED] = DRAINED_BY_ITS_LAST_SCRAPE
        self.wanted = {name: widen(expr, self.interval_s) for name, expr in asked.items()}
        self.sieve = Sieve(self.interval_s)
        self.questions = scan.questions(self.content.rules, recorded, self.targets, self.interval_s)
        self.blind = await blind(self._ask, self.content, self.wanted, self.targets, start=self.wish.start,
                                 end=self.wish.end, interval=self.interval_s)  # fmt: skip
        self.walk = Walk(self.content, self.targets, self.policy, self.silences)
        self.walk.lost = await self._lost(seen)
        self.pending += [scan.Stretch(one.target, one.since, one.until) for one in self.walk.lost]
        async with aiohttp.ClientSession() as http:
            signals = {name: widen(expand(expr, recorded), self.interval_s) for name, expr in recorded.items()}
            near = find.beside(self.targets, found)
            self.looking = Looking(self.past, http, self.content, near, signals, self.interval_s,
                                   keep_raw=self.wish.folders is not None)  # fmt: skip
            await self._chunks()
        return await self._result(seen)

    async def _chunks(self) -> None:
        finest = min((question.step for question in self.questions), default=scan.COARSEST_S)
        at = self.wish.start
        while at <= self.wish.end:
            until = min(self.wish.end, at + (MAX_POINTS - 1) * finest)
            self.progress(at, "scanning")
            await self._scan(at, until)
            await self._walk_until(until)
            at = until + finest
        self.progress(self.wish.end, "summing up")
        for case in list(self.cases.values()):
            await self._close(case)

    # ------------------------------------------------------------------------------------------- what there is

    async def _learn_spelling(self) -> None:
        """How this store calls vLLM's metrics; one that does not let itself be asked has them as they are."""
        try:
            rows = await self.past.range(ASK, self.wish.start, self.wish.end, self._seen_step())
        except HistorySilent as error:
            if "cannot be reached" in str(error):
                raise
            return
        self.past.prometheus.spelling = spelling(labels.get("spelled", "") for labels, _ in rows)

    async def _seen(self) -> Rows:
        """Which servers there were and when, on a coarse grid."""
        step = self._seen_step()
        rows = await self.past.range(find.STAMP, self.wish.start, self.wish.end, step)
        fresh = [(labels, [p for p in points if p[1] is not None and p[0] - p[1] <= FRESH_S + step])
                 for labels, points in rows]  # fmt: skip
        return [(labels, points) for labels, points in fresh if points]

    def _seen_step(self) -> float:
        # Prometheus shows a sample for 5 min: a coarser grid would miss servers that lived shortly.
        return min(240.0, max(1.0, math.ceil((self.wish.end - self.wish.start) / SEEN_POINTS)))

    async def _lost(self, seen: Rows) -> list[vanished.Lost]:
        return await vanished.lost(
            self.past.range, self.targets, {t.name: _moments(t, seen) for t in self.targets}, self.wanted["in_flight"],
            start=self.wish.start, end=self.wish.end, step=self._seen_step(), interval=self.interval_s,
        )  # fmt: skip

    async def _interval(self, seen: Rows) -> float:
        """The scrape interval, seconds: the slowest of the servers', each where its history is in full swing. By `up`,
        which is written when a scrape fails, too: else a server that answers now and then seems scraped more rarely."""
        found = []
        fullest = sorted(seen, key=lambda row: -len(row[1]))[:20]
        for labels, points in fullest:
            middle = points[len(points) // 2][1] or 0.0
            for around, step in ((30.0, 0.5), (900.0, 15.0)):
                since, until = middle - around, middle + around
                rows = await self.past.range(find.STAMP, since, until, step)
                scrapes = find.scraped(labels)
                asked = await self.past.range(scrapes, since, until, step) if scrapes else []
                rows = [(named, row) for named, row in rows if _same(named, labels)]
                # Row by row: the scrapes of two that stand in for one another are no scrapes twice as often.
                told = [gap_of(v for _, v in row if v is not None) for _, row in (*rows, *asked)]
                usual = [gap for gap in told if gap is not None]
                if usual:
                    found.append(min(usual))
                    break
        return max(found, default=USUAL_INTERVAL_S)

    # ----------------------------------------------------------------------------------------------- scanning

    async def _scan(self, since: float, until: float) -> None:
        """Put every stretch in which a rule may have held on the list of what to walk."""
        answers = await asyncio.gather(*(self.sieve.hits(q, self._ask, since, until) for q in self.questions))
        for question, rows in zip(self.questions, answers, strict=True):
            hits: dict[str, list[float]] = {}
            for labels, points in rows:
                for target in self.targets:
                    if _covers(labels, target):
                        hits.setdefault(target.name, []).extend(at for at, _ in points)
            for name, moments in hits.items():
                stretches = scan.stretches(question, name, moments, self.round_s)
                self.pending += stretches
                if question.alert in self.walk.down:
                    target = next(t for t in self.targets if t.name == name)
                    self.walk.lived += await lived.lived(self._ask, target, stretches, self.interval_s)
        self.pending = scan.merged(self.pending)

    async def _ask(self, name: str, expr: str, since: float, until: float, step: float) -> Rows | None:
        try:
            return await self.past.range(expr, since, until, step)
        except HistorySilent as error:
            if "cannot be reached" in str(error):
                raise
            self.unanswered.update({name: str(error)} if name else {})
            return None

    # ------------------------------------------------------------------------------------------------ walking

    async def _walk_until(self, until: float) -> None:
        """Round by round while something is held, open or due; else on to the next stretch."""
        while self.now <= until:
            self.pending = [stretch for stretch in self.pending if stretch.until >= self.now]
            if not self.walk.busy() and not any(case.due for case in self.cases.values()):
                ahead = min((stretch.since for stretch in self.pending), default=math.inf)
                if ahead > until:
                    break
                self.now = max(self.now, self._on_grid(ahead))
            await self._rounds(until)
        if not self.walk.busy():
            self.now = max(self.now, self._on_grid(until))

    def _on_grid(self, at: float) -> float:
        """The first round at or after a moment."""
        return self.wish.start + math.ceil((at - self.wish.start) / self.round_s - 1e-9) * self.round_s

    async def _rounds(self, until: float) -> None:
        start, step, until = self.now, *self._pace(until)
        length = min(ROUNDS_AT_ONCE, int((until - start) / step + 1e-9) + 1)
        end = start + (length - 1) * step
        names = list(self.wanted)
        got = await asyncio.gather(*(self._ask(n, self.wanted[n], start, end, step) for n in names))
        silent = [name for name, rows in zip(names, got, strict=True) if rows is None]
        rounds = Rounds(start, step, length, silent, self.targets)
        for name, rows in zip(names, got, strict=True):
            if rows is not None:
                rounds.put(name, rows)
        self.progress(start, "walking")
        for index in range(length):
            now = start + index * step
            active = self._active(now)
            self.now = now + step
            if not active and not any(case.due for case in self.cases.values()):
                return
            for change, incident in self.walk.step(rounds.at(index, active), now, active):
                await self._changed(change, incident, now)
            await self._look_where_due(now)
            for incident in self.walk.forget(now):
                await self._close(self.cases[incident.id])

    def _pace(self, until: float) -> tuple[float, float]:
        """(seconds between rounds, until when): slower while all that goes on is incidents that have long been told,
        and only until something new may begin."""
        old = all(self.now - i.opened_at > OLD_S for i in self.walk.incidents.values() if i.state == "open")
        waiting = any(held.fired_at is None for held in self.walk.states.held)
        due = any(case.due for case in self.cases.values())
        opens = {i.target for i in self.walk.incidents.values() if i.state == "open"}
        others = [stretch for stretch in self.pending if stretch.target not in opens]
        begins = min((stretch.since for stretch in others), default=math.inf)
        slow = self.round_s * max(1, int(SLOWEST_S / self.round_s))
        if not opens or not old or waiting or due or begins < self.now + slow:
            return self.round_s, until
        return slow, min(until, begins)

    def _active(self, now: float) -> Collection[str]:
        return self.walk.busy() | {s.target for s in self.pending if s.since <= now <= s.until}

    async def _changed(self, change: Change, incident: Incident, now: float) -> None:
        if change is Change.OPENED:
            target = next(t for t in self.targets if t.name == incident.target)
            incident = await with_onset(incident, self.content, target.match, self.past.range, self.interval_s, None)
            self.walk.incidents[incident.id] = incident
            self.cases[incident.id] = Case(incident, target, due=now)
        elif change is Change.GREW:
            case = self.cases[incident.id]
            worse = case.told_class != incident.incident_class
            when = now if worse else now + GREW_SETTLES_S
            case.due = when if case.due is None else min(case.due, when)

    async def _look_where_due(self, now: float) -> None:
        """As the daemon: at once, a second time where that told too little, and after it grew."""
        for case in list(self.cases.values()):
            case.incident = self.walk.incidents.get(case.incident.id, case.incident)
            if case.incident.state != "open":
                case.due = None
            elif case.due is not None and case.due <= now:
                first = case.verdict is None
                case.due = None
                if not await self.looking.look(case, now) or case.verdict is None:
                    continue
                sure = case.verdict.hypotheses[0].status in (Status.CONFIRMED, Status.PROBABLE)
                unripe = unripe_s(case.incident.onset_at, now, self.interval_s)
                if first and (not sure or unripe > 0):
                    case.due = now + max(SECOND_LOOK_S, unripe)

    # ---------------------------------------------------------------------------------------------- the result

    async def _close(self, case: Case) -> None:
        """What is known of it goes into the file; nothing of it stays in memory."""
        del self.cases[case.incident.id]
        case.incident = await ended(self.past.range, case.target, case.incident, case.looked_at, self.interval_s)
        await self.looking.look_back(case)
        report = report_of(case, self.content)
        if self.wish.folders is not None:
            folder = folder_of(self.wish.folders, report.incident.id)
            await asyncio.to_thread(write_folder, case, report, folder, self.content, self.looking)
        prices = [
            Price(call.step, call.rung, STEPS[call.step].timeout_s, STEPS[call.step].worst_pause_s,
                  STEPS[call.step].max_bytes)
            for call in case.plan.chosen
            if call.step not in FROM_HISTORY
        ]  # fmt: skip
        top = report.verdict.hypotheses[0]
        self.closed.append(report.incident.model_copy(update={"timeline": ()}))
        self.verdicts[report.incident.id] = Verdict(top.cause, top.status.value, top.probability)
        self.prices[report.incident.id] = prices
        body = json.dumps({**contract(report), "would_capture": [_told(p) for p in prices]}, allow_nan=False).encode()
        self.spool.seek(0, 2)
        self.index.append((report.incident.opened_at, report.incident.id, self.spool.tell(), len(body)))
        self.spool.write(body)

    async def _result(self, seen: Rows) -> Found:
        step = max(15.0, self.interval_s)
        rows = await self._ask("ALERTS", alerts.QUERY, self.wish.start, self.wish.end, step) or []
        incidents = sorted(self.closed, key=lambda incident: (incident.opened_at, incident.id))
        watched = {target.name: self._there_s(target, seen) for target in self.targets}
        return Found(
            targets=self.targets,
            interval_s=self.interval_s,
            round_s=self.round_s,
            summary=summary(incidents, self.verdicts, self.prices, watched),
            overlap=alerts.overlap(incidents, alerts.episodes(rows, self.targets, step)),
            would_capture=self.prices,
            unanswered=self.unanswered,
            queries=self.past.queries,
            blind=self.blind,
            warnings=tuple(self.past.prometheus.warnings),
            spool=self.spool,
            index=self.index,
        )

    def _there_s(self, target: Target, seen: Rows) -> float:
        return len(_moments(target, seen)) * self._seen_step()


def _moments(target: Target, seen: Rows) -> set[float]:
    return {at for labels, points in seen if _covers(labels, target) for at, _ in points}


def _covers(labels: Mapping[str, str], target: Target) -> bool:
    return all(labels.get(name) == value for name, value in target.match.items())


def _same(named: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return {k: v for k, v in labels.items() if k != "__name__"} == dict(named)


def _told(price: Price) -> dict[str, Any]:
    return {
        "step": price.step,
        "rung": price.rung,
        "seconds_at_most": price.seconds,
        "pause_seconds_at_most": price.pause_s,
        "bytes_at_most": price.max_bytes,
    }
