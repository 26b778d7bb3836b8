"""What is done again and again, beside detection? Probing, taking stock, clearing up, measuring our own lag."""

from __future__ import annotations

import asyncio
import math
import os
import re
import shutil
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import structlog

from responder import inventory as inventories
from responder import logwatch
from responder.artifacts import ArtifactsSilent
from responder.ask import get
from responder.buttons import Buttons
from responder.case import Kit
from responder.config import RetentionPart
from responder.folder import expire
from responder.model import Inventory, Silence, Target
from responder.outage import Patience
from responder.probe import Probe
from responder.where import discover_there

log = structlog.get_logger()
DISCOVERY_TIMEOUT_S = 10.0
LAG_EVERY_S = 0.1
LOOKS_AT_ONCE = 200
"""Targets probed in one round: a thousand have their turn every fifth."""
LOOKS_IN_FLIGHT = 50
STOCK_AT_ONCE = 50
"""Targets looked up in /proc in one round: each walks all processes of this host."""
HEARTBEAT_TIMEOUT_S = 10.0
FORGOTTEN_AFTER_S = 86_400.0
"""At the earliest: what comes back soon goes on under its number, and with it the ids of messages."""
SCRATCH = re.compile(r"responder-(?:doctor|flame|fr|nsys|trace)-[a-z0-9_]{8}")
SCRATCH_KEPT_S = 3600.0
SILENCES_KEPT_S = 86_400.0
"""After their end: of many old files the newest would not be read any more."""
ROUND_WITHIN_S = 120.0
"""Without a round of detection for so long we are as good as dead, however well the rest of us is."""


class Turns:
    """Who is next, of a list that may change between two rounds."""

    def __init__(self) -> None:
        self._after = ""

    def next(self, names: Sequence[str], at_most: int) -> list[str]:
        """At most so many of the names, going on where the last round ended."""
        ordered = sorted(names)
        start = bisect_right(ordered, self._after)
        turn = (ordered[start:] + ordered[:start])[:at_most]
        self._after = turn[-1] if turn else ""
        return turn


