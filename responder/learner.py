"""What is a server like while it is well? Learned all the time, remembered for the time when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import structlog

from responder.capture.changes import SNAPSHOT
from responder.capture.expected import EXPECTATION, LOAD, observation
from responder.case import Kit
from responder.changes import History, fold
from responder.expected import Model, learn
from responder.ledger import Ledger
from responder.model import Target
from responder.snapshot import take
from responder.window import Rows, Window, gather

log = structlog.get_logger()
T = TypeVar("T", History, Model)
WELL_FOR_S = 120.0
"""A server must have been well for so long before anything is learned from it: also what precedes an incident is then
looked at, as a rule, before it is believed."""
SNAPSHOT_EVERY_S = 300.0
STEP_S = 15.0
LATE_S = 30.0
"""Samples are taken this late: what was the beginning of an incident is known as one by then."""
QUERY_TIMEOUT_S = 4.0


class Learner:
    """`healthy()`: targets that are well at this moment; `muted()`: target -> until when its metrics show a capture."""

    def __init__(
        self, kit: Kit, healthy: Callable[[], Collection[str]], muted: Callable[[], Mapping[str, float]]
    ) -> None:
        self.kit, self.healthy, self.muted = kit, healthy, muted
        self.ledger = Ledger(kit)
        self._well_since: dict[str, float] = {}
        self._learned_to: dict[str, float] = {}
        self._pictured: dict[str, float] = {}

    async def restore(self) -> None:
        """What earlier lives have learned."""
        for target, kind, body in await self.kit.store.learned():
            self.kit.remembered.setdefault(target, {})[kind] = body
        await self.ledger.take_in()

    async def round(self) -> None:
        """One round: every healthy target teaches what it can, and so does what engineers said."""
        await self.ledger.take_in()
        now = self.kit.clock()
        well = {
            name for name in self.healthy() if name in self.kit.targets and now >= self.muted().get(name, 0.0) + LATE_S
        }
        for name in set(self._well_since) - well:
            del self._well_since[name]
            self._learned_to.pop(name, None)
        for name in well:
            self._well_since.setdefault(name, now)
        ready = [self.kit.targets[name] for name in sorted(well) if now - self._well_since[name] >= WELL_FOR_S]
        await self._latencies(ready, now)
        due = [t for t in ready if now - self._pictured.get(t.name, 0.0) >= SNAPSHOT_EVERY_S]
        await asyncio.gather(*(self._picture(target, now) for target in due))

    async def _picture(self, target: Target, now: float) -> None:
        kit = self.kit
        runner = kit.runners.get(target.name, kit.runner)
        self._pictured[target.name] = now
        snapshot = await take(target, kit.inventories.get(target.name), kit.http, runner, now)
        past = self._remembered(target.name, SNAPSHOT, History)
        await self._keep(target.name, SNAPSHOT, fold(past, snapshot).model_dump_json())

    async def _latencies(self, targets: list[Target], now: float) -> None:
        """The samples since the last round, of all targets with one query a signal."""
        if self.kit.range_query is None or not targets:
            return
        end = now - LATE_S
        start = max(end - 8 * STEP_S, min(self._learned_to.get(t.name, end - 4 * STEP_S) for t in targets) + STEP_S)
        if start > end:
            return
        length = int((end - start) / STEP_S) + 1
        answers: dict[str, Rows] = {}
        for name in LOAD:
            if name in self.kit.signals:
                try:
                    async with asyncio.timeout(QUERY_TIMEOUT_S):
                        answers[name] = await self.kit.range_query(self.kit.signals[name], start, end, STEP_S)
                except Exception as error:  # Prometheus is the outside; a round without it teaches nothing
                    log.debug("learner.silent", signal=name, reason=str(error))
                    return
        for target in targets:
            window = gather(Window(start, STEP_S, length, end, self.kit.scrape_interval_s), answers, target.match)
            model = before = self._remembered(target.name, EXPECTATION, Model)
            for index in range(length):
                at = window.at(index)
                if at > self._learned_to.get(target.name, 0.0):
                    model = learn(model, observation(window, index))
                    self._learned_to[target.name] = at
            if model != before:
                await self._keep(target.name, EXPECTATION, model.model_dump_json())

    def _remembered(self, target: str, kind: str, noun: type[T]) -> T:
        body = self.kit.remembered.get(target, {}).get(kind)
        try:
            return noun.model_validate_json(body) if body else noun()
        except ValueError:
            log.warning("learned.unreadable", target=target, kind=kind)
            return noun()

    async def _keep(self, target: str, kind: str, body: str) -> None:
        self.kit.remembered.setdefault(target, {})[kind] = body
        await self.kit.store.save_learned(target, kind, body)
