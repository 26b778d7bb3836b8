"""What does the engine do inside a step? A torch profile of a few steps, bounded before it begins, always ended.

Everything is decided from what the server said at its start and says about itself now; `/start_profile` is never tried
to see whether it is there. `profiling.py` decides, `scene.duties` owes the server the end, the trace engine reads.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from responder.ask import credentials, get
from responder.capture.step import Brief, DutyRefused, FactSpec, Fetched, Scene, Step, skipped
from responder.harm import Tick, tick_of
from responder.model import Fact, Obligation, Outcome
from responder.profilesession import begin, session_open
from responder.profiling import ProfilePlan, Surroundings, options_from, plan_profile
from responder.serverconfig import Sources, merge
from responder.startuplog import startup_lines
from responder.traces import ACROSS, FACTS, analyse

PLAN, FACTS_FILE, ANALYSIS = "plan.json", "facts.json", "analysis.json"
APART_S = 0.7
WINDOW_S = 6.0
"""Longest time between start and stop: the steps are made in a fraction of a second, or the engine is slow."""
OWED_WITHIN_S = 60.0
STOP_WAIT_S = 15.0
FILES_WITHIN_S = 4.0
MAX_FILE = 16 << 20
ANALYSIS_S = 12.0
MEMORY_BYTES = 200 << 20


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Preflight, owe, start, wait for the steps, stop, collect, analyse."""
    around, command_known = await surroundings(scene)
    plan = plan_profile(around)
    scene.kept[PLAN] = _record(around, plan)
    if plan.refused:
        return Fetched(dict(scene.kept), Outcome.SKIPPED, plan.refused)
    if scene.duties is None:
        return skipped("nothing that must be ended may be begun here")
    try:
        owed = await scene.duties.owe(
            scene.target, "torch_profiler", incident=scene.incident, within_s=OWED_WITHIN_S,
            repeat_safe=plan.repeat_safe,
        )  # fmt: skip
    except DutyRefused as refused:
        return Fetched(dict(scene.kept), Outcome.SKIPPED, str(refused))
    return await _profile(scene, plan, owed, _workers(scene, command_known))


async def _profile(scene: Scene, plan: ProfilePlan, owed: Obligation, workers: int) -> Fetched:
    assert scene.duties is not None
    begun = True
    try:
        body = {**plan.body, "profile_prefix": _prefix(owed)} if plan.body else {}
        wrong = await begin(scene, owed, body)
        if wrong:
            begun = False
            return Fetched(dict(scene.kept), Outcome.SKIPPED, wrong)
        await _steps(scene, plan)
    finally:
        # Also when we are cancelled: the task goes on without us, and after it the guard.
        stopping = scene.duties.settle(owed.id) if begun else None
    if stopping is not None:
        try:
            async with asyncio.timeout(STOP_WAIT_S):
                settled = await asyncio.shield(stopping)
        except TimeoutError:
            return Fetched(dict(scene.kept), Outcome.PARTIAL, f"its end was not confirmed within {STOP_WAIT_S:g} s")
        if not settled.note.startswith("stopped: HTTP 200"):
            return Fetched(dict(scene.kept), Outcome.PARTIAL, settled.note)
    ended_at = time.time()
    fetched = await _traces(scene, plan, owed, workers)
    return replace(fetched, disturbed=(owed.opened_at, ended_at))


async def _steps(scene: Scene, plan: ProfilePlan) -> None:
    """Wait until the engine has made the steps it was to record, and no longer than the window."""
    limit = asyncio.get_running_loop().time() + WINDOW_S
    first: float | None = None
    while asyncio.get_running_loop().time() < limit:
        tick = await pulse(scene)
        if tick is not None and tick.steps is not None:
            first = tick.steps if first is None else first
            if tick.steps - first > plan.steps_until_done + 1:
                return
        elif tick is not None and first is None:
            limit = min(limit, asyncio.get_running_loop().time() + 2.0)  # no counter of steps: a little while
        await asyncio.sleep(0.1)


