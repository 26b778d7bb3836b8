"""The commands, over a server that is a process of its own: what they keep, say and return."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app

ROOT = Path(__file__).resolve().parents[2]
PORT_FROM = ("127.0.0.1", 0)


@contextmanager
def server(port: int, *flags: str) -> Iterator[None]:
    """The fake on a port, ended afterwards."""
    argv = [sys.executable, "-m", "tests.bisect.fake_server", *flags, "--host", "127.0.0.1", "--port", str(port)]
    child = subprocess.Popen(argv, cwd=ROOT)
    try:
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait(10)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(PORT_FROM)
        return int(probe.getsockname()[1])


def run(folder: Path, *argv: str) -> tuple[int, str]:
    """Exit code and all output."""
    got = CliRunner().invoke(app, [*argv, "--data-dir", str(folder)])
    return got.exit_code, got.output


def test_record_show_probe_approve(tmp_path: Path, port: int) -> None:
    """From a good server to a changed one that was meant."""
    target = ("--target", f"http://127.0.0.1:{port}")
    with server(port):
        assert run(tmp_path, "canary", "probe", *target)[0] == 2
        code, said = run(tmp_path, "canary", "record", *target, "--loads", "0,2")
        assert code == 0, said
        assert "cost: 64 tokens a probe" in said
        assert run(tmp_path, "canary", "probe", *target)[0] == 0
        assert "nothing to approve" in run(tmp_path, "canary", "approve", *target)[1]
        assert "healthy noise" in run(tmp_path, "canary", "show")[1]
    with server(port, "--wrong-unless=never"):
        code, said = run(tmp_path, "canary", "probe", *target, "--format", "json")
        assert code == 1
        assert json.loads(said)["judgement"]["nan"] is False
        assert run(tmp_path, "canary", "approve", *target)[0] == 1  # nobody said yes
        assert run(tmp_path, "canary", "probe", *target)[0] == 1
        code, said = run(tmp_path, "canary", "approve", *target, "--yes")
        assert code == 0, said
        assert run(tmp_path, "canary", "probe", *target)[0] == 0
    assert run(tmp_path, "canary", "probe", *target)[0] == 1
    assert run(tmp_path, "canary", "record", *target)[0] == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("canary", "probe", "--target", "nobody"), "no target 'nobody'"),
        (("canary", "record", "--target", "http://127.0.0.1:9", "--loads", "x"), "x"),
        (("canary", "record", "--target", "http://127.0.0.1:9", "--prompts", "/does/not/exist"), "exist"),
        (("bisect",), "give --target"),
        (("bisect", "--command", "vllm serve m", "--only", "nonsense"), "no change is called"),
        (("bisect", "--target", "http://127.0.0.1:9"), "give --command"),
        (("bisect", "--command", "vllm serve m", "--start-timeout", "soon"), "not a duration"),
    ],
)
def test_what_is_written_wrong_is_told_in_words(tmp_path: Path, argv: tuple[str, ...], words: str) -> None:
    """Exit 2, no traceback."""
    code, said = run(tmp_path, *argv)
    assert code == 2
    assert words in said
