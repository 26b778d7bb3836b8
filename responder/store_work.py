"""What is in progress, and what is owed? Deliveries, obligations and what captures have cost."""

from __future__ import annotations

from collections.abc import Iterable

from responder.model import Cost, Delivery, Obligation
from responder.store_db import Db, Engine

COSTS_KEPT_S = 30 * 86400.0


class Work(Engine):
    """The part of the store about work."""

    # ----------------------------------------------------------------------------------------- deliveries

    async def add_deliveries(self, deliveries: Iterable[Delivery]) -> None:
        """Queue messages; one that is already queued is left as it is."""

        def work(db: Db) -> None:
            for item in deliveries:
                top = db.execute("SELECT coalesce(max(sequence),0)+1 FROM deliveries").fetchone()[0]
                db.execute(
                    "INSERT INTO deliveries (id,incident,receiver,state,sequence,next_at,body) "
                    "VALUES (?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING",
                    (item.id, item.incident, item.receiver, item.state, top, item.next_at, item.model_dump_json()),
                )

        await self._do(work)

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
        """Oldest first."""
        where = "WHERE state='open'" if only_open else ""
        rows = await self._do(
            lambda db: db.execute(f"SELECT body FROM obligations {where} ORDER BY opened_at, id LIMIT 1000").fetchall()
        )
        return [Obligation.model_validate_json(row[0]) for row in rows]

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
