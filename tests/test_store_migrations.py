"""Every file that a released version wrote is taken over whole; one of a newer version is refused and left alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from responder.store_db import StoreRefused
from responder.store_sqlite import SqliteStore
from responder.store_tables import SCHEMA

DUMPS = Path(__file__).parent / "data" / "stores"
"""Written by the code of their time, each with a row in every table it had."""


def dumps() -> list[Path]:
    return sorted(DUMPS.glob("schema_*.sql"))


def put(dump: Path, folder: Path) -> None:
    db = sqlite3.connect(folder / "responder.db")
    db.executescript(dump.read_text())
    db.close()


def test_every_schema_has_a_file_here() -> None:
    """Whoever changes the tables adds a dump of what was written before: it is what upgrades will meet."""
    assert {dump.name for dump in dumps()} == {f"schema_{number}.sql" for number in range(1, SCHEMA + 1)}


@pytest.mark.parametrize("dump", dumps(), ids=lambda dump: dump.stem)
async def test_an_older_file_is_taken_over_whole(dump: Path, tmp_path: Path) -> None:
    """Nothing is lost, everything works from then on, and opening it twice changes nothing."""
    put(dump, tmp_path)
    for _ in range(2):
        store = SqliteStore(tmp_path)
        store.open()
        (untold,) = await store.incidents(untold=True)
        assert (untold[0].id, untold[1], untold[2]) == ("20260101-000000-a", "first", 1)
        assert len(await store.incidents()) == 2
        assert set(await store.timers()) == {"states", "told"}
        assert [(d.receiver, d.state) for d in await store.deliveries()] == [("hook", "pending")]
        assert len(await store.intake()) == 1
        assert [s.id for s in await store.silences(0.0)] == ["s"]
        assert (await store.inventories())["a"].version == "0.32.0"
        if dump.stem != "schema_1":
            assert [o.id for o in await store.obligations()] == ["o"]
            assert len(await store.costs(0.0)) == 1
        if dump.stem not in ("schema_1", "schema_2"):
            assert [(name, state) for name, state, _ in await store.steps(untold[0].id)] == [("stacks", "started")]
            assert (await store.audit(untold[0].id))[-1][2] == {"what": "step begins"}
        await store.add_audit(1.0, "20260101-000000-a", {"what": "opened"})
        await store.save_learned("a", "setup", "{}")
        assert await store.learned() == [("a", "setup", "{}")]
        store.close()
    with sqlite3.connect(tmp_path / "responder.db") as db:
        assert db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()[0] == str(SCHEMA)
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()


def test_a_newer_file_is_left_as_it_is(tmp_path: Path) -> None:
    """An old daemon must not damage what a newer one wrote."""
    put(dumps()[-1], tmp_path)
    with sqlite3.connect(tmp_path / "responder.db") as db:
        db.execute("UPDATE meta SET value=? WHERE key='schema'", (str(SCHEMA + 1),))
    db.close()
    with pytest.raises(StoreRefused, match="newer"):
        SqliteStore(tmp_path).open()
