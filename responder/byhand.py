"""What if a person wants one capture, or wants to know what could be captured? With the same care as the daemon's own.

A person's wish counts as the approval for the rung; not as leave to disturb a server that is already being disturbed,
nor to begin what an earlier capture has not ended.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from responder.allowance import Allowance
from responder.capture.step import NOT_ALLOWED, Brief, Duties, RangeQuery, Runner, Scene, Step
from responder.carefully import carefully
from responder.collect import collect
from responder.folder import IncidentFolder, safe_name
from responder.model import (
    CapturePolicy,
    Evidence,
    Incident,
    Inventory,
    Outcome,
    Plan,
    Playbook,
    Refusal,
    Severity,
    StepCall,
    Target,
)
from responder.plan import SENDS_REQUESTS, Budget, pause_of, plan
from responder.report_words import duration, size
from responder.sentry import Sentry
from responder.words import say, told

READY_TIMEOUT_S = 15.0
SAME_HOST = "same host"
AWAY = (
    "the server is on another host: give the target `where:` (SSH, or its pod) or `node:` (an agent there), or run a "
    "responder there"
)
NOT_TRIED = 2
"""From this rung on doctor asks whether a step could run, and does not run it."""
ASKS = "sends completions of its own, so it was not tried; `responder doctor --ask` tries it"


@dataclass(frozen=True)
class Hand:
    """What a capture by hand works with."""

    steps: Mapping[str, Step]
    http: aiohttp.ClientSession
    runner: Runner
    data_dir: Path
    duties: Duties | None = None
    allowance: Allowance | None = None
    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    siblings: tuple[Target, ...] = ()
    range_query: RangeQuery | None = None
    signals: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    clock: Callable[[], float] = time.time
    audit: Callable[[float, str, Mapping[str, Any]], Awaitable[None]] | None = None
    """Writes a line of the audit log: (at, whose, what); None: nothing is run, or nobody keeps one."""
    who: str = "by hand"
    """Who allowed it."""

    async def note(self, whose: str, target: Target, what: str, step: Step, **more: Any) -> None:
        """A line of the audit log."""
        if self.audit is not None:
            entry = {"what": what, "step": step.name, "rung": step.rung, "target": target.name, **more}
            await self.audit(self.clock(), whose, entry)

    def scene(self, target: Target) -> Scene:
        """A scene without an incident: what is now is what is looked at."""
        now = self.clock()
        return Scene(
            target=target, inventory=self.inventories.get(target.name), now=now, onset_at=now - 60, opened_at=now - 60,
            http=self.http, runner=self.runner, range_query=self.range_query, signals=self.signals,
            siblings=tuple(t for t in self.siblings if t.name != target.name), duties=self.duties, incident="by hand",
        )  # fmt: skip


@dataclass(frozen=True)
class Check:
    """What doctor says of one step."""

    step: str
    rung: int
    can: bool
    why: str
    seconds: float | None = None
    partly: bool = False
    """It ran, and brought not all that it can; `why` says what is missing."""


async def capture(hand: Hand, target: Target, name: str, params: Mapping[str, Any]) -> tuple[Evidence, Path]:
    """Run one step now; its evidence, and the folder with the raw files. KeyError for a step that is not there.

    Before it acts it stands in the audit log under the folder's name.
    """
    step = hand.steps[name]
    now = hand.clock()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    folder = IncidentFolder(hand.data_dir / "incidents" / safe_name(f"by-hand-{stamp}-{name}-{os.urandom(2).hex()}"))
    call = StepCall(step=name, rung=step.rung, params=dict(params), why="asked for by hand")
    brief = Brief(target=target.name, now=now, onset_at=now - 60, opened_at=now - 60)
    known = hand.inventories.get(target.name)
    await hand.note(
        folder.path.name, target, "step begins", step, where=(known.via if known else "") or "this host",
        params=dict(params), why=call.why, rules=[], allowed_by=hand.who,
    )  # fmt: skip
    async with Sentry(hand.http, target, hand.clock) as sentry:
        got = await carefully(
            step, call, hand.scene(target), brief, folder, evidence_id=name, secrets=hand.secrets, clock=hand.clock,
            sentry=sentry, allowance=hand.allowance,
        )  # fmt: skip
    folder.write_json("evidence.json", got.evidence.model_dump(mode="json"))
    item = got.evidence
    await hand.note(folder.path.name, target, "step ended", step, outcome=item.outcome.value, seconds=item.seconds,
                    pause_s=item.pause_seconds)  # fmt: skip
    return item, folder.path


async def answers(hand: Hand, target: Target) -> bool:
    """Whether anything at all comes back from the server's address, whatever it says."""
    try:
        async with hand.http.get(f"{target.url}/health", timeout=aiohttp.ClientTimeout(total=READY_TIMEOUT_S)):
            return True
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def doctor(hand: Hand, target: Target, *, ask: bool = False) -> list[Check]:
    """Every step: whether it can run here, and what to add. What the target's policy allows of rungs 0 and 1 is run,
    the others are only asked about. Nothing is generated on the server unless `ask` says so."""
    checks, limit = [], min(NOT_TRIED - 1, (target.capture or CapturePolicy()).max_rung)
    for step in sorted(hand.steps.values(), key=lambda s: (s.rung, s.name)):
        if needed := required(step):
            why = f"runs when a playbook or `responder capture` gives it {needed}"
            checks.append(Check(step.name, step.rung, True, why))
        elif hand.range_query is None and any("Prometheus" in need for need in step.needs):
            why = "the daemon asks its Prometheus (without `--prometheus URL` it starts one); not tried from here"
            checks.append(Check(step.name, step.rung, True, why))
        elif step.name in SENDS_REQUESTS and not (ask and target.canary):
            checks.append(Check(step.name, step.rung, target.canary, ASKS if target.canary else NOT_ALLOWED))
        elif step.rung > limit and step.name not in SENDS_REQUESTS:
            checks.append(await _asked(step, hand, target))
        else:
            checks.append(await _tried(step, hand, target))
    return checks


