"""Store: what was acknowledged is there after a crash, and only one daemon uses a folder."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from responder import store_work
from responder.model import Cost, Delivery, Incident, Inventory, Obligation, Severity, Silence
from responder.postgres.store import PostgresStore
from responder.store import Store
from responder.store_db import Db, StoreRefused
from responder.store_sqlite import SqliteStore
from responder.store_tables import SCHEMA


def incident(name: str = "20260101-000000-a", state: str = "open", opened: float = 100.0) -> Incident:
    return Incident(
        id=name, target="a", incident_class="high_ttft", severity=Severity.WARNING, state=state, onset_at=90.0,
        opened_at=opened,
    )  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Every question is asked of both engines."""
    sqlite = request.param == "sqlite"
    store: Store = SqliteStore(tmp_path) if sqlite else PostgresStore(request.getfixturevalue("database"))
    store.open()
    yield store
    store.close()


async def test_incidents_come_back_newest_first_and_only_the_open_ones_when_asked(store: Store) -> None:
    """Listing shows the newest first; only_open leaves out what is resolved."""
    await store.save_incident(incident("i1", opened=1.0))
    await store.save_incident(incident("i2", opened=2.0))
    await store.save_incident(incident("i1", "resolved", opened=1.0))
    assert [i.id for i, _, _ in await store.incidents()] == ["i2", "i1"]
    assert [i.id for i, _, _ in await store.incidents(only_open=True)] == ["i2"]


async def test_incidents_are_counted_by_class_and_found_by_words(store: Store) -> None:
    """The newest of each class whatever their state, how many there were, a page of one class, and any part of a word
    in large or small letters; `%` is no wildcard."""
    slow = incident("i9", opened=9.0).model_copy(update={"incident_class": "slow_decode", "target": "GPU-7"})
    states = ["open", "resolved", "resolved", "open", "resolved"]
    for one in [incident(f"i{n}", state, float(n)) for n, state in enumerate(states)] + [slow]:
        await store.save_incident(one)
    runs = await store.class_runs(3)
    assert {name: (count, [i.id for i in newest]) for name, (count, newest) in runs.items()} == {
        "high_ttft": (5, ["i4", "i3", "i2"]), "slow_decode": (1, ["i9"]),
    }  # fmt: skip
    page = await store.incident_page(incident_class="high_ttft", offset=1, limit=3)
    assert ([i.id for i, _, _ in page.rows], page.total, page.open) == (["i0", "i4", "i2"], 5, 3)
    found = {words: (await store.incident_page(search=words)).total for words in ("gpu-7", "PU", "%", "slow gpu")}
    assert found == {"gpu-7": 1, "PU": 1, "%": 0, "slow gpu": 1}


async def test_stage_and_revision_never_go_back(store: Store) -> None:
    """A later save without a stage keeps the report stage that people have been told."""
    await store.save_incident(incident(), stage="final", revision=3)
    await store.save_incident(incident())
    assert (await store.incidents())[0][1:] == ("final", 3)


async def test_a_delivery_is_queued_once_whatever_happens(store: Store) -> None:
    """Adding the same delivery again neither doubles nor resets it."""
    item = Delivery(id="i.1.hook", incident="i", revision=1, receiver="hook", stage="first")
    await store.add_deliveries([item])
    await store.save_delivery(item.model_copy(update={"state": "delivered"}), receipt="ts1")
    await store.add_deliveries([item])
    assert [d.state for d in await store.deliveries()] == ["delivered"]
    assert await store.receipt("i", "hook") == "ts1"
    assert await store.receipt("i", "other") == ""


async def test_intake_is_bounded_and_first_in_first_out(store: Store) -> None:
    """Beyond the limit nothing is kept and the caller is told, so that it can answer 503."""
    assert await store.add_intake({"n": 1}, 1.0, limit=2)
    assert await store.add_intake({"n": 2}, 2.0, limit=2)
    assert not await store.add_intake({"n": 3}, 3.0, limit=2)
    rows = await store.intake()
    assert [payload for _, _, payload in rows] == [{"n": 1}, {"n": 2}]
    await store.drop_intake([rows[0][0]])
    assert len(await store.intake()) == 1


