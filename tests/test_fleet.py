"""One replica among others: what is ours is taken up where the last one left it, what is not is let go at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from responder.config import Config
from responder.fleet import Fleet
from responder.folder import folder_of
from responder.model import Change, Incident, Silence
from responder.postgres.database import DatabaseSilent
from tests.cluster import Cluster
from tests.test_watch import TARGET, World


@dataclass
class Desk:
    """A responder that only remembers what it was given, of a daemon that is well."""

    given: list[tuple[Change, str]] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)

    def handle(self, change: Change, incident: Incident) -> None:
        self.given.append((change, incident.id))

    def at_work(self) -> set[str]:
        return set()

    async def drop(self, targets: Collection[str], *, wait: bool) -> None:
        self.dropped |= set(targets)

    def healthy(self) -> list[str]:
        return [TARGET.name]

    def disturbed(self) -> list[str]:
        return []


@dataclass
class Replica:
    """A fleet's member with a world of its own around it."""

    fleet: Fleet
    world: World
    desk: Desk

    async def beat(self) -> None:
        await self.fleet.leases.beat(patience_s=10.0)
        await self.fleet.change_hands()


async def nothing(_: Collection[str]) -> None:
    return None


@pytest.fixture
async def replica(database: str, tmp_path: Path) -> AsyncIterator[Callable[[str], Any]]:
    """Makes replicas that share a database and a folder of artifacts; they beat only when told to."""
    made: list[Replica] = []

    async def make(name: str) -> Replica:
        shared = {"database": database, "artifacts": {"folder": str(tmp_path / "shared")}, "lease": "300s"}
        fleet = Fleet(database, Config.model_validate({**shared, "data_dir": str(tmp_path / name)}),
                      lambda: {TARGET.name: TARGET})  # fmt: skip
        fleet.store.open()
        world, desk = World(tmp_path / name), Desk()
        world.store.close()
        world.store = fleet.store  # type: ignore[assignment]
        world.watch = world.new()
        await fleet.start(world.watch, desk, desk, nothing)  # type: ignore[arg-type]
        await fleet.change_hands()
        made.append(Replica(fleet, world, desk))
        return made[-1]

    yield make
    for one in made:
        await one.fleet.stop()
        one.fleet.store.close()


def silence(cluster: Cluster, url: str, one: Replica) -> None:
    """As if nothing had been heard of a replica for longer than its lease."""
    name, database = one.fleet.name, url.rpartition("/")[2]
    cluster.sql(f"UPDATE replicas SET beat_at=now() - interval '1 hour' WHERE name='{name}'", database)
    cluster.sql(f"UPDATE shares SET until=now() - interval '1 hour' WHERE holder='{name}'", database)


async def test_an_incident_goes_on_with_whoever_takes_over(replica: Any, cluster: Cluster, database: str) -> None:
    """Its folder, its symptoms and its calm come along; the one that was silent says and writes nothing any more."""
    a = await replica("a")
    a.world.waiting = 9
    ((change, name),) = await a.world.rounds(4)
    assert change is Change.OPENED
    folder_of(a.fleet.data_dir, name).write("report.json", b"{}")
    await a.fleet.mirror.push(folder_of(a.fleet.data_dir, name))
    b = await replica("b")
    silence(cluster, database, a)
    await b.beat()
    assert b.desk.given == [(Change.UNCHANGED, name)]
    assert (folder_of(b.fleet.data_dir, name).path / "report.json").read_bytes() == b"{}"
    b.world.now, b.world.waiting, a.world.waiting = a.world.now, 9, 0
    assert await b.world.rounds(2) == []
    assert await a.world.rounds(6) == []  # it sees the end, and may not say so
    await a.beat()
    assert TARGET.name in a.desk.dropped
    assert a.world.watch.incidents == {}
    b.world.waiting = 0
    assert await b.world.rounds(6) == [(Change.RESOLVED, name)]


async def test_a_running_for_is_not_begun_anew(replica: Any, cluster: Cluster, database: str) -> None:
    """What was true for a while with one replica has been true with the next."""
    a = await replica("a")
    a.world.waiting = 9
    assert await a.world.rounds(2) == []
    b = await replica("b")
    silence(cluster, database, a)
    b.world.now, b.world.waiting = a.world.now, 9
    await b.beat()
    ((change, _),) = await b.world.rounds(1)
    assert change is Change.OPENED


async def test_a_takeover_that_fails_is_done_again(replica: Any, cluster: Cluster, database: str) -> None:
    """The database is away in the middle of it: a share that is held and not taken up would be nobody's."""
    a = await replica("a")
    a.world.waiting = 9
    ((_, name),) = await a.world.rounds(4)
    b = await replica("b")
    silence(cluster, database, a)
    whole = b.fleet.store.incidents
    away = iter((True, True, False))

    async def sometimes(**how: Any) -> Any:
        if next(away):
            raise DatabaseSilent("no answer")
        return await whole(**how)

    b.fleet.store.incidents = sometimes
    await b.fleet.leases.beat(patience_s=10.0)
    for _ in range(2):
        with pytest.raises(DatabaseSilent):
            await b.fleet.change_hands()
    b.fleet.store.incidents = whole
    assert await b.fleet.change_hands()
    assert b.desk.given == [(Change.UNCHANGED, name)]
    assert b.fleet.looks_after(TARGET.name)
    assert not await b.fleet.change_hands()


async def test_another_replicas_incident_can_be_shown(replica: Any) -> None:
    """Its folder is brought when somebody wants to see it; nobody's is not looked for."""
    a, b = await replica("a"), await replica("b")
    a.world.waiting = 9
    ((_, name),) = await a.world.rounds(4)
    folder_of(a.fleet.data_dir, name).write("report.html", b"<p>")
    await a.fleet.mirror.push(folder_of(a.fleet.data_dir, name))
    await b.fleet.bring(name)
    assert (folder_of(b.fleet.data_dir, name).path / "report.html").read_bytes() == b"<p>"
    await b.fleet.bring("nobody")
    assert not folder_of(b.fleet.data_dir, "nobody").path.exists()


async def test_a_silence_told_to_one_holds_for_all(replica: Any) -> None:
    """Written beside one replica's data, found in the database by the others."""
    a, b = await replica("a"), await replica("b")
    said = Silence(id="s", match={"target": "x"}, starts_at=0.0, ends_at=1e9)
    a.world.watch.silence_folder.mkdir()
    (a.world.watch.silence_folder / "s.json").write_text(said.model_dump_json())
    await a.world.rounds(1)
    assert await b.fleet.store.silences(1.0) == (said,)


async def test_what_others_say_of_their_servers_counts(replica: Any) -> None:
    """Whether a healthy replica of a model is left is asked of all."""
    a, b = await replica("a"), await replica("b")
    await a.beat()
    await b.beat()
    assert a.fleet.healthy_elsewhere() == {TARGET.name}
    assert b.fleet.disturbed_elsewhere() == set()
