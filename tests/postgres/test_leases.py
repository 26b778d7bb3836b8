"""Leases on a real PostgreSQL: one holder per share, and nothing is written by one whose term is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import pytest

from responder.model import Delivery, Incident, Severity
from responder.postgres.database import Connection, Database, DatabaseSilent, ThreadedDatabase, Translated
from responder.postgres.leases import Leases
from responder.postgres.store import PostgresStore
from responder.shares import SHARES, LeaseLost, Patience, share_of
from responder.store_db import StoreRefused
from responder.store_tables import SCHEMA
from tests.cluster import Cluster


class One:
    """A replica without a flow."""

    def __init__(self, url: str, name: str) -> None:
        self.database = Database(url)
        self.news: list[tuple[str, int]] = []
        self.busy: set[int] = set()
        self.leases = Leases(self.database, name, gained=self._gained, lost=self._lost, busy=lambda: self.busy,
                             tell=lambda: f"{name} is well")  # fmt: skip
        self.store = PostgresStore(url)
        self.store.leases = self.leases

    async def _gained(self, shares: Collection[int]) -> None:
        self.news.append(("gained", len(shares)))

    async def _lost(self, shares: Collection[int]) -> None:
        self.news.append(("lost", len(shares)))

    @property
    def held(self) -> set[int]:
        return set(self.leases.holdings.claims)

    async def beat(self) -> None:
        await self.leases.beat(patience_s=10.0)


@pytest.fixture
async def replica(database: str) -> AsyncIterator[Callable[[str], Any]]:
    """Makes replicas on one database."""
    made: list[One] = []

    async def make(name: str) -> One:
        one = One(database, name)
        one.store.open()
        await one.database.open()
        made.append(one)
        return one

    yield make
    for one in made:
        one.store.close()
        await one.database.close()


def incident(name: str = "i", target: str = "t") -> Incident:
    return Incident(id=name, target=target, incident_class="high_ttft", severity=Severity.WARNING, onset_at=1.0,
                    opened_at=2.0)  # fmt: skip


def silence(cluster: Cluster, url: str, name: str) -> None:
    """As if nothing had been heard of a replica for longer than a lease."""
    database = url.rpartition("/")[2]
    cluster.sql(f"UPDATE replicas SET beat_at=now() - interval '1 hour' WHERE name='{name}'", database)
    cluster.sql(f"UPDATE shares SET until=now() - interval '1 hour' WHERE holder='{name}'", database)


async def test_two_share_everything_out_and_nothing_is_held_twice(replica: Any) -> None:
    """The first has all; when the second comes the first gives back what is the second's."""
    a, b = await replica("a"), await replica("b")
    await a.beat()
    assert len(a.held) == SHARES
    await b.beat()
    assert b.held == set()
    await a.beat()
    await b.beat()
    assert a.held.isdisjoint(b.held)
    assert len(a.held) + len(b.held) == SHARES
    assert min(len(a.held), len(b.held)) > SHARES / 4
    assert a.leases.others == {"b": "b is well"}


async def test_a_share_with_an_open_incident_stays_where_it_is(replica: Any) -> None:
    """A newcomer waits until the incident is over."""
    a, b = await replica("a"), await replica("b")
    await a.beat()
    a.busy = set(range(SHARES))
    await b.beat()
    await a.beat()
    await b.beat()
    assert (len(a.held), len(b.held)) == (SHARES, 0)


async def test_who_is_silent_loses_its_shares_and_may_write_nothing_any_more(
    replica: Any, cluster: Cluster, database: str
) -> None:
    """Its term is over: incident, messages, steps and timers are refused, whatever it believes."""
    a, b = await replica("a"), await replica("b")
    await a.beat()
    await a.store.save_incident(incident())
    silence(cluster, database, "a")
    await b.beat()
    assert len(b.held) == SHARES
    assert len(a.held) == SHARES  # it does not know yet
    item = Delivery(id="i.1.hook", incident="i", revision=1, receiver="hook", stage="first")
    for write in (
        a.store.save_incident(incident().model_copy(update={"state": "resolved"})),
        a.store.publish(incident(), stage="first", revision=1, deliveries=[item]),
        a.store.add_deliveries([item]),
        a.store.begin_step("i", "stacks", {}, (1.0, {})),
        a.store.end_step("i", "stacks", {}, (1.0, {})),
    ):
        with pytest.raises(LeaseLost):
            await write
    await a.store.save_timers({f"states/{share_of('t')}": "stale"}, ())
    assert await b.store.timers() == {}
    assert await b.store.deliveries() == []
    assert [i.state for i, _, _ in await b.store.incidents()] == ["open"]
    await b.store.save_incident(incident())
    await a.beat()
    assert ("lost", SHARES) in a.news


