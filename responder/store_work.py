"""What is in progress, what is owed, and what was done? Deliveries, steps, the audit log, obligations, costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from responder.model import Cost, Delivery, Obligation
from responder.store_db import Db, Engine

MOST_OWED = 1000
COSTS_KEPT_S = 30 * 86400.0
Audit = tuple[float, Mapping[str, Any]]
"""When, and what was done."""


class Work(Engine):
    """The part of the store about work."""

    # ----------------------------------------------------------------------------------------- deliveries

    async def add_deliveries(self, deliveries: Iterable[Delivery]) -> None:
        """Queue messages; one that is already queued is left as it is."""
        await self._do(lambda db: put_deliveries(db, deliveries))

    async def save_delivery(self, item: Delivery, receipt: str = "") -> None:
        """Record an attempt; `receipt` (say, a Slack timestamp) is kept for later messages of the incident."""

        def work(db: Db) -> None:
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

    async def delivery_counts(self) -> dict[tuple[str, str], int]:
        """(receiver, state) -> how many."""
        sql = "SELECT receiver, state, count(*) FROM deliveries GROUP BY receiver, state"
        rows = await self._do(lambda db: db.execute(sql).fetchall())
        return {(row[0], row[1]): row[2] for row in rows}

    async def unfinished(self) -> set[str]:
        """Incidents, of all replicas, that are open, or whose end or some message somebody has still to be told."""
        sql = (
            "SELECT id FROM incidents WHERE state='open' OR stage<>'resolved' "
            "UNION SELECT incident FROM deliveries WHERE state='pending'"
        )
        return {row[0] for row in await self._do(lambda db: db.execute(sql).fetchall())}

    # ------------------------------------------------------------------------------- the journal of steps, audit

    async def begin_step(self, incident: str, evidence: str, entry: Mapping[str, Any], audit: Audit) -> None:
        """Say that a step is about to act; on disk before it does, with its line of the audit log."""
        await self._put_step(incident, evidence, "started", entry, audit)

    async def end_step(self, incident: str, evidence: str, entry: Mapping[str, Any], audit: Audit) -> None:
        """Say how it ended; its files are on disk already."""
        await self._put_step(incident, evidence, "done", entry, audit)

    async def _put_step(self, incident: str, evidence: str, state: str, entry: Mapping[str, Any], audit: Audit) -> None:
        put = (
            "INSERT INTO steps VALUES (?,?,?,?) "
            "ON CONFLICT (incident, evidence) DO UPDATE SET state=excluded.state, body=excluded.body"
        )
        row = (incident, evidence, state, json.dumps(entry))

        def work(db: Db) -> None:
            db.execute(put, row)
            _put_audit(db, audit[0], incident, audit[1])

        await self._do(work)

    async def drop_step(self, incident: str, evidence: str) -> None:
        """Forget a step that only read and did not come to an end: it runs again."""
        sql = "DELETE FROM steps WHERE incident=? AND evidence=?"
        await self._do(lambda db: db.execute(sql, (incident, evidence)))

    async def steps(self, incident: str) -> list[tuple[str, str, dict[str, Any]]]:
        """(evidence id, started or done, entry) of an incident, in the order they began."""
        sql = "SELECT evidence, state, body FROM steps WHERE incident=?"
        rows = await self._do(lambda db: db.execute(sql, (incident,)).fetchall())
        found = [(row[0], row[1], json.loads(row[2])) for row in rows]
        return sorted(found, key=lambda row: (row[2]["evidence"]["started_at"], row[0]))

    async def add_audit(self, at: float, incident: str, entry: Mapping[str, Any]) -> None:
        """Write a line of what was done where, by which rule, allowed by whom; lines are never changed."""
        await self._do(lambda db: _put_audit(db, at, incident, entry))

    async def audit(self, incident: str | None = None, limit: int = 1000) -> list[tuple[float, str, dict[str, Any]]]:
        """(at, incident, entry), newest first."""
        where, args = ("WHERE incident=?", (incident,)) if incident else ("", ())
        sql = f"SELECT at, incident, body FROM audit {where} ORDER BY id DESC LIMIT ?"
        rows = await self._do(lambda db: db.execute(sql, (*args, limit)).fetchall())
        return [(row[0], row[1], json.loads(row[2])) for row in rows]

    # -------------------------------------------------------------------------- obligations, costs of captures

    async def save_obligation(self, item: Obligation) -> None:
        """Add or change an obligation; on disk when this returns."""
        row = (item.id, item.target, item.state, item.opened_at, item.model_dump_json())
        await self._do(
            lambda db: db.execute(
                "INSERT INTO obligations VALUES (?,?,?,?,?) "
                "ON CONFLICT (id) DO UPDATE SET target=excluded.target, state=excluded.state, "
                "opened_at=excluded.opened_at, body=excluded.body",
                row,
            )
        )

    async def obligations(self, *, only_open: bool = True) -> list[Obligation]:
        """Oldest first; of very many the newest."""
        where = "WHERE state='open'" if only_open else ""
        sql = f"SELECT body FROM obligations {where} ORDER BY opened_at DESC, id DESC LIMIT {MOST_OWED}"
        rows = await self._do(lambda db: db.execute(sql).fetchall())
        return [Obligation.model_validate_json(row[0]) for row in reversed(rows)]

    async def add_cost(self, at: float, target: str, host: str, step: str, rung: int, cost: Cost) -> None:
        """Remember what a capture cost; older than a month is forgotten."""
        row = (at, target, host, step, rung, cost.pause_s, cost.model_dump_json())

        def work(db: Db) -> None:
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


def _put_audit(db: Db, at: float, incident: str, entry: Mapping[str, Any]) -> None:
    row = (at, incident, json.dumps(entry, sort_keys=True))
    db.execute("INSERT INTO audit (at, incident, body) VALUES (?,?,?)", row)


def put_deliveries(db: Db, deliveries: Iterable[Delivery]) -> None:
    """Queue messages inside a transaction; one that is already queued is left as it is."""
    for item in deliveries:
        top = db.execute("SELECT coalesce(max(sequence),0)+1 FROM deliveries").fetchone()[0]
        db.execute(
            "INSERT INTO deliveries (id,incident,receiver,state,sequence,next_at,body) "
            "VALUES (?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING",
            (item.id, item.incident, item.receiver, item.state, top, item.next_at, item.model_dump_json()),
        )
