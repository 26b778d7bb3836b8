"""What must survive a crash? Incidents, rule timers, deliveries, intake and inventories, in one SQLite file.

One connection on one thread; `synchronous=FULL`, so what was acknowledged survives power loss. Every value is the JSON
of a noun: the schema knows only what is searched for.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from responder.model import Cost, Delivery, Incident, Inventory, Obligation, Silence

SCHEMA = 2
"""2 added obligations and costs; older files only lack these tables, so opening one is the migration."""
TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS incidents (
    id TEXT PRIMARY KEY, target TEXT NOT NULL, state TEXT NOT NULL, opened_at REAL NOT NULL,
    stage TEXT NOT NULL DEFAULT '', revision INTEGER NOT NULL DEFAULT 0, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS incidents_open ON incidents (state, opened_at);
CREATE TABLE IF NOT EXISTS timers (key TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    id TEXT PRIMARY KEY, incident TEXT NOT NULL, receiver TEXT NOT NULL, state TEXT NOT NULL,
    sequence INTEGER NOT NULL, next_at REAL NOT NULL, receipt TEXT NOT NULL DEFAULT '', body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS deliveries_pending ON deliveries (state, receiver, sequence);
CREATE TABLE IF NOT EXISTS intake (id INTEGER PRIMARY KEY AUTOINCREMENT, received_at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS silences (id TEXT PRIMARY KEY, ends_at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS inventories (target TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS obligations (
    id TEXT PRIMARY KEY, target TEXT NOT NULL, state TEXT NOT NULL, opened_at REAL NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS obligations_open ON obligations (state);
CREATE TABLE IF NOT EXISTS costs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, target TEXT NOT NULL, host TEXT NOT NULL,
    step TEXT NOT NULL, rung INTEGER NOT NULL, pause REAL NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS costs_at ON costs (at);
"""

COSTS_KEPT_S = 30 * 86400.0
T = TypeVar("T")


class StoreRefused(Exception):
    """The data directory cannot be used; the message says why and what to do."""


