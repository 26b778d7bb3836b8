"""How is a step run so that it cannot hurt the server's users? Watched before, during and after; ended when it hurts.

Rung 0 just runs; where it sees a moment only, a sentry notes what users got meanwhile. From rung 1 on it counts what
users get; from rung 2 on the step has the server to itself, a stream of our own feels every gap, and the step is ended
- its obligation settled - when nobody gets anything any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import structlog
from pydantic import BaseModel

from responder import proc
from responder.allowance import Allowance
from responder.capture.step import Brief, Fetched, Scene, Step
from responder.collect import Collected, collect
from responder.folder import IncidentFolder
from responder.harm import Window, cost_of, served_in, too_much
from responder.inventory import alive
from responder.model import CapturePolicy, Cost, Outcome, ProcessInfo, StepCall
from responder.plan import HEAVY_RUNG
from responder.sentry import Sentry

log = structlog.get_logger()
BEFORE_S, AFTER_S = 2.0, 2.0
"""How long a disturbing capture is compared with, before and after."""
BEFORE_LIGHT_S = AFTER_LIGHT_S = 1.0
ENOUGH_TICKS = 3
LOOK_EVERY_S = 0.05
FIRST_TOKEN_WITHIN_S = 3.0


async def carefully(
    step: Step, call: StepCall, scene: Scene, brief: Brief, folder: IncidentFolder, *,
    evidence_id: str, secrets: Iterable[str], clock: Callable[[], float],
    sentry: Sentry | None, allowance: Allowance | None,
) -> Collected:  # fmt: skip
    """`collect`, with as much care as the step's rung asks for."""

    def run(careful: Step) -> Awaitable[Collected]:
        return collect(careful, call, scene, brief, folder, evidence_id=evidence_id, secrets=secrets, clock=clock)

    if sentry is None or (step.rung == 0 and not step.momentary):
        return await run(step)
    if step.rung == 0:
        await sentry.count()
        began = clock()
        got = await run(step)
        ended = clock()
        await sentry.count()
        served = served_in(list(sentry.ticks), Window(began, ended))
        return replace(got, evidence=got.evidence.model_copy(update={"served": served}))
    if step.rung < HEAVY_RUNG:
        async with sentry.close(stream=False):
            if len(sentry.ticks) < ENOUGH_TICKS:  # a daemon has counted since rung 0, a capture by hand has not
                await asyncio.sleep(BEFORE_LIGHT_S)
            began = clock()
            got = await run(_ended_early(step, sentry, clock, _limit(scene), []))
            ended = clock()
            await asyncio.sleep(AFTER_LIGHT_S)
        return await _priced(got, sentry, Window(began, ended), scene, allowance, step)
    assert allowance is not None
    with allowance.disturbing(scene.target, step.name) as why:
        if why:
            return await run(replace(step, fetch=_denied(why)))
        async with sentry.close(stream=scene.target.canary):
            await _settle_in(sentry)
            touched: list[tuple[float, float]] = []
            began = clock()
            got = await run(_ended_early(step, sentry, clock, _limit(scene), touched))
            window = Window(*(touched[-1] if touched else (began, clock())))
            await asyncio.sleep(max(0.0, AFTER_S - (clock() - window.until)))
        return await _priced(got, sentry, window, scene, allowance, step)


def _limit(scene: Scene) -> float:
    return (scene.target.capture or CapturePolicy()).abort_after


def _denied(why: str) -> Callable[[Scene, BaseModel], Awaitable[Fetched]]:
    async def fetch(scene: Scene, params: BaseModel) -> Fetched:
        return Fetched(outcome=Outcome.DENIED, reason=why)

    return fetch


async def _settle_in(sentry: Sentry) -> None:
    """Two seconds of the usual, counted from our stream's first token if there comes one."""
    limit = asyncio.get_running_loop().time() + FIRST_TOKEN_WITHIN_S
    while not sentry.beats and asyncio.get_running_loop().time() < limit:  # noqa: ASYNC110 - at most three seconds
        await asyncio.sleep(LOOK_EVERY_S)
    await asyncio.sleep(BEFORE_S)


def _ended_early(
    step: Step, sentry: Sentry, clock: Callable[[], float], limit_s: float, touched: list[tuple[float, float]]
) -> Step:
    """The same step, whose fetch ends when it hurts, when the server dies, or at its deadline, with what it has.

    `touched` is told when it disturbed the server, if that was less than all the time.
    """

    async def fetch(scene: Scene, params: BaseModel) -> Fetched:
        began = clock()
        living = _living(scene)
        work: asyncio.Task[Fetched] = asyncio.create_task(_run(step.fetch(scene, params)), name=f"fetch {step.name}")
        try:
            end = asyncio.get_running_loop().time() + step.timeout_s
            while not work.done():
                await asyncio.wait({work}, timeout=LOOK_EVERY_S)
                outcome, why = Outcome.INTERRUPTED, _reason(step, sentry, living, began, clock(), limit_s)
                if not why and asyncio.get_running_loop().time() > end:
                    outcome, why = Outcome.TIMED_OUT, f"no end after {step.timeout_s:g} s"
                if why and not work.done():
                    return Fetched(dict(scene.kept), outcome, why)
            fetched = work.result()
            if fetched.disturbed is not None:
                touched.append(fetched.disturbed)
            return fetched
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    return replace(step, fetch=fetch, timeout_s=step.timeout_s + 5.0)


async def _run(fetching: Awaitable[Fetched]) -> Fetched:
    return await fetching


def _living(scene: Scene) -> tuple[ProcessInfo, ...]:
    """The server's processes that live now, as far as they are seen from here."""
    known = scene.inventory
    return alive(known.processes) if known is not None and known.local else ()


def _reason(
    step: Step, sentry: Sentry, living: Sequence[ProcessInfo], began: float, now: float, limit_s: float
) -> str:  # fmt: skip
    if step.rung < HEAVY_RUNG:
        # A step of rung 1 runs because something is wrong: a silent or dying server is what it is to look at.
        return ""
    # An engine's death shows in its process seconds before its API server stops answering.
    gone = [p for p in living if not proc.is_alive(p.pid, p.started_at)]
    if gone:
        return f"the server went away: its process {gone[0].name} ({gone[0].pid}) ended"
    return sentry.gone or too_much(list(sentry.ticks), list(sentry.beats), began, now, limit_s)


async def _priced(
    got: Collected, sentry: Sentry, window: Window, scene: Scene, allowance: Allowance | None, step: Step
) -> Collected:
    """The evidence with what it has cost; what was never begun has cost nothing."""
    item = got.evidence
    if item.outcome in (Outcome.SKIPPED, Outcome.DENIED):
        return got
    aborted = item.reason if item.outcome is Outcome.INTERRUPTED else ""
    cost: Cost = cost_of(list(sentry.ticks), list(sentry.beats), window, aborted)
    if allowance is not None:
        await allowance.spent(scene.target, step.name, step.rung, cost)
    log.info("step.cost", step=step.name, pause_s=cost.pause_s, says=cost.says)
    update: dict[str, Any] = {"cost": cost, "pause_seconds": max(item.pause_seconds, cost.pause_s)}
    return replace(got, evidence=item.model_copy(update=update))
