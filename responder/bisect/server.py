"""How is a server of our own started, and surely ended? A session of its own, a free loopback port, its own log."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from responder.bisect.changes import Launch
from responder.canaries.ask import look
from responder.model import Target

POLL_S = 0.5
TERM_PATIENCE_S = 20.0
LOG_TAIL = 4000
_PR_SET_PDEATHSIG = 1
_TELLING = re.compile(r"\b(\w*Error|\w*Exception|error): .*|unrecognized arguments.*|invalid choice.*")
_POINTS_ELSEWHERE = re.compile(r"root cause")
"""How the front end and the engine say that the error to read is that of another process, further up."""


class NotStarted(Exception):
    """Why a server did not come up, in words."""


@dataclass(frozen=True)
class Running:
    """A server that serves."""

    url: str
    model: str
    start_s: float


@asynccontextmanager
async def serving(
    http: aiohttp.ClientSession, launch: Launch, log: Path, start_timeout_s: float
) -> AsyncIterator[Running]:
    """Start it, wait until it names its model, end it and everything it started. NotStarted in words."""
    began, port = time.monotonic(), free_port()
    child = start(launch, port, log)
    try:
        model = await _until_up(http, f"http://127.0.0.1:{port}", child, log, began + start_timeout_s)
        yield Running(f"http://127.0.0.1:{port}", model, time.monotonic() - began)
    finally:
        # Shielded: an interruption must not leave a model in somebody's GPU memory.
        await asyncio.shield(asyncio.to_thread(end, child))


def start(launch: Launch, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start it, in a session of its own that ends with us. NotStarted when there is no such program."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("wb") as out:
            return subprocess.Popen(
                [*launch.argv, "--host", "127.0.0.1", "--port", str(port)], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env={**os.environ, **launch.environment}, start_new_session=True,
                preexec_fn=_die_with_us,
            )  # fmt: skip
    except OSError as error:
        raise NotStarted(str(error)) from None


async def _until_up(
    http: aiohttp.ClientSession, url: str, child: subprocess.Popen[bytes], log: Path, limit: float
) -> str:
    while time.monotonic() < limit:
        if child.poll() is not None:
            raise NotStarted(f"it ended with code {child.returncode} while starting: {last_words(log)}")
        seen = await look(http, Target(name="bisect", url=url))
        if seen.model is not None:
            return seen.model
        await asyncio.sleep(POLL_S)
    raise NotStarted(f"it was not up in time: {last_words(log)}")


def end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, patience, SIGKILL for all that is left of its session (orphans of vLLM hold memory for minutes)."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(TERM_PATIENCE_S)
    for _ in range(50):
        left = session(child.pid)
        if not left and child.poll() is not None:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2)


def session(leader: int) -> list[int]:
    """Living pids of the session `leader` founded."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    members.append(int(entry.name))
    return members


def last_words(log: Path) -> str:
    """The line of a log that tells most about its end."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "no log"
    told = [found[0] for line in lines if (found := _TELLING.search(line))]
    causes = [line for line in told if not _POINTS_ELSEWHERE.search(line)]
    return (causes or told or lines or ["an empty log"])[-1].strip()[:300] + f" (log: {log})"


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def python_of(launch: Launch) -> str | None:
    """The Python that runs this command: itself, or the one its script names."""
    first = launch.argv[0]
    if re.search(r"python[\d.]*$", first):
        return first
    path = shutil.which(first)
    if path is None:
        return None
    with contextlib.suppress(OSError), open(path, "rb") as script:
        line = script.readline(300).decode("utf-8", "replace").strip()
        if line.startswith("#!") and "python" in line:
            return line[2:].split()[-1]
    return None


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
