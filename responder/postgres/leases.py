"""Which shares are ours by the database's word? A beat renews, takes what is free and gives back what is others'."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import structlog

from responder.postgres.database import Connection, Database, DatabaseSilent
from responder.shares import Holdings, Patience, belonging_to

log = structlog.get_logger()
FORGOTTEN = "interval '1 day'"


@dataclass(frozen=True)
class Beat:
    """What one beat said: our shares with their terms, and the live replicas with what each had to tell."""

    ours: dict[int, int]
    replicas: dict[str, str]


class Leases:
    """The leases of one replica. `gained` and `lost` are told which shares changed hands; `busy` names those that
    must not be given away now; `tell` is what other replicas may know of us (a short text)."""

    def __init__(
        self, database: Database, name: str, *, gained: Callable[[Collection[int]], Awaitable[None]],
        lost: Callable[[Collection[int]], Awaitable[None]], busy: Callable[[], Collection[int]] = tuple,
        tell: Callable[[], str] = str, patience: Patience = Patience(),  # noqa: B008 - a frozen value
    ) -> None:  # fmt: skip
        self.database, self.name, self.patience = database, name, patience
        self.gained, self.lost, self.busy, self.tell = gained, lost, busy, tell
        self.alive: Callable[[], bool] = lambda: True
        """Whether we do what we hold these for; where not, another replica must be able to."""
        self.holdings = Holdings()
        self.others: dict[str, str] = {}
        """Other live replicas and what they last told."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The first beat, then one every few seconds. DatabaseSilent when there is no answer to the first."""
        await self.beat(patience_s=30.0)
        self._task = asyncio.create_task(self._beats(), name="leases")

    async def stop(self) -> None:
        """Give everything back, so that nobody has to wait for our end; idempotent."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        terms = {share: claim.term for share, claim in self.holdings.claims.items()}
        self.holdings.claims.clear()

        async def leave(db: Connection) -> None:
            await _give_back(db, self.name, terms)
            await db.execute("DELETE FROM replicas WHERE name=%s", (self.name,))

        try:
            await self.database.ask(leave, patience_s=1.0)
        except DatabaseSilent as error:
            log.warning("leases.not_given_back", reason=str(error))

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(self.patience.beat_s)
            try:
                try:
                    if self.alive():
                        await self.beat(patience_s=0.0)
                    else:
                        log.error("leases.withheld", reason="no round of detection has ended for long")
                        await self._drop_stale()
                except DatabaseSilent as error:
                    log.warning("leases.silent", reason=str(error))
                    await self._drop_stale()
            except Exception:  # whatever goes wrong in here, the next beat must come: without it all is lost
                log.exception("leases.failed")

    async def beat(self, *, patience_s: float) -> None:
        """One beat: a transaction, then the news of it."""
        began = time.monotonic()
        terms = {share: claim.term for share, claim in self.holdings.claims.items()}
        busy, tell = frozenset(self.busy()), self.tell()
        said = await self.database.ask(
            lambda db: _beat(db, self.name, terms, busy, tell, self.patience.ttl_s), patience_s=patience_s
        )
        self.others = {name: told for name, told in said.replicas.items() if name != self.name}
        gone = {share for share, term in terms.items() if said.ours.get(share) != term}
        if gone:
            await self._forget(gone)
        new = set(said.ours) - set(self.holdings.claims)
        self.holdings.confirm(said.ours.items(), began + self.patience.trust_s)
        if new:
            log.info("shares.gained", count=len(new), replicas=sorted(said.replicas))
            await self.gained(new)

    async def _drop_stale(self) -> None:
        """What we may not act on any more is not ours to follow either: another replica may be at it."""
        now = time.monotonic()
        await self._forget({s for s, claim in self.holdings.claims.items() if now >= claim.until})

    async def _forget(self, gone: Collection[int]) -> None:
        for share in gone:
            self.holdings.claims.pop(share, None)
        if gone:
            log.warning("shares.lost", count=len(gone))
            await self.lost(gone)


async def _beat(
    db: Connection, name: str, terms: dict[int, int], busy: Collection[int], tell: str, ttl_s: float
) -> Beat:
    until = f"clock_timestamp() + interval '{ttl_s:g} seconds'"
    await db.execute(
        "INSERT INTO replicas VALUES (%s, clock_timestamp(), %s) "
        "ON CONFLICT (name) DO UPDATE SET beat_at=clock_timestamp(), body=excluded.body",
        (name, tell),
    )
    await db.execute(f"DELETE FROM replicas WHERE beat_at < clock_timestamp() - {FORGOTTEN}")
    rows = await (
        await db.execute(
            f"SELECT name, body FROM replicas WHERE beat_at > clock_timestamp() - interval '{ttl_s:g} seconds'"
        )
    ).fetchall()
    wanted = belonging_to(name, [row[0] for row in rows])
    # Locked in order, so that two replicas at once wait for each other instead of deadlocking.
    held = await (
        await db.execute("SELECT share, holder, term, until > clock_timestamp() FROM shares ORDER BY share FOR UPDATE")
    ).fetchall()
    mine = {s: term for s, holder, term, _ in held if holder == name and terms.get(s) == term}
    give = {s: term for s, term in mine.items() if s not in wanted and s not in busy}
    keep = [s for s in mine if s not in give]
    free = [
        s
        for s, holder, _, alive in held
        if s in wanted and s not in mine and (not holder or not alive or holder == name)
    ]
    await _give_back(db, name, give)
    await db.execute(f"UPDATE shares SET until={until} WHERE share = ANY(%s)", (keep,))
    taken = await (
        await db.execute(
            f"UPDATE shares SET holder=%s, term=term+1, until={until} WHERE share = ANY(%s) RETURNING share, term",
            (name, free),
        )
    ).fetchall()
    return Beat({**{s: mine[s] for s in keep}, **dict(taken)}, dict(rows))


async def _give_back(db: Connection, name: str, terms: dict[int, int]) -> None:
    for share, term in terms.items():
        await db.execute(
            "UPDATE shares SET holder='', until='-infinity' WHERE share=%s AND holder=%s AND term=%s",
            (share, name, term),
        )
