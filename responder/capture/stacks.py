"""Where does every process of the server stand, and what does it wait for?

py-spy reads the Python stacks from outside without stopping the process (`--nonblocking`, 10 ms each); twice, a second
apart, because a stack that has not moved is the evidence. A stopped process is recorded as stopped and left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from responder import proc
from responder.aside import aside
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, ProcessInfo, Scalar
from responder.waiting import Dump, Waits, classify, parse, process_waits, same_place

INDEX = "index.json"
ROUNDS, APART_S = 2, 1.0
BUDGET_S = 18.0
"""For all dumps together: on a host too busy to serve them, some evidence is better than none."""
SIDE_BY_SIDE = 4
DUMP_TIMEOUT_S = 3.0
TRIES = 2
"""A dump of a busy process now and then catches it half-way through a change (measured: 1 of 4)."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Two rounds of dumps of all living processes of the server."""
    inventory = scene.inventory
    if inventory is None or not inventory.processes:
        return skipped(f"no processes known: {inventory.why_not if inventory else 'the server was never seen alive'}")
    tool = find_tool()
    if tool is None:
        return skipped("py-spy is not installed: pip install py-spy, next to the responder or on PATH")
    files: dict[str, bytes] = {}
    index: dict[str, Any] = {"processes": [process.model_dump(mode="json") for process in inventory.processes]}
    places = asyncio.Semaphore(SIDE_BY_SIDE)
    deadline = asyncio.get_running_loop().time() + BUDGET_S
    rounds: list[dict[str, Any]] = []
    for turn in range(ROUNDS):
        if turn:
            await asyncio.sleep(APART_S)
        done = await asyncio.gather(
            *(
                _dump(scene, tool, f"round{turn + 1}", process, places, deadline, files)
                for process in inventory.processes
            )
        )
        rounds.append({str(process.pid): how for process, how in zip(inventory.processes, done, strict=True)})
    index["rounds"] = rounds
    files[INDEX] = json.dumps(index, indent=1, sort_keys=True).encode()
    return _outcome(files, rounds)


def find_tool() -> str | None:
    """py-spy of our own environment, else of PATH."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


async def _dump(
    scene: Scene,
    tool: str,
    prefix: str,
    process: ProcessInfo,
    places: asyncio.Semaphore,
    deadline: float,
    files: dict[str, bytes],
) -> dict[str, Any]:
    """One process in one round: its state, and its stack if it may be looked at."""
    async with places:
        seen = proc.stat(process.pid)
        if seen is None or not proc.is_alive(process.pid, process.started_at):
            return {"state": "gone"}
        if seen.state in proc.STOPPED:
            return {"state": seen.state}
        how: dict[str, Any] = {"state": seen.state}
        for _ in range(TRIES):
            left = deadline - asyncio.get_running_loop().time()
            if left < 0.1:
                return how | {"error": "no time left for it"}
            argv = [tool, "dump", "--nonblocking", "--pid", str(process.pid)]
            said = await scene.runner.run(argv, timeout=min(DUMP_TIMEOUT_S, left), max_bytes=1 << 20)
            if said.code is None and (note := await _set_going(process)):
                how["note"] = note
            if said.code == 0 and parse(said.stdout.decode("utf-8", "replace")):
                name = f"{prefix}-{re.sub(r'[^A-Za-z0-9_]+', '_', process.name)}-{process.pid}.txt"
                files[name] = said.stdout
                return how | {"file": name, "seconds": round(said.seconds, 3)}
            how["error"] = _complaint(said.code, said.stderr + said.stdout)
        return how


def _complaint(code: int | None, said: bytes) -> str:
    if code is None:
        return f"no answer within {DUMP_TIMEOUT_S:g} s"
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines()]
    told = [line for line in lines if line and not line.startswith(("Process ", "Python v", "Stack backtrace"))]
    causes = [line for line in told if re.match(r"Error|\d+: |Permission", line)]
    return "; ".join(causes[:4] or told[:2])[:300] or f"exit {code}"


async def _set_going(process: ProcessInfo) -> str:
    """A dump that we killed may, if the tool stopped the process after all, leave it stopped: set it going again.

    Only then: a process that somebody else stopped meanwhile is evidence, not ours to touch.
    """
    threads = await aside(lambda: proc.threads(process.pid), timeout=5.0)
    if not any(thread.state in proc.STOPPED for thread in threads.values()):
        return ""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)
    return f"{process.name} (pid {process.pid}) was left stopped by a killed dump and was continued"


def _outcome(files: dict[str, bytes], rounds: list[dict[str, Any]]) -> Fetched:
    last = rounds[-1].values()
    notes = sorted({how["note"] for turn in rounds for how in turn.values() if "note" in how})
    errors = sorted({how["error"] for how in last if "error" in how and "file" not in how})
    reason = "; ".join([*errors, *notes])[:500]
    if errors and len(files) == 1 and not any(how["state"] in proc.STOPPED for how in last):
        hint = ""
        if any("ermission" in error for error in errors):
            hint = " (needs root or CAP_SYS_PTRACE, and the server's PID namespace)"
        return Fetched(files, Outcome.FAILED, reason + hint)
    return Fetched(files, Outcome.PARTIAL if errors else Outcome.OK, reason)


# ------------------------------------------------------------------------------------------------------ reading


class _Stand:
    """One process over both rounds."""

    def __init__(self, process: Mapping[str, Any], rounds: list[dict[str, Any]], files: Mapping[str, bytes]) -> None:
        self.role: str = process["role"]
        self.name: str = process["name"]
        self.label = f"{self.name} (pid {process['pid']})"
        self.rank: int = process["rank"] if process["rank"] is not None else -1
        self.last: dict[str, Any] = rounds[-1].get(str(process["pid"]), {"state": "gone"})
        self.dumps: list[Dump | None] = []
        self.file = INDEX
        for turn in rounds:
            name = turn.get(str(process["pid"]), {}).get("file", "")
            self.dumps.append(parse(files[name].decode("utf-8", "replace")) if name in files else None)
            self.file = name if self.dumps[-1] else self.file
        self.newest = next((dump for dump in reversed(self.dumps) if dump), None)

    @property
    def gone(self) -> bool:
        return bool(self.last["state"] == "gone")

    @property
    def stopped(self) -> bool:
        return self.last["state"] in proc.STOPPED

    @property
    def waits(self) -> Waits:
        if self.stopped:
            return Waits("stopped", 0, "is stopped by a signal")
        return process_waits(self.newest) if self.newest else Waits("unknown")

    @property
    def unchanged(self) -> bool | None:
        """Whether it stood in the same place in both rounds; None when one of them failed."""
        if self.stopped:
            return True
        if self.waits.category == "unknown":
            return None
        first, last = self.dumps[0], self.dumps[-1]
        return same_place(first, last) if first and last else None

    def any_thread(self, category: str) -> bool:
        return any(classify(thread).category == category for thread in (self.newest.threads if self.newest else ()))


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the dumps."""
    if INDEX not in files:
        return
    index = json.loads(files[INDEX])
    stands = [_Stand(process, index["rounds"], files) for process in index["processes"]]
    alive = [stand for stand in stands if not stand.gone]

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", subject: str = "", file: str = INDEX) -> Fact:
        name, at = f"stacks.{name}", brief.now
        return Fact(name=name, value=value, unit=unit, step="stacks", file=file, at=at, says=says, subject=subject)

    dumped = [stand for stand in alive if stand.newest]
    yield fact("dumped", len(dumped), "processes")
    failed = [stand for stand in alive if not stand.newest and not stand.stopped]
    yield fact("failed", len(failed), "processes", "; ".join(f"{s.label}: {s.last.get('error', '')}" for s in failed))
    for role, name in (("api_server", "api_server"), ("engine_core", "engine"), ("worker", "worker")):
        if told := _told([stand for stand in alive if stand.role == role]):
            yield fact(f"{name}_waits_for", told.waits.category, says=told.waits.says, file=told.file)
    workers = [stand for stand in alive if stand.role == "worker" and (stand.newest or stand.stopped)]
    outlier = _outlier(workers)
    label = outlier.label if outlier else "" if len(workers) > 1 else None
    yield fact("outlier", label, says=outlier.waits.category if outlier else "")
    inner = [stand for stand in alive if stand.role in ("engine_core", "worker")]
    moved = [stand.unchanged for stand in inner]
    yield fact("unchanged", False if False in moved else None if None in moved or not moved else True)
    known = bool(dumped) or None
    yield fact("profiler", known and any(stand.any_thread("profiler") for stand in alive))
    yield fact("in_collective", known and any(stand.any_thread("collective") for stand in inner))
    yield fact("summary", "; ".join(f"{stand.name}: {stand.waits.category}" for stand in alive) or None)
    for stand in alive:
        yield fact("waits_for", stand.waits.category, says=stand.waits.says, subject=stand.label, file=stand.file)


