"""What do people look for in the store? Pages of incidents and deliveries, searched and counted by the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from responder.model import Delivery, Incident
from responder.store_db import Db, Engine

MAX_PAGE = 200
STATES = ("open", "resolved")


@dataclass(frozen=True)
class Page:
    """A page of incidents: (incident, stage, revision) each; `total` of the filter, `open` of all."""

    rows: tuple[tuple[Incident, str, int], ...]
    total: int
    open: int


class Look(Engine):
    """The part of the store for people who look."""

    async def incident_page(
        self, *, state: str = "", incident_class: str = "", search: str = "", offset: int = 0, limit: int = 50
    ) -> Page:
        """Open ones first, newest first; `search` in id, target and everything written of the incident."""
        where, args = list[str](), list[Any]()
        if state in ("open", "resolved"):
            where.append("state=?")
            args.append(state)
        if incident_class:
            where.append(f"{self.class_of}=?")
            args.append(incident_class)
        for word in search.split()[:5]:
            where.append(self.contains)
            args.append(f"%{_literal(word)}%")
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        limit, offset = min(max(limit, 1), MAX_PAGE), max(offset, 0)

        def work(db: Db) -> tuple[list[Any], int, int]:
            # The index alone says which incidents a page has; only what is searched for is read in every body, once.
            order = f"SELECT id FROM incidents {condition} ORDER BY state, opened_at DESC, id"
            if search:
                ids = [row[0] for row in db.execute(order, args).fetchall()]
                total, ids = len(ids), ids[offset : offset + limit]
            else:
                total = db.execute(f"SELECT count(*) FROM incidents {condition}", args).fetchone()[0]
                ids = [row[0] for row in db.execute(f"{order} LIMIT ? OFFSET ?", (*args, limit, offset)).fetchall()]
            marks = ",".join("?" * len(ids)) or "NULL"
            found = db.execute(f"SELECT id, body, stage, revision FROM incidents WHERE id IN ({marks})", ids).fetchall()
            rows = sorted(found, key=lambda row: ids.index(row[0]))
            still_open = db.execute("SELECT count(*) FROM incidents WHERE state='open'").fetchone()[0]
            return rows, total, still_open

        rows, total, still_open = await self._do(work)
        shown = tuple((Incident.model_validate_json(row[1]), row[2], row[3]) for row in rows)
        return Page(shown, total, still_open)

    async def class_runs(self, newest: int) -> Mapping[str, tuple[int, tuple[Incident, ...]]]:
        """Incident class -> (how many there were, the newest so many, newest first)."""

        def work(db: Db) -> dict[str, tuple[int, list[Any]]]:
            # The index answers both: bodies are read of the newest only.
            counted = f"SELECT {self.class_of}, count(*) FROM incidents GROUP BY {self.class_of}"
            listed = (
                f"SELECT opened_at, body FROM incidents WHERE {self.class_of}=? AND state=? "
                "ORDER BY opened_at DESC, id LIMIT ?"
            )
            found = {}
            for name, count in db.execute(counted).fetchall():
                rows = [row for state in STATES for row in db.execute(listed, (name, state, newest)).fetchall()]
                found[name or ""] = (count, sorted(rows, key=lambda row: -row[0])[:newest])
            return found

        found = await self._do(work)
        return {
            name: (count, tuple(Incident.model_validate_json(row[1]) for row in rows))
            for name, (count, rows) in found.items()
        }

    async def latest_deliveries(self, limit: int = 200) -> list[Delivery]:
        """Undelivered ones first, then newest first."""
        sql = (
            "SELECT body FROM deliveries ORDER BY CASE state WHEN 'pending' THEN 0 WHEN 'dead' THEN 1 ELSE 2 END, "
            "sequence DESC LIMIT ?"
        )
        rows = await self._do(lambda db: db.execute(sql, (limit,)).fetchall())
        return [Delivery.model_validate_json(row[0]) for row in rows]


def _literal(text: str) -> str:
    """Text as it stands in JSON and means only itself in LIKE."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return escaped.replace("!", "!!").replace("%", "!%").replace("_", "!_")
