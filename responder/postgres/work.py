"""Which captures wait for which node, who has taken them, and how did they end? A queue of rows, told by NOTIFY.

A row is waiting, taken, done or cancelled. Only who has taken a row may end it, and only while nobody has given its
agent up: so an agent that was thought dead and wakes up changes nothing any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from responder.postgres.database import Connection, Database

HEARD_S = 15.0
"""An agent that has not been heard of for so long is gone, and what it had taken is interrupted."""
KEPT = "interval '1 hour'"
DONE = "responder_done"


def channel(node: str) -> str:
    """Where news for a node are told."""
    return f"responder_work_{node}"[:63]


@dataclass(frozen=True)
class Ended:
    """How a row ended: `done` with an answer (JSON), `gone`: its agent died, `absent`: no agent ever took it."""

    state: str
    answer: str = ""


class Work:
    """The controller's side."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def put(self, work: str, node: str, ask: str, within_s: float) -> None:
        """Queue it and tell the node; it is not begun later than `within_s` from now."""

        async def insert(db: Connection) -> None:
            await db.execute(
                "INSERT INTO work (id, node, state, due_at, ask) VALUES (%s,%s,'waiting', "
                "clock_timestamp() + make_interval(secs => %s), %s) ON CONFLICT (id) DO NOTHING",
                (work, node, within_s, ask),
            )
            await db.execute("SELECT pg_notify(%s, '')", (channel(node),))

        await self.database.ask(insert, patience_s=10.0)

    async def cancel(self, work: str, node: str) -> None:
        """Nobody waits for it any more: its agent ends it."""

        async def change(db: Connection) -> None:
            await db.execute("UPDATE work SET state='cancelled' WHERE id=%s AND state IN ('waiting','taken')", (work,))
            await db.execute("SELECT pg_notify(%s, '')", (channel(node),))

        await self.database.ask(change, patience_s=2.0)

    async def ended(self, works: list[str]) -> dict[str, Ended]:
        """Those of these rows that have ended; rows of agents that are gone end here."""

        async def look(db: Connection) -> dict[str, Ended]:
            return await endings(db, works)

        return await self.database.ask(look, patience_s=0.0)


async def endings(db: Connection, works: list[str]) -> dict[str, Ended]:
    """See `Work.ended`."""
    await db.execute(
        "UPDATE work SET state='gone' WHERE id = ANY(%s) AND state='taken' AND NOT EXISTS (SELECT 1 FROM agents "
        "WHERE name=work.taken_by AND beat_at > clock_timestamp() - make_interval(secs => %s))",
        (works, HEARD_S),
    )
    await db.execute(
        "UPDATE work SET state='absent' WHERE id = ANY(%s) AND state='waiting' AND (due_at < clock_timestamp() "
        "OR NOT EXISTS (SELECT 1 FROM agents WHERE node=work.node "
        "AND beat_at > clock_timestamp() - make_interval(secs => %s)))",
        (works, HEARD_S),
    )
    rows = await (
        await db.execute(
            "SELECT id, state, answer FROM work WHERE id = ANY(%s) AND state IN ('done','gone','absent','cancelled')",
            (works,),
        )
    ).fetchall()
    return {name: Ended(state, answer) for name, state, answer in rows}


# ------------------------------------------------------------------------------------------------ the agent's side


async def beat(db: Connection, agent: str, node: str) -> None:
    """The agent lives. What earlier agents of this node had taken and nobody ended is interrupted."""
    await db.execute(
        "INSERT INTO agents VALUES (%s,%s,clock_timestamp()) ON CONFLICT (name) DO UPDATE SET "
        "beat_at=clock_timestamp()",
        (agent, node),
    )


async def clear_up(db: Connection) -> None:
    """Forget what ended long ago."""
    await db.execute(f"DELETE FROM work WHERE due_at < clock_timestamp() - {KEPT}")
    await db.execute("DELETE FROM agents WHERE beat_at < clock_timestamp() - interval '1 day'")


async def take(db: Connection, agent: str, node: str, at_most: int) -> list[tuple[str, str]]:
    """Rows of this node that nobody has taken: (id, ask), oldest first; they are this agent's from now on."""
    rows = await (
        await db.execute(
            "UPDATE work SET state='taken', taken_by=%s WHERE id IN (SELECT id FROM work WHERE node=%s "
            "AND state='waiting' AND due_at > clock_timestamp() ORDER BY made_at LIMIT %s FOR UPDATE SKIP LOCKED) "
            "RETURNING id, ask",
            (agent, node, at_most),
        )
    ).fetchall()
    return [(name, ask) for name, ask in rows]


async def given_up(db: Connection, agent: str, mine: list[str]) -> set[str]:
    """Those of the agent's rows that somebody has cancelled or ended meanwhile."""
    rows = await (
        await db.execute(
            "SELECT id FROM work WHERE id = ANY(%s) AND NOT (state='taken' AND taken_by=%s)", (mine, agent)
        )
    ).fetchall()
    return {row[0] for row in rows}


async def finish(database: Database, agent: str, work: str, answer: str) -> None:
    """End a row with its answer and tell; nothing happens when it is not this agent's any more."""

    async def change(db: Connection) -> None:
        await db.execute(
            "UPDATE work SET state='done', answer=%s WHERE id=%s AND state='taken' AND taken_by=%s",
            (answer, work, agent),
        )
        await db.execute("SELECT pg_notify(%s, %s)", (DONE, work))

    await database.ask(change, patience_s=60.0)


async def leave(db: Connection, agent: str) -> None:
    """The agent ends; what it had taken and not answered is interrupted at once."""
    await db.execute("DELETE FROM agents WHERE name=%s", (agent,))
