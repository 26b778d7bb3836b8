"""How does one replica work among others? Which targets are ours now, what is taken up, and what is let go.

The leases say what is ours; `change_hands` lets the round of detection take over what was gained and forget what was
lost, so that nothing changes under a round. What must not wait - captures and messages of a lost target - is ended at
once, and the database refuses whatever is written too late.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

import structlog

from responder.agents import Agents, from_afar
from responder.alertmanager import split
from responder.artifacts import Artifacts, ArtifactsSilent, FolderArtifacts, Mirror
from responder.config import Config, secret
from responder.folder import folder_of
from responder.model import Change, Incident, Inventory, Target
from responder.postgres.database import Database
from responder.postgres.leases import Leases
from responder.postgres.store import PostgresStore
from responder.respond import Responder
from responder.shares import Patience, share_of
from responder.watch import Watch

log = structlog.get_logger()
PULLS_AT_ONCE = 8
ROUND_WITHIN_S = 600.0
"""A start may take minutes until the first one, with many folders to be brought."""
FRESH_S = 5.0
CONFIRMED_SOON_S = 0.1


class Local(Protocol):
    """What the daemon tells of itself."""

    def healthy(self) -> Collection[str]:
        """Our targets that are well at this moment."""

    def disturbed(self) -> Collection[str]:
        """Our targets that a capture disturbs at this moment."""


class Fleet:
    """One replica. `targets()`: all that are configured."""

    def __init__(self, url: str, config: Config, targets: Callable[[], Mapping[str, Target]]) -> None:
        self.targets, self.data_dir = targets, config.data_dir
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.database = Database(url)
        self.leases = Leases(self.database, self.name, gained=self._gained, lost=self._lost, busy=self._busy,
                             tell=self._tell, patience=Patience(config.lease))  # fmt: skip
        self.leases.alive = self._alive
        self.store = PostgresStore(url)
        self.store.leases = self.leases
        self.store.taken_up = self._taken_up
        self.store.split = lambda payload: split(payload, tuple(targets().values()))
        artifacts = artifacts_of(config)
        self.mirror = Mirror(artifacts) if artifacts else None
        self.agents = Agents(self.database, artifacts) if artifacts else None
        self.place = f"{socket.gethostname()}:{config.data_dir.resolve()}"
        """Where our guards are: the same after a restart."""
        self._brought: dict[str, float] = {}
        self._new: set[int] = set()
        self._old: set[int] = set()
        self._terms: dict[int, int] = {}
        """Share -> the term in which its memory was read here."""
        self._watch: Watch | None = None
        self._responder: Responder | None = None
        self._local: Local | None = None

    async def start(
        self, watch: Watch, responder: Responder, local: Local, duties: Callable[[Collection[str]], Awaitable[None]]
    ) -> None:
        """Join the others. DatabaseSilent when the database does not answer."""
        self._watch, self._responder, self._local, self._duties = watch, responder, local, duties
        watch.shares = set()
        await self.database.open()
        await self.leases.start()
        if self.agents:
            self.agents.start()

    async def stop(self) -> None:
        """Give back what is ours; idempotent."""
        if self.agents:
            await self.agents.stop()
        await self.leases.stop()
        await self.database.close()

    # --------------------------------------------------------------------------------------------- what is ours

    def tools(self) -> dict[str, Any]:
        """What the flow gets of us (`case.Kit`)."""
        there = self.agents.there if self.agents else lambda step, _, __: step
        return {"may_act": self.may_act, "mirror": self.mirror, "elsewhere": there, "stock": self.stock}

    async def stock(self) -> dict[str, Inventory]:
        """What agents have found on their nodes."""
        return from_afar(await self.store.inventories(), self.targets())

    def looks_after(self, target: str) -> bool:
        """Whether this target is ours and has been taken up: what was gained a moment ago waits for the next round."""
        share = share_of(target)
        return self.holds(target) and self._taken_up().get(share) == self.leases.holdings.term(share)

    def _taken_up(self) -> dict[int, int]:
        """Share -> the term in which its memory was read."""
        known = (self._watch.shares or set()) if self._watch else set()
        return {share: term for share, term in self._terms.items() if share in known}

    def holds(self, target: str) -> bool:
        """Whether this target is ours, as far as we have heard."""
        return self.leases.holdings.holds(target)

    async def may_act(self, target: str) -> bool:
        """Asked before each act: whether it may begin now. A lease that is too old to be trusted is waited for."""
        while self.holds(target) and not self._trusted(target):  # noqa: ASYNC110 - the next beat decides
            await asyncio.sleep(CONFIRMED_SOON_S)
        return self.holds(target)

    def may_tell(self, incident: str) -> bool:
        """Whether a message about an incident may be sent now."""
        target = self.store.target_of(incident)
        return target is not None and self._trusted(target)

    def _trusted(self, target: str) -> bool:
        return self.leases.holdings.may_act(target, time.monotonic())

    def healthy_elsewhere(self) -> set[str]:
        """Targets of other replicas that are well, as those said a few seconds ago."""
        return self._told("healthy")

    def disturbed_elsewhere(self) -> set[str]:
        """Targets of other replicas that a capture disturbs, as those said a few seconds ago."""
        return self._told("disturbed")

    # ---------------------------------------------------------------------------------------------- changing hands

    async def change_hands(self) -> bool:
        """Let go of what was lost, take up what was gained; True when anything was.

        What fails is done again at the next call: a share held and not taken up would be looked after by nobody.
        """
        old, self._old = self._old, set()
        new, self._new = self._new, set()
        try:
            await self._change_hands(old, new)
        except BaseException:
            self._old |= old
            self._new |= new & set(self.leases.holdings.claims)
            raise
        return bool(old or new)

    async def _change_hands(self, old: set[int], new: set[int]) -> None:
        assert self._watch is not None
        assert self._responder is not None
        if old:
            await self._responder.drop(self._of(old), wait=True)
            self._watch.forget(old)
        if new:
            # The term before the memory: lost and held again meanwhile, it is in another one, and is taken up again.
            terms = {share: term for share in new if (term := self.leases.holdings.term(share)) is not None}
            self._watch.forget(new)
            await self._watch.restore(new)
            self._terms.update(terms)
            await self._duties(self._of(new))
            await self._take_up(new)

    async def fetch(self, incident: str) -> None:
        """Bring an incident's folder here as others have left it; what cannot be had is said."""
        if self.mirror is not None:
            try:
                await self.mirror.pull(folder_of(self.data_dir, incident))
            except (ArtifactsSilent, OSError) as error:
                log.error("artifacts.silent", incident=incident, reason=str(error))

    async def bring(self, incident: str) -> None:
        """For whoever wants to see it here: another replica's incident as it has been pushed, a few seconds old."""
        target = await self.store.learned_target(incident)
        now = time.monotonic()
        if target is None or self.holds(target) or now - self._brought.get(incident, -FRESH_S) < FRESH_S:
            return
        self._brought = {name: at for name, at in self._brought.items() if now - at < FRESH_S} | {incident: now}
        await self.fetch(incident)

    async def _take_up(self, shares: Collection[int]) -> None:
        slots = asyncio.Semaphore(PULLS_AT_ONCE)

        async def one(incident: Incident) -> None:
            async with slots:
                await self.fetch(incident.id)
            assert self._responder is not None
            over = incident.state == "resolved"
            if self.holds(incident.target) and (over or incident.target in self.targets()):
                log.info("incident.taken_up", incident=incident.id, state=incident.state, replica=self.name)
                self._responder.handle(Change.RESOLVED if over else Change.UNCHANGED, incident)

        found = await self.store.incidents(untold=True)
        await asyncio.gather(*(one(i) for i, _, _ in found if share_of(i.target) in shares))

    async def _gained(self, shares: Collection[int]) -> None:
        self._new |= set(shares)

    async def _lost(self, shares: Collection[int]) -> None:
        self._old |= set(shares)
        self._new -= set(shares)
        if self._responder is not None:
            await self._responder.drop(self._of(shares), wait=False)

    def _alive(self) -> bool:
        """Whether rounds of detection end here: a replica that holds its targets and watches none is the worst."""
        return self._watch is None or time.monotonic() - self._watch.round_ended < ROUND_WITHIN_S

    def _of(self, shares: Collection[int]) -> set[str]:
        open_ones = {i.target for i in self._watch.incidents.values()} if self._watch else set()
        return {name for name in open_ones | set(self.targets()) if share_of(name) in shares}

    def _busy(self) -> set[int]:
        return {share_of(name) for name in self._responder.at_work()} if self._responder else set()

    def _tell(self) -> str:
        if self._local is None:
            return ""
        return json.dumps({"healthy": sorted(self._local.healthy()), "disturbed": sorted(self._local.disturbed())})

    def _told(self, what: str) -> set[str]:
        found: set[str] = set()
        for told in self.leases.others.values():
            found |= set(json.loads(told).get(what, ())) if told else set()
        return found


def artifacts_of(config: Config) -> Artifacts | None:
    """The shared place the configuration names, if any."""
    part = config.artifacts
    if part is None:
        return None
    if part.folder is not None:
        return FolderArtifacts(part.folder)
    assert part.s3 is not None
    # Only who asks for it needs the library, and pays for its memory.
    from responder.artifacts_s3 import S3Artifacts

    key = secret(part.s3.secret_key, part.s3.secret_key_file)
    return S3Artifacts(
        part.s3.bucket, prefix=part.s3.prefix, endpoint=part.s3.endpoint, region=part.s3.region,
        access_key=part.s3.access_key, secret_key=key.get_secret_value() if key else None,
    )  # fmt: skip