async def test_who_comes_back_in_time_keeps_its_term(replica: Any, cluster: Cluster, database: str) -> None:
    """A silence nobody has used changes nothing."""
    a = await replica("a")
    await a.beat()
    silence(cluster, database, "a")
    await a.beat()
    assert a.news == [("gained", SHARES)]


async def test_the_same_share_in_a_new_term_is_lost_and_gained(replica: Any, cluster: Cluster, database: str) -> None:
    """Somebody had it meanwhile: what is remembered of it here is stale."""
    a, b = await replica("a"), await replica("b")
    await a.beat()
    silence(cluster, database, "a")
    await b.beat()
    silence(cluster, database, "b")
    await a.beat()
    assert a.news == [("gained", SHARES), ("lost", SHARES), ("gained", SHARES)]


async def test_messages_and_alerts_are_seen_by_whose_they_are(replica: Any) -> None:
    """An alert may come to any replica; it is dealt to the owner of its target."""
    a, b = await replica("a"), await replica("b")
    await a.beat()
    await b.beat()
    await a.beat()
    await b.beat()
    names = [f"t{n}" for n in range(20)]
    a.store.split = b.store.split = lambda payload: {name: {"for": name} for name in payload}
    assert await a.store.add_intake(names, 1.0, limit=100)
    seen = {one: {payload["for"] for _, _, payload in await one.store.intake()} for one in (a, b)}
    assert seen[a] | seen[b] == set(names)
    assert seen[a] == {name for name in names if share_of(name) in a.held}
    assert seen[b] == {name for name in names if share_of(name) in b.held}
    for one, mine in seen.items():
        for name in mine:
            await one.store.save_incident(incident(f"i-{name}", name))
            item = Delivery(id=f"i-{name}.1.hook", incident=f"i-{name}", revision=1, receiver="hook", stage="first")
            await one.store.add_deliveries([item])
    assert {i.incident[2:] for i in await a.store.deliveries("hook", "pending")} == seen[a]
    assert len(await a.store.deliveries("hook")) == 20


async def test_an_alert_is_forgotten_only_in_the_term_it_was_read_in(
    replica: Any, cluster: Cluster, database: str
) -> None:
    """Read, and the share lost before what it means was written: it is there for whoever has the share now."""
    a, b = await replica("a"), await replica("b")
    await a.beat()
    assert await a.store.add_intake({"alerts": []}, 1.0, limit=10)
    ((number, _, _),) = await a.store.intake()
    silence(cluster, database, "a")
    await b.beat()
    await a.store.drop_intake([number])
    assert [row[0] for row in await b.store.intake()] == [number]
    await b.store.drop_intake([number])
    assert await b.store.intake() == []


async def test_an_alert_read_before_we_let_go_is_there_when_we_are_back(replica: Any) -> None:
    """The database was silent for too long: we have let go, it still names us. What the alert meant was not written."""
    a = await replica("a")
    await a.beat()
    assert await a.store.add_intake({"alerts": []}, 1.0, limit=10)
    ((number, _, _),) = await a.store.intake()
    a.leases.holdings.claims.clear()
    await a.store.save_timers({"told/0": "{}"}, ())
    await a.store.drop_intake([number])
    await a.beat()
    assert [row[0] for row in await a.store.intake()] == [number]
    assert "told/0" not in await a.store.timers()


async def test_a_server_that_restarts_costs_nothing(replica: Any, cluster: Cluster) -> None:
    """`-m immediate`: what is asked meanwhile waits; an alert is refused rather than kept waiting."""
    a = await replica("a")
    await a.beat()
    await a.store.save_incident(incident())
    cluster.crash()
    try:
        assert await a.store.add_intake({"alerts": []}, 1.0, limit=10) is False
    finally:
        cluster.start()
    await a.store.save_incident(incident("i2"))
    await a.beat()
    assert len(await a.store.incidents()) == 2
    assert a.news == [("gained", SHARES)]


def test_a_transaction_that_was_slept_over_is_asked_again(database: str) -> None:
    """Stopped in the middle of one, the server ends it: that is a cut like any other, not a bug of ours."""
    tries: list[int] = []

    def work(db: Translated) -> int:
        tries.append(1)
        if len(tries) == 1:
            db.execute("SET LOCAL idle_in_transaction_session_timeout='20ms'")
            time.sleep(0.3)
        return int(db.execute("SELECT 7").fetchone()[0])  # type: ignore[index]

    asked = ThreadedDatabase(database)
    asked.open()
    try:
        assert asked.ask_now(work, 10.0) == 7
    finally:
        asked.close()
    assert len(tries) == 2


