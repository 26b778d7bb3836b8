"""A daemon's user interface without a fleet: real store, real overview, a sample incident, shipped playbooks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer

from responder.approvals import Approvals
from responder.capture import STEPS
from responder.content import tongue
from responder.folder import folder_of
from responder.ledger import Ledger
from responder.model import Approval, Delivery, Incident, Inventory, Obligation, Report, Target, TimelineEntry
from responder.overview import Overview
from responder.pressed import Pressed
from responder.report import to_html, to_json, to_markdown
from responder.respond import Responder
from responder.standing import Over
from responder.web.server import Surface, build
from tests.flow import Listener, incident, kit
from tests.replayed import content
from tests.sample_report import TARGET, sample

SAMPLE = "20261120-031304-kv"


@dataclass
class Scene:
    """What a test can look at and turn."""

    url: str
    overview: Overview
    kit: Any
    watch: Any
    approvals: Approvals

    def many(self, count: int) -> list[Incident]:
        """Resolved incidents of the past, one a minute."""
        now = time.time()
        cause = TimelineEntry(at=now, kind="cause", says="KV cache is full: probable (71 %)")
        return [
            incident(id=f"past-{n:05}", target=f"gpu-{n % 40}:8000", state="resolved", opened_at=now - 60 * (n + 60),
                     onset_at=now - 60 * (n + 60) - 10, resolved_at=now - 60 * (n + 50), timeline=(cause,))
            for n in range(count)
        ]  # fmt: skip

    async def remember(self, *incidents: Incident) -> None:
        """Put them into the store in one transaction."""
        rows = [(i.id, i.target, i.state, i.opened_at, "resolved", 3, i.model_dump_json()) for i in incidents]
        await self.kit.store._do(lambda db: db.executemany("INSERT INTO incidents VALUES (?,?,?,?,?,?,?)", rows))


def over_as_ever(target: str) -> tuple[Over, ...]:
    """One of the two servers always had slow tokens."""
    says = "The 99th percentile of the time between tokens is 240 ms (limit 200 ms)"
    return () if target == TARGET else (Over("VLLMITLHigh", target, 1000.0, says),)


@asynccontextmanager
async def scene(
    folder: Path, *, code: str = "en", report: Report | None = None, **surface: Any
) -> AsyncIterator[Scene]:
    """Served on loopback, as a daemon with `language: code`; `report`: that of the incident that is there."""
    async with aiohttp.ClientSession() as http:
        parts = kit(folder, http, Listener())
        parts.steps, parts.content, parts.clock = STEPS, content(), time.time
        parts.languages = (tongue(code),)
        parts.targets = {
            name: Target(name=name, url=f"http://{name}", match={"instance": name}, labels={"team": "chat"})
            for name in (TARGET, "embed-7b:8000")
        }
        parts.inventories = {TARGET: Inventory(
            at=time.time(), local=True, why_not="the process that listens on port 8000 is not visible: it belongs to "
            "another user or another PID namespace (run the responder as the same user or root)",
        )}  # fmt: skip
        parts.firing = lambda _: True
        watch: Any = SimpleNamespace(incidents={}, configured_silences=(), silence_folder=folder / "silences",
                                     known={TARGET}, models={TARGET: {"chat-70b"}}, open_count=1,
                                     standing=SimpleNamespace(of=over_as_ever))  # fmt: skip
        approvals = Approvals(folder / "approvals")

        async def decide(name: str, step: str, approve: bool, who: str) -> dict[str, Any]:
            return approvals.decide(name, step, approve=approve, who=who, now=time.time()).model_dump(mode="json")

        safety: Any = SimpleNamespace(approvals=approvals, decide=decide, remember=lambda *_: None)
        overview = Overview(lambda: {"prometheus": "http://127.0.0.1:9090", "missing": "", "receivers": ["chat"]})
        overview.attach(parts, watch, safety, Pressed(parts, Responder(parts), safety, Ledger(parts).press), {})
        app = build(Surface(
            data_dir=folder, token=surface.pop("token", None), metrics=lambda: b"", ready=_ready, accept=_accept,
            incidents=parts.store.incidents, reload=_ready, overview=overview, **surface,
        ))  # fmt: skip
        server = TestServer(app)
        await server.start_server()
        made = Scene(str(server.make_url("")).rstrip("/"), overview, parts, watch, approvals)
        await _fill(made, folder, report or sample())
        try:
            yield made
        finally:
            await server.close()
            parts.store.close()


async def _fill(made: Scene, folder: Path, report: Report) -> None:
    known = report.incident.model_copy(update={"id": SAMPLE})
    report = report.model_copy(update={"incident": known})
    kept, language = folder_of(folder, SAMPLE), made.kit.languages[0]
    kept.write("report.json", to_json(report, language))
    kept.write("report.md", to_markdown(report, language).encode())
    kept.write("report.html", to_html(report, {}, language).encode())
    kept.write_raw("torch_profiler", {"rank0.pt.trace.json.gz": b"\x1f\x8b trace", "summary.txt": b"words"})
    store, now = made.kit.store, time.time()
    await store.save_incident(known, stage="final", revision=report.revision)
    for item in report.evidence:
        entry = {"evidence": item.model_dump(mode="json")}
        await store.begin_step(SAMPLE, item.id, entry, (now, {}))
        await store.end_step(SAMPLE, item.id, entry, (now, {}))
    made.approvals.ask(Approval(incident=SAMPLE, step="torch_profiler", target=TARGET, rung=3, asked_at=now,
                                expires_at=now + 900))  # fmt: skip
    await store.add_deliveries([
        Delivery(id="d1", incident=SAMPLE, revision=2, receiver="chat", stage="final"),
        Delivery(id="d2", incident=SAMPLE, revision=1, receiver="chat", stage="first", state="delivered", attempts=1),
    ])  # fmt: skip
    await store.save_obligation(Obligation(id="o1", target=TARGET, url=f"http://{TARGET}", step="torch_profiler",
                                           opened_at=now, due_at=now + 30, state="settled", by="daemon"))  # fmt: skip


async def _ready() -> str:
    return ""


async def _accept(_: Any) -> bool:
    return True
