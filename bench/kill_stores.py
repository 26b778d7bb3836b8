"""What memory is killed over, and how is it looked into from outside? A file, or a PostgreSQL of our own."""

from __future__ import annotations

import pathlib
import shutil
import sqlite3
from typing import Any, Protocol

import psycopg

LAPSE = ("UPDATE shares SET until='-infinity' WHERE holder<>''", "DELETE FROM replicas")
"""The lease of a replica that is dead for sure, waited for in no time: what runs out here would have run out."""


class Memory(Protocol):
    """Of one lane."""

    spec: dict[str, Any]
    """What a life is told of it."""

    def fresh(self) -> None:
        """Nothing is remembered."""

    def died(self) -> None:
        """The life that used it has ended."""

    def rows(self, sql: str) -> list[Any]:
        """What it says."""


class File:
    """SQLite in the lane's folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.spec: dict[str, Any] = {}

    def fresh(self) -> None:
        """The folder is gone."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def died(self) -> None:
        """It lets go of its locks by itself."""

    def rows(self, sql: str) -> list[Any]:
        """Of a connection of its own."""
        db = sqlite3.connect(self.folder / "responder.db", timeout=30)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()


class Server:
    """A database of the lane's own on a PostgreSQL, and the lane's folder beside it."""

    def __init__(self, folder: pathlib.Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.spec: dict[str, Any] = {"database": url}

    def fresh(self) -> None:
        """Every table is empty; shares and their terms stay."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with psycopg.connect(self.url, autocommit=True) as db:
            found = db.execute("SELECT tablename FROM pg_tables WHERE schemaname='public'").fetchall()
            names = ", ".join(f'"{row[0]}"' for row in found if row[0] not in ("meta", "shares"))
            if names:
                db.execute(f"TRUNCATE {names}")  # type: ignore[call-overload]

    def died(self) -> None:
        """Its lease has run out."""
        with psycopg.connect(self.url, autocommit=True) as db:
            if db.execute("SELECT to_regclass('shares')").fetchone() != (None,):
                for statement in LAPSE:
                    db.execute(statement)  # type: ignore[call-overload]

    def rows(self, sql: str) -> list[Any]:
        """Of a connection of its own."""
        with psycopg.connect(self.url, autocommit=True) as db:
            return db.execute(sql).fetchall()  # type: ignore[call-overload, no-any-return]
