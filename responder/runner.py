"""How does a command run on this host so that nothing of it outlives its deadline, and none of it fills our memory?

Killing the child, or its process group, is not enough: what it started may have left the group (setsid, double fork)
and may still hold our pipe. So each command gets a cgroup of its own, where the kernel kills all members at once
(cgroup v2, if we may create one). Without: a walk of /proc that kills its session, every process carrying this
command's mark in its environment, and all their descendants; that lets through only what wiped its environment, left
the session and lost its parent, all three.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import itertools
import os
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from responder import proc
from responder.aside import aside
from responder.capture.step import Command

MARK = "RESPONDER_COMMAND"
STDERR_BYTES = 1 << 16
GRACE_S = 0.2
"""How long after its end a command's output may still trickle out of a pipe somebody inherited."""
REAP_S = 1.0
"""How long we wait for a killed process to go. One asleep in the driver (state D) never goes: we leave it."""
READ_S = 5.0
"""How long a file may take to read; a dead NFS server or disk answers never."""
SWEEPS = 20
"""Rounds of the walk: a process that forks faster than we look needs more than one."""

_PASSED_ON = ("PATH", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR", "CUDA_VISIBLE_DEVICES")
"""All that a command gets to see of our environment; the rest may hold secrets."""

_ROOT = str(Path(__file__).resolve().parent.parent)
"""Where our package lies: a command that is a module of ours must find it from any directory."""

_JOIN = 'echo 0 > "$0"; exec "$@"'
"""Constant text for sh: become a member of the cgroup first, then the command. argv is handed over, never parsed."""


class LocalRunner:
    """Runs captures on this host (`capture.step.Runner`); on the main thread, because children die with its thread."""

    def __init__(self, cgroup: Path | None | str = "auto") -> None:
        """`cgroup`: where to make one cgroup per command; None: do without; 'auto': below our own, if allowed."""
        self._cgroups = find_cgroup() if cgroup == "auto" else Path(cgroup) if cgroup else None
        self._counter = itertools.count(1)
        self._left: list[subprocess.Popen[bytes]] = []
        """Killed but not yet gone: asked again at the next command, so that no zombie stays."""
        if self._cgroups is not None:
            clear_cgroups(self._cgroups)

    async def run(self, argv: Sequence[str], *, timeout: float, max_bytes: int = 1 << 20) -> Command:
        """Run argv (never a shell); kill its whole process tree at the deadline. FileNotFoundError if missing.

        Output over `max_bytes` (stderr: 64 KiB) closes the pipe, which ends all but the most stubborn writers.
        """
        executable = shutil.which(argv[0])
        if executable is None:
            raise FileNotFoundError(errno.ENOENT, "no such program", argv[0])
        self._left = [child for child in self._left if child.poll() is None]
        began = time.monotonic()
        cgroup = self._make_cgroup()
        mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        child = _start([executable, *argv[1:]], mark, cgroup)
        self._left.append(child)
        try:
            out, err, in_time = await _collect(child, timeout, max_bytes)
        finally:  # also when we are cancelled: nothing may go on without us
            if cgroup:
                _kill_cgroup(cgroup)  # at once: the rest of the work waits for a thread
            age = time.monotonic() - began
            with contextlib.suppress(TimeoutError):
                await aside(lambda: _finish(child, mark, age, cgroup), timeout=3 * REAP_S)
        return Command(
            code=child.returncode if in_time else None,
            stdout=out.content,
            stderr=err.content,
            seconds=time.monotonic() - began,
            truncated=out.cut or err.cut,
        )

    async def read(self, path: str, *, max_bytes: int, tail: bool = False) -> bytes:
        """Read a file's head (or tail); OSError as open() raises it, EINVAL for what is not a regular file."""
        try:
            return await aside(lambda: _read(path, max_bytes, tail), timeout=READ_S)
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"no answer within {READ_S:g} s", path) from None

    def _make_cgroup(self) -> Path | None:
        if self._cgroups is None:
            return None
        path = self._cgroups / f"responder-{os.getpid()}-{next(self._counter)}"
        try:
            path.mkdir()
        except OSError:
            return None
        return path


class _Pipe:
    """One output of the child, read as it comes, kept up to the cap."""

    def __init__(self, fd: int, max_bytes: int, closed: Callable[[], None]) -> None:
        self._fd, self._room, self._closed = fd, max_bytes, closed
        self._parts: list[bytes] = []
        self.cut = False
        self.open = True
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._read)

    @property
    def content(self) -> bytes:
        return b"".join(self._parts)

    def drain(self) -> None:
        """Take what is there already: a late loop must not cost output that was written in time."""
        before = -1
        while self.open and before != self._room:
            before = self._room
            self._read()

    def close(self) -> None:
        if self.open:
            self.open = False
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._closed()

    def _read(self) -> None:
        try:
            part = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        self._parts.append(part[: self._room])
        self.cut = self.cut or len(part) > self._room
        self._room -= len(self._parts[-1])
        if not part or self.cut:
            self.close()


