"""How much may captures still cost this server, now? Budgets of target, host and day, and one at a time.

Pauses are counted as they were measured; a step that was measured often enough on this server is planned with what it
cost there, not with what its author feared.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol
from urllib.parse import urlsplit

from responder.model import CapturePolicy, Cost, Target
from responder.plan import HEAVY_RUNG, Budget

DAY_S, HOUR_S = 86400.0, 3600.0
ENOUGH_MEASURED = 3
LATEST = 20
MARGIN = 1.25
"""What was measured a few times will one day be exceeded a little."""
MUTE_AFTER_S = 20.0
"""Rates and quantiles look back so far: until then they still hold the capture."""


class Purse(Protocol):
    """Where costs are remembered (`store.Store`)."""

    async def add_cost(self, at: float, target: str, host: str, step: str, rung: int, cost: Cost) -> None: ...

    async def costs(self, since: float) -> list[tuple[float, str, str, str, int, float]]: ...


class Allowance:
    """`healthy()`: targets that are well at this moment; `models()`: target -> names of the models it serves."""

    def __init__(
        self, purse: Purse, clock: Callable[[], float], targets: Callable[[], Mapping[str, Target]],
        healthy: Callable[[], Collection[str]], models: Callable[[], Mapping[str, Collection[str]]],
    ) -> None:  # fmt: skip
        self.purse, self.clock = purse, clock
        self.targets, self.healthy, self.models = targets, healthy, models
        self.muted: dict[str, float] = {}
        """Target -> until when its metrics show our own capture."""
        self._disturbed: dict[str, str] = {}
        self.elsewhere: Callable[[], Collection[str]] = tuple
        """Servers that other replicas of ours disturb."""

    async def budget(self, target: Target, rung: int | None, *, approved: Collection[str] = ()) -> Budget:
        """What a plan for this server may use up now."""
        policy, now = target.capture or CapturePolicy(), self.clock()
        rows = await self.purse.costs(now - 30 * DAY_S)
        mine = [r for r in rows if r[1] == target.name]
        near = [r for r in rows if r[1] == target.name or r[2] == host_of(target)]
        today = sum(r[5] for r in near if r[0] > now - DAY_S)
        heavy = sum(r[4] >= HEAVY_RUNG and r[0] > now - HOUR_S for r in near)
        pauses: dict[str, list[float]] = {}
        for row in mine:
            pauses.setdefault(row[3], []).append(row[5])
        learned = {s: max(p[-LATEST:]) * MARGIN for s, p in pauses.items() if len(p) >= ENOUGH_MEASURED}
        return Budget(
            max_rung=policy.max_rung,
            only_rung=rung,
            pause_s=min(policy.pause, max(0.0, policy.pause_per_day - today)),
            canary=target.canary,
            approved=frozenset(approved),
            must_ask=frozenset(policy.approve),
            learned=learned,
            heavy_left=max(0, policy.heavy_per_hour - heavy),
            not_now=self.not_now(target),
        )

    def not_now(self, target: Target) -> str:
        """Why nothing of rung 2 and up may touch this server at this moment, or ''."""
        if target.name in self._disturbed:
            return f"{self._disturbed[target.name]} is running on this server"
        replicas = self.replicas(target)
        for name in replicas:
            if name in self._disturbed:
                return f"{self._disturbed[name]} is running on {name}, a replica of the same model"
        for name in replicas:
            if name in self.elsewhere():
                return f"a capture is running on {name}, a replica of the same model"
        policy = target.capture or CapturePolicy()
        if not policy.last_replica and not any(name in self.healthy() for name in replicas):
            return (
                "no other healthy replica of its model is known, and the last one is not disturbed; "
                "`capture: {last_replica: true}` allows it"
            )
        return ""

    def disturbed(self) -> set[str]:
        """Servers a capture of ours disturbs at this moment."""
        return set(self._disturbed)

    def replicas(self, target: Target) -> tuple[str, ...]:
        """Other targets that serve one of its models."""
        models = self.models()
        mine = set(models.get(target.name, ())) | ({target.model} if target.model else set())
        found = []
        for name, other in self.targets().items():
            theirs = set(models.get(name, ())) | ({other.model} if other.model else set())
            if name != target.name and mine & theirs:
                found.append(name)
        return tuple(found)

    @contextlib.contextmanager
    def disturbing(self, target: Target, step: str) -> Iterator[str]:
        """Hold this server for a step of rung 2 or up; gives why not, or ''. Its metrics are muted meanwhile."""
        why = self.not_now(target)
        if why:
            yield why
            return
        self._disturbed[target.name] = step
        self.muted[target.name] = math.inf
        try:
            yield ""
        finally:
            del self._disturbed[target.name]
            self.muted[target.name] = self.clock() + MUTE_AFTER_S

    async def spent(self, target: Target, step: str, rung: int, cost: Cost) -> None:
        """A capture has cost this."""
        await self.purse.add_cost(self.clock(), target.name, host_of(target), step, rung, cost)


def host_of(target: Target) -> str:
    """The host a server runs on, as far as its URL says."""
    return urlsplit(target.url).hostname or target.url
