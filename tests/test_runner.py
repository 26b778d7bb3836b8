"""A command and everything it started is gone after its deadline, and no output of it can fill our memory."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from responder import proc
from responder.runner import LocalRunner, clear_cgroups, find_cgroup

WAYS = [pytest.param("auto", id="cgroup"), pytest.param(None, id="fallback")]


@pytest.fixture(params=WAYS)
def runner(request: pytest.FixtureRequest) -> LocalRunner:
    if request.param == "auto" and find_cgroup() is None:
        pytest.skip("this host does not let us make cgroups")
    return LocalRunner(request.param)


@pytest.fixture
def mark() -> str:
    """A number of seconds nobody else sleeps: survivors are the processes that have it in their argv."""
    return f"{987_000 + os.getpid()}.{time.monotonic_ns() % 1_000_000}"


def survivors(mark: str) -> list[int]:
    return [pid for pid, seen in proc.processes().items() if seen.state not in "ZX" and mark in proc.command(pid)]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


SLEEP = "import subprocess, time; subprocess.{how}(['sleep', '{mark}']{more}); time.sleep(600)"

STUBBORN = {
    "plain": ["sleep", "{mark}"],
    "under sh": ["sh", "-c", "sleep {mark}; true"],
    "ignores TERM": ["sh", "-c", "trap '' TERM HUP INT; sleep {mark}; sleep {mark}"],
    "setsid child": ["sh", "-c", "setsid sleep {mark} & sleep 600"],
    "setsid and wait": ["sh", "-c", "setsid -w sleep {mark}"],
    "double fork": ["sh", "-c", "(sleep {mark} & exec sleep {mark}) & (setsid sleep {mark} &) ; sleep 600"],
    "wiped environment": ["sh", "-c", "env -i setsid sleep {mark} & sleep 600"],
    "fork loop": ["sh", "-c", "while :; do setsid sleep {mark} & sleep 0.02; done"],
}


@pytest.mark.parametrize("command", STUBBORN.values(), ids=STUBBORN.keys())
async def test_nothing_survives_the_deadline(runner: LocalRunner, mark: str, command: list[str]) -> None:
    """Whatever a command does to escape, no process of it is left when run() returns."""
    result = await runner.run([word.format(mark=mark) for word in command], timeout=0.3)
    assert result.code is None
    assert survivors(mark) == []


async def test_child_holding_our_pipe_does_not_hold_us(runner: LocalRunner, mark: str) -> None:
    """The leader is done and its child keeps the pipe open: we have the answer at once, and the child is ended."""
    result = await runner.run(["sh", "-c", f"echo answer; sleep {mark} & exit 3"], timeout=60)
    assert result.code == 3
    assert result.stdout == b"answer\n"
    assert result.seconds < 50
    assert survivors(mark) == []


async def test_cancelled_command_is_killed(runner: LocalRunner, mark: str) -> None:
    """A step that is cut off takes its commands with it."""
    task = asyncio.create_task(runner.run(["sh", "-c", f"setsid sleep {mark} & sleep {mark}"], timeout=60))
    while len(survivors(mark)) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert survivors(mark) == []


async def test_ten_gigabytes_are_cut_with_flat_memory(runner: LocalRunner) -> None:
    """Output over the cap is cut and ends the writer; our memory does not notice."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = await runner.run(["head", "-c", "10G", "/dev/zero"], timeout=60, max_bytes=1 << 20)
    assert result.truncated
    assert result.stdout == bytes(1 << 20)
    assert result.code == -signal.SIGPIPE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


async def test_endless_stderr_is_cut_too(runner: LocalRunner) -> None:
    """A tool that floods stderr is as harmless as one that floods stdout."""
    result = await runner.run(["sh", "-c", "yes >&2"], timeout=60)
    assert result.truncated
    assert len(result.stderr) == 1 << 16


async def test_code_output_and_errors_are_reported(runner: LocalRunner) -> None:
    """An ordinary command: exit code, both outputs, no truncation."""
    result = await runner.run(["sh", "-c", "printf out; printf err >&2; exit 7"], timeout=60)
    assert (result.code, result.stdout, result.stderr, result.truncated) == (7, b"out", b"err", False)


