"""What does /proc say about one process? The only reader of /proc/PID; shared by everything that runs on the host.

Every function answers None (or nothing) for a process that is gone or not ours to see, and never raises for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
BOOT_AT = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
"""Unix seconds of the boot, taken once: a stepped wall clock must not change the start time of a living process."""
SAME_START_S = 2.0
"""Two start times closer than this are the same process: a pid cannot come round again so fast, clocks can drift."""

STOPPED = frozenset("Tt")
DEAD = frozenset("ZXx")


@dataclass(frozen=True)
class Stat:
    """The line /proc/PID/stat, or that of a thread."""

    pid: int
    comm: str
    state: str
    """R running, S sleeping, D in the kernel (uninterruptible), T stopped, t traced, Z zombie, X dead."""
    ppid: int
    pgid: int
    sid: int
    cpu_s: float
    """User and system time so far, seconds."""
    threads: int
    started_at: float
    rss_bytes: int


def _text(path: str, limit: int = 1 << 16) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while limit > 0 and (part := os.read(fd, limit)):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def parse_stat(raw: bytes) -> Stat | None:
    """Parse a stat line; the name in parentheses may itself hold parentheses and spaces."""
    head, _, tail = raw.rpartition(b")")
    pid, _, comm = head.partition(b" (")
    fields = tail.split()
    if len(fields) < 22 or not pid.strip().isdigit():
        return None
    return Stat(
        pid=int(pid),
        comm=comm.decode("utf-8", "replace"),
        state=fields[0].decode("ascii", "replace"),
        ppid=int(fields[1]),
        pgid=int(fields[2]),
        sid=int(fields[3]),
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS,
        threads=int(fields[17]),
        started_at=round(BOOT_AT + int(fields[19]) / TICKS, 2),
        rss_bytes=max(0, int(fields[21])) * os.sysconf("SC_PAGE_SIZE"),
    )


def stat(pid: int) -> Stat | None:
    """The process as it is now; a zombie is still answered (state Z)."""
    raw = _text(f"/proc/{pid}/stat")
    return parse_stat(raw) if raw else None


def core_time(pid: int) -> tuple[float, float] | None:
    """Seconds the main thread has spent on a core, and ready to run without one; None where the kernel does not say."""
    fields = (_text(f"/proc/{pid}/schedstat") or b"").split()
    if len(fields) < 2 or not (fields[0].isdigit() and fields[1].isdigit()):
        return None
    return round(int(fields[0]) / 1e9, 6), round(int(fields[1]) / 1e9, 6)


def threads(pid: int) -> dict[int, Stat]:
    """Every thread of the process by thread id. One stuck thread is enough to hang a server."""
    found = {}
    for tid in _numbers(f"/proc/{pid}/task"):
        raw = _text(f"/proc/{pid}/task/{tid}/stat")
        if raw and (thread := parse_stat(raw)):
            found[tid] = thread
    return found


def processes() -> dict[int, Stat]:
    """Every visible process by pid."""
    return {pid: seen for pid in _numbers("/proc") if (seen := stat(pid))}


def is_alive(pid: int, started_at: float) -> bool:
    """Whether this very process (not another one under its number) still runs; a zombie does not."""
    seen = stat(pid)
    return bool(seen and seen.state not in DEAD and abs(seen.started_at - started_at) < SAME_START_S)


def command(pid: int) -> list[str]:
    """argv, or the rewritten title as one word. Takes the process's memory lock: call it off the loop."""
    raw = _text(f"/proc/{pid}/cmdline") or b""
    return [word.decode("utf-8", "replace") for word in raw.rstrip(b"\0 ").split(b"\0")] if raw else []


def environment(pid: int) -> dict[str, str]:
    """The environment the process was started with; empty when it is not ours to see."""
    pairs = (_text(f"/proc/{pid}/environ", 1 << 20) or b"").split(b"\0")
    named = (pair.decode("utf-8", "replace").partition("=") for pair in pairs if b"=" in pair)
    return {name: value for name, _, value in named}


def open_files(pid: int) -> Iterator[tuple[int, str]]:
    """(descriptor, what it points at) of the process; nothing when it is not ours to see."""
    for fd in _numbers(f"/proc/{pid}/fd"):
        try:
            yield fd, os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue


def count_open_files(pid: int) -> int | None:
    """How many descriptors are open; None when it is not ours to see."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def waits_in(pid: int) -> str:
    """The kernel function the main thread sleeps in ('' when running or hidden)."""
    raw = _text(f"/proc/{pid}/wchan") or b""
    return "" if raw in (b"0", b"") else raw.decode("ascii", "replace")


def cgroup_paths(pid: int) -> dict[str, str]:
    """Controller -> existing cgroup directory of the process; '' is the key of the v2 hierarchy."""
    mounts = _cgroup_mounts()
    found = {}
    for line in (_text(f"/proc/{pid}/cgroup") or b"").decode("utf-8", "replace").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            root = mounts.get(controller)
            if root and Path(root + path).is_dir():
                found[controller] = (root + path).rstrip("/")
    return found


def _cgroup_mounts() -> dict[str, str]:
    mounts: dict[str, str] = {}
    for line in (_text("/proc/self/mounts", 1 << 20) or b"").decode("utf-8", "replace").splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        if fields[2] == "cgroup2":
            mounts.setdefault("", fields[1])
        elif fields[2] == "cgroup":
            for option in fields[3].split(","):
                mounts.setdefault(option, fields[1])
    return mounts


def _numbers(path: str) -> list[int]:
    try:
        return [int(name) for name in os.listdir(path) if name.isdigit()]
    except OSError:
        return []


# ------------------------------------------------------------------------------------------------------- sockets

ESTABLISHED, LISTEN = "01", "0A"


def sockets(port: int, state: str) -> list[int] | None:
    """Inodes of TCP sockets whose local port is `port`, in that state; None when the tables cannot be read."""
    found = all_sockets(port)
    return None if found is None else found.get(state, [])


def all_sockets(port: int) -> dict[str, list[int]] | None:
    """The same for every state, of one reading: the kernel walks its whole hash table for each (milliseconds).

    A line is looked for by text and not by splitting all of them: the probe asks every few seconds, of 50,000 lines.
    """
    wanted, found, readable = f":{port:04X} ".encode(), dict[str, list[int]](), False
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        raw = _text(table, 64 << 20)
        if raw is None:
            continue
        readable = True
        at = raw.find(wanted)
        while at >= 0:
            end = raw.find(b"\n", at) % (len(raw) + 1)  # a last line without newline ends at the end
            fields = raw[raw.rfind(b"\n", 0, at) + 1 : end].split()
            if len(fields) > 9 and fields[1].endswith(wanted[:-1]):
                found.setdefault(fields[3].decode("ascii", "replace"), []).append(int(fields[9]))
            at = raw.find(wanted, end)
    return found if readable else None


def host_cpu() -> dict[str, int]:
    """CPU time of the whole host so far by kind, in ticks."""
    kinds = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    line = (_text("/proc/stat") or b"cpu").split(b"\n", 1)[0].split()[1:]
    return {kind: int(line[at]) if at < len(line) else 0 for at, kind in enumerate(kinds)}