async def _traces(scene: Scene, plan: ProfilePlan, owed: Obligation, workers: int) -> Fetched:
    directory = plan.directory
    if not directory.startswith("/"):
        place = directory or "an unknown place"
        return Fetched(dict(scene.kept), Outcome.PARTIAL, f"its files lie in {place}, out of reach")
    wanted = _prefix(owed) if plan.body else ""
    found: dict[str, bytes] = {}
    limit = asyncio.get_running_loop().time() + FILES_WITHIN_S
    while asyncio.get_running_loop().time() < limit:
        for path in await _new_files(scene, directory, wanted, owed.opened_at):
            name = Path(path).name
            if name not in found:
                try:
                    raw = await scene.runner.read(path, max_bytes=MAX_FILE)
                except OSError:
                    continue
                if whole(raw):
                    found[name] = scene.kept[name] = raw
        if len(found) >= max(workers, 1):
            break
        await asyncio.sleep(0.3)
    if not found:
        return Fetched(dict(scene.kept), Outcome.PARTIAL, f"no complete trace appeared in {directory}")
    problem = await _analyse(scene, found)
    missing = f"{len(found)} of {workers} ranks wrote a trace" if len(found) < workers else ""
    reason = "; ".join(filter(None, (missing, problem)))
    return Fetched(dict(scene.kept), Outcome.PARTIAL if reason else Outcome.OK, reason)


async def _new_files(scene: Scene, directory: str, prefix: str, since: float) -> list[str]:
    """Traces written since; `find` because it works wherever the runner does."""
    argv = ["find", directory, "-maxdepth", "1", "-name", f"{prefix}*.pt.trace.json*", "-newermt",
            f"@{since - 1:.0f}", "-print"]  # fmt: skip
    try:
        said = await scene.runner.run(argv, timeout=5.0, max_bytes=64 << 10)
    except OSError:
        return []
    paths = [line for line in said.stdout.decode("utf-8", "replace").splitlines() if line.startswith(directory)]
    return sorted(path for path in paths if ".async_llm." not in path)[:64]


async def _analyse(scene: Scene, found: Mapping[str, bytes]) -> str:
    with tempfile.TemporaryDirectory(prefix="responder-trace-") as folder:
        paths = [Path(folder) / name for name in found]
        for path in paths:
            await asyncio.to_thread(path.write_bytes, found[path.name])
        told = await analyse(paths, timeout=ANALYSIS_S)
    rows = [{"name": f.name, "value": f.value, "unit": f.unit, "subject": f.subject} for f in told.facts]
    scene.kept[FACTS_FILE] = json.dumps({"facts": rows, "findings": list(told.findings)}, indent=1).encode()
    if told.report_json:
        scene.kept[ANALYSIS] = told.report_json
    return "; ".join((*told.problems, *told.partial)).replace(folder + "/", "")[:300]


def whole(raw: bytes) -> bool:
    """Whether a trace is complete: a gzip stream to its end, or JSON to its last brace."""
    if raw[:2] != b"\x1f\x8b":
        return raw.rstrip().endswith(b"}")
    stream = zlib.decompressobj(31)
    try:
        tail = raw
        while tail and not stream.eof:
            stream.decompress(tail, 1 << 20)
            tail = stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof


# ------------------------------------------------------------------------------------------------- preflight


async def surroundings(scene: Scene) -> tuple[Surroundings, bool]:
    """What the preflight needs to know; asks no more than rung 0 does."""
    inventory = scene.inventory
    launch: dict[str, Any] = {}
    if inventory is not None:
        pids = [p.pid for p in inventory.processes if p.role in ("api_server", "launcher")]
        launch = {"command": list(inventory.command), "environment": dict(inventory.environment),
                  "version": inventory.version, "pids": pids}  # fmt: skip
    version = await get(scene.http, f"{scene.target.url}/version", timeout=2.0, max_bytes=4096,
                        headers=credentials(scene.target))  # fmt: skip
    startup = (await startup_lines(scene)).decode("utf-8", "replace").split("\n")
    sources = Sources.of(launch, startup, _object(version.body) if version.status == 200 else {}, {})
    facts = {name: value for name, value, _ in merge(sources)}
    one = await pulse(scene)
    await asyncio.sleep(APART_S)
    two = await pulse(scene)
    said = str(facts["version"]) if facts["version"] else None
    environment = dict(inventory.environment) if inventory is not None else {}
    command = inventory.command if inventory is not None else ()
    policy = scene.target.capture
    timeout = facts["execute_timeout_s"]
    return Surroundings(
        version=said,
        options=options_from(command, sources.arguments, environment, said),
        options_complete=sources.complete,
        execute_timeout_s=float(timeout) if isinstance(timeout, int | float) else None,
        cpu_only=facts["device"] == "cpu" if facts["device"] else None,
        session_open=await session_open(scene),
        memory_available=await _memory(scene),
        load_per_core=await _load(scene),
        load_limit=policy.cpu_load if policy else 1.5,
        running=two.running if two else None,
        progress=_moved(one, two),
        may_send=scene.target.canary,
    ), bool(command)


