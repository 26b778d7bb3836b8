"""How does a capture get done on another node? As work for its agent, whose files come back through the artifacts.

A step whose target has a `node` keeps its name, deadline and reader; only its fetch is another: it queues the work,
waits for its end, and brings the files. The agent that dies, or that was never there, is an ending like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog
from pydantic import BaseModel

from responder.artifacts import Artifacts, ArtifactsSilent
from responder.capture.step import Fetched, Scene, Step
from responder.model import Inventory, Noun, Outcome, Target
from responder.postgres.database import Connection, Database, DatabaseSilent
from responder.postgres.work import DONE, HEARD_S, Ended, Work, clear_up, endings

log = structlog.get_logger()
SLACK_S = 15.0
"""Beyond a step's own deadline: for the way there and back, and for seeing that an agent has died."""
LOOK_EVERY_S = 1.0
CLEAR_EVERY_S = 600.0
CENTRAL = frozenset({
    "aftermath", "canary", "canary_compare", "changes", "dcgm", "expected", "metrics_window", "request_traces",
    "siblings",
})  # fmt: skip
"""Steps that ask Prometheus, tracing back ends, other servers or our own memory run with the responder."""


class Ask(Noun):
    """What an agent is asked to do."""

    step: str
    params: dict[str, Any]
    evidence: str
    incident: str
    target: Target
    """Without its API key: that never goes through the database."""
    inventory: Inventory | None
    onset_at: float
    opened_at: float
    scrape_interval_s: float


class Answer(Noun):
    """How it ended; the files lie under `work/ID/`."""

    outcome: Outcome
    reason: str = ""
    pause_seconds: float = 0.0
    disturbed: tuple[float, float] | None = None
    files: tuple[str, ...] = ()


class Agents:
    """The controller's side of all nodes."""

    def __init__(self, database: Database, artifacts: Artifacts) -> None:
        self.database, self.artifacts = database, artifacts
        self.work = Work(database)
        self._waiting: dict[str, asyncio.Future[Ended]] = {}
        self._task: asyncio.Task[None] | None = None
        self._cleared_at = 0.0

    def start(self) -> None:
        """Begin to hear of endings."""
        self._task = asyncio.create_task(self.database.attend(DONE, LOOK_EVERY_S, self._look), name="agents")

    async def stop(self) -> None:
        """Hear no more; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def there(self, step: Step, evidence: str, target: Target) -> Step:
        """The step as it is run for this target: on its node, unless it has none or the step runs with us anyway."""
        if not target.node or step.name in CENTRAL:
            return step

        async def fetch(scene: Scene, params: BaseModel) -> Fetched:
            return await self._fetch(step, evidence, scene, params)

        return replace(step, fetch=fetch, timeout_s=step.timeout_s + SLACK_S)

    async def _fetch(self, step: Step, evidence: str, scene: Scene, params: BaseModel) -> Fetched:
        node = scene.target.node
        name = f"{scene.incident or 'by-hand'}.{evidence}.{secrets.token_hex(4)}"
        ask = Ask(
            step=step.name, params=params.model_dump(mode="json"), evidence=evidence, incident=scene.incident,
            target=scene.target.model_copy(update={"api_key": None}), inventory=scene.inventory,
            onset_at=scene.onset_at, opened_at=scene.opened_at, scrape_interval_s=scene.scrape_interval_s,
        )  # fmt: skip
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiting[name] = ended
        try:
            await self.work.put(name, node, ask.model_dump_json(), step.timeout_s)
            return await self._brought(name, node, await ended)
        except asyncio.CancelledError:
            with contextlib.suppress(DatabaseSilent):
                await asyncio.shield(self.work.cancel(name, node))
            raise
        except (DatabaseSilent, ArtifactsSilent) as error:
            return Fetched(outcome=Outcome.FAILED, reason=f"node {node}: {error}")
        finally:
            del self._waiting[name]

    async def _brought(self, work: str, node: str, ended: Ended) -> Fetched:
        if ended.state == "absent":
            why = f"no agent of node {node} was heard of in {HEARD_S:g} s: start `responder agent --node {node}` there"
            return Fetched(outcome=Outcome.SKIPPED, reason=why)
        if ended.state != "done":
            return Fetched(outcome=Outcome.INTERRUPTED, reason=f"the agent on {node} ended while it ran; not run again")
        answer = Answer.model_validate_json(ended.answer)
        files: dict[str, bytes] = {}
        lost = []
        for name in answer.files:
            try:
                files[name] = await self.artifacts.get(f"work/{work}/{name}")
            except KeyError:
                lost.append(name)
        if answer.files:
            await self.artifacts.drop(f"work/{work}")
        outcome, reason = answer.outcome, answer.reason
        if lost:
            said = f"not in the artifacts, though node {node} left them there: {', '.join(lost)}"
            outcome = Outcome.PARTIAL if outcome is Outcome.OK else outcome
            reason = f"{reason}; {said}" if reason else said
        return Fetched(files, outcome, reason, answer.pause_seconds, answer.disturbed)

    async def _look(self, db: Connection) -> None:
        if self._waiting:
            for name, ended in (await endings(db, list(self._waiting))).items():
                future = self._waiting.get(name)
                if future is not None and not future.done():
                    future.set_result(ended)
        if time.monotonic() - self._cleared_at > CLEAR_EVERY_S:
            self._cleared_at = time.monotonic()
            await clear_up(db)


def from_afar(inventories: Mapping[str, Inventory], targets: Mapping[str, Target]) -> dict[str, Inventory]:
    """What agents have found on their nodes, as it looks from here: reachable, but not on this host."""
    return {
        name: known.model_copy(update={"local": False, "via": f"agent on {targets[name].node}"})
        for name, known in inventories.items()
        if name in targets and targets[name].node
    }