def required(step: Step) -> str:
    """Parameters without which a step cannot be tried: '`argv`, `parse`'; empty when it can."""
    return ", ".join(f"`{name}`" for name, field in step.params.model_fields.items() if field.is_required())


async def _tried(step: Step, hand: Hand, target: Target) -> Check:
    import tempfile

    now = hand.clock()
    brief = Brief(target=target.name, now=now, onset_at=now - 60, opened_at=now - 60)
    with tempfile.TemporaryDirectory(prefix="responder-doctor-") as scratch:
        got = await collect(step, StepCall(step=step.name, rung=step.rung), hand.scene(target), brief,
                            IncidentFolder(Path(scratch)), evidence_id=step.name, secrets=hand.secrets)  # fmt: skip
    item = got.evidence
    can = item.outcome in (Outcome.OK, Outcome.PARTIAL)
    return Check(step.name, step.rung, can, item.reason, item.seconds, item.outcome is Outcome.PARTIAL)


async def _asked(step: Step, hand: Hand, target: Target) -> Check:
    policy = target.capture or CapturePolicy()
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            why = await step.ready(hand.scene(target)) if step.ready else ""
    except Exception as error:  # the outside again: a preflight that breaks is a row of the table
        why = f"{type(error).__name__}: {error}"[:200]
    if not why and step.rung > policy.max_rung:
        why = "could run, but "
        why += ("needs a person's approval" if step.rung >= 3 else
                f"only by hand or approval: `capture: {{max_rung: {step.rung}}}` lets it run by itself")  # fmt: skip
        return Check(step.name, step.rung, True, why)
    return Check(step.name, step.rung, not why, why)


def table(checks: Sequence[Check]) -> str:
    """Doctor's words for a terminal."""
    lines = []
    for check in checks:
        took = say("aside", words=duration(check.seconds)) if check.seconds is not None and check.can else ""
        says = say("cli.because", why=told(check.why)) if check.why else ""
        word = say(f"cli.check.{'partly' if check.can and check.partly else 'yes' if check.can else 'no'}")
        lines.append(say("cli.check", rung=check.rung, word=f"{word:6}", step=check.step, took=took, why=says))
    return "\n".join(lines)


def dry_run(
    book: Playbook, steps: Mapping[str, Step], target: Target, budget: Budget, *, away: bool = False
) -> str:  # fmt: skip
    """What this playbook would run on this target, with estimated pause and bytes; nothing is done. `away`: the server
    is on another host, and nobody has said how to get there."""
    incident = Incident(id="dry-run", target=target.name, incident_class=book.incident_class, severity=Severity.INFO,
                        onset_at=0.0, opened_at=0.0)  # fmt: skip
    got = plan(incident, (book,), steps, budget)
    if away:
        there = tuple(call for call in got.chosen if SAME_HOST in steps[call.step].needs)
        got = Plan(chosen=tuple(call for call in got.chosen if call not in there),
                   refused=(*(Refusal(call=call, why=AWAY) for call in there), *got.refused))  # fmt: skip
    pause = sum(pause_of(call.step, steps[call.step], budget) for call in got.chosen)
    room = sum(steps[call.step].max_bytes for call in got.chosen)
    lines = [say("cli.plan", book=book.id, target=target.name, count=len(got.chosen), pause=f"{pause:.3g}",
                 size=size(room))]  # fmt: skip
    for call in got.chosen:
        step = steps[call.step]
        how = say(f"cli.plan.{'measured' if call.step in budget.learned else 'declared'}")
        lines.append(
            say("cli.plan.step", rung=call.rung, step=call.step, how=how, length=duration(step.timeout_s),
                pause=f"{pause_of(call.step, step, budget):.3g}", size=size(step.max_bytes))
        )  # fmt: skip
    lines += [say("cli.plan.not", rung=r.call.rung, step=r.call.step, why=told(r.why)) for r in got.refused]
    return "\n".join(lines)