async def test_a_newer_schema_is_refused(replica: Any, cluster: Cluster, database: str) -> None:
    """An old responder must not damage what a newer one wrote."""
    await replica("a")
    cluster.sql(f"UPDATE meta SET value='{SCHEMA + 1}' WHERE key='schema'", database.rpartition("/")[2])
    with pytest.raises(StoreRefused, match="newer"):
        PostgresStore(database).open()


def test_a_database_that_is_not_there_is_said_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host and database are named; the secret is not."""
    monkeypatch.setattr("responder.postgres.store.START_PATIENCE_S", 0.0)
    with pytest.raises(StoreRefused, match="db at 127.0.0.1:1") as refused:
        PostgresStore("postgresql://u:hunter22@127.0.0.1:1/db").open()
    assert "hunter22" not in str(refused.value)


async def test_a_share_held_again_is_written_only_after_its_memory_was_read_again(
    replica: Any, cluster: Cluster, database: str
) -> None:
    """Lost and back within one of our rounds: another replica was at it meanwhile, and what we know is old. What it
    has put down must not be written over, and new alerts wait until its memory has been read."""
    a, b = await replica("a"), await replica("b")
    await a.beat()
    known = {share: a.leases.holdings.term(share) for share in a.held}
    a.store.taken_up = lambda: known
    await a.store.save_timers({"told/0": '{"old": 1}'}, ())
    silence(cluster, database, "a")
    await b.beat()
    await b.store.save_timers({"told/0": '{"new": 1}'}, ())
    silence(cluster, database, "b")
    await a.beat()
    assert 0 in a.held
    assert await a.store.add_intake({"alerts": []}, 1.0, limit=10)
    assert await a.store.intake() == []
    await a.store.save_timers({"told/0": '{"old": 2}'}, ())
    with pytest.raises(LeaseLost):
        await a.store.save_incident(incident("i", next(f"t{n}" for n in range(999) if share_of(f"t{n}") == 0)))
    assert (await a.store.timers())["told/0"] == '{"new": 1}'
    known.update({share: a.leases.holdings.term(share) for share in a.held})
    assert len(await a.store.intake()) == 1
    await a.store.save_timers({"told/0": '{"newest": 1}'}, ())
    assert (await a.store.timers())["told/0"] == '{"newest": 1}'


async def test_a_beat_comes_after_whatever_went_wrong_with_the_last_one() -> None:
    """Also when letting go of what is stale fails: a replica that is heard of no more loses everything."""

    class Away:
        """A database that does not answer."""

        def __init__(self) -> None:
            self.asked = 0
            self.often = asyncio.Event()

        async def ask(self, *_: Any, **__: Any) -> None:
            self.asked += 1
            if self.asked >= 3:
                self.often.set()
            raise DatabaseSilent("no answer")

    async def gained(_: Collection[int]) -> None:
        raise AssertionError

    async def lost(_: Collection[int]) -> None:
        raise RuntimeError("somebody else's fault")

    away = Away()
    leases = Leases(away, "a", gained=gained, lost=lost, patience=Patience(0.01))  # type: ignore[arg-type]
    leases.holdings.confirm([(1, 1)], 0.0)
    leases._task = asyncio.create_task(leases._beats())
    async with asyncio.timeout(10):
        await away.often.wait()
    await leases.stop()


async def test_whatever_goes_wrong_while_attending_it_is_attended_again(database: str) -> None:
    """A mistake of ours, once, must not leave everybody waiting who waits to be told."""
    times = iter((True,))
    again = asyncio.Event()

    async def work(_: Connection) -> None:
        if next(times, False):
            raise KeyError("a mistake")
        again.set()

    task = asyncio.create_task(Database(database).attend("x", 0.1, work))
    async with asyncio.timeout(20):
        await again.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_replica_whose_rounds_do_not_end_lets_go() -> None:
    """It lives and watches nobody: without its beats another one takes over, and it does not act any more."""
    lost: list[int] = []
    gone = asyncio.Event()

    class Asked:
        async def ask(self, *_: Any, **__: Any) -> None:
            raise AssertionError("no beat")

    async def nothing(_: Collection[int]) -> None:
        raise AssertionError

    async def let_go(shares: Collection[int]) -> None:
        lost.extend(shares)
        gone.set()

    leases = Leases(Asked(), "a", gained=nothing, lost=let_go, patience=Patience(0.01))  # type: ignore[arg-type]
    leases.alive = lambda: False
    leases.holdings.confirm([(1, 1)], time.monotonic() + 0.05)
    task = asyncio.create_task(leases._beats())
    async with asyncio.timeout(10):
        await gone.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (lost, leases.holdings.claims) == ([1], {})
