"""Do the pinned canaries of every target still get their good answers? Asked at a low rate, all day.

Off for a target until something is recorded for it. A suspicious answer is asked again soon, so that one odd moment
alarms nobody and real damage is told within one interval. A server that has just been started is asked without
log-probabilities first: the first request for them compiles a kernel while everybody waits, so it waits for a quiet
moment, though not for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import structlog

from responder.canaries.ask import Look, ask_all, look
from responder.canaries.compare import Judgement, judge
from responder.canaries.pins import Answer, Pinned, Record, record_for
from responder.canaries.stored import Shelf
from responder.model import Target

log = structlog.get_logger()
AGAIN_AFTER_S = 10.0
WARM_UP_WITHIN_S = 180.0
PROBE_TIMEOUT_S = 45.0
STALE_INTERVALS = 3.0


@dataclass
class Watched:
    """What is known of one target's canaries."""

    due_at: float = 0.0
    judgement: Judgement | None = None
    judged_at: float = 0.0
    seconds: float = 0.0
    streak: int = 0
    """Bad probes in a row."""
    probes: int = 0
    record: Record | None = None
    changed: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    life: float | None = None
    """Start time of the server's run that `warm` is about."""
    warm: bool = False
    life_seen_at: float = 0.0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Patrol:
    """The daemon's canaries. `walk` is called every few seconds and never waits for a server."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        shelf: Shelf,
        command_of: Callable[[str], Sequence[str]],
        clock: Callable[[], float],
        interval_s: float,
        again_after_s: float = AGAIN_AFTER_S,
    ) -> None:
        self.http = http
        self.shelf = shelf
        self.command_of = command_of
        """Target name -> launch command, as far as it can be seen from here."""
        self.clock = clock
        self.interval_s = interval_s
        self.again_after_s = min(again_after_s, interval_s)
        self.watched: dict[str, Watched] = {}
        self.sending: Callable[[Target, str], None] | None = None
        """Told before the prompts of a target leave, for the audit log."""

    def walk(self, targets: Mapping[str, Target]) -> None:
        """Start the probes that are due."""
        for name in set(self.watched) - set(targets):
            gone = self.watched.pop(name)
            if gone.task:
                gone.task.cancel()
        now, kept = self.clock(), self.shelf.targets()
        for name, target in targets.items():
            state = self.watched.setdefault(name, Watched())
            waits = now < state.due_at <= now + self.interval_s  # longer: the clock was set back
            if not target.canary or waits or (state.task and not state.task.done()):
                continue
            records = self.shelf.of(name) if kept(name) else ()
            if not records:
                state.record, state.judgement = None, None
                continue
            state.due_at = now + self.interval_s
            state.task = asyncio.create_task(self.probe(target, records), name=f"canaries {name}")

    async def stop(self) -> None:
        """Give up the probes in flight."""
        tasks = [state.task for state in self.watched.values() if state.task and not state.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def probe(self, target: Target, records: Sequence[Record]) -> None:
        """One probe of one target; never raises for what a server does."""
        state = self.watched.setdefault(target.name, Watched())
        seen = await look(self.http, target)
        if seen.model is None:
            return  # not even the front end answers: other probes tell that
        numbers = self._may_ask_for_numbers(state, seen)
        # The fingerprint of the last answer serves to choose whom to ask for; it is looked at again with the new ones.
        record = records[0]
        if self.sending is not None:
            self.sending(target, "canaries")
        answers = await ask_all(self.http, target, seen.model, [pin.prompt for pin in record.pins], logprobs=numbers,
                                timeout=PROBE_TIMEOUT_S)  # fmt: skip
        right, changed = record_for(records, seen.fingerprint(answers, self.command_of(target.name)))
        if right is not None and right is not record:
            record = right
            if {p.prompt for p in right.pins} - {p.prompt for p in records[0].pins}:
                answers = await ask_all(self.http, target, seen.model, [pin.prompt for pin in right.pins],
                                        logprobs=numbers, timeout=PROBE_TIMEOUT_S)  # fmt: skip
        state.warm = state.warm or (numbers and any(a.top or a.nan for a in answers))
        self._take(target.name, state, record, changed, answers)

    def values(self, target: str) -> dict[str, float]:
        """What rules may compare; nothing for a target without a record, or once it is too old to be true."""
        state = self.watched.get(target)
        if state is None or state.judgement is None or state.record is None:
            return {}
        now, it = self.clock(), state.judgement
        if now - state.judged_at > STALE_INTERVALS * self.interval_s + PROBE_TIMEOUT_S:
            return {}
        known = {
            "token_match": it.match,
            "logprob_shift": it.tolerances,
            "nan": None if it.nan is None else float(it.nan),
            "repeats": None if it.repeats is None else float(it.repeats),
            "streak": float(state.streak),
            "changed": float(bool(state.changed)),
            "probe_seconds": state.seconds,
        }
        return {f"responder_canary_{name}": value for name, value in known.items() if value is not None}

    def pinned(self, target: str) -> Pinned:
        """For a capture step."""
        state = self.watched.get(target)
        return Pinned(records=self.shelf.of(target), warm=bool(state and state.warm))

    def _may_ask_for_numbers(self, state: Watched, seen: Look) -> bool:
        now = self.clock()
        if seen.started_at is None or state.life != seen.started_at:
            if state.life is None and seen.started_at is not None:
                # The daemon is new, the server need not be: whether it is warm is not known.
                state.life_seen_at = now
            elif state.life != seen.started_at:
                state.life_seen_at, state.warm = now, False
            state.life = seen.started_at
        return state.warm or seen.in_flight == 0 or now - state.life_seen_at >= WARM_UP_WITHIN_S

    def _take(
        self, name: str, state: Watched, record: Record, changed: tuple[str, ...], answers: Sequence[Answer]
    ) -> None:
        found, now = judge(record, answers), self.clock()
        if changed != state.told:
            state.told = changed
            if changed:
                log.warning("canaries.changed", target=name, changes=changed, hint="responder canary approve")
        if found.bad is None:
            log.debug("canaries.unanswered", target=name, errors=found.errors)
            return
        state.record, state.changed, state.probes = record, changed, state.probes + 1
        state.judgement, state.judged_at = found, now
        state.seconds = sum(answer.seconds for answer in answers)
        state.streak = state.streak + 1 if found.bad else 0
        if found.bad:
            # Soon again while it is new; once it is told, the usual pace will do.
            state.due_at = now + (self.again_after_s if state.streak < 3 else self.interval_s)
            log.warning("canaries.bad", target=name, **found.model_dump())
