"""What happens once an incident is open? The flow, readable in one screen: look, say, look deeper, say, close.

    observe (rung 0) ─▶ first message ─▶ diagnose ─▶ climb (rung 1) ─▶ diagnose ─▶ final report ─▶ … ─▶ resolved

Detection never waits for this: every incident has a task of its own. All that a verdict depends on is written into the
incident folder, so `replay.py` reproduces it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence

import structlog

from responder.asking import ask_people, take_answers, wait_for_answers
from responder.case import Case, Kit
from responder.first import first_of, pause, quiet, taken
from responder.folder import folder_of
from responder.killpoint import reach
from responder.model import (
    Acknowledged,
    CapturePolicy,
    Change,
    Incident,
    Plan,
    Status,
    StepCall,
    Target,
    TimelineEntry,
)
from responder.moments import between_spells, levels
from responder.pace import unripe_s
from responder.perform import perform, scene_of
from responder.plan import HEAVY_RUNG, Budget, plan
from responder.publish import publish, publish_bare, weigh
from responder.resume import recall
from responder.sentry import Sentry, spell_begins
from responder.shares import LeaseLost
from responder.store_db import StoreFull, StoreSilent
from responder.turned import named
from responder.worth import choose

log = structlog.get_logger()
AFTERMATH = "aftermath"
FIRST_WORD_S = 4.0
"""The first message leaves after this long, with whatever has been seen by then."""
SECOND_LOOK_S, FULL_AGAIN_S = 15.0, 5.0
FAILED_AGAIN_S = (5.0, 60.0, 600.0)
"""A flow that failed is taken up again after these, as after a restart; then only when its incident changes."""
GREW_SETTLES_S = 10.0
"""New symptoms come in flocks; one more look serves them all."""
STEPS_AT_ONCE = 6
INCIDENTS_AT_ONCE = 16
"""A fleet that fails at once is looked at in turns; detection and messages go on."""


class Responder:
    """Works on incidents, one task each."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self._cases: dict[str, Case] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(INCIDENTS_AT_ONCE)

    def handle(self, change: Change, incident: Incident) -> None:
        """A change of an incident: start working on it, or tell the task that works on it."""
        case = self._cases.get(incident.id)
        if case is None:
            # A target that was taken out of the configuration still has its incident's end to be told.
            target = self.kit.targets.get(incident.target) or Target(name=incident.target, url="")
            case = Case(incident, folder_of(self.kit.data_dir, incident.id), target)
            self._cases[incident.id] = case
            self._tasks[incident.id] = asyncio.create_task(self._work(case), name=f"respond {incident.id}")
            if change is not Change.RESOLVED:
                return
        case.take(incident)
        if incident.state == "open":
            case.resolved.clear()  # it may have come back while its end was being told
        if change is Change.GREW:
            case.grew.set()
        elif change is Change.RESOLVED:
            case.resolved.set()

    def incident(self, incident: str) -> Incident | None:
        """An incident that is being worked on, as it is known at this moment."""
        case = self._cases.get(incident)
        return case.incident if case else None

    def tell(self, incident: str, entry: TimelineEntry, *, acknowledged: Acknowledged | None = None) -> None:
        """A person did something about an incident: it stands in its next revision, which is written at once."""
        case = self._cases.get(incident)
        if case is None:
            return
        known = case.incident
        case.incident = known.model_copy(
            update={"timeline": (*known.timeline, entry), "acknowledged": known.acknowledged or acknowledged}
        )
        case.news.set()

    def at_work(self) -> set[str]:
        """Targets something is being done about."""
        return {case.incident.target for case in self._cases.values()}

    async def drop(self, targets: Collection[str], *, wait: bool) -> None:
        """End everything about these targets, and say nothing: another replica goes on."""
        tasks = [self._tasks[name] for name, case in self._cases.items() if case.incident.target in targets]
        for task in tasks:
            task.cancel()
        if wait:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """End the captures in flight; their incidents stay open and are taken up again at the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _work(self, case: Case) -> None:
        waits = iter(FAILED_AGAIN_S)
        wait: float | None = 0.0
        try:
            while wait is not None:
                await pause(FULL_AGAIN_S, wait, case.grew, case.resolved)
                wait = await self._responded(case, waits)
        finally:
            self._cases.pop(case.incident.id, None)
            self._tasks.pop(case.incident.id, None)

    async def _responded(self, case: Case, waits: Iterator[float]) -> float | None:
        """None when the flow has ended; else in how many seconds it is to be taken up again from what is there."""
        try:
            await self.respond(case)
        except LeaseLost as lost:
            log.info("incident.handed_over", incident=case.incident.id, reason=str(lost))
        except Exception as error:  # a bug, or no file left to open, must not cost the daemon, nor this report
            full = isinstance(error, StoreFull) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            if full:
                self.kit.store.out_of_room()
            if full or isinstance(error, StoreSilent):
                log.error(f"incident.no_{'room' if full else 'memory'}", incident=case.incident.id, reason=str(error))
                return FULL_AGAIN_S
            self.kit.telemetry.incidents_failed.inc()
            log.exception("incident.failed", incident=case.incident.id)
            await publish_bare(self.kit, case, error)
            return next(waits, None)
        return None

    async def respond(self, case: Case) -> None:
        """The flow."""
        structlog.contextvars.bind_contextvars(incident=case.incident.id)
        stage = await recall(self.kit, case)
        if stage == "resolved" and case.incident.state == "resolved":
            return
        if stage == "final":
            await self._ask_about_the_rest(case, self._disturbing_already(case))
        else:
            await self._report(case, () if stage == "reopened" else self._disturbing_already(case))
        while True:
            answers = asyncio.create_task(wait_for_answers(self.kit, case), name=f"answers {case.incident.id}")
            try:
                await self._until_resolved(case)
            finally:
                answers.cancel()
            await self._look_back(case)
            if not case.resolved.is_set():
                continue  # it came back before anybody was told that it was over
            await publish(self.kit, case, "resolved")
            if case.resolved.is_set():
                return
            case.grew.clear()
            await self._report(case, ())  # it came back while they were told: as one that is taken up again

    async def _report(self, case: Case, done: Collection[str]) -> None:
        """The whole ladder without the steps in `done`, and the final report."""
        async with self._slots:
            await self._climb(case, done, speak=True)
        await self._look_again(case)
        await publish(self.kit, case, "final")

    async def _until_resolved(self, case: Case) -> None:
        while not case.resolved.is_set():
            news = await first_of(case.grew, case.answered, case.resolved, case.news)
            if news is case.news:
                with taken(case.news):
                    await publish(self.kit, case, "update")
            elif news is case.answered:
                with taken(case.answered):
                    await self._run_approved(case)
            elif news is case.grew:
                worse = case.told_class != case.incident.incident_class
                if not worse:
                    await quiet(case.resolved, GREW_SETTLES_S)
                with taken(case.grew):
                    # Another class is another trouble: look everywhere again, and say so at once.
                    await self._climb(case, done=() if worse else self._disturbing_already(case), speak=worse)
                    await publish(self.kit, case, "update")

    async def _run_approved(self, case: Case) -> None:
        """What a person has allowed runs now, within what is left of all budgets but rung and pause."""
        waiting = set(case.asked)
        wanted = take_answers(self.kit, case)
        if not wanted:
            if waiting != set(case.asked):
                await publish(self.kit, case, "update")
            return
        names = {call.step for call in wanted}
        for rung in sorted({call.rung for call in wanted}):
            now = plan(case.incident, self.kit.content.playbooks, self.kit.steps,
                       await self._budget(case, rung, approved=names), done=set(self.kit.steps) - names)  # fmt: skip
            case.remember(now)
            async with self._watched(case):
                await self._run_rung(case, now.chosen, speak=False)
        await publish(self.kit, case, "update")

    async def _climb(self, case: Case, done: Iterable[str] = (), *, speak: bool = False) -> None:
        """Run the ladder rung by rung, without the steps in `done`; `speak` as soon as something is known."""
        done = set(done)
        try:
            async with asyncio.timeout(self.kit.deadline_s), self._watched(case):
                # When it is over already there is nothing left to look at but what was recorded.
                # Requests that the owner allowed in as many words are on rung 1 whatever the policy says.
                highest = 0 if case.resolved.is_set() else max(self._policy(case).max_rung, int(case.target.canary))
                for rung in range(highest + 1):
                    budget = await self._budget(case, rung)
                    now = plan(case.incident, self.kit.content.playbooks, self.kit.steps, budget, done=done)
                    case.remember(now.model_copy(update={"chosen": now.chosen if rung == 0 else ()}))
                    if rung == 0:
                        await self._run_rung(case, now.chosen, speak=speak)
                        weigh(self.kit, case)
                    else:
                        await self._run_worthwhile(case, now.chosen)
                    done |= {call.step for call in now.chosen}
        except TimeoutError:
            log.warning("captures.deadline", seconds=self.kit.deadline_s)
        await self._ask_about_the_rest(case, done)

    async def _run_worthwhile(self, case: Case, calls: Sequence[StepCall]) -> None:
        """Calls of a rung that touches the server: best first, and none that tells nothing any more. What is safe side
        by side runs at once; what disturbs runs one by one, weighed anew after each."""
        left = list(calls)
        while left:
            found = choose(case.incident, left, case.verdict, self.kit.content.causes, self.kit.steps, case.weighed)
            batch = found.chosen if all(call.rung < HEAVY_RUNG for call in left) else found.chosen[:1]
            case.remember(Plan(chosen=batch, refused=found.refused))
            await self._run_rung(case, batch, speak=False)
            weigh(self.kit, case)
            ran = {call.step for call in batch} | {refusal.call.step for refusal in found.refused}
            left = [call for call in left if call.step not in ran]

    async def _ask_about_the_rest(self, case: Case, done: Collection[str]) -> None:
        budget = await self._budget(case, None)
        rest = plan(case.incident, self.kit.content.playbooks, self.kit.steps, budget, done=done)
        case.remember(Plan(refused=rest.refused))
        await ask_people(self.kit, case, budget, scene_of(self.kit, case))

    @contextlib.asynccontextmanager
    async def _watched(self, case: Case) -> AsyncIterator[None]:
        """Count what the server's users get while we touch it; rung 0 gives the figures of before."""
        if self.kit.allowance is None or not case.target.url or self._policy(case).max_rung < 1:
            yield
            return
        async with Sentry(self.kit.http, case.target, self.kit.clock) as case.sentry:
            try:
                yield
            finally:
                case.sentry = None

    async def _run_rung(self, case: Case, calls: Iterable[StepCall], *, speak: bool) -> None:
        """The steps of one rung: side by side, or, where they disturb the server, one after another."""
        calls = list(calls)
        slots = asyncio.Semaphore(1 if any(call.rung >= HEAVY_RUNG for call in calls) else STEPS_AT_ONCE)
        tasks = [asyncio.create_task(perform(self.kit, case, call, slots), name=f"step {call.step}") for call in calls]
        try:
            if speak and tasks:
                await asyncio.wait(tasks, timeout=FIRST_WORD_S)
                weigh(self.kit, case)
                await publish(self.kit, case, "update" if case.revision else "first", quick=True)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _policy(self, case: Case) -> CapturePolicy:
        return case.target.capture or CapturePolicy(max_rung=self.kit.max_rung)

    async def _budget(self, case: Case, rung: int | None, *, approved: Collection[str] = ()) -> Budget:
        if self.kit.store.full:
            return Budget(only_rung=rung, nothing="captures are off: the disk of the responder is full")
        if self.kit.allowance is None:
            return Budget(max_rung=self._policy(case).max_rung, only_rung=rung, canary=case.target.canary,
                          approved=frozenset(approved))  # fmt: skip
        return await self.kit.allowance.budget(case.target, rung, approved=approved)

    # ------------------------------------------------------------------------------------------- what is said

    async def _look_again(self, case: Case) -> None:
        """Not sure yet, or scrapes are slow, and the episode is young: metrics say more a little later. Once."""
        if missed := self._between_spells(case):
            if case.verdict is not None and case.said != named(case.verdict):
                await publish(self.kit, case, "update")  # what is known so far need not wait for it
            before = case.incident.incident_class
            await self._look_in_a_spell(case, missed, before)
            if case.incident.incident_class != before and not case.resolved.is_set():
                async with self._slots:  # another class is another trouble, as in `_until_resolved`
                    await self._climb(case, speak=True)
        unripe = unripe_s(case.incident.onset_at, self.kit.clock(), self.kit.scrape_interval_s)
        sure = case.verdict is None or case.verdict.hypotheses[0].status in (Status.CONFIRMED, Status.PROBABLE)
        if (not sure or unripe > 0) and await quiet(case.resolved, max(SECOND_LOOK_S, unripe)):
            async with self._slots:
                await self._climb(case, done=self._disturbing_already(case))

    def _between_spells(self, case: Case) -> set[str]:
        """Steps whose looks fell between two spells of the fault, while nothing is certain."""
        if case.verdict is not None and case.verdict.hypotheses[0].status is Status.CONFIRMED:
            return set()
        calm = between_spells(case.weighed)
        return {item.step for item in case.evidence if item.id in calm and item.rung < HEAVY_RUNG}

    async def _look_in_a_spell(self, case: Case, names: Collection[str], before: str) -> None:
        """These steps once more, as soon as the fault is there again; not at all where it does not come in time, or
        where it is over or is of another class than `before`."""

        def overtaken() -> bool:
            return case.resolved.is_set() or case.incident.incident_class != before

        try:
            async with asyncio.timeout(self.kit.deadline_s), self._watched(case):
                if case.sentry is None or not await spell_begins(case.sentry, levels(case.weighed), overtaken):
                    return
                calls: list[StepCall] = []
                for rung in range(HEAVY_RUNG):
                    budget, others = await self._budget(case, rung), set(self.kit.steps) - set(names)
                    calls += plan(case.incident, self.kit.content.playbooks, self.kit.steps, budget, done=others).chosen
                async with self._slots:
                    await self._run_rung(case, calls, speak=False)
        except TimeoutError:
            log.warning("captures.deadline", seconds=self.kit.deadline_s)
        weigh(self.kit, case)

    def _disturbing_already(self, case: Case) -> set[str]:
        """Steps of rung 1 and up this incident has had: a second round asks the engine nothing twice."""
        return {item.step for item in case.evidence if item.rung > 0}

    async def _look_back(self, case: Case) -> None:
        """One more look at the metrics when it is over, so that the resolved report shows the whole episode; and who
        waited through a silence, which only that tells."""
        if any(item.step == AFTERMATH for item in case.evidence):
            reach("aftermath.asked")
            await perform(self.kit, case, StepCall(step=AFTERMATH, rung=0, why="who waited"), asyncio.Semaphore(1))
            reach("aftermath.told")
        if "metrics_window" in self.kit.steps:
            before = set(case.manifest)
            call = StepCall(step="metrics_window", rung=0, why="the whole episode")
            await perform(self.kit, case, call, asyncio.Semaphore(1))
            # The verdict stays what it was while the fault was there: afterwards the metrics show health.
            case.set_aside |= set(case.manifest) - before
