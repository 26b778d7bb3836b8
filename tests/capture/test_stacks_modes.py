"""Do the modes that stop a process read it, and leave it running?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from responder import proc, ptrace
from responder.capture import stacks_blocking, stacks_native
from responder.capture.step import Fetched
from responder.model import Inventory, Outcome, ProcessInfo
from responder.runner import LocalRunner
from tests.doubles import BRIEF, scene

CHILD = "import queue; print('up', flush=True); queue.Queue().get()"
MODES = pytest.mark.parametrize("mode", [stacks_blocking, stacks_native], ids=["blocking", "native"])


@pytest.fixture
def known() -> Iterator[Inventory]:
    """A server of one worker that waits."""
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    seen = proc.stat(child.pid)
    assert seen is not None
    worker = ProcessInfo(pid=child.pid, ppid=1, started_at=seen.started_at, role="worker", name="W", rank=0)
    yield Inventory(at=0, local=True, processes=(worker,))
    child.kill()
    child.communicate()


async def fetch(mode: ModuleType, known: Inventory | None, **params: object) -> Fetched:
    async with scene(inventory=known, runner=LocalRunner()) as where:  # type: ignore[arg-type]
        return await mode.fetch(where, mode.STEP.params.model_validate(params))  # type: ignore[no-any-return]


@MODES
async def test_a_real_process_is_read_and_runs_on(mode: ModuleType, known: Inventory) -> None:
    """The stack is there, the pause is told, and no thread stays stopped."""
    fetched = await fetch(mode, known, rounds=1)
    assert fetched.outcome is Outcome.OK, fetched.reason
    assert 0 < fetched.pause_seconds < 60
    found = {fact.name: fact.value for fact in mode.read(fetched.files, BRIEF) if not fact.subject}
    assert set(found) <= {spec.name for spec in mode.STEP.facts}
    assert found[f"{mode.STEP.name}.worker_waits_for"] == "lock"
    pid = known.processes[0].pid
    assert all(thread.state not in proc.STOPPED for thread in proc.threads(pid).values())


@MODES
async def test_a_killed_tracer_leaves_nothing_stopped(
    mode: ModuleType, known: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that stops its target and hangs is killed at the deadline; the target goes on, and we say so."""
    tool = tmp_path / "py-spy"
    tool.write_text('#!/bin/sh\nwhile [ "$1" != --pid ]; do shift; done\nkill -STOP $2; exec sleep 600\n')
    tool.chmod(0o755)
    monkeypatch.setattr(mode, "DUMP_TIMEOUT_S", 2.0)
    monkeypatch.setattr(ptrace, "find_tool", lambda: str(tool))
    fetched = await fetch(mode, known, rounds=1)
    assert "was continued" in fetched.reason
    assert all(thread.state not in proc.STOPPED for thread in proc.threads(known.processes[0].pid).values())


@MODES
async def test_only_whom_the_playbook_asks_for(mode: ModuleType, known: Inventory) -> None:
    """A role or rank that does not live is said, not guessed around."""
    assert "rank 7" in (await fetch(mode, known, role="worker", rank=7)).reason
    assert (await fetch(mode, None)).outcome is Outcome.SKIPPED


@MODES
def test_never_local_variables(mode: ModuleType) -> None:
    """Prompts live in local variables."""
    assert mode.__file__
    assert "--locals" not in Path(mode.__file__).read_text()
