"""A full disk: the reserve is released, alerts go on being taken in, captures are off; it recovers by itself."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from responder.plan import Budget, plan
from responder.store_db import StoreFull
from responder.store_reserve import Reserve
from responder.store_sqlite import SqliteStore
from tests.flow import brings, content, incident, step

BODY = {"text": "y" * 2000}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root; the same with max_page_count runs everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, name: str) -> None:
    """Whatever room there is."""
    handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(handle, b"x" * 4096)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(handle)


async def until_full(store: SqliteStore) -> int:
    """How many alerts were acknowledged before the first that was refused."""
    for kept in range(5000):
        if not await store.add_intake(BODY, 0.0, limit=10**6):
            return kept
    raise AssertionError("never full")


async def test_alerts_go_on_with_the_reserve_and_it_recovers_by_itself(small: Path) -> None:
    """Full: some more alerts fit. Really full: refused in words, nothing acknowledged is lost. Room: as before."""
    store = SqliteStore(small)
    store.open()
    fill(small, "somebody's")
    kept = await until_full(store)
    with pytest.raises(StoreFull, match="no room"):
        await store.save_timers({"k": "y" * 20000}, ())
    assert store.full
    assert kept > 20
    assert await store.make_room()
    (small / "somebody's").unlink()
    assert not await store.make_room()
    assert await store.add_intake(BODY, 0.0, limit=10**6)
    store.close()
    with sqlite3.connect(small / "responder.db") as db:
        assert db.execute("SELECT count(*) FROM intake").fetchone()[0] == kept + 1
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()


async def test_a_full_database_is_said_and_the_reserve_is_given_back(tmp_path: Path) -> None:
    """The same without a small disk: SQLite may not grow."""
    store = SqliteStore(tmp_path)
    store.open()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= (tmp_path / "reserve").stat().st_size
    await store._do(lambda db: db.execute("PRAGMA max_page_count=40"))
    await until_full(store)
    assert store.full
    assert not (tmp_path / "reserve").exists()
    await store._do(lambda db: db.execute("PRAGMA max_page_count=100000"))
    assert not await store.make_room()
    assert (tmp_path / "reserve").exists()
    assert await store.add_intake({}, 0.0, limit=10**6)
    store.close()


def test_no_reserve_where_there_is_no_room_for_it(small: Path) -> None:
    """It must not be what fills the disk."""
    fill(small, "x")
    assert not Reserve(small).hold()
    assert not (small / "reserve").exists()


def test_captures_are_off_and_the_report_says_why() -> None:
    """Each refused call has the reason."""
    look = step("look", brings({}))
    books = content(look).playbooks
    got = plan(incident(), books, {"look": look}, Budget(nothing="captures are off"))
    assert (got.chosen, [r.why for r in got.refused]) == ((), ["captures are off"])
