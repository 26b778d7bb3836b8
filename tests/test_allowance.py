"""How much may captures still cost this server? Budgets of target, host and day; one at a time; never the last one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from responder.allowance import HOUR_S, MUTE_AFTER_S, Allowance
from responder.model import CapturePolicy, Cost, Target
from responder.store_sqlite import SqliteStore

NOW = 1_000_000.0


class World:
    """Three servers: two replicas on one host, one elsewhere with another model."""

    def __init__(self, store: SqliteStore) -> None:
        policy = CapturePolicy(max_rung=2)
        self.targets = {
            "a": Target(name="a", url="http://h1:1", model="m", capture=policy),
            "b": Target(name="b", url="http://h1:2", model="m", capture=policy),
            "c": Target(name="c", url="http://h2:1", model="n", capture=policy),
        }
        self.healthy = {"a", "b", "c"}
        self.now = NOW
        self.allowance = Allowance(store, lambda: self.now, lambda: self.targets, lambda: self.healthy, dict)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = SqliteStore(tmp_path)
    store.open()
    yield World(store)
    store.close()


async def test_a_day_of_pauses_is_counted_for_target_and_host(world: World) -> None:
    """Measured pauses, not feared ones; a neighbour on the same host counts, another host does not."""
    a, b, c = world.targets["a"], world.targets["b"], world.targets["c"]
    for _ in range(3):
        await world.allowance.spent(a, "torch_profiler", 2, Cost(pause_s=9.0))
    assert (await world.allowance.budget(a, None)).pause_s == 3.0
    assert (await world.allowance.budget(b, None)).pause_s == 3.0
    assert (await world.allowance.budget(c, None)).pause_s == 4.0
    world.now += 86401
    assert (await world.allowance.budget(a, None)).pause_s == 4.0


async def test_heavy_captures_of_an_hour_are_counted(world: World) -> None:
    """Rung 1 is not heavy."""
    a = world.targets["a"]
    for rung in (1, 2, 2):
        await world.allowance.spent(a, "x", rung, Cost())
    assert (await world.allowance.budget(a, 2)).heavy_left == 3
    world.now += HOUR_S + 1
    assert (await world.allowance.budget(a, 2)).heavy_left == 5


async def test_a_plan_learns_what_a_step_costs_here(world: World) -> None:
    """After three measurements the worst of them counts, with a margin; not on other servers."""
    a, b = world.targets["a"], world.targets["b"]
    for pause in (0.1, 0.4):
        await world.allowance.spent(a, "stacks", 1, Cost(pause_s=pause))
    assert (await world.allowance.budget(a, None)).learned == {}
    await world.allowance.spent(a, "stacks", 1, Cost(pause_s=0.2))
    assert (await world.allowance.budget(a, None)).learned == {"stacks": 0.5}
    assert (await world.allowance.budget(b, None)).learned == {}


def test_one_disturbing_capture_per_server_and_never_two_replicas(world: World) -> None:
    """Another model on another host may be disturbed meanwhile; afterwards all are free again."""
    a, b, c = world.targets["a"], world.targets["b"], world.targets["c"]
    c = c.model_copy(update={"capture": CapturePolicy(last_replica=True)})
    with world.allowance.disturbing(a, "torch_profiler") as why:
        assert why == ""
        assert "is running on this server" in world.allowance.not_now(a)
        assert "running on a, a replica" in world.allowance.not_now(b)
        assert world.allowance.not_now(c) == ""
        with world.allowance.disturbing(b, "gdb") as refused:
            assert "replica" in refused
    assert world.allowance.not_now(b) == ""


def test_the_last_healthy_replica_is_left_alone_unless_its_owner_says_so(world: World) -> None:
    """The words name the option."""
    world.healthy = {"a", "c"}
    assert "last_replica: true" in world.allowance.not_now(world.targets["a"])
    world.healthy = {"a", "b"}
    assert world.allowance.not_now(world.targets["a"]) == ""
    assert "last_replica: true" in world.allowance.not_now(world.targets["c"])


def test_our_own_window_is_muted_while_rates_still_hold_it(world: World) -> None:
    """And a refused capture mutes nothing."""
    with world.allowance.disturbing(world.targets["a"], "x"):
        assert world.allowance.muted["a"] > world.now + 1e6
        with world.allowance.disturbing(world.targets["b"], "y"):
            assert "b" not in world.allowance.muted
    assert world.allowance.muted["a"] == world.now + MUTE_AFTER_S


def test_a_capture_of_another_responder_holds_a_replica_back(world: World) -> None:
    """Two of one model are never disturbed at once, whoever does it."""
    a, c = world.targets["a"], world.targets["c"]
    c = c.model_copy(update={"capture": CapturePolicy(max_rung=2, last_replica=True)})
    world.allowance.elsewhere = lambda: ("b",)
    assert world.allowance.not_now(a) == "a capture is running on b, a replica of the same model"
    assert world.allowance.not_now(c) == ""
