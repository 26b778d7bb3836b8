"""Who waits for whom, from recorded dumps of vLLM and from a py-spy that answers what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from responder import ptrace
from responder.capture import stack_shares
from responder.capture.step import NoParams
from responder.model import Fact, Inventory, Outcome, ProcessInfo, Scalar
from responder.runner import LocalRunner
from tests.doubles import BRIEF, scene

DATA = Path(__file__).parents[1] / "data" / "stacks"
ENGINE, TP0 = 885, 992
WAITING_ENGINE = (DATA / "hang_VLLM_EngineCore_885.txt").read_text()
AT_THE_GPU = (DATA / "hang_VLLM_Worker_TP0_992.txt").read_text()
BUSY_WORKER = (DATA / "busy_Worker_TP0_992.txt").read_text()
MAIN = 'Process 1: VLLM\nThread 1 (active): "MainThread"\n'
SCHEDULING = f"{MAIN}    schedule (vllm/v1/core/sched/scheduler.py:300)\n    step (vllm/v1/engine/core.py:400)\n"
IDLE_WORKER = (
    f"{MAIN}    dequeue (shm_broadcast.py:971)\n    worker_busy_loop (vllm/v1/executor/multiproc_executor.py:1)\n"
)
IDLE_ENGINE = f"{MAIN}    get (queue.py:171)\n    _process_input_queue (vllm/v1/engine/core.py:1000)\n"
MODEL_STEP = f"{MAIN}    forward (torch/nn/modules/linear.py:1)\n    execute_model (vllm/v1/worker/gpu_worker.py:1)\n"


def read(engine: list[str], worker: list[str] | None) -> dict[str, Scalar]:
    """One look for each text; `T`: it was stopped, empty: the dump failed. None: there is no worker process."""
    rounds: list[dict[str, Any]] = []
    dumps = {}
    for turn, texts in enumerate(zip(engine, worker or engine, strict=True)):
        row: dict[str, Any] = {}
        for pid, text in zip((ENGINE, TP0), texts, strict=True):
            row[str(pid)] = {"state": "T" if text == "T" else "S"}
            if len(text) > 1:
                row[str(pid)]["file"] = name = f"{turn}-{pid}.txt"
                dumps[name] = text
        rounds.append(row)
    known = [
        {"pid": ENGINE, "role": "engine_core", "name": "E", "rank": None},
        {"pid": TP0, "role": "worker", "name": "W", "rank": 0},
    ]
    known = known if worker is not None else known[:1]
    raw = json.dumps({"processes": known, "rounds": rounds, "dumps": dumps}).encode()
    found: list[Fact] = list(stack_shares.read({stack_shares.FILE: raw}, BRIEF))
    assert {fact.name for fact in found} == {spec.name for spec in stack_shares.STEP.facts}
    return {fact.name.removeprefix("stack_shares."): fact.value for fact in found}


def test_a_slow_device_keeps_the_engine_waiting() -> None:
    """Recorded on an H200: the engine waits for its workers, and a worker for the GPU."""
    said = read([WAITING_ENGINE] * 4, [AT_THE_GPU, BUSY_WORKER, AT_THE_GPU, ""])
    assert (said["engine_for_workers"], said["engine_at_work"]) == (1.0, 0.0)
    assert (said["workers_at_work"], said["workers_for_engine"], said["looks"]) == (1.0, 0.0, 4)


def test_a_slow_scheduler_keeps_the_workers_waiting() -> None:
    """At its own work, or stopped: both are the engine's doing."""
    said = read([SCHEDULING, SCHEDULING, "T", WAITING_ENGINE], [IDLE_WORKER] * 3 + [BUSY_WORKER])
    assert (said["engine_at_work"], said["engine_for_workers"]) == (0.75, 0.25)
    assert (said["workers_for_engine"], said["workers_at_work"]) == (0.75, 0.25)


def test_idle_is_neither() -> None:
    """Without requests both wait, and nobody for the other's work."""
    said = read([IDLE_ENGINE] * 2, [IDLE_WORKER] * 2)
    assert (said["engine_idle"], said["engine_at_work"], said["engine_for_workers"]) == (1.0, 0.0, 0.0)


def test_an_engine_without_workers_computes_the_step_itself() -> None:
    """What it does in model code, or while a thread of its own waits for the GPU, is the device's time; the rest is
    time in which the device waits for it."""
    at_the_gpu = 'Thread 2 (idle): "output"\n    synchronize (torch/cuda/streams.py:254)\n'
    said = read([MODEL_STEP, MODEL_STEP, SCHEDULING + at_the_gpu, SCHEDULING], None)
    assert (said["engine_for_workers"], said["engine_at_work"], said["workers_for_engine"]) == (0.75, 0.25, 0.25)


def inventory(*roles: str) -> Inventory:
    made = [
        ProcessInfo.model_validate({"pid": 1, "ppid": 0, "started_at": 5.0, "role": role, "name": role})
        for role in roles
    ]
    return Inventory(at=0, local=True, processes=tuple(made))


async def test_what_cannot_be_looked_at_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine, no py-spy, and processes that are gone: each in words, and nothing is guessed."""
    monkeypatch.setattr(stack_shares, "APART_S", 0.0)
    monkeypatch.setattr(ptrace, "find_tool", lambda: str(tmp_path / "py-spy"))
    async with scene(inventory=inventory("api_server"), runner=LocalRunner()) as where:  # type: ignore[arg-type]
        assert "no engine process" in (await stack_shares.fetch(where, NoParams())).reason
    async with scene(inventory=inventory("engine_core", "worker"), runner=LocalRunner()) as where:  # type: ignore[arg-type]
        fetched = await stack_shares.fetch(where, NoParams())
        said = {fact.name: fact.value for fact in stack_shares.read(fetched.files, BRIEF)}
        assert said["stack_shares.looks"] == 0
        assert said["stack_shares.engine_for_workers"] is None
        monkeypatch.setattr(ptrace, "find_tool", lambda: None)
        fetched = await stack_shares.fetch(where, NoParams())
        assert fetched.outcome is Outcome.SKIPPED
        assert "pip install py-spy" in fetched.reason