def _start(argv: list[str], mark: str, cgroup: Path | None) -> subprocess.Popen[bytes]:
    """Start in a session of its own; the wrappers only exec, so the pid stays the command's."""
    argv = [*_dies_with_us(), *argv]
    if cgroup:
        argv = ["/bin/sh", "-c", _JOIN, str(cgroup / "cgroup.procs"), *argv]
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    paths = [_ROOT, *filter(None, [environment.get("PYTHONPATH")])]
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**environment, "PYTHONPATH": os.pathsep.join(paths), "LC_ALL": "C", MARK: mark},
        )
    except OSError:
        if cgroup:
            _remove_cgroup(cgroup)
        raise


@functools.cache
def _dies_with_us() -> tuple[str, ...]:
    """The wrapper that has the kernel kill the command when we die, even by SIGKILL; empty where it does not work."""
    setpriv = shutil.which("setpriv")
    if not setpriv:
        return ()
    wrapper = (setpriv, "--pdeathsig", "KILL", "--")
    return wrapper if subprocess.run([*wrapper, "true"], capture_output=True, timeout=5).returncode == 0 else ()


async def _collect(child: subprocess.Popen[bytes], timeout: float, max_bytes: int) -> tuple[_Pipe, _Pipe, bool]:
    """Read until the child has ended and its pipes are closed (or trickle too long); False: the deadline came first.

    The child is watched through a pidfd and not reaped here: while it is unreaped its pid, and so its group, is ours.
    """
    loop = asyncio.get_running_loop()
    changed, ended = asyncio.Event(), asyncio.Event()
    assert child.stdout is not None
    assert child.stderr is not None
    out = _Pipe(os.dup(child.stdout.fileno()), max_bytes, changed.set)
    err = _Pipe(os.dup(child.stderr.fileno()), min(max_bytes, STDERR_BYTES), changed.set)
    child.stdout.close()
    child.stderr.close()
    watch = os.pidfd_open(child.pid)
    loop.add_reader(watch, ended.set)
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
        loop.remove_reader(watch)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                while out.open or err.open:
                    changed.clear()
                    await changed.wait()
        return out, err, True
    except TimeoutError:
        return out, err, False
    finally:
        loop.remove_reader(watch)
        os.close(watch)
        for pipe in (out, err):
            pipe.drain()
            pipe.close()


def _finish(child: subprocess.Popen[bytes], mark: str, age: float, cgroup: Path | None) -> None:
    """See that everything is gone; gives up on what cannot be killed. Blocks, so never on the loop."""
    if not cgroup:
        _sweep(child.pid, mark, time.time() - age - proc.SAME_START_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # still unreaped, so nobody else can have this number
    deadline = time.monotonic() + REAP_S
    while time.monotonic() < deadline:
        if child.poll() is not None and (not cgroup or _remove_cgroup(cgroup)):
            return
        time.sleep(0.002)


def _sweep(leader: int, mark: str, since: float) -> None:
    """Kill whatever carries the mark, is in the session or descends from such, until a walk finds nothing.

    Only processes started since are looked into: reading a hung server's environment could hang us too.
    """
    wanted = f"\0{MARK}={mark}\0".encode()
    killed: set[int] = set()
    for _ in range(SWEEPS):
        seen = {pid: it for pid, it in proc.processes().items() if it.state not in proc.DEAD and it.started_at >= since}
        ours = {pid for pid, it in seen.items() if it.sid == leader or _carries(pid, wanted)}
        while children := {pid for pid, it in seen.items() if it.ppid in ours} - ours:
            ours |= children  # a child that wiped its environment is still its parent's child
        if all(pid in killed and seen[pid].state == "D" for pid in ours):
            return
        for pid in ours:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= ours
        time.sleep(0.002)


def _carries(pid: int, wanted: bytes) -> bool:
    try:
        return wanted in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _read(path: str, max_bytes: int, tail: bool) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)  # a FIFO must not stop us here
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if tail and status.st_size > max_bytes:
            os.lseek(fd, status.st_size - max_bytes, os.SEEK_SET)
        parts, room = [], max_bytes
        while room > 0 and (part := os.read(fd, min(room, 1 << 20))):
            parts.append(part)
            room -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


# ------------------------------------------------------------------------------------------------------- cgroups


def find_cgroup() -> Path | None:
    """Our own cgroup v2 directory, if the kernel has cgroup.kill (5.14) and commands can join cgroups made in it."""
    own = proc.cgroup_paths(os.getpid()).get("")
    trial = Path(own or "/nowhere") / f"responder-{os.getpid()}-0"
    try:
        trial.mkdir()
    except OSError:
        return None
    members = str(trial / "cgroup.procs")
    try:
        joined = subprocess.run(["/bin/sh", "-c", _JOIN, members, "cat", members], capture_output=True, timeout=5)
        return trial.parent if joined.stdout.strip() and (trial / "cgroup.kill").exists() else None
    except (OSError, subprocess.TimeoutExpired):
        return None
    finally:
        _remove_cgroup(trial)


def clear_cgroups(below: Path) -> None:
    """End what an earlier life of ours left behind when it was killed in the middle of a command."""
    for path in below.glob("responder-*-*"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and int(owner) != os.getpid() and proc.stat(int(owner)) is None:
            _kill_cgroup(path)
            _remove_cgroup(path)


def _kill_cgroup(path: Path) -> None:
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1")


def _remove_cgroup(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:  # busy until the last killed member is gone
        return not path.exists()
    return True