async def test_timers_silences_and_inventories_survive_reopening(tmp_path: Path) -> None:
    """Everything is there again in the next process."""
    store = SqliteStore(tmp_path)
    store.open()
    await store.save_timers({"a": "{}", "b": "{}"}, [])
    await store.save_timers({}, ["b"])
    await store.save_silence(Silence(id="s", match={"target": "a"}, starts_at=0, ends_at=50))
    await store.save_inventory("a", Inventory(at=1.0, local=True, version="0.32.0"))
    store.close()
    again = SqliteStore(tmp_path)
    again.open()
    assert await again.timers() == {"a": "{}"}
    assert [s.id for s in await again.silences(now=10)] == ["s"]
    assert await again.silences(now=60) == ()
    assert (await again.inventories())["a"].version == "0.32.0"
    again.close()


SCHEMA_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE incidents (id TEXT PRIMARY KEY, target TEXT NOT NULL, state TEXT NOT NULL, opened_at REAL NOT NULL,
    stage TEXT NOT NULL DEFAULT '', revision INTEGER NOT NULL DEFAULT 0, body TEXT NOT NULL);
CREATE TABLE timers (key TEXT PRIMARY KEY, body TEXT NOT NULL);
INSERT INTO meta VALUES ('schema', '1');
INSERT INTO timers VALUES ('states', '{}');
"""


async def test_a_file_of_schema_1_is_taken_over(tmp_path: Path) -> None:
    """An upgrade keeps what was there and can owe from then on."""
    db = sqlite3.connect(tmp_path / "responder.db")
    db.executescript(SCHEMA_1)
    row = (incident().id, "a", "open", 100.0, "first", 1, incident().model_dump_json())
    db.execute("INSERT INTO incidents VALUES (?,?,?,?,?,?,?)", row)
    db.commit()
    db.close()
    store = SqliteStore(tmp_path)
    store.open()
    assert [(i.id, stage) for i, stage, _ in await store.incidents()] == [(incident().id, "first")]
    assert await store.timers() == {"states": "{}"}
    owed = Obligation(id="o", target="a", url="http://a", step="torch_profiler", opened_at=1.0, due_at=61.0)
    await store.save_obligation(owed)
    assert await store.obligations() == [owed]
    store.close()
    db = sqlite3.connect(tmp_path / "responder.db")
    assert db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()[0] == str(SCHEMA)
    db.close()


async def test_a_settled_obligation_is_no_longer_open_but_remembered(store: Store) -> None:
    """What was owed and how it ended stays on record."""
    owed = Obligation(id="o", target="a", url="http://a", step="torch_profiler", opened_at=1.0, due_at=61.0)
    await store.save_obligation(owed)
    await store.save_obligation(owed.model_copy(update={"state": "settled", "by": "guard"}))
    assert await store.obligations() == []
    assert [item.by for item in await store.obligations(only_open=False)] == ["guard"]


async def test_ends_that_were_owed_are_forgotten_in_time_and_the_newest_are_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is open stays, however old: over years there are more than anybody lists, and the new ones count."""
    owed = Obligation(id="o", target="a", url="http://a", step="torch_profiler", opened_at=1.0, due_at=61.0)
    await store.save_obligation(owed)
    for number in range(5):
        changed = {"id": f"s{number}", "state": "settled", "opened_at": 10.0 * number}
        await store.save_obligation(owed.model_copy(update=changed))
    monkeypatch.setattr(store_work, "MOST_OWED", 3)
    assert [item.id for item in await store.obligations(only_open=False)] == ["s2", "s3", "s4"]
    await store.save_silence(Silence(id="over", match={}, starts_at=0.0, ends_at=20.0))
    await store.save_silence(Silence(id="not", match={}, starts_at=0.0, ends_at=40.0))
    await store.forget(25.0)
    monkeypatch.undo()
    assert [item.id for item in await store.obligations(only_open=False)] == ["o", "s3", "s4"]
    assert [item.id for item in await store.silences(0.0)] == ["not"]