async def pulse(scene: Scene) -> Tick | None:
    """The counters now."""
    answer = await get(scene.http, f"{scene.target.url}/metrics", timeout=2.0, max_bytes=8 << 20,
                       headers=credentials(scene.target))  # fmt: skip
    return tick_of(answer.body, time.time()) if answer.status == 200 else None


def _moved(one: Tick | None, two: Tick | None) -> bool | None:
    if one is None or two is None or (two.steps is None and two.tokens is None):
        return None
    return one.steps != two.steps or one.tokens != two.tokens


async def _memory(scene: Scene) -> int | None:
    """Of the host, not of the server's cgroup; None where it cannot be read."""
    try:
        raw = await scene.runner.read("/proc/meminfo", max_bytes=8192)
    except OSError:
        return None
    found = re.search(rb"MemAvailable:\s+(\d+) kB", raw)
    return int(found[1]) * 1024 if found and _on_host(scene) else None


async def _load(scene: Scene) -> float | None:
    try:
        raw = await scene.runner.read("/proc/loadavg", max_bytes=200)
        return float(raw.split()[0]) / (os.cpu_count() or 1) if _on_host(scene) else None
    except (OSError, ValueError, IndexError):
        return None


def _on_host(scene: Scene) -> bool:
    return scene.inventory is not None and bool(scene.inventory.processes)


def _workers(scene: Scene, known: bool) -> int:
    """How many ranks will write a trace: workers, or the engines that hold one themselves."""
    processes = scene.inventory.processes if scene.inventory else ()
    workers = sum(p.role == "worker" for p in processes)
    return workers or sum(p.role == "engine_core" for p in processes) or 1


def _prefix(owed: Obligation) -> str:
    return f"responder-{owed.id}"


def _record(around: Surroundings, plan: ProfilePlan) -> bytes:
    record = {"surroundings": {**vars(around), "options": dict(around.options)},
              "plan": {**vars(plan), "body": dict(plan.body)}}  # fmt: skip
    return json.dumps(record, indent=1, sort_keys=True).encode()


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# ---------------------------------------------------------------------------------------------------- reading


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """What the preflight found, and every `trace.*` fact of the stored analysis."""
    plan = _object(files.get(PLAN, b""))
    if plan:
        refused = plan["plan"]["refused"]
        steps = plan["plan"]["iterations"] or None
        yield Fact(name="profile.possible", value=not refused, step=STEP.name, file=PLAN, at=brief.now, says=refused)
        yield Fact(name="profile.iterations", value=steps, step=STEP.name, file=PLAN, at=brief.now)
    told = _object(files.get(FACTS_FILE, b""))
    for row in told.get("facts", ()):
        yield Fact(name=row["name"], value=row["value"], unit=row["unit"], subject=row["subject"],
                   step="torch_profiler", file=FACTS_FILE, at=brief.now)  # fmt: skip
    if told.get("findings"):
        words = "; ".join(told["findings"][:3])
        yield Fact(name="trace.summary", value=words[:600], step="torch_profiler", file=FACTS_FILE, at=brief.now)


async def ready(scene: Scene) -> str:
    """'' when a profile could be taken now."""
    around, _ = await surroundings(scene)
    return plan_profile(around).refused


STEP = Step(
    name="torch_profiler",
    rung=2,
    says="records a few engine steps with vLLM's own torch profiler; refused unless it is bounded and without stacks",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("profile.possible", "", "whether this server can be profiled safely now"),
        FactSpec("profile.iterations", "", "engine steps that were to be recorded"),
        FactSpec("trace.summary", "", "what cost most time, in words"),
        *(FactSpec(row.name, row.unit, row.says) for row in FACTS),
        *(FactSpec(name, unit, says) for name, unit, says in ACROSS),
    ),
    momentary=("trace.summary", *(row.name for row in FACTS), *(name for name, _, _ in ACROSS)),
    timeout_s=58.0,
    max_bytes=48 << 20,
    worst_pause_s=3.0,  # the first profile of a process: 2 to 3 s on two GPUs and on CPU; later ones milliseconds
    needs=("a bounded --profiler-config", "same host (or its disk) for the files"),
    memory_bytes=MEMORY_BYTES,
    ready=ready,
)
