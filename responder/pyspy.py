"""How are the stacks of all processes of a server read with py-spy, in any of its modes, within one budget of time?"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from responder import proc, ptrace
from responder.model import Outcome, ProcessInfo
from responder.stackfacts import INDEX
from responder.waiting import parse

if TYPE_CHECKING:
    from responder.capture.step import Runner

GOLDEN = 0.6180339887
"""Its multiples modulo 1 never come round to a beat."""


@dataclass
class Dumping:
    """How to dump: which flags, how often, how long. Times in seconds."""

    runner: Runner
    """Where to run it."""
    tool: str
    flags: tuple[str, ...]
    rounds: int
    apart_s: float
    budget_s: float
    """For all dumps together: on a host too busy to serve them, some evidence is better than none."""
    timeout_s: float
    """For one dump."""
    tries: int = 1
    side_by_side: int = 1
    stops: bool = True
    """Whether this mode stops the process while it looks."""
    uneven: bool = False
    """Whether the rounds are now nearer, now farther: what stops and goes on at a steady beat is else always caught in
    the same phase of it."""
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Dumped:
    """What came of it."""

    files: dict[str, bytes]
    outcome: Outcome
    reason: str
    pause_seconds: float
    """The longest that one process stood still."""


async def dump_all(how: Dumping, processes: Sequence[ProcessInfo]) -> Dumped:
    """All rounds over all processes; a stopped process is recorded as stopped and left alone."""
    places = asyncio.Semaphore(how.side_by_side)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + how.budget_s
    rounds: list[dict[str, Any]] = []
    for turn in range(how.rounds):
        if turn:
            await asyncio.sleep(how.apart_s * (0.5 + turn * GOLDEN % 1 if how.uneven else 1))
        prefix = f"round{turn + 1}"
        done = await asyncio.gather(*(_dump(how, prefix, process, places, deadline) for process in processes))
        rounds.append({str(process.pid): said for process, said in zip(processes, done, strict=True)})
    notes = [said["note"] for turn in rounds for said in turn.values() if said.get("note")]
    index = {
        "processes": [process.model_dump(mode="json") for process in processes],
        "rounds": rounds,
        "notes": notes,
    }
    how.files[INDEX] = json.dumps(index, indent=1, sort_keys=True).encode()
    return _outcome(how, rounds, notes)


async def _dump(
    how: Dumping, prefix: str, process: ProcessInfo, places: asyncio.Semaphore, deadline: float
) -> dict[str, Any]:
    """One process in one round: its state, and its stack if it may be looked at."""
    async with places:
        state = ptrace.state_of(process)
        if state == "gone" or state in proc.STOPPED:
            return {"state": state}
        done: dict[str, Any] = {"state": state, "killed": False}
        for _ in range(how.tries):
            left = deadline - asyncio.get_running_loop().time()
            if left < 0.1:
                return done | {"error": "no time left for it"}
            argv = [how.tool, "dump", *how.flags, "--pid", str(process.pid)]
            async with ptrace.looked_after(process):
                said = await how.runner.run(argv, timeout=min(how.timeout_s, left), max_bytes=1 << 20)
            done["killed"] = done["killed"] or said.code is None
            if said.code is None or how.stops:
                # At once: a target that a killed tracer left stopped must not stand until the last round is over.
                done["note"] = await ptrace.left_stopped(process) or done.get("note", "")
            done["seconds"] = round(said.seconds, 3)
            if said.code == 0 and parse(said.stdout.decode("utf-8", "replace")):
                name = f"{prefix}-{re.sub(r'[^A-Za-z0-9_]+', '_', process.name)}-{process.pid}.txt"
                how.files[name] = said.stdout
                return done | {"file": name}
            done["error"] = ptrace.complaint(said.code, said.stderr + said.stdout, how.timeout_s)
        return done


def _outcome(how: Dumping, rounds: list[dict[str, Any]], notes: list[str]) -> Dumped:
    last = rounds[-1].values()
    errors = sorted({done["error"] for done in last if "error" in done and "file" not in done})
    reason = "; ".join([*errors, *notes])[:500]
    longest = max((done.get("seconds", 0.0) for turn in rounds for done in turn.values()), default=0.0)
    pause = longest if how.stops else 0.0
    if errors and len(how.files) == 1 and not any(done["state"] in proc.STOPPED for done in last):
        return Dumped(how.files, Outcome.FAILED, reason + ptrace.hint(errors), pause)
    return Dumped(how.files, Outcome.PARTIAL if errors else Outcome.OK, reason, pause)
