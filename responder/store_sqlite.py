"""How is it kept in one file? SQLite on a thread of its own; waiting transactions share one sync.

`synchronous=FULL`, so what was acknowledged survives power loss. A sync costs milliseconds whatever it carries: what
has queued up meanwhile is committed together, each piece of work in a savepoint, and nobody is answered before. Alerts
wait for little else: with them only a few pieces of other work are committed, which may be megabytes each.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from responder.killpoint import reach
from responder.store import Store
from responder.store_db import Db, StoreFull, StoreRefused, T
from responder.store_reserve import Reserve
from responder.store_tables import SCHEMA, statements

SERIAL_ID = "INTEGER PRIMARY KEY AUTOINCREMENT"
TOGETHER = 256
"""Most pieces of work in one commit."""
BESIDE_URGENT = 4
"""Of them so many may be ones nobody waits for, where somebody waits for others."""
Job = tuple[Callable[[Db], Any], "Future[Any]"]
Ended = tuple["Future[Any]", Any, BaseException | None]


class SqliteStore(Store):
    """The daemon's memory in `folder`. A second process on the same folder is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._urgent: deque[Job] = deque()
        self._others: deque[Job | None] = deque()
        self._news = threading.Semaphore(0)
        """As often as there is a piece of work."""
        self._thread: threading.Thread | None = None
        self._lock: int | None = None
        self._reserve = Reserve(folder)

    def open(self) -> None:
        """Create or open the file. StoreRefused if another daemon holds it or a newer version wrote it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._unlock()
            raise StoreRefused(f"another responder uses {self.folder}: stop it, or give another --data-dir") from None
        self._reserve.hold()
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="store", daemon=True)
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            self._unlock()
            raise

    def close(self) -> None:
        """Finish what waits, close the file and let go of the directory; idempotent."""
        if self._thread is not None:
            self._others.append(None)
            self._news.release()
            self._thread.join()
            self._thread = None
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def out_of_room(self) -> None:
        """Somebody else could not write to the same disk: give the reserve back."""
        self.full = True
        self._reserve.release()

    async def make_room(self) -> bool:
        """Take the reserve again where there is room for it: from then on the disk is not full any more."""
        held = await asyncio.to_thread(self._reserve.hold)
        self.full = not held if self.full else False
        return self.full

    async def _do(self, work: Callable[[Db], T], *, urgent: bool = False) -> T:
        if self._thread is None:
            raise StoreRefused("the store is closed")
        done: Future[T] = Future()
        queue: deque[Any] = self._urgent if urgent else self._others
        queue.append((work, done))
        self._news.release()
        return await asyncio.wrap_future(done)

    # ---------------------------------------------------------------------------------------- on the thread

    def _serve(self, ready: Future[None]) -> None:
        try:
            db = self._open_file()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        try:
            while self._commit(db, self._waiting()):
                pass
        finally:
            db.close()

    def _waiting(self) -> list[Job | None]:
        """At least one piece of work; all that has queued up, or what is urgent and a few others."""
        self._news.acquire()
        found: list[Job | None] = [self._urgent.popleft() for _ in range(min(len(self._urgent), TOGETHER))]
        most = BESIDE_URGENT if found else TOGETHER
        while self._others and most and (not found or found[-1] is not None):
            if self._others[0] is None and self._urgent:
                break  # asked to end: not before all of it is done
            found.append(self._others.popleft())
            most -= 1
        for _ in found[1:]:
            self._news.acquire()
        return found

    def _commit(self, db: sqlite3.Connection, jobs: list[Job | None]) -> bool:
        """Everything in one transaction; False when asked to end."""
        ended = self._try(db, jobs)
        if any(isinstance(failure, StoreFull) for _, _, failure in ended):
            self.full = True
            if self._reserve.release():
                ended = self._try(db, jobs)
        for done, result, failure in ended:
            if done.set_running_or_notify_cancel():
                if failure is None:
                    done.set_result(result)
                else:
                    done.set_exception(failure)
        return None not in jobs

    def _try(self, db: sqlite3.Connection, jobs: list[Job | None]) -> list[Ended]:
        ended: list[Ended] = []
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
            db.execute("BEGIN IMMEDIATE")
            for job in jobs:
                if job is not None:
                    ended.append((job[1], *_one(db, job[0])))
            reach("store.before_commit")
            db.execute("COMMIT")
            reach("store.after_commit")
        except BaseException as error:  # whatever it was: nobody's work is on disk, and everybody is told
            if db.in_transaction:
                # Where even that fails the next commit says so again; a thread that ends would answer nobody, ever.
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
            failure = StoreFull(f"no room on the disk of {self.folder}") if _no_room(error) else error
            ended = [(job[1], None, failure) for job in jobs if job is not None]
        return ended

    def _open_file(self) -> sqlite3.Connection:
        path = self.folder / "responder.db"
        try:
            db = sqlite3.connect(path, timeout=30, isolation_level=None)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "journal_size_limit=67108864"):
                db.execute(f"PRAGMA {pragma}")
            found = _schema_of(db)
        except sqlite3.DatabaseError as error:
            raise StoreRefused(
                f"{path} cannot be read ({error}): move it away to start afresh; "
                "incident folders stay readable without it"
            ) from None
        if found > SCHEMA:
            db.close()
            raise StoreRefused(
                f"{self.folder} was written by a newer responder (schema {found}, we know {SCHEMA}): upgrade this one"
            )
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        for sql in statements(SERIAL_ID, self.class_of):
            db.execute(sql)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        db.execute("COMMIT")
        return db


def _one(db: sqlite3.Connection, work: Callable[[Db], Any]) -> tuple[Any, BaseException | None]:
    db.execute("SAVEPOINT work")
    try:
        result = work(db)
    except sqlite3.OperationalError:
        raise  # the disk, not this piece of work: nothing of the whole commit may count
    except BaseException as error:
        db.execute("ROLLBACK TO work")
        db.execute("RELEASE work")
        return None, error
    db.execute("RELEASE work")
    return result, None


def _no_room(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)  # only what SQLite itself has raised has one
    return isinstance(error, sqlite3.OperationalError) and code & 0xFF == sqlite3.SQLITE_FULL


def _schema_of(db: sqlite3.Connection) -> int:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone():
        return 0
    row = db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
    return int(row[0]) if row else 0


class SqliteReader(Store):
    """The same questions to the file of a daemon that may be running; it changes nothing."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "responder.db"
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        """StoreRefused where there is no file, or one we do not know."""
        try:
            self._db = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
            found = _schema_of(self._db)
        except sqlite3.DatabaseError as error:
            raise StoreRefused(f"{self.path} cannot be read ({error}): give the daemon's --data-dir") from None
        if found != SCHEMA:
            self.close()
            raise StoreRefused(
                f"{self.path} has schema {found}, we know {SCHEMA}: start the daemon of this version once"
            )

    def close(self) -> None:
        """Idempotent."""
        if self._db is not None:
            self._db.close()
            self._db = None

    async def _do(self, work: Callable[[Db], T], *, urgent: bool = False) -> T:
        if self._db is None:
            raise StoreRefused("the store is closed")
        return work(self._db)
