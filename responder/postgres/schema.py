"""Which tables do only several responders need? Beside the store's own: leases, replicas, agents and their work."""

from __future__ import annotations

from responder.postgres.database import ThreadedDatabase, Translated, where
from responder.shares import SHARES
from responder.store_db import StoreRefused
from responder.store_tables import SCHEMA, statements

SERIAL_ID = "BIGSERIAL PRIMARY KEY"
TABLES = (
    "ALTER TABLE intake ADD COLUMN IF NOT EXISTS share integer NOT NULL DEFAULT 0",
    "CREATE TABLE IF NOT EXISTS replicas (name text PRIMARY KEY, beat_at timestamptz NOT NULL, "
    "body text NOT NULL DEFAULT '')",
    "CREATE TABLE IF NOT EXISTS shares (share int PRIMARY KEY, holder text NOT NULL DEFAULT '', "
    "term bigint NOT NULL DEFAULT 0, until timestamptz NOT NULL DEFAULT '-infinity')",
    "CREATE TABLE IF NOT EXISTS agents (name text PRIMARY KEY, node text NOT NULL, beat_at timestamptz NOT NULL)",
    "CREATE INDEX IF NOT EXISTS agents_node ON agents (node)",
    "CREATE TABLE IF NOT EXISTS work (id text PRIMARY KEY, node text NOT NULL, state text NOT NULL, "
    "made_at timestamptz NOT NULL DEFAULT now(), taken_by text NOT NULL DEFAULT '', due_at timestamptz NOT NULL, "
    "ask text NOT NULL, answer text NOT NULL DEFAULT '')",
    "CREATE INDEX IF NOT EXISTS work_waiting ON work (node, made_at) WHERE state IN ('waiting', 'taken')",
)


CLASS_OF = "body::json->>'incident_class'"


def bring_up_to_date(database: ThreadedDatabase, patience_s: float) -> None:
    """Make what is missing, one responder at a time. StoreRefused for a schema we do not know; DatabaseSilent as
    `ask_now` raises it."""

    def work(db: Translated) -> None:
        db.execute("SELECT pg_advisory_xact_lock(hashtext('responder schema'))")
        db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        row = db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
        if row and int(row[0]) > SCHEMA:
            raise StoreRefused(
                f"{where(database.url)} was written by a newer responder (schema {row[0]}, we know {SCHEMA}): "
                "upgrade this one"
            )
        for statement in (*statements(SERIAL_ID, CLASS_OF), *TABLES):
            db.execute(statement)
        db.execute("INSERT INTO shares (share) SELECT generate_series(0, ?) ON CONFLICT DO NOTHING", (SHARES - 1,))
        db.execute(
            "INSERT INTO meta VALUES ('schema', ?) ON CONFLICT (key) DO UPDATE SET value=excluded.value", (str(SCHEMA),)
        )

    database.ask_now(work, patience_s)
