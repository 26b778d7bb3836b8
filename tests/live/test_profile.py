"""A real vLLM is profiled, killed in the middle, and refused - and serves on every time."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

from bench.kill_captures import SAFE, owed, profiles, settings
from bench.server_death import death, sampling
from tests.live.harness import find, scenarios
from tests.live.harness.vllm_server import VllmServer

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]


def capture(folder: pathlib.Path) -> dict[str, object]:
    argv = [sys.executable, "-m", "responder", "capture", "t", "--step", "torch_profiler", "--format", "json",
            "--config", str(folder / "responder.yaml")]  # fmt: skip
    done = subprocess.run(argv, cwd=find.ROOT, capture_output=True, text=True, timeout=180)
    told: dict[str, object] = json.loads(done.stdout[done.stdout.index("{\n") :])["evidence"]
    return told


def test_a_safely_launched_server(tmp_path: pathlib.Path) -> None:
    """A profile of an idle engine ends and gives facts; three killed ones are ended by us or by the guard; and when the
    server dies under a capture, that ends within two seconds with what it has."""
    flags = json.dumps({**SAFE, "torch_profiler_dir": str(tmp_path / "traces")})
    with VllmServer(tmp_path, (*scenarios.ROOMY, "--profiler-config", flags)) as server:
        settings(tmp_path, server.url)
        told = capture(tmp_path)
        assert told["outcome"] == "ok", told["reason"]
        facts = {fact["name"]: fact["value"] for fact in told["facts"]}  # type: ignore[attr-defined]
        assert facts["trace.steps"] == SAFE["max_iterations"]
        assert told["cost"]
        assert owed(tmp_path) == []
        back, gone = profiles(server.url, server.log, tmp_path, 2, 1, server.completes)
        assert back.lost == gone.lost == 0
        assert back.dead == gone.dead == 0
        assert max([*back.seconds, 0.0]) <= 5.0
        assert max([*gone.seconds, 0.0]) <= 90.0
        died = death(server, tmp_path, "flame_graph", sampling, lambda: [server.engine_core])
        assert died.evidence["outcome"] == "interrupted"
        assert "went away" in died.evidence["reason"]
        assert died.step_s <= 2.0


def test_a_server_with_default_profiler_options_is_refused(tmp_path: pathlib.Path) -> None:
    """0 seconds of outage: it is not asked at all, and the report names the option."""
    flags = json.dumps({"profiler": "torch", "torch_profiler_dir": str(tmp_path / "traces")})
    with VllmServer(tmp_path, (*scenarios.ROOMY, "--profiler-config", flags)) as server:
        settings(tmp_path, server.url)
        told = capture(tmp_path)
        assert told["outcome"] == "skipped"
        assert "torch_profiler_with_stack" in str(told["reason"])
        assert "Starting profiler" not in server.log.read_text(errors="replace")
        assert server.completes()
