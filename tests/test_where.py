"""Is a server on another host found through its runner, and a runner made for each way there?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from pydantic import ValidationError

from responder import proc
from responder.config import Config
from responder.model import Target
from responder.runner import LocalRunner
from responder.runner_pod import PodRunner
from responder.runner_ssh import SshRunner
from responder.where import discover_there, runners
from tests.doubles import NOW, Files


async def test_a_server_is_found_through_commands_alone(tmp_path: Path) -> None:
    """A process tree of a real (fake) vLLM, seen as another host's: roles, start times, environment, log."""
    package = tmp_path / "vllm"
    package.mkdir()
    code = "import subprocess,sys,time\n" \
        "if 'spawn_main' not in sys.argv:\n  subprocess.Popen([sys.executable,'-m','vllm','spawn_main'])\n" \
        "print('up', flush=True)\ntime.sleep(600)\n"  # fmt: skip
    (package / "__main__.py").write_text(code)
    log = tmp_path / "log"
    argv = [sys.executable, "-m", "vllm", "--port", "45678", "--api-key", "topsecret"]
    with log.open("wb") as out:
        child = subprocess.Popen(
            argv, cwd=tmp_path, stdout=out, env={"NCCL_DEBUG": "INFO", "HF_TOKEN": "x"}, start_new_session=True
        )
    try:
        while log.read_bytes().count(b"up") < 2:
            assert child.poll() is None
        target = Target(name="t", url="http://far:45678")
        found = await discover_there(target, LocalRunner(), NOW)
        assert (found.local, found.reachable) == (False, True)
        assert [process.role for process in found.processes] == ["api_server", "engine_core"]
        seen = proc.stat(child.pid)
        assert seen is not None
        assert abs(found.processes[0].started_at - seen.started_at) < proc.SAME_START_S
        assert "topsecret" not in found.command
        assert found.environment == {"NCCL_DEBUG": "INFO"}
        assert found.log_file == str(log)
    finally:
        import os
        import signal

        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


async def test_a_host_that_cannot_be_reached_is_said() -> None:
    """No guess about what runs there."""
    found = await discover_there(Target(name="t", url="http://far:1"), Files(), NOW)
    assert (found.local, found.reachable) == (False, False)
    assert found.why_not


SSH = {"ssh": {"host": "gpu-1", "user": "responder", "key_file": "/k", "known_hosts": "/h"}}
POD = {"pod": {"namespace": "llm", "name": "vllm-0"}}


async def test_each_way_has_its_runner() -> None:
    """None for this host."""
    urls = {"a": "local", "b": SSH, "c": POD}
    config = Config.model_validate({"targets": [{"url": f"http://{n}:1", "where": where} for n, where in urls.items()]})
    async with aiohttp.ClientSession() as http:
        made = runners(config, http)
    assert {name: type(runner) for name, runner in made.items()} == {"b:1": SshRunner, "c:1": PodRunner}


@pytest.mark.parametrize("where", ["remote", {}, {**SSH, **POD}, {"ssh": {**SSH["ssh"], "host": "-oProxyCommand=x"}}])
def test_one_way_only(where: object) -> None:
    """A mistake is told, not guessed around."""
    if isinstance(where, dict) and where.get("ssh", {}).get("host", "").startswith("-o"):
        where = {"ssh": {**SSH["ssh"], "host": "x;y"}}
    with pytest.raises(ValidationError):
        Config.model_validate({"targets": [{"url": "http://a:1", "where": where}]})
