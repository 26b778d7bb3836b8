"""What does a capture agent do? It takes the captures asked of its node, runs them here, and answers.

The same steps, deadlines and redaction as the responder's own: what leaves the node is already clean. What may run here
is decided here: the steps this version knows; shells and commands of playbooks only as this node is configured.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from pydantic import BaseModel, ValidationError

from responder import inventory as inventories
from responder.agents import Answer, Ask
from responder.artifacts import Artifacts, ArtifactsSilent
from responder.capture import STEPS
from responder.capture.step import Brief, Fetched, Runner, Scene, Step
from responder.collect import collect
from responder.folder import IncidentFolder, safe_name
from responder.model import Inventory, Outcome, StepCall, Target
from responder.obligations import Obligations
from responder.postgres.database import Connection, Database, DatabaseSilent
from responder.postgres.shelf import Shelf
from responder.postgres.work import beat, channel, finish, given_up, leave, take
from responder.runner import LocalRunner

log = structlog.get_logger()
BEAT_S = 5.0
AT_ONCE = 6
STOCK_EVERY_S = 30.0
FINISH_WITHIN_S = 5.0


class Agent:
    """One node's agent. `targets`: those of this node; `secrets_known`: values that must never leave it."""

    def __init__(
        self, database: Database, artifacts: Artifacts, node: str, data_dir: Path, targets: Mapping[str, Target], *,
        secrets_known: tuple[str, ...] = (), shell: bool = False, commands: bool = False,
        steps: Mapping[str, Step] = STEPS, runner: Runner | None = None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.database, self.artifacts, self.node, self.data_dir = database, artifacts, node, data_dir
        self.targets, self.secrets_known, self.steps, self.clock = targets, secrets_known, steps, clock
        self.shell, self.commands = shell, commands
        self.name = f"{node}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.runner = runner or LocalRunner()
        self.shelf = Shelf(database)
        self.inventories: dict[str, Inventory] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._gone: set[str] = set()
        """Work somebody has cancelled: nobody waits for an answer."""

    async def run(self) -> None:
        """Until cancelled; what runs then is answered as interrupted."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), trust_env=False) as http:
            self.http = http
            self.duties = Obligations(self.shelf, http, self.data_dir / "obligations", self.clock, keys=self._keys,
                                      place=f"agent {self.node}")  # fmt: skip
            await self.duties.restore()
            stock = asyncio.create_task(self._take_stock(), name=f"stock {self.node}")
            try:
                log.info("agent.started", node=self.node, agent=self.name, targets=sorted(self.targets))
                await self.database.attend(channel(self.node), BEAT_S, self._round)
            finally:
                stock.cancel()
                await self._end()
                await self.duties.stop()

    async def _round(self, db: Connection) -> None:
        await beat(db, self.name, self.node)
        for work in await given_up(db, self.name, list(self._tasks)):
            self._gone.add(work)
            if work in self._tasks:
                self._tasks[work].cancel()
        for work, ask in await take(db, self.name, self.node, AT_ONCE - len(self._tasks)):
            self._tasks[work] = asyncio.create_task(self._do(work, ask), name=f"work {work}")

    async def _do(self, work: str, text: str) -> None:
        try:
            answer = await self._answer(work, text)
        except asyncio.CancelledError:
            if work not in self._gone:
                answer = Answer(
                    outcome=Outcome.INTERRUPTED, reason=f"the agent on {self.node} was stopped while it ran"
                )
                await asyncio.shield(finish(self.database, self.name, work, answer.model_dump_json()))
            raise
        except (ArtifactsSilent, OSError, ValidationError) as error:
            log.exception("work.failed", work=work)
            answer = Answer(outcome=Outcome.FAILED, reason=f"node {self.node}: {type(error).__name__}: {error}"[:300])
        finally:
            self._tasks.pop(work, None)
            self._gone.discard(work)
        try:
            await finish(self.database, self.name, work, answer.model_dump_json())
        except DatabaseSilent as error:
            log.error("work.not_answered", work=work, reason=str(error))

    async def _answer(self, work: str, text: str) -> Answer:
        ask = Ask.model_validate_json(text)
        step = self.steps.get(ask.step)
        if step is None:
            return Answer(
                outcome=Outcome.SKIPPED, reason=f"the agent on {self.node} does not know {ask.step}: upgrade it"
            )
        if ask.step == "command" and not self.commands:
            return Answer(
                outcome=Outcome.DENIED,
                reason=f"node {self.node} runs no commands of playbooks: `agent: {{commands: true}}` there allows it",
            )
        fetched: list[Fetched] = []
        folder = IncidentFolder(self.data_dir / "work" / safe_name(work))
        scene, brief = self._scene(ask), _brief(ask, self.clock())
        try:
            call = StepCall(step=ask.step, rung=step.rung, params=ask.params)
            got = await collect(_remembering(step, fetched), call, scene, brief, folder, evidence_id=ask.evidence,
                                secrets=self.secrets_known, clock=self.clock)  # fmt: skip
            files = await asyncio.to_thread(folder.read_raw, ask.evidence)
            for name, data in files.items():
                await self.artifacts.put(f"work/{work}/{name}", data)
        finally:
            await asyncio.to_thread(folder.remove)
        item = got.evidence
        log.info("work.done", work=work, outcome=item.outcome.value, seconds=item.seconds, reason=item.reason)
        return Answer(
            outcome=item.outcome, reason=item.reason, pause_seconds=item.pause_seconds, files=tuple(files),
            disturbed=fetched[-1].disturbed if fetched else None,
        )  # fmt: skip

    def _scene(self, ask: Ask) -> Scene:
        # What this node knows of the target counts more than what it was told: the key is only here.
        target = self.targets.get(ask.target.name, ask.target)
        return Scene(
            target=target, inventory=self.inventories.get(target.name, ask.inventory), now=self.clock(),
            onset_at=ask.onset_at, opened_at=ask.opened_at, http=self.http, runner=self.runner, range_query=None,
            scrape_interval_s=ask.scrape_interval_s, shell_allowed=self.shell, duties=self.duties,
            incident=ask.incident,
        )  # fmt: skip

    async def _take_stock(self) -> None:
        """What serves each target of this node, while it is well; the responder reads it from the database."""
        while True:
            for target in self.targets.values():
                try:
                    found = await inventories.discover(target, self.clock())
                    if found.processes or target.name not in self.inventories:
                        self.inventories[target.name] = found
                        await self.shelf.save_inventory(target.name, found)
                except (TimeoutError, OSError, DatabaseSilent) as error:
                    log.warning("inventory.failed", target=target.name, reason=str(error) or "timed out")
                except Exception:  # nobody waits for this task: a fault of ours would end it unseen
                    log.exception("inventory.failed", target=target.name)
            await asyncio.sleep(STOCK_EVERY_S)

    async def _end(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=FINISH_WITHIN_S)
        try:
            await self.database.ask(lambda db: leave(db, self.name), patience_s=0.0)
        except DatabaseSilent as error:
            log.warning("agent.not_said_goodbye", reason=str(error))

    def _keys(self) -> dict[str, str]:
        return {t.name: t.api_key.get_secret_value() for t in self.targets.values() if t.api_key}


def _remembering(step: Step, fetched: list[Fetched]) -> Step:
    async def fetch(scene: Scene, params: BaseModel) -> Fetched:
        fetched.append(await step.fetch(scene, params))
        return fetched[-1]

    return replace(step, fetch=fetch)


def _brief(ask: Ask, now: float) -> Brief:
    return Brief(target=ask.target.name, now=now, onset_at=ask.onset_at, opened_at=ask.opened_at,
                 scrape_interval_s=ask.scrape_interval_s)  # fmt: skip


async def serve(node: str, config: Any) -> None:
    """`responder agent`: until cancelled. ValueError in words for what is missing in the configuration."""
    from responder.fleet import artifacts_of
    from responder.known_values import known_values

    url, artifacts = config.database_url(), artifacts_of(config)
    if url is None or artifacts is None:
        raise ValueError("an agent needs `database` and `artifacts` in its configuration")
    targets = {target.name: target for target in config.watched()}
    database = Database(url, connections=AT_ONCE, least=0)
    await database.open()
    try:
        await Agent(
            database, artifacts, node, config.data_dir, {n: t for n, t in targets.items() if t.node == node},
            secrets_known=known_values(config, targets), shell=config.capture.shell, commands=config.agent.commands,
        ).run()  # fmt: skip
    finally:
        await database.close()
