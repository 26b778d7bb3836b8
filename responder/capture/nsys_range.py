"""What does Nsight Systems see in a few seconds of this server? Opens and closes the range of the nsys it runs under.

Only where the server lives on when the range closes (`--capture-range-end=stop`, `repeat` or `none`): nsys's default
ends it. The end is owed before the range is opened, as for a torch profile. What it costs has not been measured on a
GPU, so a person must approve it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from responder.capture.step import Brief, DutyRefused, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Inventory, Obligation, Outcome, Scalar
from responder.nsight import COMMAND_S, STATS, kernels, launcher, newest, option, stats, why_not
from responder.profilesession import begin, session_open
from responder.profiling import REPEAT_SAFE_SINCE, version_of

META = "nsys_range.json"
OWED_WITHIN_S = 60.0
STOP_WAIT_S = 12.0
REPORT_WITHIN_S = 10.0
"""nsys writes its report when the range has closed."""
READ_S = 20.0


class Range(BaseModel):
    """How long the range stays open, seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float = Field(default=2.0, ge=0.2, le=5.0)


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Preflight, owe, open, wait, close, find the report, read it."""
    seconds = Range.model_validate(params.model_dump()).seconds
    refused, under = await preflight(scene)
    scene.kept[META] = json.dumps({"refused": refused, "under": under, "seconds": seconds}, sort_keys=True).encode()
    if refused:
        return Fetched(dict(scene.kept), Outcome.SKIPPED, refused)
    if scene.duties is None or scene.inventory is None:
        return skipped("nothing that must be ended may be begun here")
    safe = version_of(scene.inventory.version) >= REPEAT_SAFE_SINCE
    try:
        owed = await scene.duties.owe(
            scene.target, STEP.name, incident=scene.incident, within_s=OWED_WITHIN_S, repeat_safe=safe
        )
    except DutyRefused as error:
        return Fetched(dict(scene.kept), Outcome.SKIPPED, str(error))
    wrong, note = await _opened(scene, owed, seconds)
    if wrong:
        return Fetched(dict(scene.kept), Outcome.SKIPPED, wrong)
    disturbed = (owed.opened_at, time.time())
    if not note.startswith("stopped: HTTP 200"):
        return Fetched(dict(scene.kept), Outcome.PARTIAL, note, disturbed=disturbed)
    fetched = await _report(scene, under, owed.opened_at)
    return replace(fetched, disturbed=disturbed)


async def preflight(scene: Scene) -> tuple[str, list[str]]:
    """Why the range must not be opened ('' when it may), and argv of the nsys."""
    inventory = scene.inventory
    if inventory is None or not inventory.reachable or not inventory.command:
        return "how the server was started is not known: it runs on another host, or was never seen alive", []
    under = await launcher(scene, inventory)
    refused = why_not(under, inventory.command)
    if not refused and await session_open(scene):
        refused = "somebody else's profile is open on this server (its log says so): never touched"
    if not refused and option(under, "--capture-range-end") == "stop" and await _used(scene, under, inventory):
        refused = "its one range has been used (--capture-range-end=stop): a report exists; `nsys` reads it"
    return refused, under


async def _used(scene: Scene, under: list[str], inventory: Inventory) -> bool:
    """Whether a report has been written since the server was started."""
    report = await newest(scene, under)
    return bool(report) and await _since(scene, report, inventory.processes[0].started_at)


async def _since(scene: Scene, path: str, since: float) -> bool:
    try:
        argv = ["find", path, "-newermt", f"@{since:.0f}", "-print"]
        return bool((await scene.runner.run(argv, timeout=COMMAND_S)).stdout.strip())
    except OSError:
        return False


async def _opened(scene: Scene, owed: Obligation, seconds: float) -> tuple[str, str]:
    """(why nothing was begun, else what came of the end)."""
    assert scene.duties is not None
    begun = True
    try:
        wrong = await begin(scene, owed, {})
        if wrong:
            begun = False
            return wrong, ""
        await asyncio.sleep(seconds)
    finally:
        # Also when we are cancelled: the task goes on without us, and after it the guard.
        stopping = scene.duties.settle(owed.id) if begun else None
    assert stopping is not None
    try:
        async with asyncio.timeout(STOP_WAIT_S):
            return "", (await asyncio.shield(stopping)).note
    except TimeoutError:
        return "", f"its end was not confirmed within {STOP_WAIT_S:g} s"


async def _report(scene: Scene, under: list[str], since: float) -> Fetched:
    limit = asyncio.get_running_loop().time() + REPORT_WITHIN_S
    while True:
        report = await newest(scene, under)
        if report and await _since(scene, report, since):
            break
        if asyncio.get_running_loop().time() > limit:
            return Fetched(
                dict(scene.kept), Outcome.PARTIAL, "nsys has written no report yet: the step `nsys` reads it"
            )
        await asyncio.sleep(0.5)
    why = await stats(scene, report, scene.kept, READ_S)
    meta = json.loads(scene.kept[META]) | {"report": report}
    scene.kept[META] = json.dumps(meta, sort_keys=True).encode()
    return Fetched(dict(scene.kept), Outcome.PARTIAL if why else Outcome.OK, why)


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Whether it could be done, where the report lies, and its kernels."""
    if META not in files:
        return
    meta = json.loads(files[META])

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", file: str = META) -> Fact:
        name = f"nsys_range.{name}"
        return Fact(name=name, value=value, unit=unit, step="nsys_range", file=file, at=brief.now, says=says)

    yield fact("possible", not meta["refused"], says=meta["refused"])
    yield fact("report", meta.get("report"))
    rows = kernels(files.get(STATS, b"").decode("utf-8", "replace"))
    if rows:
        name, share = rows[0]
        words = "; ".join(f"{part:.0%} {kernel[:60]}" for kernel, part in rows[:5])
        yield fact("top_kernel", name[:200], says=words, file=STATS)
        yield fact("top_kernel_share", round(share, 4), "share", name[:200], STATS)


async def ready(scene: Scene) -> str:
    """'' when the range could be opened now."""
    return (await preflight(scene))[0]


STEP = Step(
    name="nsys_range",
    rung=3,
    says="opens the capture range of the nsys the server was started under, for seconds, and reads the report",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("nsys_range.possible", "", "whether a range can be opened without ending the server"),
        FactSpec("nsys_range.report", "", "where nsys has written the report, on the server's host"),
        FactSpec("nsys_range.top_kernel", "", "the kernel with most GPU time in the range"),
        FactSpec("nsys_range.top_kernel_share", "share", "its share of the GPU time"),
    ),
    timeout_s=5.0 + STOP_WAIT_S + REPORT_WITHIN_S + READ_S + 2 * COMMAND_S,
    max_bytes=6 << 20,
    worst_pause_s=5.0,  # not measured: nsys flushes its buffers when the range closes
    needs=("same host", "a server started under nsys with a capture range", "nsys for reading the report"),
    params=Range,
    ready=ready,
)
