"""How do the tables look, and how does an older file become one of today?

Every value is the JSON of a noun: the schema knows only what is searched for. `SERIAL_ID` stands for the engine's own
ascending key. A migration only ever adds what is not there yet, so all of them together, on any older file or on none,
make the tables of today.
"""

from __future__ import annotations

SCHEMA = 4
MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "CREATE TABLE IF NOT EXISTS incidents (id TEXT PRIMARY KEY, target TEXT NOT NULL, state TEXT NOT NULL, "
        "opened_at DOUBLE PRECISION NOT NULL, stage TEXT NOT NULL DEFAULT '', revision INTEGER NOT NULL DEFAULT 0, "
        "body TEXT NOT NULL)",
        "CREATE INDEX IF NOT EXISTS incidents_open ON incidents (state, opened_at)",
        "CREATE INDEX IF NOT EXISTS incidents_listed ON incidents (state, opened_at DESC, id)",
        "CREATE TABLE IF NOT EXISTS timers (key TEXT PRIMARY KEY, body TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS deliveries (id TEXT PRIMARY KEY, incident TEXT NOT NULL, receiver TEXT NOT NULL, "
        "state TEXT NOT NULL, sequence INTEGER NOT NULL, next_at DOUBLE PRECISION NOT NULL, "
        "receipt TEXT NOT NULL DEFAULT '', body TEXT NOT NULL)",
        "CREATE INDEX IF NOT EXISTS deliveries_pending ON deliveries (state, receiver, sequence)",
        "CREATE TABLE IF NOT EXISTS intake (id SERIAL_ID, received_at DOUBLE PRECISION NOT NULL, body TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS silences (id TEXT PRIMARY KEY, ends_at DOUBLE PRECISION NOT NULL, "
        "body TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS inventories (target TEXT PRIMARY KEY, body TEXT NOT NULL)",
    ),
    2: (
        "CREATE TABLE IF NOT EXISTS obligations (id TEXT PRIMARY KEY, target TEXT NOT NULL, state TEXT NOT NULL, "
        "opened_at DOUBLE PRECISION NOT NULL, body TEXT NOT NULL)",
        "CREATE INDEX IF NOT EXISTS obligations_open ON obligations (state)",
        "CREATE TABLE IF NOT EXISTS costs (id SERIAL_ID, at DOUBLE PRECISION NOT NULL, target TEXT NOT NULL, "
        "host TEXT NOT NULL, step TEXT NOT NULL, rung INTEGER NOT NULL, pause DOUBLE PRECISION NOT NULL, "
        "body TEXT NOT NULL)",
        "CREATE INDEX IF NOT EXISTS costs_at ON costs (at)",
    ),
    3: (
        "CREATE TABLE IF NOT EXISTS steps (incident TEXT NOT NULL, evidence TEXT NOT NULL, state TEXT NOT NULL, "
        "body TEXT NOT NULL, PRIMARY KEY (incident, evidence))",
        "CREATE TABLE IF NOT EXISTS audit (id SERIAL_ID, at DOUBLE PRECISION NOT NULL, incident TEXT NOT NULL, "
        "body TEXT NOT NULL)",
        "CREATE INDEX IF NOT EXISTS audit_incident ON audit (incident, id)",
        "CREATE INDEX IF NOT EXISTS deliveries_incident ON deliveries (incident, receiver, sequence)",
    ),
    4: (
        "CREATE TABLE IF NOT EXISTS learned (target TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, "
        "PRIMARY KEY (target, kind))",
        "CREATE TABLE IF NOT EXISTS opinions (incident TEXT PRIMARY KEY, at DOUBLE PRECISION NOT NULL, "
        "body TEXT NOT NULL)",
    ),
}
"""Schema -> what it added. 1: the first; 2: obligations and costs; 3: the journal of steps and the audit log;
4: what was learned of healthy servers, and what engineers said of verdicts."""


CLASSES = "CREATE INDEX IF NOT EXISTS incidents_class ON incidents ((CLASS_OF), state, opened_at DESC, id)"
"""For those who look: no new schema, an older responder works with it and without it."""


def statements(serial: str, class_of: str) -> list[str]:
    """What to run, in order, on an empty database or on an older one; `serial`, `class_of`: the engine's own words."""
    made = [sql.replace("SERIAL_ID", serial) for at in sorted(MIGRATIONS) for sql in MIGRATIONS[at]]
    return [*made, CLASSES.replace("CLASS_OF", class_of)]
