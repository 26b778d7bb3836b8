"""Which captures wait for a person, and what has the person said? Asked once, counted only while it still matters."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from responder.approvals import Approvals
from responder.capture.step import Scene
from responder.case import Case, Kit
from responder.model import Approval, CapturePolicy, Plan, Refusal, StepCall, TimelineEntry
from responder.plan import Budget, asks

log = structlog.get_logger()
LOOK_EVERY_S = 1.0
READY_TIMEOUT_S = 8.0


def note(kit: Kit, case: Case, says: str) -> None:
    """One line of the incident's history about captures."""
    entry = TimelineEntry(at=kit.clock(), kind="capture", says=says)
    case.incident = case.incident.model_copy(update={"timeline": (*case.incident.timeline, entry)})


async def ask_people(kit: Kit, case: Case, budget: Budget, scene: Scene) -> None:
    """Put a question for every refused capture that a person could allow and that could run here."""
    if kit.approvals is None:
        return
    policy = case.target.capture or CapturePolicy()
    for refusal in case.plan.refused:
        call, step = refusal.call, kit.steps.get(refusal.call.step)
        if step is None or not asks(call, budget) or call.step in case.asked:
            continue
        why = await _cannot(step.ready, scene) if step.ready else ""
        if why:
            _replace(case, call, f"needs a person's approval, and could not run now: {why}")
            continue
        now = kit.clock()
        item = kit.approvals.ask(
            Approval(incident=case.incident.id, step=call.step, target=case.target.name, rung=call.rung, asked_at=now,
                     expires_at=now + policy.approval_expiry)
        )  # fmt: skip
        case.asked[call.step] = call
        if item.decision == "pending":
            until = _clock(item.expires_at)
            how = f"`responder approve {item.incident} {item.step}`"
            _replace(case, call, f"waits for a person's approval until {until}: {how}")
            note(kit, case, f"{call.step} (rung {call.rung}) waits for approval until {until}")


async def wait_for_answers(kit: Kit, case: Case) -> None:
    """Set `case.answered` whenever a question has been answered or has expired; ends when none is left."""
    while kit.approvals is not None:
        await asyncio.sleep(LOOK_EVERY_S)
        steps = tuple(case.asked)
        if not steps:
            continue
        if await asyncio.to_thread(_news, kit.approvals, case.incident.id, steps, kit.clock()):
            case.answered.set()


def take_answers(kit: Kit, case: Case) -> list[StepCall]:
    """Calls that may run now; what was denied, came too late or expired is noted and dropped."""
    approvals, run = kit.approvals, []
    if approvals is None:
        return []
    for name, call in list(case.asked.items()):
        item = approvals.of(case.incident.id, name)
        if item is None:
            continue
        if item.decision == "pending" and kit.clock() >= item.expires_at:
            item = approvals.expire(item, kit.clock())
        if item.decision == "pending":
            continue
        del case.asked[name]
        if item.decision == "approved" and not (kit.firing is None or kit.firing(case.incident.id)):
            _replace(case, call, f"approved by {item.who} when nothing was firing any more: not run")
            note(kit, case, f"{name} was approved by {item.who}, but nothing is firing any more: not run")
        elif item.decision == "approved":
            note(kit, case, f"{name} was approved by {item.who}")
            run.append(call)
        else:
            said = f"denied by {item.who}" if item.decision == "denied" else "skipped: nobody approved it in time"
            _replace(case, call, said)
            note(kit, case, f"{name} was {said}" if item.decision == "denied" else f"{name}: {said}")
        log.info("approval.taken", step=name, decision=item.decision, who=item.who)
    return run


def _news(approvals: Approvals, incident: str, steps: tuple[str, ...], now: float) -> bool:
    items = [approvals.of(incident, step) for step in steps]
    return any(item is not None and (item.decision != "pending" or now >= item.expires_at) for item in items)


async def _cannot(ready, scene: Scene) -> str:  # type: ignore[no-untyped-def]
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            return str(await ready(scene))
    except Exception as error:  # we meet the outside here; a preflight that breaks is no permission
        return f"{type(error).__name__}: {error}"[:200]


def _replace(case: Case, call: StepCall, why: str) -> None:
    refused = tuple(r for r in case.plan.refused if r.call.step != call.step)
    case.plan = Plan(chosen=case.plan.chosen, refused=(*refused, Refusal(call=call, why=why)))


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")
