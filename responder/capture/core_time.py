"""Who of the server's processes is let run: on a core, waiting for one, or stopped, as shares of two seconds?

Eighty looks at /proc, so that what stops and goes on many times a second shows as a share and not as luck. A slow
device and a slow scheduler look the same in metrics; which of the two is kept from running tells them apart.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from responder import proc
from responder.aside import aside
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Inventory, Outcome, Scalar

FILE = "core_time.json"
LOOKS, APART_S = 80, 0.025
TIMEOUT_S = 10.0
ALIKE = 0.1
"""Shares that differ by no more are as much: processes are not stopped in the same instant."""
ROLES = {"api_server": "api_server", "engine_core": "engine", "worker": "worker"}
"""Role of the inventory -> its word in the names of facts."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Many looks at the states, and the kernel's account before and after."""
    inventory = scene.inventory
    if inventory is None or not inventory.processes:
        why = inventory.why_not if inventory else "the server was never seen alive by this daemon"
        return skipped(f"no processes known: {why or 'none found'}")
    if not inventory.local:
        return skipped("the server runs on another host: run a responder there")
    try:
        record = await aside(lambda: _watch(inventory), timeout=TIMEOUT_S)
    except TimeoutError:
        return Fetched(outcome=Outcome.TIMED_OUT, reason=f"/proc gave no answer within {TIMEOUT_S:g} s")
    record["known"] = [process.model_dump(mode="json") for process in inventory.processes]
    return Fetched({FILE: json.dumps(record, indent=1, sort_keys=True).encode()})


def _watch(inventory: Inventory) -> dict[str, Any]:
    alive = [known.pid for known in inventory.processes if proc.is_alive(known.pid, known.started_at)]
    states = {pid: "" for pid in alive}
    began, first = time.monotonic(), {pid: proc.core_time(pid) for pid in alive}
    for look in range(LOOKS):
        time.sleep(max(0.0, began + look * APART_S - time.monotonic()))
        for pid in alive:
            seen = proc.stat(pid)
            states[pid] += seen.state if seen else "-"
    seconds, last = time.monotonic() - began, {pid: proc.core_time(pid) for pid in alive}
    return {
        "at": time.time(),
        "seconds": round(seconds, 4),
        "states": {str(pid): said for pid, said in states.items()},
        "first": {str(pid): account for pid, account in first.items()},
        "last": {str(pid): account for pid, account in last.items()},
    }


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Shares of the time, for each role of the process that is held most."""
    if FILE not in files:
        return
    record = json.loads(files[FILE])
    rows = [(known, shares) for known in record["known"] if (shares := _shares(record, str(known["pid"])))]
    at = round(float(record["at"]), 3)

    def fact(name: str, value: Scalar, says: str = "", subject: str = "") -> Fact:
        name = f"core_time.{name}"
        return Fact(
            name=name, value=value, unit="share", step="core_time", file=FILE, at=at, says=says, subject=subject
        )

    held: dict[str, float | None] = {}
    for role, name in ROLES.items():
        ours = [(known, shares) for known, shares in rows if known["role"] == role]
        worst = max(ours, key=lambda row: (row[1]["held"] or 0.0, row[1]["stopped"] or 0.0), default=None)
        held[name] = worst[1]["held"] if worst else None
        for what in ("held", "stopped", "waits_for_core", "on_core"):
            yield fact(f"{name}_{what}", worst[1][what] if worst else None, _label(worst[0]) if worst else "")
    api_server, engine, worker = held["api_server"], held["engine"], held["worker"]
    for name, who, one, than, other in (
        ("engine_held_more", "the engine", engine, "the worker that is held most", worker),
        ("api_server_held_more", "the API server", api_server, "the engine", engine),
    ):
        if one is None or other is None:
            yield fact(name, None)
        else:
            yield fact(name, round(one - other, 3), f"{who} {one:.0%}, {than} {other:.0%}")
    every = [share for share in held.values() if share is not None]
    alike = min(every) if every and max(every) - min(every) <= ALIKE else 0.0
    yield fact("held_alike", alike if len(every) == len(held) else None)
    for known, shares in rows:
        says = ", ".join(f"{what.replace('_', ' ')} {share:.0%}" for what, share in shares.items() if share is not None)
        yield fact("held", shares["held"], says, _label(known))


def _shares(record: Mapping[str, Any], pid: str) -> dict[str, float | None]:
    """Of one process; nothing for one that was not there all the time."""
    states, seconds = record["states"].get(pid, ""), float(record["seconds"])
    if not states or "-" in states or seconds <= 0:
        return {}
    stopped = sum(state in proc.STOPPED for state in states) / len(states)
    first, last = record["first"].get(pid), record["last"].get(pid)
    ran = waited = held = None
    if first and last:
        ran = round(min(1.0, (last[0] - first[0]) / seconds), 3)
        waited = round(min(1.0, (last[1] - first[1]) / seconds), 3)
        held = round(min(1.0, stopped + waited), 3)
    return {"on_core": ran, "waits_for_core": waited, "stopped": round(stopped, 3), "held": held}


def _label(known: Mapping[str, Any]) -> str:
    return f"{known['name']} (pid {known['pid']})"


STEP = Step(
    name="core_time",
    rung=0,
    says="reads from /proc for 2 s how much of the time the server's processes are let run; the server does not notice",
    fetch=fetch,
    read=read,
    facts=(
        *(
            FactSpec(f"core_time.{name}_{what}", "share", f"{words} {says}")
            for name, words in (
                ("api_server", "the API server's main thread"),
                ("engine", "the engine process's main thread"),
                ("worker", "the main thread of the worker that is held most"),
            )
            for what, says in (
                ("held", "is stopped or waits for a core"),
                ("stopped", "is stopped by a signal or a tracer"),
                ("waits_for_core", "could run and has no core"),
                ("on_core", "runs on a core (waiting in a loop counts)"),
            )
        ),
        FactSpec("core_time.engine_held_more", "share", "what the engine is held less what the worker held most is"),
        FactSpec("core_time.api_server_held_more", "share", "what the API server is held less what the engine is"),
        FactSpec("core_time.held_alike", "share", "what all of them are held, where it is as much for each; else 0"),
        FactSpec("core_time.held", "share", "one process: stopped or waiting for a core (facts per process)"),
    ),
    momentary=("*",),
    timeout_s=TIMEOUT_S + 1,
    max_bytes=1 << 20,
    needs=("same host",),
)
