"""A whole flow without a world: fake steps, a fake receiver, a real store and real folders."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import BaseModel

from responder.capture.step import Brief, Command, FactSpec, Fetched, Scene, Step
from responder.case import Kit
from responder.model import (
    Cause,
    Clause,
    Content,
    Disproof,
    Fact,
    Incident,
    Playbook,
    Remedy,
    Severity,
    StepCall,
    Symptom,
    Target,
    Test,
    Weight,
)
from responder.notify.notifier import Message, Sent
from responder.outbox import Outbox
from responder.store_sqlite import SqliteStore
from responder.telemetry import Telemetry

NOW = 1_700_000_000.0


def step(name: str, fetch: Callable[[Scene], Awaitable[Fetched]], rung: int = 0, timeout_s: float = 5.0) -> Step:
    """A step whose raw file is JSON of facts."""

    async def fetches(scene: Scene, _: BaseModel) -> Fetched:
        return await fetch(scene)

    def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
        for key, value in json.loads(files["facts.json"]).items():
            yield Fact(name=f"{name}.{key}", value=value, step=name, file="facts.json", at=brief.now)

    specs = (FactSpec(f"{name}.busy", "", "busy"),)
    return Step(name, rung, name, fetches, read, specs, timeout_s=timeout_s, max_bytes=1 << 16)


def brings(facts: Mapping[str, Any]) -> Callable[[Scene], Awaitable[Fetched]]:
    async def fetch(_: Scene) -> Fetched:
        return Fetched({"facts.json": json.dumps(facts).encode()})

    return fetch


def cause(name: str, fact: str) -> Cause:
    weight = Weight(id="w", group="g", test=Test(all=(Clause(fact=fact, op="==", value=True),)), yes=14, no=-10,
                    says=f"{fact} is so")  # fmt: skip
    return Cause(id=name, title=name, says=name, prior=0.2, evidence=(weight,), confirm=("w",), explains=("*",),
                 would_disprove=Disproof(says="no"), remedies=(Remedy(says="do", tradeoff="none"),))  # fmt: skip


def content(*steps: Step) -> Content:
    ladder = tuple(StepCall(step=s.name, rung=s.rung) for s in steps)
    book = Playbook(id="p", incident_class="high_ttft", title="p", alerts=("A",), ladder=ladder, causes=("c", "d"))
    return Content(playbooks=(book,), causes=(cause("c", "look.busy"), cause("d", "deep.busy")))


def symptom(alert: str = "A", incident_class: str = "high_ttft") -> Symptom:
    return Symptom(alert=alert, incident_class=incident_class, severity=Severity.WARNING, target="t", since=NOW - 10,
                   fired_at=NOW)  # fmt: skip


def incident(**update: Any) -> Incident:
    made = Incident(id="i1", target="t", incident_class="high_ttft", severity=Severity.WARNING, onset_at=NOW - 10,
                    opened_at=NOW, symptoms=(symptom(),))  # fmt: skip
    return made.model_copy(update=update)


class Listener:
    """A receiver that remembers."""

    kind = name = "listener"

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.news = asyncio.Event()

    async def send(self, _: aiohttp.ClientSession, message: Message) -> Sent:
        self.told.append(message)
        self.news.set()
        return Sent("delivered")

    @property
    def stages(self) -> list[str]:
        return [m.stage for m in self.told]

    async def until(self, stage: str, count: int = 1) -> Message:
        """Wait for the count-th message of a stage."""
        async with asyncio.timeout(20):
            while True:
                found = [m for m in self.told if m.stage == stage]
                if len(found) >= count:
                    return found[count - 1]
                self.news.clear()
                await self.news.wait()


class NoRunner:
    """Commands and files of nowhere."""

    async def run(self, argv: Any, *, timeout: float, max_bytes: int = 0) -> Command:
        raise FileNotFoundError(argv[0])

    async def read(self, path: str, *, max_bytes: int, tail: bool = False) -> bytes:
        raise FileNotFoundError(path)


def kit(folder: Path, http: aiohttp.ClientSession, listener: Listener, *steps: Step) -> Kit:
    """Everything the flow needs; the outbox is not started."""
    store = SqliteStore(folder)
    store.open()
    outbox = Outbox(store, http, {"listener": listener}, folder, lambda: NOW + 1)
    return Kit(
        content=content(*steps), targets={"t": Target(name="t", url="http://127.0.0.1:1", match={"instance": "t"})},
        steps={s.name: s for s in steps}, store=store, data_dir=folder, http=http, runner=NoRunner(),
        range_query=None, outbox=outbox, telemetry=Telemetry(), clock=lambda: NOW + 1, secrets=("hunter22",),
    )  # fmt: skip
