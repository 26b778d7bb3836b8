"""Do processes tell their stacks on a signal, and is nobody killed by asking?"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from responder import proc
from responder.capture.signal_stacks import fetch, parse, read
from responder.capture.step import NoParams
from responder.model import Inventory, Outcome, ProcessInfo
from responder.runner import LocalRunner
from responder.waiting import process_waits
from tests.doubles import BRIEF
from tests.doubles import scene as make_scene
from tests.requests.otlp import DATA

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = """
import sys
if sys.argv[1] == "catches":
    from responder.recorder.stacks import register
    register()
def stuck_here():
    print("ready", flush=True)
    sys.stdin.readline()
stuck_here()
"""


def process(pid: int, role: str) -> ProcessInfo:
    """A process of a server, as it runs now."""
    seen = proc.stat(pid)
    began = seen.started_at if seen else 0.0
    return ProcessInfo(pid=pid, ppid=1, started_at=began, role=role, name=f"VLLM::{role}")  # type: ignore[arg-type]


def child(how: str, folder: Path) -> subprocess.Popen[str]:
    """A process that is stuck, with our handler or without."""
    environment = {**os.environ, "RESPONDER_RECORDER": str(folder), "RESPONDER_STACKS_SIGNAL": "SIGUSR2"}
    made = subprocess.Popen([sys.executable, "-c", CODE, how], cwd=ROOT, env=environment, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert made.stdout is not None
    assert made.stdout.readline() == "ready\n"
    return made


async def test_those_that_catch_it_answer_and_the_others_live(tmp_path: Path) -> None:
    """Two processes, one without our handler, one pid that is gone: one answers, nobody dies."""
    with child("catches", tmp_path) as good, child("does not", tmp_path) as bad:
        inventory = Inventory(
            at=0.0, local=True,
            processes=(process(good.pid, "engine_core"), process(bad.pid, "worker"), process(4_000_000, "worker")),
            environment={"RESPONDER_RECORDER": str(tmp_path), "RESPONDER_STACKS_SIGNAL": "SIGUSR2"},
        )  # fmt: skip
        async with make_scene(inventory=inventory) as scene:
            got = await fetch(dataclasses.replace(scene, runner=LocalRunner()), NoParams())
        assert (good.poll(), bad.poll()) == (None, None)
        good.kill()
        bad.kill()
    assert got.outcome is Outcome.PARTIAL
    assert list(got.files) == [f"engine_core-{good.pid}.txt"]
    assert b"stuck_here" in got.files[f"engine_core-{good.pid}.txt"]
    assert "would kill it: not asked" in got.reason
    assert "is gone" in got.reason


async def test_another_process_under_the_number_gets_no_signal(tmp_path: Path) -> None:
    """The engine has died and its number came round: to whoever has it now the signal may mean anything."""
    with child("catches", tmp_path) as other:
        gone = process(other.pid, "engine_core").model_copy(update={"started_at": 5.0})
        environment = {"RESPONDER_RECORDER": str(tmp_path), "RESPONDER_STACKS_SIGNAL": "SIGUSR2"}
        inventory = Inventory(at=0.0, local=True, processes=(gone,), environment=environment)
        async with make_scene(inventory=inventory) as scene:
            got = await fetch(dataclasses.replace(scene, runner=LocalRunner()), NoParams())
        other.kill()
    assert (got.outcome, got.files) == (Outcome.FAILED, {})
    assert "another process's: not asked" in got.reason
    assert [path for path in tmp_path.rglob("stacks-*") if path.stat().st_size] == []


@pytest.mark.parametrize("value", ["", "SIGKILL", "SIGTERM"])
async def test_without_the_setting_nobody_is_asked(value: str) -> None:
    """Nor with a signal that means something else."""
    inventory = Inventory(
        at=0.0, local=True, processes=(process(1, "worker"),), environment={"RESPONDER_STACKS_SIGNAL": value}
    )
    async with make_scene(inventory=inventory) as scene:
        got = await fetch(scene, NoParams())
    assert got.outcome is Outcome.SKIPPED
    assert "RESPONDER_STACKS_SIGNAL=SIGUSR2" in got.reason


def test_stacks_of_a_real_idle_server() -> None:
    """Recorded: vLLM 0.32 with nothing to do."""
    roles = {"api_server-22692": "network", "engine_core-22797": "new_requests", "worker-23060": "new_requests"}
    files = {f"{name}.txt": (DATA / f"stacks-{name.rpartition('-')[2]}.txt").read_bytes() for name in roles}
    facts = {f.name: f.value for f in read(files, BRIEF)}
    assert facts == {
        "signal_stacks.dumped": 3,
        "signal_stacks.api_server_waits_for": "network",
        "signal_stacks.engine_waits_for": "new_requests",
        "signal_stacks.worker_waits_for": "new_requests",
    }
    assert {name: process_waits(parse(files[f"{name}.txt"].decode(), 1)).category for name in roles} == roles


@pytest.mark.parametrize("junk", [b"", b"\xff", b"Thread", b'  File "x", line 1 in y\n'])
def test_junk_is_no_fact(junk: bytes) -> None:
    """A file that was cut or is somebody else's."""
    assert list(read({"worker-1.txt": junk, "notes": junk}, BRIEF)) == []
