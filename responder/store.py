"""What must survive a crash? Incidents, rule timers, deliveries, steps, intake and inventories, in one database.

The SQL is here and in `store_work.py`, once for all engines; `store_sqlite.py` is the default engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from responder.model import Delivery, Incident, Inventory, Opinion, Silence
from responder.store_db import Db, StoreFull
from responder.store_look import Look
from responder.store_work import Work, put_deliveries

NO_LIMIT = (1 << 63) - 1
FORGOTTEN_AT_ONCE = 500
AUDIT_FORGOTTEN_AT_ONCE = 20_000
READ_AT_ONCE = 4 << 20
"""Characters of waiting payloads; as objects they are some ten times as much. One may be as large by itself."""


class Store(Look, Work):
    """The daemon's memory. What a method wrote is on disk when it returns."""

    # ------------------------------------------------------------------------------------------- incidents

    async def save_incident(self, incident: Incident, *, stage: str = "", revision: int = 0) -> None:
        """Insert or update; stage and revision only ever move forward."""
        await self._do(lambda db: _save_incident(db, incident, stage, revision))

    async def incidents(
        self, *, only_open: bool = False, untold: bool = False, limit: int = 1000
    ) -> list[tuple[Incident, str, int]]:
        """(incident, stage of the last report, its revision), newest first; `untold`: not closed or not told.

        `limit` is for all there ever were: of those that somebody has still to work on none is left out.
        """
        limit = NO_LIMIT if only_open or untold else limit
        where = "WHERE state='open' OR stage<>'resolved'" if untold else "WHERE state='open'" if only_open else ""

        def work(db: Db) -> list[tuple[str, str, int]]:
            return db.execute(
                f"SELECT body, stage, revision FROM incidents {where} ORDER BY opened_at DESC, id LIMIT ?", (limit,)
            ).fetchall()

        return [(Incident.model_validate_json(body), stage, rev) for body, stage, rev in await self._do(work)]

    async def incident(self, name: str) -> tuple[Incident, str, int] | None:
        """One incident with the stage of its last report and the revision."""
        sql = "SELECT body, stage, revision FROM incidents WHERE id=?"
        row = await self._do(lambda db: db.execute(sql, (name,)).fetchone())
        return (Incident.model_validate_json(row[0]), row[1], row[2]) if row else None

    async def publish(self, incident: Incident, *, stage: str, revision: int, deliveries: Iterable[Delivery]) -> None:
        """A revision: the incident as told and a message for every receiver, both or neither."""

        def work(db: Db) -> None:
            _save_incident(db, incident, stage, revision)
            put_deliveries(db, deliveries)

        await self._do(work)

    async def forget(self, before: float) -> int:
        """Forget incidents that were over by then (unix seconds) and of which everybody has been told, with their steps
        and messages; how many. Older lines of the audit log, settled obligations, and silences that are over go as
        well; engineers' words stay."""
        found = (
            "SELECT id, body FROM incidents WHERE state='resolved' AND stage='resolved' AND opened_at<? AND NOT EXISTS "
            "(SELECT 1 FROM deliveries WHERE incident=incidents.id AND state='pending') LIMIT ?"
        )

        def work(db: Db) -> int:
            rows = db.execute(found, (before, FORGOTTEN_AT_ONCE)).fetchall()
            ids = [(name,) for name, body in rows if (json.loads(body).get("resolved_at") or before) < before]
            for sql in ("DELETE FROM steps WHERE incident=?", "DELETE FROM deliveries WHERE incident=?",
                        "DELETE FROM incidents WHERE id=?"):  # fmt: skip
                db.executemany(sql, ids)
            db.execute(
                "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at<? ORDER BY id LIMIT ?)",
                (before, AUDIT_FORGOTTEN_AT_ONCE),
            )
            db.execute("DELETE FROM obligations WHERE state='settled' AND opened_at<?", (before,))
            db.execute("DELETE FROM silences WHERE ends_at<?", (before,))
            return len(ids)

        return await self._do(work)

    # ---------------------------------------------------------------------------------------- rule timers

    async def save_timers(self, changed: dict[str, str], gone: Iterable[str]) -> None:
        """Write the JSON of changed timers by key and forget those that are gone."""

        def work(db: Db) -> None:
            db.executemany(
                "INSERT INTO timers VALUES (?,?) ON CONFLICT (key) DO UPDATE SET body=excluded.body",
                list(changed.items()),
            )
            db.executemany("DELETE FROM timers WHERE key=?", [(key,) for key in gone])

        await self._do(work)

    async def timers(self) -> dict[str, str]:
        """Key -> JSON of every timer."""
        return dict(await self._do(lambda db: db.execute("SELECT key, body FROM timers").fetchall()))

    # --------------------------------------------------------------------------------------------- intake

    async def add_intake(self, payload: object, at: float, *, limit: int) -> bool:
        """Put an alert payload on disk; False (and nothing kept) when `limit` are waiting or the disk is full."""

        def work(db: Db) -> bool:
            # Not count(*): that would read every waiting row for each that comes. Ids are taken from the oldest on.
            if db.execute("SELECT coalesce(max(id)-min(id)+1, 0) FROM intake").fetchone()[0] >= limit:
                return False
            db.execute("INSERT INTO intake (received_at, body) VALUES (?,?)", (at, json.dumps(payload)))
            return True

        try:
            return await self._do(work, urgent=True)
        except StoreFull:
            return False

    async def intake(self) -> list[tuple[int, float, object]]:
        """Waiting payloads, oldest first: (id, received at, payload). As many as fit into memory many times over."""

        def work(db: Db) -> list[tuple[int, float, object]]:
            last = fitting(db.execute("SELECT id, length(body) FROM intake ORDER BY id LIMIT 2000").fetchall())
            sql = "SELECT id, received_at, body FROM intake WHERE id<=? ORDER BY id"
            return [(row[0], row[1], json.loads(row[2])) for row in db.execute(sql, (last,)).fetchall()]

        return await self._do(work)

    async def drop_intake(self, ids: Iterable[int]) -> None:
        """Forget payloads that are folded into incidents."""
        await self._do(lambda db: db.executemany("DELETE FROM intake WHERE id=?", [(i,) for i in ids]))

    # ------------------------------------------------------------------------------ silences, inventories

    async def save_silence(self, silence: Silence) -> None:
        """Add or change a silence."""
        row = (silence.id, silence.ends_at, silence.model_dump_json())
        await self._do(
            lambda db: db.execute(
                "INSERT INTO silences VALUES (?,?,?) "
                "ON CONFLICT (id) DO UPDATE SET ends_at=excluded.ends_at, body=excluded.body",
                row,
            )
        )

    async def silences(self, now: float) -> tuple[Silence, ...]:
        """Those that have not ended by `now`."""
        rows = await self._do(
            lambda db: db.execute("SELECT body FROM silences WHERE ends_at>? ORDER BY id", (now,)).fetchall()
        )
        return tuple(Silence.model_validate_json(row[0]) for row in rows)

    async def save_inventory(self, target: str, inventory: Inventory) -> None:
        """Remember what a healthy server looked like."""
        row = (target, inventory.model_dump_json())
        put = "INSERT INTO inventories VALUES (?,?) ON CONFLICT (target) DO UPDATE SET body=excluded.body"
        await self._do(lambda db: db.execute(put, row))

    async def inventories(self) -> dict[str, Inventory]:
        """Target name -> inventory."""
        rows = await self._do(lambda db: db.execute("SELECT target, body FROM inventories").fetchall())
        return {name: Inventory.model_validate_json(body) for name, body in rows}

    # ------------------------------------------------------------------------------------------- what is learned

    async def save_learned(self, target: str, kind: str, body: str) -> None:
        """Remember what a healthy server taught."""
        put = "INSERT INTO learned VALUES (?,?,?) ON CONFLICT (target, kind) DO UPDATE SET body=excluded.body"
        await self._do(lambda db: db.execute(put, (target, kind, body)))

    async def learned(self) -> list[tuple[str, str, str]]:
        """(target, kind, JSON) of everything remembered."""
        return await self._do(lambda db: db.execute("SELECT target, kind, body FROM learned").fetchall())

    async def save_opinion(self, opinion: Opinion) -> None:
        """An engineer's word on a verdict; a later word on the same incident replaces it."""
        row = (opinion.incident, opinion.at, opinion.model_dump_json())
        put = (
            "INSERT INTO opinions VALUES (?,?,?) ON CONFLICT (incident) DO UPDATE SET at=excluded.at, "
            "body=excluded.body WHERE excluded.at>=opinions.at"
        )
        await self._do(lambda db: db.execute(put, row))

    async def opinions(self) -> list[Opinion]:
        """Newest first."""
        rows = await self._do(
            lambda db: db.execute("SELECT body FROM opinions ORDER BY at DESC, incident LIMIT 5000").fetchall()
        )
        return [Opinion.model_validate_json(row[0]) for row in rows]

    async def ping(self) -> None:
        """Raise if the file cannot be written."""
        put = "INSERT INTO meta VALUES ('ping', '1') ON CONFLICT (key) DO UPDATE SET value=excluded.value"
        await self._do(lambda db: db.execute(put))


def fitting(sizes: Iterable[tuple[int, int]]) -> int:
    """Of (id, length) in order: the last id of what is read at once, at least the first one's; 0 for none."""
    last = total = 0
    for name, size in sizes:
        total += size
        if last and total > READ_AT_ONCE:
            break
        last = name
    return last


def _save_incident(db: Db, incident: Incident, stage: str, revision: int) -> None:
    db.execute(
        "INSERT INTO incidents VALUES (?,?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET state=excluded.state, "
        "body=excluded.body, stage=CASE WHEN excluded.stage='' THEN incidents.stage ELSE excluded.stage END, "
        "revision=CASE WHEN excluded.revision>incidents.revision THEN excluded.revision ELSE incidents.revision END",
        (incident.id, incident.target, incident.state, incident.opened_at, stage, revision,
         incident.model_dump_json()),
    )  # fmt: skip
