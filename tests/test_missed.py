"""What fired while we did not run is found in ALERTS: short or long, once, marked as late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.missed import dead_receiver
from responder.alertmanager import from_alertmanager
from responder.metrics import PrometheusSilent
from responder.missed import GONE_S, LONGEST_S, Missed, alerts_of
from responder.model import Content, Target
from responder.outage import Uptime
from responder.store_sqlite import SqliteStore
from responder.told import Told, hear

NOW = 1_800_000_000.0
LABELS = {"alertname": "A", "alertstate": "firing", "class": "high_ttft", "instance": "t"}
TARGET = Target(name="t", url="http://t", match={"instance": "t"})


def every(begin: float, end: float, step: float = 15.0) -> list[tuple[float, float | None]]:
    return [(begin + n * step, 1.0) for n in range(int((end - begin) / step) + 1)]


def told(points: list[tuple[float, float | None]], since: float = NOW - 600) -> list[tuple[str, str]]:
    return [(a["status"], a["labels"]["alertname"]) for a in alerts_of(LABELS, points, since, NOW)]


def test_an_alert_that_came_and_went_is_told_as_over_and_one_that_stays_as_firing() -> None:
    """By its own samples; a gap of more than two evaluations separates two episodes."""
    assert told(every(NOW - 300, NOW - 270)) == [("resolved", "A")]
    assert told(every(NOW - 300, NOW)) == [("firing", "A")]
    assert told(every(NOW - 300, NOW - 270) + every(NOW - 100, NOW)) == [("resolved", "A"), ("firing", "A")]


def test_what_was_over_before_we_ended_is_not_told() -> None:
    """We were there then."""
    assert told(every(NOW - 900, NOW - 700)) == []
    assert told(every(NOW - 900, NOW - 500)) == [("resolved", "A")]


class Memory:
    """A Prometheus that remembers one series, or does not answer."""

    def __init__(self, points: list[tuple[float, float | None]]) -> None:
        self.points, self.silent, self.firing = points, False, True
        self.state = "firing"
        self.asked: list[tuple[float, float]] = []

    async def raw(self, expr: str, at: float) -> list[Any]:
        self.asked.append((at - float(expr.partition("[")[2].rstrip("s]")), at))
        if self.silent:
            raise PrometheusSilent("down")
        return [(LABELS, [p for p in self.points if p[0] <= at])]

    async def instant(self, expr: str) -> list[Any]:
        wanted = self.firing and (self.state == "firing" or "firing" not in expr)
        return [({**LABELS, "alertstate": self.state}, NOW, 1.0)] if wanted else []


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = SqliteStore(tmp_path)
    made.open()
    yield made
    made.close()


async def test_it_looks_once_and_again_while_prometheus_is_silent(store: SqliteStore) -> None:
    """What is found lies on disk like an alert that was posted."""
    prometheus = Memory(every(NOW - 300, NOW - 270))
    missed = Missed(prometheus, store)  # type: ignore[arg-type]
    missed.since, prometheus.silent = NOW - 600, True
    await missed.round(Told(), NOW, Content(), {"t": TARGET})
    assert await store.intake() == []
    prometheus.silent = False
    for later in (1, 20, 40):
        await missed.round(Told(), NOW + later, Content(), {"t": TARGET})
    (row,) = await store.intake()
    assert [a["status"] for a in row[2]["alerts"]] == ["resolved"]  # type: ignore[index]


async def test_of_a_long_absence_the_last_day_is_looked_through(store: SqliteStore) -> None:
    """What fired a week ago wakes nobody now, and a start does not read a month of samples."""
    prometheus = Memory(every(NOW - 300, NOW))
    missed = Missed(prometheus, store)  # type: ignore[arg-type]
    await missed.look(NOW - 30 * LONGEST_S, NOW, Content(), {"t": TARGET})
    assert min(begin for begin, _ in prometheus.asked) >= NOW - LONGEST_S


async def test_alerts_of_nobody_we_know_are_left_alone(store: SqliteStore) -> None:
    """Prometheus watches more than our servers."""
    missed = Missed(Memory(every(NOW - 300, NOW)), store)  # type: ignore[arg-type]
    assert await missed.look(NOW - 600, NOW, Content(), {}) == 0
    assert await store.intake() == []


async def found_firing(store: SqliteStore) -> tuple[Memory, Missed, Told]:
    """An alert that Prometheus remembered, taken in."""
    prometheus = Memory(every(NOW - 300, NOW))
    missed = Missed(prometheus, store)  # type: ignore[arg-type]
    await missed.look(NOW - 600, NOW, Content(), {"t": TARGET})
    ((number, at, payload),) = await store.intake()
    told = hear(Told(), [from_alertmanager(payload, [TARGET], at)], NOW).seen()
    await store.drop_intake([number])
    return prometheus, missed, told


async def test_what_was_found_firing_is_followed_until_it_is_gone(store: SqliteStore) -> None:
    """There may be no Alertmanager to say that it is over."""
    prometheus, missed, told = await found_firing(store)
    await missed.round(told, NOW + 20, Content(), {"t": TARGET})
    assert await store.intake() == []
    for later, firing in ((40, False), (100, False), (160, True), (180, False), (240, False), (300, False)):
        prometheus.firing = firing
        await missed.round(told, NOW + later, Content(), {"t": TARGET})
        assert await store.intake() == [], "one empty answer may come from a Prometheus that has just been started"
    await missed.round(told, NOW + 180 + GONE_S, Content(), {"t": TARGET})
    ((_, at, payload),) = await store.intake()
    intake = from_alertmanager(payload, [TARGET], at)
    assert intake.resolved[0].at == NOW + 180
    assert hear(told, [intake], NOW + 400).shown == ()


async def test_what_is_pending_again_is_not_over(store: SqliteStore) -> None:
    """A restarted Prometheus lets what fired be pending for up to ten minutes."""
    prometheus, missed, told = await found_firing(store)
    prometheus.state = "pending"
    for later in range(20, 900, 20):
        await missed.round(told, NOW + later, Content(), {"t": TARGET})
    assert await store.intake() == []


async def test_a_clock_set_back_does_not_keep_us_from_looking(store: SqliteStore) -> None:
    """An hour earlier by the clock: what has ended is known to have ended now, not in an hour."""
    prometheus, missed, told = await found_firing(store)
    await missed.round(told, NOW + 3600, Content(), {"t": TARGET})
    prometheus.firing = False
    for later in range(20, 20 + int(GONE_S) + 20, 20):
        await missed.round(told, NOW + later, Content(), {"t": TARGET})
    assert len(await store.intake()) == 1


async def test_a_start_with_the_clock_behind_looks_for_what_was_missed(store: SqliteStore) -> None:
    """Of the same boot uptime tells how long nobody was here."""
    prometheus = Memory(every(NOW - 100, NOW - 70))
    missed = Missed(prometheus, store, lambda: Uptime("boot", 5000.0))  # type: ignore[arg-type]
    missed.since, missed.lived = NOW + 7200, Uptime("boot", 4700.0).text()
    await missed.round(Told(), NOW, Content(), {"t": TARGET})
    assert (prometheus.asked, missed.since) == ([(NOW - 300, NOW)], None)
    assert len(await store.intake()) == 1


async def test_after_a_boot_with_the_clock_behind_it_looks_again_once_that_is_put_right(store: SqliteStore) -> None:
    """From the boot on nobody was here; the rest is asked for when the clock is past our last round. Where another
    replica may have been here meanwhile, only that."""
    for lived, asked in ((Uptime("other", 9e5).text(), [(NOW - 50, NOW)]), ("", [])):
        prometheus = Memory([])
        missed = Missed(prometheus, store, lambda: Uptime("boot", 50.0))  # type: ignore[arg-type]
        missed.since, missed.lived = NOW + 7200, lived
        for later in (0, 20, 40):
            await missed.round(Told(), NOW + later, Content(), {"t": TARGET})
        assert (prometheus.asked, missed.since) == (asked, NOW + 7200)
        await missed.round(Told(), NOW + 8000, Content(), {"t": TARGET})
        assert (prometheus.asked[len(asked) :], missed.since) == ([(NOW + 7200, NOW + 8000)], None)


@pytest.mark.prometheus
def test_alerts_of_an_outage_are_recovered_from_a_real_prometheus_and_alertmanager() -> None:
    """The receiver is dead while six servers are sick, three of them only for a moment: all have an incident."""
    figures = dead_receiver(alerts=6, dead_s=10.0)
    assert figures.recovered == 6
    assert figures.doubled == 0
    assert figures.late >= 3
