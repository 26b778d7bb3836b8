"""How does an experiment run? Usual traffic, then the fault, then usual traffic again; every change has its time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from tests.live.harness.load import Felt, Load, Traffic, felt
from tests.live.harness.scenarios import Scenario
from tests.live.harness.vllm_server import VllmServer

_wordings = itertools.count(1)


@dataclass(frozen=True)
class Phase:
    """From `at` (unix seconds) on it was like this."""

    name: str
    at: float
    traffic: Traffic


class Play:
    """`async with Play(scenario, server) as play: await play.settle(30); async with play.fault(): ...`."""

    def __init__(self, scenario: Scenario, server: VllmServer, *, longest_s: float = 600.0) -> None:
        self.scenario = scenario
        self.server = server
        self.phases: list[Phase] = []
        # Arrivals and lengths are the scenario's own, so that it can be repeated; the words are never the same twice,
        # or a server that is used again would find them in its prefix cache.
        seed = zlib.crc32(scenario.name.encode())
        self.load = Load(server.url, scenario.usual, seed=seed, salt=next(_wordings), longest_s=longest_s)

    async def __aenter__(self) -> Self:
        self._begin("usual", self.scenario.usual)
        await self.load.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.phases.append(Phase("end", time.time(), Traffic(rate=0)))
        await self.load.stop()

    @contextlib.asynccontextmanager
    async def fault(self) -> AsyncIterator[float]:
        """Inside, the fault holds; gives the unix time it began."""
        self._begin("fault", self.scenario.during)
        self.load.switch(self.scenario.during)
        try:
            async with self.scenario.fault(self.server):
                yield self.phases[-1].at
        finally:
            self._begin("after", self.scenario.usual)
            self.load.switch(self.scenario.usual)

    def _begin(self, name: str, traffic: Traffic) -> None:
        self.phases.append(Phase(name, time.time(), traffic))

    def felt(self, name: str) -> Felt:
        """What clients felt whose request began in the phase of that name."""
        for phase, following in zip(self.phases, [*self.phases[1:], None], strict=True):
            if phase.name == name:
                end = following.at if following else time.time()
                return felt([c for c in self.load.calls if phase.at <= c.at < end], end - phase.at)
        raise KeyError(name)

    def record(self) -> dict[str, Any]:
        """Phases and what clients felt in each, as plain data."""
        names = [p.name for p in self.phases if p.name != "end"]
        return {
            "scenario": self.scenario.name,
            "says": self.scenario.says,
            "phases": [asdict(p) for p in self.phases],
            "felt": {n: asdict(self.felt(n)) for n in names},
        }


async def measure_capacity(server: VllmServer, usual: Traffic, *, seconds: float = 6.0) -> float:
    """Requests per second of the usual kind the server answers when it is never idle."""
    flood = replace(usual, rate=400.0, timeout_s=30, most_outstanding=32)
    async with Load(server.url, flood, seed=99, longest_s=seconds) as load:
        began = time.time()
        await asyncio.sleep(seconds)
        done = sum(1 for c in load.calls if c.tokens and not c.error and began + 1 < c.at + c.seconds < began + seconds)
        await load.drain(10)
    return done / (seconds - 1)