async def test_costs_are_kept_a_month(store: Store) -> None:
    """Budgets need a day, learning a little more."""
    await store.add_cost(1.0, "a", "h", "stacks", 1, Cost(pause_s=0.1))
    await store.add_cost(40 * 86400.0, "a", "h", "torch_profiler", 2, Cost(pause_s=0.4))
    assert await store.costs(0.0) == [(40 * 86400.0, "a", "h", "torch_profiler", 2, 0.4)]


def test_a_second_daemon_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """The message says what to do."""
    store = SqliteStore(tmp_path)
    store.open()
    with pytest.raises(StoreRefused, match="--data-dir"):
        SqliteStore(tmp_path).open()
    store.close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    """An old daemon must not damage what a newer one wrote."""
    store = SqliteStore(tmp_path)
    store.open()
    store.close()
    with sqlite3.connect(tmp_path / "responder.db") as db:
        db.execute("UPDATE meta SET value=? WHERE key='schema'", (str(SCHEMA + 1),))
    db.close()
    with pytest.raises(StoreRefused, match="newer"):
        SqliteStore(tmp_path).open()


def test_a_broken_file_is_refused_not_overwritten(tmp_path: Path) -> None:
    """Garbage where the database should be stays where it is; the message says how to go on."""
    (tmp_path / "responder.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreRefused, match="move it away"):
        SqliteStore(tmp_path).open()
    assert (tmp_path / "responder.db").read_bytes().startswith(b"garbage")


WRITER = """
import asyncio, sys
from pathlib import Path
from responder.store_sqlite import SqliteStore
async def main():
    store = SqliteStore(Path(sys.argv[1])); store.open()
    n = 0
    while True:
        assert await store.add_intake({"n": n}, 0.0, limit=10**9)
        print(n, flush=True); n += 1
asyncio.run(main())
"""


def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    """The last number the writer printed before SIGKILL is in the file."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    acknowledged = -1
    for line in child.stdout:
        acknowledged = int(line)
        if acknowledged >= 30:
            os.kill(child.pid, signal.SIGKILL)
            break
    rest = child.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else acknowledged
    child.stdout.close()
    child.wait()
    db = sqlite3.connect(tmp_path / "responder.db")
    assert db.execute("SELECT count(*) FROM intake").fetchone()[0] >= acknowledged + 1
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()


async def test_alerts_do_not_wait_for_all_the_work_that_queued_up_before_them(tmp_path: Path) -> None:
    """Whoever posts one waits for it; megabytes of timers and incidents of a storm go beside it, a few at a time."""
    store = SqliteStore(tmp_path)
    store.open()
    at_work, go = threading.Event(), threading.Event()
    order: list[str] = []

    def hold(_: Db) -> None:
        at_work.set()
        go.wait(20)

    def note(name: str) -> Callable[[Db], None]:
        return lambda _: order.append(name)

    held = asyncio.create_task(store._do(hold))
    await asyncio.to_thread(at_work.wait, 20)
    others = [asyncio.create_task(store._do(note(f"other {n}"))) for n in range(20)]
    await asyncio.sleep(0)
    urgent = [asyncio.create_task(store._do(note("alert"), urgent=True)) for _ in range(3)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*urgent)
    assert order[:3] == ["alert"] * 3
    await asyncio.gather(held, *others)
    assert [name for name in order if name != "alert"] == [f"other {n}" for n in range(20)]
    store.close()


async def test_what_is_asked_before_the_end_is_done(tmp_path: Path) -> None:
    """Closing waits for all of it, urgent or not."""
    store = SqliteStore(tmp_path)
    store.open()
    asked = [asyncio.create_task(store.add_intake({"n": n}, 1.0, limit=10_000)) for n in range(600)]
    await asyncio.sleep(0)
    await asyncio.to_thread(store.close)
    assert all(await asyncio.gather(*asked))
    again = SqliteStore(tmp_path)
    again.open()
    assert len(await again.intake()) == 600
    again.close()


async def test_none_that_somebody_has_still_to_work_on_is_left_out(tmp_path: Path) -> None:
    """More servers than a page has rows are down at once, and the daemon starts anew."""
    store = SqliteStore(tmp_path)
    store.open()
    await asyncio.gather(*(store.save_incident(incident(f"i{n}", opened=float(n))) for n in range(1010)))
    found = [await store.incidents(only_open=True), await store.incidents(untold=True), await store.incidents()]
    assert [len(rows) for rows in found] == [1010, 1010, 1000]
    store.close()


async def test_large_payloads_are_read_a_few_at_a_time(store: Store) -> None:
    """What waits after a storm of large ones must not fill our memory; one that is too large by itself is read."""
    for size in (5 << 20, 1 << 20, 1 << 20, 3 << 20):
        assert await store.add_intake({"alerts": ["x" * size]}, 0.0, limit=100)
    sizes = []
    while rows := await store.intake():
        sizes.append([len(row[2]["alerts"][0]) >> 20 for row in rows])
        await store.drop_intake(row[0] for row in rows)
    assert sizes == [[5], [1, 1], [3]]


async def test_a_commit_that_cannot_even_be_undone_answers_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails twice in a row: who waits is told, and the thread lives on for whoever comes next."""
    fails = {"COMMIT": 1, "ROLLBACK": 1}

    class Frail(sqlite3.Connection):
        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
            if fails.get(sql, 0) > 0:
                fails[sql] -= 1
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *args)  # type: ignore[arg-type]

    store = SqliteStore(tmp_path)
    monkeypatch.setattr(store, "_open_file", lambda whole=store._open_file: frail(whole(), tmp_path, Frail))
    store.open()
    async with asyncio.timeout(10):
        with pytest.raises(sqlite3.OperationalError):
            await store.save_incident(incident("i1"))
        await store.save_incident(incident("i2"))
        assert [i.id for i, _, _ in await store.incidents()] == ["i2"]
    store.close()


