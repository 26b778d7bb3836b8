"""A server that left while at work is a loss; one that drained, was rolled over or whose file ended is none."""

from __future__ import annotations

import math
from typing import Any

import pytest

from responder.backtest.vanished import Lost, leavings, lost, replaced
from responder.backtest.walk import Answers, Walk
from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.correlate import Policy
from responder.model import Sample, Target

ONE, OTHER = (Target(name=f"gpu-{n}:8000", url=f"http://gpu-{n}:8000", match={"instance": f"gpu-{n}:8000"}, model="m")
              for n in (1, 2))  # fmt: skip
LEFT, INTERVAL = 1000.0, 5.0


class History:
    """gpu-1 is scraped until LEFT, gpu-2 always. `fades`: nothing marks the end of the series."""

    def __init__(self, in_flight: float = 3.0, fades: bool = False, others: bool = True) -> None:
        self.in_flight, self.fades, self.others = in_flight, fades, others

    async def __call__(self, expr: str, start: float, end: float, step: float) -> list[tuple[dict[str, str], Any]]:
        times = [start + n * step for n in range(int((end - start) / step + 1e-6) + 1)]
        if expr == "in_flight":
            return [({"instance": "gpu-1:8000"}, [(at, self.in_flight) for at in times if at <= LEFT])]
        shown = LEFT + 300.0 if self.fades else LEFT
        stamp = lambda at: min(at, LEFT) // INTERVAL * INTERVAL  # noqa: E731
        rows = [({"instance": "gpu-1:8000"}, [(at, stamp(at)) for at in times if at < shown])]
        if "gpu-1" in expr:
            return rows
        return [*rows, ({"instance": "gpu-2:8000"}, [(at, at) for at in times])] if self.others else rows


async def found(history: History, end: float = 3000.0, newcomer: float = 0.0) -> list[Lost]:
    moments = {ONE.name: {float(at) for at in range(0, 1000, 60)},
               OTHER.name: {float(at) for at in range(int(newcomer), 3000, 60)}}  # fmt: skip
    return await lost(history, [ONE, OTHER], moments, "in_flight", start=0.0, end=end, step=60.0, interval=INTERVAL)


async def test_who_leaves_with_requests_in_flight_is_lost() -> None:
    """Marked by Prometheus, seen within a scrape; it counts for ten minutes."""
    (gone,) = await found(History())
    assert gone.target == ONE.name
    assert gone.since == pytest.approx(LEFT, abs=2 * INTERVAL)
    assert gone.until == gone.since + 600.0


@pytest.mark.parametrize(
    "history", [History(in_flight=0.0), History(fades=True), History(others=False)], ids=["drained", "fades", "silence"]
)
async def test_who_was_idle_or_only_ends_is_not(history: History) -> None:
    """Scaled down; a history put together from files; a Prometheus that stopped altogether."""
    assert await found(history) == []


async def test_a_rollout_and_the_end_of_the_history_are_no_loss() -> None:
    """Another server of the same model came up around that time; or nobody looked further."""
    assert await found(History(), newcomer=LEFT + 120) == []
    assert await found(History(), end=LEFT + 30) == []
    assert replaced(ONE, LEFT, {OTHER.name: LEFT - 60}, [ONE, OTHER])
    assert not replaced(ONE, LEFT, {OTHER.name: LEFT - 60}, [ONE, OTHER.model_copy(update={"model": "else"})])


def test_where_a_server_was_missing() -> None:
    """One missing point of the grid is none; the last one is, unless the history ends there."""
    assert leavings([0, 60, 120, 300, 360], 60.0, 1000.0) == [(120, 300), (360, math.inf)]
    assert leavings([0, 60, 120], 60.0, 150.0) == []