async def test_stdin_is_empty_and_session_is_its_own(runner: LocalRunner) -> None:
    """A command that reads gets an end of file, and no signal of our terminal reaches it."""
    result = await runner.run(python("import os, sys; print(sys.stdin.read() == '', os.getsid(0))"), timeout=60)
    empty, sid = result.stdout.split()
    assert empty == b"True"
    assert int(sid) != os.getsid(0)


async def test_arguments_are_never_parsed(runner: LocalRunner) -> None:
    """No shell sees the arguments."""
    hostile = ["$(touch /tmp/x)", "; id", "`id`", "--help", "a b", "*", '"', "\n"]
    code = "import sys, json; print(json.dumps(sys.argv[1:]))"
    result = await runner.run([*python(code), *hostile], timeout=60)
    assert json.loads(result.stdout) == hostile


async def test_our_secrets_are_not_handed_on(runner: LocalRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command sees an allow-list of our environment."""
    monkeypatch.setenv("RESPONDER_SLACK_TOKEN", "xoxb-1")
    result = await runner.run(["env"], timeout=60)
    assert b"xoxb" not in result.stdout
    assert b"PATH=" in result.stdout


async def test_missing_program_is_said_so(runner: LocalRunner) -> None:
    """A tool that is not installed is FileNotFoundError, for a bare name and for a path."""
    for name in ("no-such-tool-here", "/opt/no/such/tool"):
        with pytest.raises(FileNotFoundError):
            await runner.run([name], timeout=1)


async def test_no_cgroup_and_no_descriptor_is_left(runner: LocalRunner) -> None:
    """Thousands of commands over weeks must leave nothing behind."""
    await runner.run(["true"], timeout=60)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await runner.run(["sh", "-c", "sleep 600"], timeout=0.05)
        await runner.run(["true"], timeout=60)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    base = find_cgroup()
    assert base is None or not list(base.glob(f"responder-{os.getpid()}-*"))


LIFE = """
import asyncio, sys
from responder.runner import LocalRunner
way = "auto" if sys.argv[1] == "auto" else None
asyncio.run(LocalRunner(way).run(["sleep", sys.argv[2]], timeout=600))
"""


@pytest.mark.parametrize("way", ["auto", "fallback"])
def test_command_dies_with_us(way: str, mark: str) -> None:
    """SIGKILL of the daemon does not leave its running command behind."""
    daemon = subprocess.Popen([sys.executable, "-c", LIFE, way, mark])
    try:
        deadline = time.monotonic() + 60
        while not any(proc.command(pid)[-1:] == [mark] and "sleep" in proc.command(pid)[0] for pid in survivors(mark)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        daemon.kill()
        daemon.wait()
    while survivors(mark):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_cgroups_of_a_dead_daemon_are_cleared() -> None:
    """What was running when the daemon was killed is ended at its next start."""
    base = find_cgroup()
    if base is None:
        pytest.skip("this host does not let us make cgroups")
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = base / f"responder-{dead.pid}-1"
    left.mkdir()
    orphan = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (left / "cgroup.procs").write_text(str(orphan.pid))
    clear_cgroups(base)
    assert orphan.wait(timeout=60) == -signal.SIGKILL
    clear_cgroups(base)
    assert not left.exists()


async def test_read_head_and_tail(runner: LocalRunner, tmp_path: Path) -> None:
    """Both ends of a file, capped; also files of /proc, which claim to be empty."""
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    assert await runner.read(str(path), max_bytes=4) == b"0123"
    assert await runner.read(str(path), max_bytes=4, tail=True) == b"6789"
    assert await runner.read(str(path), max_bytes=99, tail=True) == b"0123456789"
    assert (await runner.read("/proc/self/status", max_bytes=1 << 16)).startswith(b"Name:")


async def test_only_regular_files_are_read(runner: LocalRunner, tmp_path: Path) -> None:
    """A device, a directory or a FIFO without a writer cannot be smuggled in as a log file."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in ("/dev/zero", str(tmp_path), str(fifo)):
        with pytest.raises(OSError, match="regular|directory"):
            await runner.read(path, max_bytes=10)
    with pytest.raises(FileNotFoundError):
        await runner.read(str(tmp_path / "gone"), max_bytes=10)