def frail(made: sqlite3.Connection, folder: Path, kind: type[sqlite3.Connection]) -> sqlite3.Connection:
    """The same file through another kind of connection."""
    made.close()
    return sqlite3.connect(folder / "responder.db", isolation_level=None, factory=kind)


async def test_what_is_long_over_is_forgotten_and_nothing_else(store: Store) -> None:
    """Not what is open, untold, still to be delivered, or was over only lately."""
    for name, over_at, stage in (("old", 5.0, "resolved"), ("open", None, "final"), ("untold", 5.0, "final"),
                                 ("queued", 5.0, "resolved"), ("late", 50.0, "resolved")):  # fmt: skip
        state = "resolved" if over_at else "open"
        await store.save_incident(
            incident(name, state, 1.0).model_copy(update={"resolved_at": over_at}), stage=stage, revision=1
        )
        sent = "pending" if name == "queued" else "delivered"
        await store.add_deliveries(
            [Delivery(id=name, incident=name, revision=1, receiver="r", stage="final", state=sent)]
        )
    assert [await store.forget(20.0), await store.forget(20.0)] == [1, 0]
    assert sorted(i.id for i, _, _ in await store.incidents()) == ["late", "open", "queued", "untold"]
    assert sorted(d.id for d in await store.deliveries()) == ["late", "open", "queued", "untold"]


async def test_the_audit_log_loses_what_is_older_and_nothing_else(store: Store) -> None:
    """On both engines; while the clock cannot be believed nothing is old."""
    for at in (10.0, 20.0, 30.0):
        await store.add_audit(at, "i", {"what": f"at {at:g}"})
    await store.forget(float("-inf"))
    assert len(await store.audit()) == 3
    await store.forget(20.0)
    assert [at for at, _, _ in await store.audit()] == [30.0, 20.0]
