"""What do metrics alone say of an incident at a moment of the past? The steps that only ask Prometheus, and a verdict.

Every query ends at the virtual now: nothing of what came later is known to a verdict.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

from responder import __version__
from responder.backtest.find import STAMP
from responder.backtest.past import Past, Rows
from responder.capture import STEPS, aftermath
from responder.capture.step import Brief, Scene, Step
from responder.collect import numbered, read_facts
from responder.diagnose import diagnose
from responder.folder import IncidentFolder, safe_name
from responder.manifest import manifest_entry
from responder.model import (
    CapturePolicy,
    Content,
    Evidence,
    Incident,
    Outcome,
    Plan,
    Report,
    StepCall,
    Target,
    TimelineEntry,
    Timings,
    Verdict,
)
from responder.plan import Budget, plan
from responder.report import to_json
from responder.report_words import percent
from responder.runner import LocalRunner

FROM_HISTORY = ("metrics_window", "siblings", "dcgm", "expected", aftermath.STEP.name)
"""Steps that need nothing but Prometheus; the last one tells only when it is over."""
SCRAPES, FRESH_S = 4, 15.0
PATIENCE = 50
"""Attempts at most at a step whose own deadline is made for a live server; what was answered is remembered between
them, and one that brought no new answer is the last."""


class Remembered:
    """Range queries whose answers are kept for the next attempt."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self._asked: dict[tuple[str, float, float, float], asyncio.Task[Rows]] = {}

    async def __call__(self, expr: str, start: float, end: float, step: float) -> Rows:
        """As `Past.range`; a caller that gives up does not stop the query."""
        key = (expr, start, end, step)
        if key not in self._asked:
            self._asked[key] = asyncio.create_task(self.past.range(expr, start, end, step))
        return await asyncio.shield(self._asked[key])

    async def settle(self) -> int:
        """Wait for everything that was asked; how many questions that were."""
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        return len(self._asked)


@dataclass
class Case:
    """One incident of the past: what was known of it, and when."""

    incident: Incident
    target: Target
    evidence: list[Evidence] = field(default_factory=list)
    manifest: list[dict[str, Any]] = field(default_factory=list)
    raw: dict[str, dict[str, bytes]] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    verdict: Verdict | None = None
    notes: tuple[TimelineEntry, ...] = ()
    timings: Timings = field(default_factory=Timings)
    due: float | None = None
    """When to look again."""
    looked_at: float = 0.0
    told_class: str = ""
    revision: int = 0


