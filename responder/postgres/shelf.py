"""What does an agent remember in the shared database? What it owes to servers, and what it has found on its node."""

from __future__ import annotations

from typing import Any

from responder.model import Inventory, Obligation
from responder.postgres.database import Connection, Database

PATIENCE_S = 30.0


class Shelf:
    """The two questions of the store an agent has; on the agent's few connections."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def save_obligation(self, item: Obligation) -> None:
        """Committed when it returns."""
        row = (item.id, item.target, item.state, item.opened_at, item.model_dump_json())
        await self._put(
            "INSERT INTO obligations VALUES (%s,%s,%s,%s,%s) ON CONFLICT (id) DO UPDATE SET target=excluded.target, "
            "state=excluded.state, opened_at=excluded.opened_at, body=excluded.body", row,
        )  # fmt: skip

    async def obligations(self, *, only_open: bool = True) -> list[Obligation]:
        """Oldest first."""
        where = "WHERE state='open'" if only_open else ""

        async def read(db: Connection) -> list[tuple[Any, ...]]:
            return await (
                await db.execute(f"SELECT body FROM obligations {where} ORDER BY opened_at, id LIMIT 1000")
            ).fetchall()

        rows = await self.database.ask(read, patience_s=PATIENCE_S)
        return [Obligation.model_validate_json(row[0]) for row in rows]

    async def save_inventory(self, target: str, inventory: Inventory) -> None:
        """What a healthy server looked like."""
        await self._put(
            "INSERT INTO inventories VALUES (%s,%s) ON CONFLICT (target) DO UPDATE SET body=excluded.body",
            (target, inventory.model_dump_json()),
        )

    async def _put(self, statement: str, row: tuple[Any, ...]) -> None:
        async def write(db: Connection) -> None:
            await db.execute(statement, row)

        await self.database.ask(write, patience_s=PATIENCE_S)
