"""How does everything we start come to an end, whatever happens to us? One session per server, ended by pid."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """A test run that is killed must not leave a server behind. Linux sends the signal when the starting thread ends,
    so servers are started from the main thread."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def start(
    argv: Sequence[str], log: pathlib.Path, *, env: dict[str, str] | None = None, cwd: pathlib.Path | None = None
) -> subprocess.Popen[bytes]:
    """Start argv as the leader of its own session, output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def session(leader: int) -> list[int]:
    """Living pids of the session `leader` founded: orphans stay members when their parent dies."""
    members = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                members.append(int(entry.name))
    return sorted(members)


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to each pid that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end(child: subprocess.Popen[bytes], *, patience_s: float = 10.0) -> None:
    """SIGTERM the leader, wait, then SIGKILL whoever of its session is left. Stopped processes are woken first."""
    send(session(child.pid), signal.SIGCONT)
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience_s)
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        left = session(child.pid)
        if not left and child.poll() is not None:
            return
        send(left, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.1)
        time.sleep(0.05)
    raise RuntimeError(f"could not end processes {session(child.pid)} of session {child.pid}")
