"""Which requests of our own did the probes send, and when? Lines of the audit log, few enough to be read.

A hung server is asked every ten seconds, an idle one all night: not each request has a line, but the first of an
incident (or of a day without one) as it is sent, and their number when that is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from responder.model import Target
from responder.store_db import StoreFull, StoreSilent

log = structlog.get_logger()
DAY_S = 86400.0
MOST_WAIT = 1000
"""Lines; more are not kept while the disk is full."""
NOBODYS = "probe"
"""Stands for the incident where there is none."""
WHY = {
    "canary": "the token counters stand still: does a one-token request come back?",
    "canaries": "the recorded prompts: are the answers still the good ones?",
}


@dataclass
class Spell:
    """Requests that are told of together."""

    whose: str
    target: Target
    first_at: float
    last_at: float
    count: int = 0


class OwnRequests:
    """`write(at, incident, entry)`: a line of the audit log; `ill()`: target -> id of its open incident."""

    def __init__(
        self, write: Callable[[float, str, Mapping[str, Any]], Awaitable[None]], clock: Callable[[], float],
        ill: Callable[[], Mapping[str, str]],
    ) -> None:  # fmt: skip
        self.write, self.clock, self.ill = write, clock, ill
        self._spells: dict[tuple[str, str], Spell] = {}
        self._lines: list[tuple[float, str, dict[str, Any]]] = []
        self._writing: asyncio.Task[None] | None = None

    def sending(self, target: Target, step: str) -> None:
        """A request leaves; `step` is `canary` or `canaries`. Waits for no database: a hang is measured by these."""
        now, key, whose = self.clock(), (target.name, step), self.ill().get(target.name, NOBODYS)
        if key in self._spells and self._over(self._spells[key], whose, now):
            self._end(key)
        if key not in self._spells:
            self._spells[key] = Spell(whose, target, now, now)
            self._line(key, "requests of our own begin", why=WHY[step], where=target.url,
                       allowed_by="policy: requests of our own")  # fmt: skip
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write(), name="own requests")
        spell = self._spells[key]
        spell.last_at, spell.count = now, spell.count + 1

    async def settle(self, *, all: bool = False) -> None:
        """Tell how many there were in what is over: the incident, the day, or with `all` everything."""
        now, ill = self.clock(), self.ill()
        for key, spell in list(self._spells.items()):
            if all or self._over(spell, ill.get(key[0], NOBODYS), now):
                self._end(key)
        if self._writing is not None:
            await self._writing
        await self._write()

    def _over(self, spell: Spell, whose: str, now: float) -> bool:
        return whose != spell.whose or not 0 <= now - spell.first_at < DAY_S

    def _end(self, key: tuple[str, str]) -> None:
        spell = self._spells[key]
        took = round(spell.last_at - spell.first_at, 1)
        self._line(key, "requests of our own ended", requests=spell.count, within_s=took)
        del self._spells[key]

    def _line(self, key: tuple[str, str], what: str, **more: Any) -> None:
        entry = {"what": what, "step": key[1], "rung": 1, "target": key[0], **more}
        self._lines = [*self._lines, (self.clock(), self._spells[key].whose, entry)][-MOST_WAIT:]

    async def _write(self) -> None:
        while self._lines:
            line = self._lines[0]
            try:
                await self.write(*line)
            except (StoreFull, StoreSilent) as error:
                log.warning("audit.not_written", target=line[2]["target"], reason=str(error))
                return  # the next round tries again
            self._lines = [one for one in self._lines if one is not line]
