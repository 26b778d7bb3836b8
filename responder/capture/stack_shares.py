"""Who waits for whom: the engine for its workers, or the workers for the engine, and in what share of many looks?

The engine sends each step to the workers and waits for their answer. With a slow device nearly every look finds it
waiting for them; with a slow scheduler they wait for its next message while it is at its own work, or not let run.
py-spy reads the stacks without stopping a process (`--nonblocking`), of the engine and a few workers only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from responder import ptrace
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Scalar
from responder.pyspy import Dumping, dump_all
from responder.stackfacts import INDEX, STOPPED, Stand
from responder.waiting import Dump, Thread, classify, process_waits

FILE = "looks.json"
ROUNDS, APART_S = 12, 0.25
BUDGET_S, DUMP_TIMEOUT_S = 10.0, 2.0
SIDE_BY_SIDE = 3
WORKERS = 2
"""More workers tell no more of who waits for whom; `stacks` looks at all of them."""
MODEL_CODE = ("vllm/v1/worker/", "vllm/worker/", "vllm/model_executor/", "vllm/v1/attention/")
"""Where an engine without worker processes computes a step."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Rounds of dumps, all in one file."""
    found = ptrace.ready(scene.inventory)
    if isinstance(found, str):
        return skipped(found)
    inventory, tool = found
    engines = [process for process in inventory.processes if process.role == "engine_core"]
    workers = sorted((p for p in inventory.processes if p.role == "worker"), key=lambda p: (p.rank or 0, p.pid))
    if not engines:
        return skipped("no engine process is known: the engine runs inside another process")
    how = Dumping(
        runner=scene.runner, tool=tool, flags=("--nonblocking",), rounds=ROUNDS, apart_s=APART_S, budget_s=BUDGET_S,
        timeout_s=DUMP_TIMEOUT_S, side_by_side=SIDE_BY_SIDE, stops=False, uneven=True,
    )  # fmt: skip
    dumped = await dump_all(how, (*engines[:1], *workers[:WORKERS]))
    record = json.loads(dumped.files[INDEX])
    record["dumps"] = {
        name: text.decode("utf-8", "replace") for name, text in sorted(dumped.files.items()) if name != INDEX
    }
    raw = json.dumps(record, indent=1, sort_keys=True).encode()
    return Fetched({FILE: raw}, dumped.outcome, dumped.reason, dumped.pause_seconds)


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Shares of the looks that could be read."""
    if FILE not in files:
        return
    record = json.loads(files[FILE])
    dumps = {name: text.encode() for name, text in record["dumps"].items()}

    def fact(name: str, value: Scalar, unit: str = "share", says: str = "") -> Fact:
        name = f"stack_shares.{name}"
        return Fact(name=name, value=value, unit=unit, step="stack_shares", file=FILE, at=brief.now, says=says)

    seen: dict[str, Counter[str]] = {"engine_core": Counter(), "worker": Counter()}
    for process in record["processes"]:
        stand = Stand(process, record["rounds"], dumps)
        for turn, dump in zip(record["rounds"], stand.dumps, strict=True):
            if side := _side(process["role"], turn.get(str(process["pid"]), {}), dump):
                seen[process["role"]][side] += 1
    engine, worker = seen["engine_core"], seen["worker"]
    alone = all(process["role"] != "worker" for process in record["processes"])
    yield fact("looks", engine.total(), "looks")
    yield fact("engine_for_workers", _share(engine, "device"), says=_words(engine))
    yield fact("engine_at_work", _share(engine, "own", "held"), says=_words(engine))
    yield fact("engine_idle", _share(engine, "idle"), says=_words(engine))
    # An engine without worker processes computes the steps itself: the device waits while it is at other work.
    waiting = _share(engine, "own", "held") if alone else _share(worker, "idle")
    yield fact("workers_for_engine", waiting, says=_words(engine if alone else worker))
    yield fact("workers_at_work", _share(worker, "own", "device", "held"), says=_words(worker))


def _side(role: str, look: Mapping[str, Any], dump: Dump | None) -> str:
    """idle: waits for the next message; device: waits for workers or computes a step; own: at its own work; held:
    stopped by a signal. Empty: this look tells nothing."""
    if look.get("state") in STOPPED:
        return "held"
    if dump is None:
        return ""
    category = process_waits(dump).category
    if category == "unknown":
        return ""
    if category == "new_requests":
        return "idle"
    computes = category in ("worker_response", "gpu", "collective") or _in_model(dump.main)
    computes = computes or any(classify(thread).category == "gpu" for thread in dump.threads)
    return "device" if computes else "own" if role == "worker" or category in ("python", "lock") else ""


def _in_model(main: Thread | None) -> bool:
    return main is not None and any(frame.file.startswith(MODEL_CODE) for frame in main.frames)


def _share(seen: Counter[str], *sides: str) -> float | None:
    return round(sum(seen[side] for side in sides) / seen.total(), 3) if seen.total() else None


def _words(seen: Counter[str]) -> str:
    """`7 of 12 looks device, 5 of 12 own`."""
    return ", ".join(f"{count} of {seen.total()} {side}" for side, count in sorted(seen.items()))


STEP = Step(
    name="stack_shares",
    rung=1,
    says="reads the stacks of the engine and two workers with py-spy, without stopping them, 12 times over 4 s",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("stack_shares.looks", "looks", "looks at the engine that could be read"),
        FactSpec("stack_shares.engine_for_workers", "share", "the engine waits for its workers, or computes a step"),
        FactSpec("stack_shares.engine_at_work", "share", "the engine is at its own work, or stopped"),
        FactSpec("stack_shares.engine_idle", "share", "the engine waits for requests"),
        FactSpec(
            "stack_shares.workers_for_engine",
            "share",
            "workers, or the device of an engine without any, wait for the engine",
        ),
        FactSpec("stack_shares.workers_at_work", "share", "workers compute, wait for the device, or are stopped"),
    ),
    momentary=("*",),
    timeout_s=BUDGET_S + APART_S * ROUNDS + 6,
    max_bytes=6 << 20,
    worst_pause_s=0.02,
    needs=("same host", "py-spy", "root or CAP_SYS_PTRACE"),
)
