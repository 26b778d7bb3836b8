"""What changes when several share one memory? The questions of `responder.store`, asked of PostgreSQL.

With leases, what is written about a target is written in the term of its share, or not at all (LeaseLost); what is
read to be worked on is what is ours.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from responder.model import Delivery, Incident
from responder.postgres.database import DatabaseSilent, ThreadedDatabase, Translated
from responder.postgres.leases import Leases
from responder.postgres.schema import CLASS_OF, bring_up_to_date
from responder.shares import LeaseLost, share_of
from responder.store import Store, fitting
from responder.store_db import Db, StoreRefused, T
from responder.store_work import Audit

PATIENCE_S = 60.0
"""A flow waits so long for a database that is being restarted; by then its lease is gone anyway."""
START_PATIENCE_S = 20.0
FENCE = "SELECT 1 FROM shares WHERE share=? AND holder=? AND term=? FOR SHARE"
"""While the transaction lasts nobody else can take the share."""
_about: ContextVar[int | None] = ContextVar("share a transaction is about", default=None)


class PostgresStore(Store):
    """The memory of all responders of one database. `split` deals the alerts of a payload to targets: {name: payload};
    `leases` is set once there are any: until then everything is ours."""

    class_of = CLASS_OF
    contains = "body ILIKE ? ESCAPE '!'"

    def __init__(self, url: str) -> None:
        self.database = ThreadedDatabase(url)
        self.leases: Leases | None = None
        self.split: Callable[[Any], Mapping[str, Any]] = lambda payload: {"": payload}
        self.taken_up: Callable[[], Mapping[int, int]] | None = None
        """Share -> the term in which its memory was read here. Lost and held again within one round, another replica
        may have been at it: until its memory is read anew nothing is written of it, and its alerts wait."""
        self._targets: dict[str, str] = {}
        """Incident -> its target, which never changes."""
        self._read_in: dict[int, int] = {}
        """Share -> the term in which alerts were last read."""

    def open(self) -> None:
        """Connect, make or upgrade the tables. StoreRefused when that does not work."""
        self.database.open()
        try:
            bring_up_to_date(self.database, START_PATIENCE_S)
        except DatabaseSilent as error:
            self.database.close()
            raise StoreRefused(f"{error}; check `database` in the configuration") from None
        except StoreRefused:
            self.database.close()
            raise

    def close(self) -> None:
        """Close all connections; idempotent."""
        self.database.close()

    async def _do(self, work: Callable[[Db], T], *, urgent: bool = False) -> T:
        share, leases = _about.get(), self.leases
        if share is None or leases is None:
            return await self.database.ask(work, patience_s=PATIENCE_S)

        def fenced(db: Translated) -> T:
            term = self._term(share)
            if term is None or not db.execute(FENCE, (share, leases.name, term)).fetchone():
                raise LeaseLost(f"share {share} is another replica's")
            return work(db)

        return await self.database.ask(fenced, patience_s=PATIENCE_S)

    def _term(self, share: int) -> int | None:
        """The term to write of a share with; None: not ours, or not as we know it."""
        held = self.leases.holdings.term(share) if self.leases else None
        return held if self.taken_up is None or self.taken_up().get(share) == held else None

    # ------------------------------------------------------------------------------------- written in our term

    async def save_incident(self, incident: Incident, *, stage: str = "", revision: int = 0) -> None:
        """See Store. LeaseLost when its target is not ours."""
        self._targets[incident.id] = incident.target
        with _share(share_of(incident.target)):
            await super().save_incident(incident, stage=stage, revision=revision)

    async def publish(self, incident: Incident, *, stage: str, revision: int, deliveries: Iterable[Delivery]) -> None:
        """See Store. LeaseLost when its target is not ours."""
        self._targets[incident.id] = incident.target
        with _share(share_of(incident.target)):
            await super().publish(incident, stage=stage, revision=revision, deliveries=deliveries)

    async def begin_step(self, incident: str, evidence: str, entry: Mapping[str, Any], audit: Audit) -> None:
        """See Store. LeaseLost when the incident is not ours: then the step must not act."""
        with _share(await self._share_of(incident)):
            await super().begin_step(incident, evidence, entry, audit)

    async def end_step(self, incident: str, evidence: str, entry: Mapping[str, Any], audit: Audit) -> None:
        """See Store. LeaseLost when the incident is not ours any more: whoever has it knows it as interrupted."""
        with _share(await self._share_of(incident)):
            await super().end_step(incident, evidence, entry, audit)

    async def drop_step(self, incident: str, evidence: str) -> None:
        """See Store. LeaseLost when the incident is not ours."""
        with _share(await self._share_of(incident)):
            await super().drop_step(incident, evidence)

    async def save_timers(self, changed: dict[str, str], gone: Iterable[str]) -> None:
        """See Store. A key that ends in `/N` belongs to share N; what is no longer ours is left out."""
        by_share: dict[int | None, dict[str, str]] = {}
        for key, body in changed.items():
            by_share.setdefault(_share_in(key), {})[key] = body
        for share, some in by_share.items():
            with contextlib.suppress(LeaseLost), _share(share):
                await super().save_timers(some, ())
        for key in gone:
            with contextlib.suppress(LeaseLost), _share(_share_in(key)):
                await super().save_timers({}, (key,))

    async def add_deliveries(self, deliveries: Iterable[Delivery]) -> None:
        """See Store. LeaseLost when the incident is not ours."""
        items = list(deliveries)
        for incident in dict.fromkeys(item.incident for item in items):
            with _share(await self._share_of(incident)):
                await super().add_deliveries(item for item in items if item.incident == incident)

    async def save_delivery(self, item: Delivery, receipt: str = "") -> None:
        """See Store. LeaseLost when the incident is not ours."""
        with _share(await self._share_of(item.incident)):
            await super().save_delivery(item, receipt)

    # ------------------------------------------------------------------------------------ read to be worked on

    async def deliveries(self, receiver: str | None = None, state: str | None = None) -> list[Delivery]:
        """See Store; pending ones only of our shares, for whoever asks for those is about to send them."""
        found = await super().deliveries(receiver, state)
        if state != "pending" or self.leases is None:
            return found
        await self._learn({item.incident for item in found})
        held = self.leases.holdings.claims
        return [item for item in found if share_of(self._targets.get(item.incident, item.incident)) in held]

    async def add_intake(self, payload: object, at: float, *, limit: int) -> bool:
        """See Store; dealt to the shares of its targets. False also when the database does not answer at once."""
        rows = [(share_of(name), at, json.dumps(part)) for name, part in self.split(payload).items()]

        def work(db: Db) -> bool:
            if db.execute("SELECT count(*) FROM intake").fetchone()[0] >= limit:
                return False
            db.executemany("INSERT INTO intake (share, received_at, body) VALUES (?,?,?)", rows)
            return True

        try:
            return await self.database.ask(work, patience_s=0.0)
        except DatabaseSilent:
            return False

    async def intake(self) -> list[tuple[int, float, object]]:
        """See Store; of our shares."""
        claims = {} if self.leases is None else self.leases.holdings.claims
        self._read_in = {share: claim.term for share, claim in claims.items() if self._term(share) == claim.term}
        mine = None if self.leases is None else sorted(self._read_in)
        ours = "FROM intake WHERE (?::int[] IS NULL OR share = ANY(?))"

        def work(db: Db) -> list[tuple[int, float, str]]:
            sizes = db.execute(f"SELECT id, length(body) {ours} ORDER BY id LIMIT 500", (mine, mine)).fetchall()
            sql = f"SELECT id, received_at, body {ours} AND id<=? ORDER BY id"
            return db.execute(sql, (mine, mine, fitting(sizes))).fetchall()

        return [(row[0], row[1], json.loads(row[2])) for row in await self._do(work)]

    async def drop_intake(self, ids: Iterable[int]) -> None:
        """See Store; only what is ours in the term it was read in. Otherwise what it meant was not written either, and
        whoever has the share now must find it. Ours by our own word as well: a lease we have let go of may still stand
        in the database, and what it meant was not written because we had let go."""
        leases = self.leases
        if leases is None:
            return await super().drop_intake(ids)
        still = {share: term for share, term in self._read_in.items() if leases.holdings.term(share) == term}
        shares, terms, rows = list(still), list(still.values()), list(ids)
        drop = (
            "DELETE FROM intake USING shares, unnest(?::int[], ?::bigint[]) AS mine (share, term) "
            "WHERE intake.id = ANY(?) AND intake.share = mine.share AND shares.share = mine.share "
            "AND shares.term = mine.term AND shares.holder = ?"
        )
        await self._do(lambda db: db.execute(drop, (shares, terms, rows, leases.name)))
        return None

    # ------------------------------------------------------------------------------------- whose an incident is

    async def forget(self, before: float) -> int:
        """See Store; whose they were is forgotten with them, whichever replica did it."""
        count = await super().forget(before)
        known = list(self._targets)
        sql = "SELECT id FROM incidents WHERE id = ANY(?)"
        left = await self.database.ask(lambda db: db.execute(sql, (known,)).fetchall(), patience_s=PATIENCE_S)
        gone = set(known) - {row[0] for row in left}
        self._targets = {name: target for name, target in self._targets.items() if name not in gone}
        return count

    def target_of(self, incident: str) -> str | None:
        """The target of an incident we have had to do with."""
        return self._targets.get(incident)

    async def learned_target(self, incident: str) -> str | None:
        """The target of any incident; None when there is none of this name."""
        await self._learn({incident})
        return self._targets.get(incident)

    async def _share_of(self, incident: str) -> int:
        await self._learn({incident})
        return share_of(self._targets.get(incident, incident))

    async def _learn(self, incidents: Iterable[str]) -> None:
        unknown = [name for name in incidents if name not in self._targets]
        if unknown:
            rows = await self.database.ask(
                lambda db: db.execute("SELECT id, target FROM incidents WHERE id = ANY(?)", (unknown,)).fetchall(),
                patience_s=PATIENCE_S,
            )
            self._targets.update(dict(rows))


@contextlib.contextmanager
def _share(share: int | None) -> Iterator[None]:
    """Transactions inside are about this share."""
    token = _about.set(share)
    try:
        yield
    finally:
        _about.reset(token)


def _share_in(key: str) -> int | None:
    """The share a timer belongs to; None: to nobody in particular."""
    tail = key.rpartition("/")[2]
    return int(tail) if tail.isdigit() else None