class Upkeep:
    """`known()`: targets whose metrics Prometheus had in the last round."""

    def __init__(self, kit: Kit, probes: dict[str, Probe], known: Callable[[], Collection[str]]) -> None:
        self.kit = kit
        self.probes = probes
        self.known = known
        self._turns, self._stocked = Turns(), Turns()
        self.patience = Patience(kit.data_dir / "clock.json")
        self.round_ended = time.monotonic()
        """When the last round of detection did."""
        self.stopping: set[str] = set()
        """Targets whose log tells of a shutdown somebody asked for."""

    async def look(self) -> None:
        """Probe the targets, side by side: all of them, or of very many those whose turn it is."""
        turn = self._turns.next(list(self.probes), LOOKS_AT_ONCE)
        slots = asyncio.Semaphore(LOOKS_IN_FLIGHT)

        async def one(name: str) -> None:
            async with slots:
                if name in self.probes:
                    await self._look_at(name, self.probes[name])

        await asyncio.gather(*(one(name) for name in turn))

    async def _look_at(self, name: str, probe: Probe) -> None:
        await probe.look()
        inventory = self.kit.inventories.get(name)
        path = probe.target.log_file or (inventory.log_file if inventory else None)
        # A log on an agent's node is read when something has happened, not all the time.
        if path is None or probe.target.node or (name in self.known() and probe.seen.reachable):
            probe.log_values({})
            self.stopping.discard(name)
            return
        runner = self.kit.runners.get(name, self.kit.runner)
        state = await logwatch.look(runner, path, self.kit.clock(), local_utc_offset_s())
        probe.log_values({} if name in self.known() else state.values)
        (self.stopping.add if state.stopping else self.stopping.discard)(name)

    async def take_stock(self) -> None:
        """Find every target's processes and log."""
        if self.kit.stock is not None:
            self.kit.inventories.update(await self.kit.stock())
        for name in self._stocked.next(list(self.probes), STOCK_AT_ONCE):
            if name in self.kit.targets:
                await self.discover(self.kit.targets[name])

    async def discover(self, target: Target) -> None:
        """One target's processes and log, as they are while it is well."""
        if target.node:
            return  # its agent does
        known = self.kit.inventories.get(target.name)
        try:
            async with asyncio.timeout(DISCOVERY_TIMEOUT_S):
                found = await self._found(target)
        except (TimeoutError, OSError) as error:
            log.warning("inventory.failed", target=target.name, reason=str(error) or "timed out")
            return
        if target.name in self.probes:
            self.probes[target.name].local = found.local
        if not found.processes and known and known.processes:
            return  # the server has gone; what it looked like alive is what a report needs now
        # A server with fewer processes than before is a sick one: its healthy shape must not be forgotten. One that
        # shares no process with the old was started anew, and what has ended of the old one is no news of it.
        probe = self.probes.get(target.name)
        if known and probe is not None and probe.seen.process_gone and found.command == known.command:
            old = {(process.pid, process.started_at) for process in known.processes}
            same = any((process.pid, process.started_at) in old for process in found.processes)
            if same and len(found.processes) < len(known.processes):
                return
        self.kit.inventories[target.name] = found
        await self.kit.store.save_inventory(target.name, found)
        if probe is not None:
            # Another host's numbers mean nothing here.
            probe.processes = found.processes if found.local else ()

    async def _found(self, target: Target) -> Inventory:
        runner = self.kit.runners.get(target.name)
        if runner is None:
            return await inventories.discover(target, self.kit.clock())
        return await discover_there(target, runner, self.kit.clock())

    async def clear_up(self, part: RetentionPart) -> None:
        """Delete the oldest closed incidents past age or size, here and where all replicas see them; none that is open
        or that somebody has still to be told of. For its age nothing goes while the clock cannot be believed."""
        store, now = self.kit.store, self.kit.clock()
        age = part.age if await asyncio.to_thread(self.patience.believes, now) else math.inf
        await self.kit.outbox.bury()
        unfinished = await store.unfinished()
        gone = await asyncio.to_thread(
            expire, self.kit.data_dir, open_ids=unfinished, now=now, max_age_s=age, max_bytes=part.size
        )
        if gone:
            log.info("folders.expired", incidents=gone)
        await asyncio.to_thread(self._clear_beside, unfinished, now, age)
        if forgotten := await store.forget(now - max(age, FORGOTTEN_AFTER_S)):
            log.info("incidents.forgotten", count=forgotten)
        if self.kit.mirror is not None:
            try:
                gone = await self.kit.mirror.expire(
                    store.unfinished, now=now, max_age_s=age, max_bytes=part.size
                )  # fmt: skip
            except ArtifactsSilent as error:
                log.warning("artifacts.silent", reason=str(error))
            else:
                if gone:
                    log.info("artifacts.expired", incidents=gone)

    def _clear_beside(self, unfinished: Collection[str], now: float, age_s: float) -> None:
        """What piles up beside the folders: questions, buttons, and silences that are over."""
        Buttons(self.kit.data_dir / "buttons").forget(now - age_s, unfinished)
        if self.kit.approvals is not None:
            self.kit.approvals.forget(now - age_s, unfinished)
        for path in (self.kit.data_dir / "silences").glob("*.json"):
            try:
                over = Silence.model_validate_json(path.read_bytes()).ends_at < now - SILENCES_KEPT_S
            except (OSError, ValueError):
                continue
            if over:
                path.unlink(missing_ok=True)

        for path in Path(tempfile.gettempdir()).glob("responder-*-*"):
            # Working folders of captures and charts are gone with them, unless we were killed meanwhile.
            if SCRATCH.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                status = path.stat()
                if status.st_uid == os.getuid() and status.st_mtime < now - SCRATCH_KEPT_S:
                    shutil.rmtree(path, ignore_errors=True)

    async def count_queues(self) -> None:
        """How many messages wait for each receiver, how many have been given up, and whether the disk is full."""
        was, full = self.kit.store.full, await self.kit.store.make_room()
        self.kit.telemetry.store_full.set(float(full))
        if full:
            log.error("store.full", hint="captures are off; make room on the disk of the data directory")
        elif was:
            log.warning("store.room_again")
        counts = await self.kit.store.delivery_counts()
        for name in {*self.kit.outbox.notifiers, *(receiver for receiver, _ in counts)}:
            self.kit.telemetry.queue.labels(name).set(counts.get((name, "pending"), 0))
            self.kit.telemetry.dead_letters.labels(name).set(counts.get((name, "dead"), 0))

    async def beat(self, url: str) -> None:
        """Tell the dead man's switch that we live: this runs on the loop, after a write to the store, and only while
        rounds of detection come to an end."""
        late = time.monotonic() - self.round_ended
        if late > ROUND_WITHIN_S:
            log.error("heartbeat.withheld", reason=f"no round of detection has ended for {late:.0f} s")
            return
        await self.kit.store.ping()
        answer = await get(self.kit.http, url, timeout=HEARTBEAT_TIMEOUT_S, max_bytes=1 << 16)
        if answer.reach != "ok" or answer.status is None or answer.status >= 400:
            log.warning("heartbeat.failed", reach=answer.reach, status=answer.status)

    async def measure_lag(self) -> None:
        """How late the event loop runs, for our own metrics."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(LAG_EVERY_S)
            self.kit.telemetry.lag(max(0.0, loop.time() - before - LAG_EVERY_S))


def local_utc_offset_s() -> float:
    """How far local time is ahead of UTC now: vLLM logs local time without saying which."""
    return float(time.localtime().tm_gmtoff)
