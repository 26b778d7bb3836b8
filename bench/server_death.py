"""A real vLLM dies in the middle of a disturbing capture: how soon does the capture end, and what is left of it?

    python -m bench.server_death [ROUNDS=3]

Each round starts a vLLM (CPU), begins a capture by hand and kills either the engine alone (its API server goes on
answering for some seconds) or every process of the server. Counted: from the kill to the end of the step, by the
step's own record; and to the end of the command, which also writes down what is owed.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from bench import machine
from bench.kill_captures import SAFE, settings, waited
from responder import proc
from tests.live.harness import find, scenarios
from tests.live.harness.vllm_server import VllmServer

ENOUGH = 4000
"""Engine steps of a profile that nothing but its own end would end for a while."""


class Death(NamedTuple):
    """What came of one."""

    evidence: dict[str, Any]
    step_s: float
    """From the kill to the end of the step."""
    command_s: float
    """From the kill to the end of the command."""


def death(
    server: VllmServer, folder: pathlib.Path, step: str, began: Callable[[], bool], pids: Callable[[], list[int]]
) -> Death:
    """Capture, kill `pids` once it has begun, wait for what is told. AssertionError when it never began."""
    argv = [sys.executable, "-m", "responder", "capture", "t", "--step", step, "--format", "json", "--config",
            str(folder / "responder.yaml")]  # fmt: skip
    with subprocess.Popen(argv, cwd=find.ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert waited(began, 60, time.monotonic()) is not None, f"{step} never began"
        assert child.poll() is None, f"{step} was over before the kill"
        killed = time.time()
        for pid in pids():
            os.kill(pid, signal.SIGKILL)
        out, _ = child.communicate(timeout=120)
        ended = time.time()
    evidence: dict[str, Any] = json.loads(out[out.index("{\n") :])["evidence"]
    return Death(evidence, evidence["started_at"] + evidence["seconds"] - killed, ended - killed)


def profiling(server: VllmServer) -> Callable[[], bool]:
    """Whether this server has begun a profile since this was called."""
    before = server.log.read_text(errors="replace").count("Starting profiler")
    return lambda: server.log.read_text(errors="replace").count("Starting profiler") > before


def sampling() -> bool:
    """Whether a py-spy of ours takes samples."""
    return any("record" in words and "py-spy" in words[0] for pid in proc.processes() if (words := proc.command(pid)))


def main(rounds: int) -> None:
    """Every capture, both deaths, so many times."""
    print(machine.describe())
    took: dict[str, list[Death]] = {}
    for _ in range(rounds):
        for step in ("torch_profiler", "flame_graph"):
            for whole in (False, True):
                with tempfile.TemporaryDirectory() as scratch:
                    folder = pathlib.Path(scratch)
                    options = json.dumps({**SAFE, "max_iterations": ENOUGH, "torch_profiler_dir": f"{folder}/traces"})
                    with VllmServer(folder, (*scenarios.ROOMY, "--profiler-config", options)) as server:
                        settings(folder, server.url)
                        begun = profiling(server) if step == "torch_profiler" else sampling
                        pids = server.pids if whole else lambda s=server: [s.engine_core]
                        one = death(server, folder, step, begun, pids)
                name = f"{step}, {'every process' if whole else 'the engine alone'} killed"
                took.setdefault(name, []).append(one)
                print(f"  {name}: {one.step_s:.2f} s, {one.evidence['outcome']}: {one.evidence['reason']}, "
                      f"files {', '.join(one.evidence['files']) or 'none'}", flush=True)  # fmt: skip
    for name, told in took.items():
        steps, commands = [d.step_s for d in told], [d.command_s for d in told]
        print(f"{name}: {len(told)} times; step ended after {statistics.median(steps):.2f} s median, {max(steps):.2f} "
              f"worst; command after {max(commands):.2f} s worst")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