def _told(stands: list[_Stand]) -> _Stand | None:
    """The one that speaks for its role: of what most of them wait for, the lowest rank. None when none is known."""
    known = [stand for stand in stands if stand.newest or stand.stopped]
    if not known:
        return None
    counts = Counter(stand.waits.category for stand in known)
    most = max(counts.values())
    return min((s for s in known if counts[s.waits.category] == most), key=lambda s: (s.stopped, s.rank, s.label))


def _outlier(workers: list[_Stand]) -> _Stand | None:
    """The one worker that waits for something else than the others: of two, the one that is stopped."""
    counts = Counter(stand.waits.category for stand in workers)
    if len(counts) < 2:
        return None
    alone = [stand for stand in workers if counts[stand.waits.category] == 1]
    stopped = [stand for stand in alone if stand.stopped]
    if len(alone) == 1 or len(stopped) == 1:
        return (stopped or alone)[0]
    return None


STEP = Step(
    name="stacks",
    rung=1,
    says="reads the Python stacks of the server's processes with py-spy, without stopping them, twice",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("stacks.dumped", "processes", "processes whose stacks could be read"),
        FactSpec("stacks.failed", "processes", "living processes whose stacks could not be read"),
        FactSpec("stacks.api_server_waits_for", "", "what the API server waits for"),
        FactSpec("stacks.engine_waits_for", "", "what the engine waits for"),
        FactSpec("stacks.worker_waits_for", "", "what most of the workers wait for"),
        FactSpec("stacks.outlier", "", "the one worker that stands elsewhere than the others; empty: none"),
        FactSpec("stacks.unchanged", "", "engine and workers stood in the same places a second later"),
        FactSpec("stacks.profiler", "", "a thread is starting, stopping or writing a profile"),
        FactSpec("stacks.in_collective", "", "an engine or worker thread stands in a collective operation"),
        FactSpec("stacks.summary", "", "what every process waits for"),
        FactSpec("stacks.waits_for", "", "what one process waits for (facts per process)"),
    ),
    timeout_s=BUDGET_S + APART_S + 6,
    max_bytes=4 << 20,
    worst_pause_s=0.02,
    needs=("same host", "py-spy", "root or CAP_SYS_PTRACE"),
)