class Store:
    """The daemon's memory in `folder`. Open it once per process; a second process is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._lock: int | None = None
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        """Create or open the file. StoreRefused if another daemon holds it or a newer version wrote it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreRefused(f"another responder uses {self.folder}: stop it, or give another --data-dir") from None
        try:
            self._thread.submit(self._open_file).result()
        except sqlite3.DatabaseError as error:
            raise StoreRefused(
                f"{self.folder / 'responder.db'} cannot be read ({error}): move it away to start afresh; "
                "incident folders stay readable without it"
            ) from None

    def _open_file(self) -> None:
        db = sqlite3.connect(self.folder / "responder.db", timeout=30, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "journal_size_limit=67108864"):
            db.execute(f"PRAGMA {pragma}")
        row = None
        if db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone():
            row = db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
        if row and int(row[0]) > SCHEMA:
            raise StoreRefused(
                f"{self.folder} was written by a newer responder (schema {row[0]}, we know {SCHEMA}): upgrade this one"
            )
        db.executescript(TABLES)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        self._db = db

    def close(self) -> None:
        """Close the file and let go of the directory; idempotent."""
        if self._db is not None:
            self._thread.submit(self._db.close).result()
            self._db = None
        self._thread.shutdown()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            if self._db is None:
                raise StoreRefused("the store is closed")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._db)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            return result

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    # ------------------------------------------------------------------------------------------- incidents

    async def save_incident(self, incident: Incident, *, stage: str = "", revision: int = 0) -> None:
        """Insert or update; stage and revision only ever move forward."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO incidents VALUES (?,?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET state=excluded.state, "
                "body=excluded.body, stage=CASE WHEN excluded.stage='' THEN stage ELSE excluded.stage END, "
                "revision=max(revision, excluded.revision)",
                (incident.id, incident.target, incident.state, incident.opened_at, stage, revision,
                 incident.model_dump_json()),
            )  # fmt: skip

        await self._do(work)

    async def incidents(self, *, only_open: bool = False, limit: int = 1000) -> list[tuple[Incident, str, int]]:
        """(incident, stage of the last report, its revision), newest first."""
        where = "WHERE state='open'" if only_open else ""

        def work(db: sqlite3.Connection) -> list[tuple[str, str, int]]:
            return db.execute(
                f"SELECT body, stage, revision FROM incidents {where} ORDER BY opened_at DESC, id LIMIT ?", (limit,)
            ).fetchall()

        return [(Incident.model_validate_json(body), stage, rev) for body, stage, rev in await self._do(work)]

    # ---------------------------------------------------------------------------------------- rule timers

    async def save_timers(self, changed: dict[str, str], gone: Iterable[str]) -> None:
        """Write the JSON of changed timers by key and forget those that are gone."""

        def work(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO timers VALUES (?,?)", changed.items())
            db.executemany("DELETE FROM timers WHERE key=?", [(key,) for key in gone])

        await self._do(work)

    async def timers(self) -> dict[str, str]:
        """Key -> JSON of every timer."""
        return dict(await self._do(lambda db: db.execute("SELECT key, body FROM timers").fetchall()))

    # ----------------------------------------------------------------------------------------- deliveries

    async def add_deliveries(self, deliveries: Iterable[Delivery]) -> None:
        """Queue messages; one that is already queued is left as it is."""

        def work(db: sqlite3.Connection) -> None:
            for item in deliveries:
                top = db.execute("SELECT coalesce(max(sequence),0)+1 FROM deliveries").fetchone()[0]
                db.execute(
                    "INSERT OR IGNORE INTO deliveries (id,incident,receiver,state,sequence,next_at,body) "
                    "VALUES (?,?,?,?,?,?,?)",
                    (item.id, item.incident, item.receiver, item.state, top, item.next_at, item.model_dump_json()),
                )

        await self._do(work)

    async def save_delivery(self, item: Delivery, receipt: str = "") -> None:
        """Record an attempt; `receipt` (say, a Slack timestamp) is kept for later messages of the incident."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE deliveries SET state=?, next_at=?, body=?, receipt=CASE WHEN ?='' THEN receipt ELSE ? END "
                "WHERE id=?",
                (item.state, item.next_at, item.model_dump_json(), receipt, receipt, item.id),
            )

        await self._do(work)

    async def deliveries(self, receiver: str | None = None, state: str | None = None) -> list[Delivery]:
        """In queue order."""
        where, args = ["1=1"], []
        for column, value in (("receiver", receiver), ("state", state)):
            if value is not None:
                where.append(f"{column}=?")
                args.append(value)
        rows = await self._do(
            lambda db: db.execute(
                f"SELECT body FROM deliveries WHERE {' AND '.join(where)} ORDER BY sequence LIMIT 5000", args
            ).fetchall()
        )
        return [Delivery.model_validate_json(row[0]) for row in rows]

    async def receipt(self, incident: str, receiver: str) -> str:
        """The latest receipt this receiver gave for this incident, or ''."""
        row = await self._do(
            lambda db: db.execute(
                "SELECT receipt FROM deliveries WHERE incident=? AND receiver=? AND receipt<>'' ORDER BY sequence DESC",
                (incident, receiver),
            ).fetchone()
        )
        return row[0] if row else ""

    # --------------------------------------------------------------------------------------------- intake

    async def add_intake(self, payload: object, at: float, *, limit: int) -> bool:
        """Put an accepted alert payload on disk; False (and nothing kept) when `limit` are waiting already."""

        def work(db: sqlite3.Connection) -> bool:
            if db.execute("SELECT count(*) FROM intake").fetchone()[0] >= limit:
                return False
            db.execute("INSERT INTO intake (received_at, body) VALUES (?,?)", (at, json.dumps(payload)))
            return True

        return await self._do(work)

    async def intake(self) -> list[tuple[int, float, object]]:
        """Waiting payloads, oldest first: (id, received at, payload)."""
        rows = await self._do(
            lambda db: db.execute("SELECT id, received_at, body FROM intake ORDER BY id LIMIT 500").fetchall()
        )
        return [(row[0], row[1], json.loads(row[2])) for row in rows]

    async def drop_intake(self, ids: Iterable[int]) -> None:
        """Forget payloads that are folded into incidents."""
        await self._do(lambda db: db.executemany("DELETE FROM intake WHERE id=?", [(i,) for i in ids]))

    # ------------------------------------------------------------------------------ silences, inventories

    async def save_silence(self, silence: Silence) -> None:
        """Add or change a silence."""
        row = (silence.id, silence.ends_at, silence.model_dump_json())
        await self._do(lambda db: db.execute("INSERT OR REPLACE INTO silences VALUES (?,?,?)", row))

    async def silences(self, now: float) -> tuple[Silence, ...]:
        """Those that have not ended by `now`."""
        rows = await self._do(
            lambda db: db.execute("SELECT body FROM silences WHERE ends_at>? ORDER BY id", (now,)).fetchall()
        )
        return tuple(Silence.model_validate_json(row[0]) for row in rows)

    async def save_inventory(self, target: str, inventory: Inventory) -> None:
        """Remember what a healthy server looked like."""
        row = (target, inventory.model_dump_json())
        await self._do(lambda db: db.execute("INSERT OR REPLACE INTO inventories VALUES (?,?)", row))

    async def inventories(self) -> dict[str, Inventory]:
        """Target name -> inventory."""
        rows = await self._do(lambda db: db.execute("SELECT target, body FROM inventories").fetchall())
        return {name: Inventory.model_validate_json(body) for name, body in rows}

    # -------------------------------------------------------------------------- obligations, costs of captures

    async def save_obligation(self, item: Obligation) -> None:
        """Add or change an obligation; on disk when this returns."""
        row = (item.id, item.target, item.state, item.opened_at, item.model_dump_json())
        await self._do(lambda db: db.execute("INSERT OR REPLACE INTO obligations VALUES (?,?,?,?,?)", row))

    async def obligations(self, *, only_open: bool = True) -> list[Obligation]:
        """Oldest first."""
        where = "WHERE state='open'" if only_open else ""
        rows = await self._do(
            lambda db: db.execute(f"SELECT body FROM obligations {where} ORDER BY opened_at, id LIMIT 1000").fetchall()
        )
        return [Obligation.model_validate_json(row[0]) for row in rows]

    async def add_cost(self, at: float, target: str, host: str, step: str, rung: int, cost: Cost) -> None:
        """Remember what a capture cost; older than a month is forgotten."""
        row = (at, target, host, step, rung, cost.pause_s, cost.model_dump_json())

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO costs (at,target,host,step,rung,pause,body) VALUES (?,?,?,?,?,?,?)", row)
            db.execute("DELETE FROM costs WHERE at<?", (at - COSTS_KEPT_S,))

        await self._do(work)

    async def costs(self, since: float) -> list[tuple[float, str, str, str, int, float]]:
        """(at, target, host, step, rung, pause in seconds) of every capture since then, oldest first."""
        return await self._do(
            lambda db: db.execute(
                "SELECT at,target,host,step,rung,pause FROM costs WHERE at>=? ORDER BY at,id LIMIT 10000", (since,)
            ).fetchall()
        )

    async def ping(self) -> None:
        """Raise if the file cannot be written."""
        await self._do(lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES ('ping', '1')"))
