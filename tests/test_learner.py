"""Learning from healthy servers: only from these, not from our own captures, and kept through a restart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import aiohttp

from responder.capture.changes import SNAPSHOT
from responder.capture.expected import EXPECTATION, LOAD
from responder.case import Kit
from responder.changes import History
from responder.expected import Model
from responder.learner import Learner
from tests.flow import Listener, kit

LABELS = {"instance": "t"}


class World:
    """A clock, who is well, whose metrics show a capture, and a Prometheus."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.well, self.muted = {"t"}, dict[str, float]()
        self.silent = False

    async def query(self, expr: str, start: float, end: float, step: float) -> Any:
        if self.silent:
            raise OSError("refused")
        times = [start + n * step for n in range(int((end - start) / step + 1e-6) + 1)]
        return [(LABELS, [(at, 2 + math.sin(at / 50)) for at in times])]

    def learner(self, made: Kit) -> Learner:
        made.clock, made.range_query = lambda: self.now, self.query
        made.signals = {name: name for name in LOAD}
        return Learner(made, lambda: self.well, lambda: self.muted)

    async def minutes(self, learner: Learner, count: int) -> None:
        for _ in range(count):
            await learner.round()
            self.now += 60


def samples(made: Kit) -> int:
    body = made.remembered.get("t", {}).get(EXPECTATION)
    return Model.model_validate_json(body).itl.samples if body else 0


async def test_a_healthy_server_teaches_after_two_minutes(tmp_path: Path) -> None:
    """Four samples a minute, each once; its set-up is remembered; a restart of the daemon forgets nothing."""
    async with aiohttp.ClientSession() as http:
        made, world = kit(tmp_path, http, Listener()), World()
        learner = world.learner(made)
        await world.minutes(learner, 2)
        assert samples(made) == 0
        await world.minutes(learner, 10)
        assert 36 <= samples(made) <= 44
        assert len(History.model_validate_json(made.remembered["t"][SNAPSHOT]).stays) == 1
        before, made.remembered = dict(made.remembered), {}
        await world.learner(made).restore()
        assert made.remembered == before
        made.store.close()


async def test_a_sick_server_teaches_nothing(tmp_path: Path) -> None:
    """And when it is well again it must be well for a while first."""
    async with aiohttp.ClientSession() as http:
        made, world = kit(tmp_path, http, Listener()), World()
        learner = world.learner(made)
        await world.minutes(learner, 6)
        learned = samples(made)
        assert learned > 0
        world.well = set()
        await world.minutes(learner, 5)
        world.well = {"t"}
        await world.minutes(learner, 2)
        assert samples(made) == learned
        await world.minutes(learner, 3)
        assert samples(made) > learned
        made.store.close()


async def test_our_own_captures_teach_nothing(tmp_path: Path) -> None:
    """While the metrics show what we did to the server, they are not what it is like."""
    async with aiohttp.ClientSession() as http:
        made, world = kit(tmp_path, http, Listener()), World()
        learner = world.learner(made)
        world.muted = {"t": math.inf}
        await world.minutes(learner, 10)
        assert samples(made) == 0
        made.store.close()


async def test_a_silent_prometheus_teaches_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    """The next round tries again."""
    async with aiohttp.ClientSession() as http:
        made, world = kit(tmp_path, http, Listener()), World()
        learner = world.learner(made)
        world.silent = True
        await world.minutes(learner, 5)
        assert samples(made) == 0
        world.silent = False
        await world.minutes(learner, 3)
        assert samples(made) > 0
        made.store.close()
