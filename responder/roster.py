"""Which targets are ours now, and has each its probe? Asked anew after a reload, and when targets change hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from responder.loaded import Loaded
from responder.model import Target
from responder.probe import Probe, Senses
from responder.upkeep import STOCK_AT_ONCE, Upkeep
from responder.watch import Watch

if TYPE_CHECKING:  # who is alone does not pay for its memory
    from responder.fleet import Fleet


class Roster:
    """`loaded()`: the configuration in force. The probes and inventories are those of `upkeep`."""

    def __init__(
        self, loaded: Callable[[], Loaded], upkeep: Upkeep, watch: Watch, senses: Senses, fleet: Fleet | None
    ) -> None:
        self.loaded, self.upkeep, self.watch, self.senses, self.fleet = loaded, upkeep, watch, senses, fleet
        self._adopted = False
        self._looking: set[asyncio.Task[None]] = set()
        """The loop itself keeps only weak references to tasks."""

    def ours(self) -> dict[str, Target]:
        """The targets this replica looks after; all of them when there is no other."""
        fleet = self.fleet
        return {name: t for name, t in self.loaded().targets.items() if fleet is None or fleet.looks_after(name)}

    async def round(self) -> None:
        """Before each round of detection: take up what changed hands, and what failed the last time."""
        if self.fleet and await self.fleet.change_hands():
            self._adopted = False
        if not self._adopted:
            await self.adopt()

    async def adopt(self) -> None:
        """A probe for every target, and what is remembered of each; again in the next round if that fails."""
        self._adopted = False
        kit, probes, loaded = self.upkeep.kit, self.upkeep.probes, self.loaded()
        stored = await kit.store.inventories() | (await self.fleet.stock() if self.fleet else {})
        ours = self.ours()
        for name, target in ours.items():
            if name not in probes or probes[name].target != target:
                if name in probes:
                    await probes[name].stop()
                probes[name] = Probe(target, self.senses)
            probes[name].canary_interval_s = loaded.config.capture.canary_interval
            if name in stored:
                kit.inventories.setdefault(name, stored[name])
                probes[name].processes = stored[name].processes if stored[name].local else ()
            if len(ours) <= STOCK_AT_ONCE:  # of very many, each has its turn
                self._looking.add(task := asyncio.create_task(self.upkeep.discover(target), name=f"discover {name}"))
                task.add_done_callback(self._looking.discard)
        for name in set(probes) - set(ours):
            await probes.pop(name).stop()
        everybody = loaded.targets.values()
        self.watch.adopt(everybody, loaded.config.windows())
        kit.telemetry.probes.instances = {t.name: t.match.get("instance", t.name) for t in everybody}
        self._adopted = True
