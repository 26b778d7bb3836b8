"""How does one planned capture become evidence of an incident? In the journal before and after, and careful between."""

from __future__ import annotations

import asyncio

import structlog

from responder.capture.step import Brief, Scene
from responder.carefully import carefully
from responder.case import Case, Kit
from responder.collect import Collected, numbered
from responder.manifest import manifest_entry
from responder.model import StepCall
from responder.resume import begin, cut_off, end

log = structlog.get_logger()


async def perform(kit: Kit, case: Case, call: StepCall, slots: asyncio.Semaphore) -> None:
    """Run one call once a slot is free. LeaseLost when the target is another replica's by then."""
    async with slots:
        step = kit.steps[call.step]
        await kit.must_hold(case.target.name)
        evidence_id = numbered(step.name, case.manifest)
        step = kit.elsewhere(step, evidence_id, case.target)
        case.manifest[evidence_id] = {}
        brief = Brief.of(case.incident, kit.clock(), kit.signals, kit.scrape_interval_s)
        await begin(kit, case, call, evidence_id)
        await kit.must_hold(case.target.name)  # the commit may have taken a while
        try:
            got = await carefully(
                step, call, scene_of(kit, case), brief, case.folder, evidence_id=evidence_id, secrets=kit.secrets,
                clock=kit.clock, sentry=case.sentry, allowance=kit.allowance,
            )  # fmt: skip
        except asyncio.CancelledError:
            cut_off(kit, case, call, evidence_id)
            raise
        case.evidence.append(got.evidence)
        case.manifest[evidence_id] = manifest_entry(got.evidence, brief, got.hashes, got.redactions)
        _count(kit, got)
        await end(kit, case, got.evidence)


def _count(kit: Kit, got: Collected) -> None:
    item, tell = got.evidence, kit.telemetry
    tell.steps.labels(item.step, item.outcome.value).inc()
    tell.step_seconds.labels(item.step).observe(item.seconds)
    tell.capture_bytes.labels(item.step).inc(item.bytes)
    if item.pause_seconds:
        tell.target_pause.labels(item.step).inc(item.pause_seconds)
    for kind, count in got.redactions.items():
        tell.redactions.labels(kind).inc(count)
    log.info("step.ended", step=item.step, outcome=item.outcome.value, seconds=item.seconds, reason=item.reason)


def scene_of(kit: Kit, case: Case) -> Scene:
    """All that a step may use for this incident, as of now."""
    incident, target = case.incident, case.target
    return Scene(
        target=target,
        inventory=kit.inventories.get(target.name),
        now=kit.clock(),
        onset_at=incident.onset_at,
        opened_at=incident.opened_at,
        http=kit.http,
        runner=kit.runners.get(target.name, kit.runner),
        range_query=kit.range_query,
        signals=kit.signals,
        siblings=tuple(t for t in kit.targets.values() if t.name != target.name),
        scrape_interval_s=kit.scrape_interval_s,
        requests=kit.requests,
        shell_allowed=kit.shell_allowed,
        duties=kit.duties,
        incident=incident.id,
        pinned=kit.pinned,
        remembered=kit.remembered,
        disturbed=case.disturbed,
    )