@pytest.mark.parametrize(("sibling", "after_s"), [(OTHER, 210), (OTHER.model_copy(update={"model": "else"}), 30)])
def test_a_loss_becomes_an_incident(sibling: Target, after_s: int) -> None:
    """As for the daemon: the down rule holds for a server Prometheus no longer knows; while all replicas of its model
    serve, it has three minutes to be replaced."""
    walk = Walk(load(Config(), STEPS), [ONE, sibling], Policy(), lost=[Lost(ONE.name, 0.0, 600.0)])
    answers: Answers = {"up": (Sample(signal="up", labels={"instance": "gpu-2:8000"}, value=1.0, at=0.0),)}
    opened = [now for now in range(0, 260, 2) if walk.step(answers, float(now), {ONE.name})]
    assert opened[0] == pytest.approx(after_s, abs=10)
    (incident,) = walk.incidents.values()
    assert (incident.target, incident.symptoms[0].alert) == (ONE.name, "VLLMTargetDown")


@pytest.mark.parametrize(("drained", "after_s"), [(1.0, 190), (0.0, 12)])
def test_who_stops_with_nothing_left_to_do_has_three_minutes_to_come_back(drained: float, after_s: int) -> None:
    """A history has no log that says so; a single server that was drained first is being restarted by somebody."""
    walk = Walk(load(Config(), STEPS), [ONE], Policy())
    here = {"instance": "gpu-1:8000"}

    def answers(now: int) -> Answers:
        seen = Sample(signal="drained", labels=here, value=drained, at=0.0)  # its range ends with what it looks back at
        return {"up": (Sample(signal="up", labels=here, value=0.0, at=0.0),), "drained": (seen,) if now < 20 else ()}

    opened = [now for now in range(0, 260, 2) if walk.step(answers(now), float(now), {ONE.name})]
    assert opened[0] == pytest.approx(after_s, abs=4)


@pytest.mark.parametrize(("back", "told"), [(False, False), (True, True)])
def test_who_was_drained_and_is_taken_off_the_list_after_failed_scrapes_is_no_incident(back: bool, told: bool) -> None:
    """Nobody asks it any more, so nothing says that it is down; scraped again and still silent, it is."""
    walk = Walk(load(Config(), STEPS), [ONE], Policy())
    here = {"instance": "gpu-1:8000"}

    def answers(now: int) -> Answers:
        scraped = now < 40 or (back and now >= 200)
        return {
            "up": (Sample(signal="up", labels=here, value=0.0, at=0.0),) if scraped else (),
            "drained": (Sample(signal="drained", labels=here, value=1.0, at=0.0),) if now < 20 else (),
        }

    assert any(walk.step(answers(now), float(now), {ONE.name}) for now in range(0, 600, 2)) is told


@pytest.mark.parametrize(("drained", "told"), [(1.0, False), (0.0, True)])
def test_who_is_replaced_between_two_scrapes_with_nothing_left_to_do_is_no_incident(drained: float, told: bool) -> None:
    """Counters begin anew and no scrape has failed: whether somebody waited is in the last scrape before."""
    assert bool(opened_by_restarts([100], drained)) is told


def test_a_third_replacement_within_an_hour_is_told_however_idle_the_server_was() -> None:
    """A crash loop that nobody sends anything to."""
    (at, *_) = opened_by_restarts([100, 500, 900], 1.0)
    assert at >= 900


def opened_by_restarts(restarts: list[int], drained: float) -> list[int]:
    """When incidents opened of a server that is never seen down and another process from these moments on."""
    walk = Walk(load(Config(), STEPS), [ONE], Policy())
    here = {"instance": "gpu-1:8000"}

    def answers(now: int) -> Answers:
        lately = float(any(at <= now < at + 60 for at in restarts))  # at work again at once
        values = {"up": 1.0, "restarts": lately, "drained": 0.0 if lately else drained}
        return {name: (Sample(signal=name, labels=here, value=value, at=0.0),) for name, value in values.items()}

    return [now for now in range(0, 1000, 2) if walk.step(answers(now), float(now), {ONE.name})]
