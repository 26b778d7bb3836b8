"""What does the store ask of a database engine? One method: run some SQL as one transaction, on disk when it returns.

All SQL is written once, in what SQLite and PostgreSQL both understand, with `?` for a parameter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class StoreRefused(Exception):
    """The store cannot be used; the message says why and what to do."""


class StoreFull(Exception):
    """There is no room for this on the disk; nothing of it was kept, and it may be tried again later."""


class StoreSilent(Exception):
    """The database has not answered for long; whether what was written last is there is not known. It may be tried
    again."""


class Rows(Protocol):
    """What a statement brought."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> list[Any]:
        """All rows."""


class Db(Protocol):
    """A connection inside a transaction."""

    def execute(self, sql: str, args: Sequence[Any] = ..., /) -> Rows:
        """One statement."""

    def executemany(self, sql: str, args: Iterable[Sequence[Any]], /) -> Any:
        """One statement for every row."""


class Engine(ABC):
    """A database. `open` it once per process."""

    class_of = "CASE WHEN json_valid(body) THEN json_extract(body, '$.incident_class') END"
    """The class of a row of `incidents`, as this engine's SQL says it; there is an index of it."""
    contains = "body LIKE ? ESCAPE '!'"
    """Whether a body matches a pattern, large letters like small ones."""
    full = False
    """The disk is full: what is left is for alerts, incidents and messages; captures are off."""

    def out_of_room(self) -> None:
        """Somebody else could not write to the same disk."""
        self.full = True

    async def make_room(self) -> bool:
        """Look whether a full disk has room again; whether it is full now."""
        return self.full

    @abstractmethod
    def open(self) -> None:
        """Connect, create what is missing, migrate what is older. StoreRefused in words."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it; idempotent."""

    @abstractmethod
    async def _do(self, work: Callable[[Db], T], *, urgent: bool = False) -> T:
        """Run `work` as one transaction; committed and synced when it returns, undone when it raises. Somebody waits
        for an answer to what is `urgent`: where work queues up, it goes first."""
