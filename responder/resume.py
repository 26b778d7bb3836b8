"""What had an earlier life of the daemon done for this incident? The journal says, before anything is done anew.

A step that had begun and had not ended is never run again if it can disturb the server: it is evidence `interrupted`.
One of rung 0 only reads: what it left is thrown away, and it runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from responder.capture import gcore
from responder.case import Case, Kit, show_others
from responder.correlate import worse
from responder.killpoint import reach
from responder.manifest import manifest_entry
from responder.model import CapturePolicy, Evidence, Incident, Outcome, Plan, Status, StepCall, TimelineEntry, Timings
from responder.ptrace import left_stopped
from responder.replay import evidence_again

log = structlog.get_logger()
INTERRUPTED = "the responder ended while it ran; it is not run again"


async def begin(kit: Kit, case: Case, call: StepCall, evidence_id: str) -> None:
    """Write down that a step is about to act, and who allowed it; on disk before it acts."""
    reach("step.planned")
    now = kit.clock()
    item = Evidence(id=evidence_id, step=call.step, rung=call.rung, outcome=Outcome.INTERRUPTED, reason=INTERRUPTED,
                    started_at=now, seconds=0.0, params=dict(call.params))  # fmt: skip
    known = kit.inventories.get(case.target.name)
    audit = {
        "what": "step begins", "step": call.step, "rung": call.rung, "target": case.target.name,
        "where": (known.via if known else "") or "this host", "params": dict(call.params), "why": call.why,
        "rules": sorted({s.alert for s in case.incident.symptoms}), "allowed_by": _allowed(kit, case, call),
    }  # fmt: skip
    await kit.store.begin_step(case.incident.id, evidence_id, manifest_entry(item), (now, audit))
    reach("step.started")


def _allowed(kit: Kit, case: Case, call: StepCall) -> str:
    asked = kit.approvals.of(case.incident.id, call.step) if kit.approvals and call.rung > 0 else None
    if asked is not None and asked.decision == "approved":
        return f"{asked.who}, by approval"
    policy = case.target.capture or CapturePolicy(max_rung=kit.max_rung)
    if call.rung > policy.max_rung:
        return "policy: `canary: true`"
    return f"policy: up to rung {policy.max_rung}"


def cut_off(kit: Kit, case: Case, call: StepCall, evidence_id: str) -> None:
    """A step was cancelled in the middle: that is evidence, too."""
    item = Evidence(id=evidence_id, step=call.step, rung=call.rung, outcome=Outcome.INTERRUPTED,
                    reason="the time for captures was over, or the responder was stopped", started_at=kit.clock(),
                    seconds=0.0, params=dict(call.params))  # fmt: skip
    case.evidence.append(item)
    case.manifest[evidence_id] = manifest_entry(item)


async def end(kit: Kit, case: Case, item: Evidence) -> None:
    """Write down how a step ended; its files are on disk."""
    audit = {"what": "step ended", "step": item.step, "rung": item.rung, "target": case.target.name,
             "outcome": item.outcome.value, "seconds": item.seconds, "pause_s": item.pause_seconds}  # fmt: skip
    await show_others(kit, case)
    await kit.store.end_step(case.incident.id, item.id, case.manifest[item.id], (kit.clock(), audit))
    reach("step.done")


async def recall(kit: Kit, case: Case) -> str:
    """Fill the case with what is known already; returns the stage people were last told, '' for nothing."""
    known = await kit.store.incident(case.incident.id)
    rows = await kit.store.steps(case.incident.id)
    entries = [kept for row in rows if (kept := await _settled(kit, case, *row)) is not None]
    await asyncio.to_thread(case.folder.sweep)
    try:
        manifest = await asyncio.to_thread(case.folder.read_json, "manifest.json")
    except (FileNotFoundError, ValueError):  # any other OSError passes, and this is done again: it says who was told
        manifest = {}
    told: Mapping[str, Any] = manifest.get("report", {})
    entries = entries if rows else list(manifest.get("evidence", []))
    stage, revision = (known[1], known[2]) if known else ("", 0)
    case.revision = max(revision, int(told.get("revision", 0)))
    if not entries and not case.revision:
        return ""
    signals = {"target": case.incident.target, "signals": sorted(kit.signals), "scrape_s": kit.scrape_interval_s}
    case.evidence = list(await asyncio.to_thread(evidence_again, case.folder, kit.steps, entries, signals))
    case.manifest = {item.id: entry for item, entry in zip(case.evidence, entries, strict=True)}
    if told:
        case.timings = Timings.model_validate(told["timings"])
        case.plan = Plan.model_validate(told["plan"])
        case.told_class = told["incident"]["incident_class"]
        case.told = set(manifest.get("told", ()))
        if said := manifest.get("said"):
            case.said = (said[0], said[1], Status(said[2]), "")
        weighed = set(manifest["weighed"])
        case.set_aside = {entry["evidence"]["id"] for entry in manifest["evidence"]} - weighed
    if stage == "final" and told:
        _owed(case, Incident.model_validate(told["incident"]), int(told["revision"]) > revision)
    if stage != "reopened":
        note = TimelineEntry(at=kit.clock(), kind="note", says="the responder was restarted and went on")
        case.incident = case.incident.model_copy(update={"timeline": (*case.incident.timeline, note)})
    case.final_told = stage == "final"
    return stage


def _owed(case: Case, told: Incident, never_left: bool) -> None:
    """What happened after the last report, or after one that was written and never sent, has still to be told."""
    if worse(told, case.incident):
        case.grew.set()
    elif never_left or told.acknowledged != case.incident.acknowledged:
        case.news.set()


async def _settled(kit: Kit, case: Case, evidence_id: str, state: str, entry: dict[str, Any]) -> dict[str, Any] | None:
    if state == "done":
        return entry
    await asyncio.to_thread(case.folder.drop_raw, evidence_id)
    if entry["evidence"]["rung"] == 0:
        await kit.store.drop_step(case.incident.id, evidence_id)
        return None
    log.warning("step.interrupted", incident=case.incident.id, step=entry["evidence"]["step"])
    await _tidy(kit, case, Evidence.model_validate(entry["evidence"]))
    audit = {"what": "step interrupted", "step": entry["evidence"]["step"], "target": case.target.name}
    await kit.store.end_step(case.incident.id, evidence_id, entry, (kit.clock(), audit))
    return entry


async def _tidy(kit: Kit, case: Case, item: Evidence) -> None:
    """A tracer that was killed together with us may have left the server standing, or gigabytes of half a core, and
    nobody else knows of it."""
    known, ran = kit.inventories.get(case.target.name), kit.steps.get(item.step)
    if known is None or not known.local or ran is None or not any("PTRACE" in need for need in ran.needs):
        return
    notes = [await left_stopped(process) for process in known.processes]
    if item.step == gcore.STEP.name:
        pids = {process.pid for process in known.processes}
        notes += [f"{path} removed" for path in await asyncio.to_thread(
            gcore.remove_half, item.params, pids, item.started_at)]  # fmt: skip
    for note in filter(None, notes):
        log.warning("step.tidied", incident=case.incident.id, step=item.step, says=note)
