"""How is PostgreSQL asked so that a restart of it costs nobody anything? The only module that imports psycopg.

Every question is one transaction that can be asked again: after a cut it is, until `patience_s` has passed. Whether a
commit whose answer was lost took place is not known, so what is written must bear being written twice. `Database` is
asked from the event loop; `ThreadedDatabase` runs the store's SQL, which is written for SQLite as well, on threads.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection, InterfaceError, OperationalError, errors
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from responder.killpoint import reach
from responder.store_db import StoreSilent

log = structlog.get_logger()
T = TypeVar("T")
Connection = AsyncConnection[tuple[Any, ...]]
CONNECT_S, STATEMENT_S = 3, 10
AGAIN_S = 0.25
IDLE_S = 30.0
"""Of two hundred agents' connections only those in use are kept."""
LIBPQ = {
    "connect_timeout": CONNECT_S, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
    "tcp_user_timeout": 6000, "application_name": "responder",
    "options": f"-c statement_timeout={STATEMENT_S * 1000} -c idle_in_transaction_session_timeout=4000",
}  # fmt: skip
"""A silent network is noticed within seconds: nothing here may wait for TCP's own quarter of an hour."""
LOST = (OperationalError, InterfaceError, PoolTimeout, errors.IdleInTransactionSessionTimeout, OSError)
"""The server may have ended our transaction: also because we were stopped in the middle of it."""


class DatabaseSilent(StoreSilent):
    """PostgreSQL has not answered for as long as the question was worth; the message says what was last seen."""


class Database:
    """A pool of connections to one database."""

    def __init__(self, url: str, *, connections: int = 4, least: int = 1) -> None:
        self.url = url
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url, kwargs={"autocommit": True, **LIBPQ}, min_size=least, max_size=connections, open=False,
            timeout=CONNECT_S, reconnect_timeout=5.0, num_workers=2, max_idle=IDLE_S,
        )  # fmt: skip

    async def open(self) -> None:
        """Start connecting; whether it works is seen at the first question."""
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._pool.close(timeout=2.0)

    async def ask(self, work: Callable[[Connection], Awaitable[T]], *, patience_s: float) -> T:
        """One transaction, begun again after a cut. DatabaseSilent when there was no answer within `patience_s`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        while True:
            try:
                async with asyncio.timeout(max(end - loop.time(), CONNECT_S) + STATEMENT_S):
                    async with self._pool.connection() as db, db.transaction():
                        return await work(db)
            except (*LOST, TimeoutError) as error:
                if loop.time() > end:
                    why = f"{type(error).__name__}: {error}".strip()[:200]
                    raise DatabaseSilent(f"no answer from {where(self.url)}: {why}") from None
                log.debug("database.again", reason=str(error)[:200])
            await asyncio.sleep(AGAIN_S)

    async def attend(self, channel: str, every_s: float, work: Callable[[Connection], Awaitable[None]]) -> None:
        """For ever: `work` when somebody tells on this channel, after a cut, and at least every so many seconds; on one
        connection of its own, not in a transaction."""
        while True:
            try:
                async with await AsyncConnection.connect(self.url, autocommit=True, **LIBPQ) as db:  # type: ignore[arg-type]
                    await db.execute(f'LISTEN "{channel}"')
                    while True:
                        async with asyncio.timeout(STATEMENT_S):
                            await work(db)
                        async for _ in db.notifies(timeout=every_s, stop_after=1):
                            pass
            except (*LOST, TimeoutError) as error:
                log.debug("database.again", channel=channel, reason=str(error)[:200])
            except Exception:  # whatever it was about this once: who waits to be told waits for ever without us
                log.exception("database.not_attended", channel=channel)
            await asyncio.sleep(AGAIN_S)


class Translated:
    """A connection inside a transaction that takes the store's SQL, with `?` for a parameter (`store_db.Db`)."""

    def __init__(self, db: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._db = db

    def execute(self, sql: str, args: Sequence[Any] = (), /) -> psycopg.Cursor[tuple[Any, ...]]:
        """One statement."""
        return self._db.execute(_translated(sql), args or None)

    def executemany(self, sql: str, args: Iterable[Sequence[Any]], /) -> None:
        """One statement for every row."""
        with self._db.cursor() as cursor:
            cursor.executemany(_translated(sql), list(args))


class ThreadedDatabase:
    """The same for SQL that is run on a thread: a few of them, each transaction on one."""

    def __init__(self, url: str, *, threads: int = 4) -> None:
        self.url = url
        self._pool: ConnectionPool[psycopg.Connection[tuple[Any, ...]]] = ConnectionPool(
            url, kwargs={"autocommit": True, **LIBPQ}, min_size=1, max_size=threads, open=False, timeout=CONNECT_S,
            reconnect_timeout=5.0, num_workers=1,
        )  # fmt: skip
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="postgres")
        self._closing = False

    def open(self) -> None:
        """Start connecting; whether it works is seen at the first question."""
        self._pool.open()

    def close(self) -> None:
        """Let what runs end within seconds, then close; idempotent."""
        self._closing = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close(timeout=2.0)

    async def ask(self, work: Callable[[Translated], T], *, patience_s: float) -> T:
        """One transaction on a thread; else as `Database.ask`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.ask_now, work, patience_s)

    def ask_now(self, work: Callable[[Translated], T], patience_s: float) -> T:
        """The same, waiting for it."""
        end = time.monotonic() + patience_s
        while True:
            try:
                with self._pool.connection() as db:
                    with db.transaction():
                        result = work(Translated(db))
                        reach("store.before_commit")
                    reach("store.after_commit")
                    return result
            except LOST as error:
                if time.monotonic() > end or self._closing:
                    why = f"{type(error).__name__}: {error}".strip()[:200]
                    raise DatabaseSilent(f"no answer from {where(self.url)}: {why}") from None
            time.sleep(AGAIN_S)


@functools.lru_cache(maxsize=512)
def _translated(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


def where(url: str) -> str:
    """Host and database in words, without secrets."""
    parts = conninfo_to_dict(url)
    return f"{parts.get('dbname', 'postgres')} at {parts.get('host', 'localhost')}:{parts.get('port', '5432')}"