@dataclass
class Looking:
    """What every look needs."""

    past: Past
    http: aiohttp.ClientSession
    content: Content
    targets: Sequence[Target]
    signals: Mapping[str, str]
    """Signal -> PromQL fitted to the scrape interval."""
    interval_s: float
    keep_raw: bool = False
    _siblings: tuple[Target, ...] = ()

    async def look(self, case: Case, now: float) -> bool:
        """Collect facts as of `now`, and weigh everything known by then. False: the server's history has a gap or its
        end here, and what was known before stays."""
        incident = case.incident
        case.plan = self._plan(case)
        calls = {call.step: call for call in case.plan.chosen}
        there = await self._there(case.target, now)
        if case.verdict is not None and case.target.name not in there:
            return False
        self._siblings = tuple(t for t in self.targets if t.name in there and t.name != case.target.name)
        for name in FROM_HISTORY:
            if name in calls or name == "metrics_window":
                await self._run(case, calls.get(name) or StepCall(step=name, rung=0), now)
        if not case.revision:
            self._note_what_would_run(case, now)
        case.verdict = diagnose(incident, self.content.playbooks, self.content.causes, tuple(case.evidence), case.plan)
        self._tell(case, now)
        return True

    async def look_back(self, case: Case) -> None:
        """What is known only when it is over, as the daemon asks for it."""
        call = next((call for call in case.plan.chosen if call.step == aftermath.STEP.name), None)
        if call is not None and case.incident.resolved_at is not None:
            await self._run(case, call, case.incident.resolved_at)

    async def _there(self, target: Target, now: float) -> set[str]:
        """The servers that were scraped at that time, in vain or not: one that is long gone is no sibling."""
        since = now - max(SCRAPES * self.interval_s, FRESH_S)
        pairs = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(target.match.items()))
        rows = await self.past.range(STAMP, now, now, 1.0)
        rows += await self.past.range(f"timestamp(up{{{pairs}}})", now, now, 1.0)
        fresh = [labels for labels, points in rows if any(v is not None and v >= since for _, v in points)]
        return {
            one.name
            for one in self.targets
            if any(all(labels.get(k) == v for k, v in one.match.items()) for labels in fresh)
        }

    def _plan(self, case: Case) -> Plan:
        policy = case.target.capture or CapturePolicy()
        budget = Budget(max_rung=policy.max_rung, pause_s=policy.pause, canary=case.target.canary,
                        heavy_left=policy.heavy_per_hour)  # fmt: skip
        return plan(case.incident, self.content.playbooks, STEPS, budget)

    async def _run(self, case: Case, call: StepCall, now: float) -> None:
        step, asked = STEPS[call.step], Remembered(self.past)
        brief = Brief.of(case.incident, now, self.signals, self.interval_s)
        known = 0
        for _ in range(PATIENCE):
            fetched = await step.fetch(self._scene(case, asked, now), step.params.model_validate(call.params))
            if fetched.outcome not in (Outcome.PARTIAL, Outcome.FAILED, Outcome.TIMED_OUT):
                break
            if (answered := await asked.settle()) == known:
                break
            known = answered
        files = {safe_name(name): data for name, data in fetched.files.items()}
        facts, complaint = read_facts(step, files, brief)
        evidence_id = numbered(step.name, [item.id for item in case.evidence])
        item = Evidence(
            id=evidence_id, step=step.name, rung=step.rung, started_at=now, seconds=0.0, params=dict(call.params),
            outcome=Outcome.PARTIAL if complaint else fetched.outcome, reason=complaint or fetched.reason,
            bytes=sum(map(len, files.values())), files=tuple(sorted(files)), facts=facts,
        )  # fmt: skip
        case.evidence.append(item)
        if self.keep_raw:
            case.raw[evidence_id] = files
            hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
            case.manifest.append(manifest_entry(item, brief, hashes))

    def _note_what_would_run(self, case: Case, now: float) -> None:
        """A capture that would have run is evidence we do not have, and what it might have cost."""
        for call in case.plan.chosen:
            if call.step in FROM_HISTORY:
                continue
            step = STEPS[call.step]
            item = Evidence(id=call.step, step=call.step, rung=call.rung, outcome=Outcome.SKIPPED,
                            reason=f"a history holds no captures; live it would have run {price(step)}",
                            started_at=now, seconds=0.0, params=dict(call.params))  # fmt: skip
            case.evidence.append(item)
            if self.keep_raw:
                case.manifest.append(manifest_entry(item))

    def _tell(self, case: Case, now: float) -> None:
        """The look as an entry of the timeline, and how fast it was."""
        assert case.verdict is not None
        incident, top = case.incident, case.verdict.hypotheses[0]
        case.revision += 1
        case.looked_at, case.told_class = now, incident.incident_class
        first = case.timings.first_cause_s
        if top.cause != "unknown" and first is None:
            first = round(now - incident.opened_at, 3)
        if not case.notes or case.notes[-1].says.partition(":")[0] != top.title:
            says = f"{top.title}: {top.status.value} ({percent(top.probability)})"
            case.notes = (*case.notes, TimelineEntry(at=now, kind="cause", says=says))
        case.timings = Timings(
            detected_s=round(incident.opened_at - incident.onset_at, 3), first_cause_s=first,
            report_s=round(now - incident.opened_at, 3),
        )  # fmt: skip

    def _scene(self, case: Case, asked: Remembered, now: float) -> Scene:
        incident = case.incident
        return Scene(
            target=case.target, inventory=None, now=now, onset_at=incident.onset_at, opened_at=incident.opened_at,
            http=self.http, runner=LocalRunner(), range_query=asked, signals=self.signals,
            siblings=self._siblings,
            scrape_interval_s=self.interval_s, incident=incident.id,
        )  # fmt: skip


def price(step: Step) -> str:
    """What a step may cost at worst, by its own declaration."""
    pause = f"and paused the server for {step.worst_pause_s:g} s at most" if step.worst_pause_s else "without a pause"
    return f"within {step.timeout_s:g} s, {pause}"


def report_of(case: Case, content: Content) -> Report:
    """The last report: what was seen, weighed once more with all symptoms the incident has had, as the daemon does."""
    incident = case.incident
    timeline = sorted((*incident.timeline, *case.notes), key=lambda entry: entry.at)
    verdict = diagnose(incident, content.playbooks, content.causes, tuple(case.evidence), case.plan)
    stage: Literal["final", "resolved"] = "resolved" if incident.state == "resolved" else "final"
    return Report(
        revision=case.revision,
        stage=stage,
        incident=incident.model_copy(update={"timeline": tuple(timeline)}),
        verdict=verdict,
        evidence=tuple(case.evidence),
        plan=case.plan,
        timings=case.timings,
        target_url=case.target.url,
        generated_at=incident.resolved_at or case.looked_at,
    )


def write_folder(case: Case, report: Report, folder: IncidentFolder, content: Content, looking: Looking) -> None:
    """The incident as a folder that `responder replay` reads. OSError."""
    for evidence_id, files in case.raw.items():
        folder.write_raw(evidence_id, files)
    folder.write_json("content.json", content.model_dump(mode="json"))
    folder.write("report.json", to_json(report))
    folder.write_json(
        "manifest.json",
        {
            "apiVersion": "responder/v1",
            "kind": "Manifest",
            "responder": __version__,
            "report": report.model_dump(mode="json", exclude={"evidence", "verdict", "series"}),
            "signals": sorted(looking.signals),
            "scrape_interval_s": looking.interval_s,
            "weighed": [item.id for item in report.evidence],
            "evidence": case.manifest,
        },
    )
