"""What is known of one incident while it is worked on, and what is there to work with?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import structlog

from responder.allowance import Allowance
from responder.approvals import Approvals
from responder.artifacts import ArtifactsSilent, Mirror
from responder.canaries.pins import Pinned
from responder.capture.step import RangeQuery, RequestRows, Runner, Step
from responder.folder import IncidentFolder
from responder.kept import both
from responder.model import Content, Evidence, Experience, Incident, Inventory, Plan, StepCall, Target, Timings, Verdict
from responder.obligations import Obligations
from responder.outbox import Outbox
from responder.plan import HEAVY_RUNG
from responder.routes import Route
from responder.sentry import Sentry
from responder.shares import LeaseLost
from responder.store import Store
from responder.telemetry import Telemetry
from responder.turned import Named
from responder.words import ENGLISH, Language

log = structlog.get_logger()


@dataclass
class Kit:
    """What the flow works with; `app.py` fills it, and a reload replaces `content` and `targets` in place."""

    content: Content
    targets: Mapping[str, Target]
    steps: Mapping[str, Step]
    store: Store
    data_dir: Path
    http: aiohttp.ClientSession
    runner: Runner
    """Runs captures on this host."""
    range_query: RangeQuery | None
    outbox: Outbox
    telemetry: Telemetry
    clock: Callable[[], float]
    runners: dict[str, Runner] = field(default_factory=dict)
    """Target -> runner on its host, for targets elsewhere."""
    inventories: dict[str, Inventory] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    signals: Mapping[str, str] = field(default_factory=dict)
    scrape_interval_s: float = 5.0
    max_rung: int = 1
    deadline_s: float = 45.0
    requests: RequestRows | None = None
    shell_allowed: bool = False
    duties: Obligations | None = None
    allowance: Allowance | None = None
    """None: nothing of rung 2 and up runs, and nothing is measured."""
    approvals: Approvals | None = None
    firing: Callable[[str], bool] | None = None
    """Whether an incident has symptoms at this moment."""
    pinned: Callable[[str], Pinned] | None = None
    routes: tuple[Route, ...] = ()
    languages: tuple[Language, ...] = (ENGLISH,)
    """The one of the reports first, then those that single receivers are told in."""
    experience: Callable[[Case], Awaitable[Experience]] | None = None
    """What earlier incidents say about one; None where nobody remembers."""
    remembered: dict[str, dict[str, str]] = field(default_factory=dict)
    """Target -> what was learned of it in healthy times: kind -> JSON."""
    may_act: Callable[[str], Awaitable[bool]] | None = None
    """Whether a target is still ours, when there are other replicas."""
    elsewhere: Callable[[Step, str, Target], Step] = lambda step, _, __: step
    """A step as it is run for a target: (step, evidence id, target) -> the same, on the target's node if it has one."""
    stock: Callable[[], Awaitable[dict[str, Inventory]]] | None = None
    """What agents have found on their nodes."""
    mirror: Mirror | None = None
    """Where other replicas see incident folders."""
    pen: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One report is written at a time: each thread that words one makes the loop, which acknowledges alerts, wait its
    turn for the interpreter once more."""

    async def must_hold(self, target: str) -> None:
        """Before each act. LeaseLost when the target is another replica's by now."""
        if self.may_act is not None and not await self.may_act(target):
            raise LeaseLost(f"{target} is another replica's by now")


@dataclass
class Case:
    """One incident being worked on: everything known so far."""

    incident: Incident
    folder: IncidentFolder
    target: Target
    evidence: list[Evidence] = field(default_factory=list)
    manifest: dict[str, dict[str, object]] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    verdict: Verdict | None = None
    revision: int = 0
    final_told: bool = False
    content_written: Content | None = None
    """What lies in the folder as content.json."""
    told_class: str = ""
    """The class people were last told."""
    timings: Timings = field(default_factory=Timings)
    set_aside: set[str] = field(default_factory=set)
    """Evidence for charts only, not for the verdict."""
    sentry: Sentry | None = None
    """While captures run."""
    asked: dict[str, StepCall] = field(default_factory=dict)
    """Steps that wait for a person's answer."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    said: Named | None = None
    """What the last message named first."""
    said_verdict: Verdict | None = None
    """Its whole verdict; a restart forgets it."""
    told: set[str] = field(default_factory=set)
    """Receivers that have heard of it."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """A person did something that people should be told."""
    grew: asyncio.Event = field(default_factory=asyncio.Event)
    resolved: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, incident: Incident) -> None:
        """The incident as detection knows it now; what people did and what we noted stays."""
        ours = self.incident
        self.incident = incident.model_copy(
            update={"timeline": both(ours.timeline, incident.timeline),
                    "acknowledged": ours.acknowledged or incident.acknowledged}
        )  # fmt: skip

    def remember(self, new: Plan) -> None:
        """Add a plan to what was planned so far."""
        refused = {(r.call.step, r.why): r for r in (*self.plan.refused, *new.refused)}
        chosen = {c.step: c for c in (*self.plan.chosen, *new.chosen)}
        kept = tuple(r for r in refused.values() if r.call.step not in chosen)
        self.plan = Plan(chosen=tuple(chosen.values()), refused=kept)

    @property
    def disturbed(self) -> tuple[tuple[float, float], ...]:
        """Since when and until when captures of ours disturbed the server."""
        ran = [item for item in self.evidence if item.rung >= HEAVY_RUNG and (item.files or item.pause_seconds)]
        return tuple((item.started_at, item.started_at + item.seconds) for item in ran)

    @property
    def weighed(self) -> tuple[Evidence, ...]:
        """The evidence a verdict rests on."""
        return tuple(item for item in self.evidence if item.id not in self.set_aside)


async def show_others(kit: Kit, case: Case) -> None:
    """Whoever takes over must find what is promised next; if that fails now, the next time brings it."""
    if kit.mirror is not None:
        try:
            await kit.mirror.push(case.folder)
        except (ArtifactsSilent, OSError) as error:
            log.error("artifacts.silent", reason=str(error))
