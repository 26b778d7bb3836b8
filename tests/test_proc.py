"""What /proc says: names with parentheses, start times that survive a stepped clock, sockets of a port."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

import pytest

from responder import proc
from responder.aside import aside


def test_stat_line_with_a_hostile_name() -> None:
    """The name may hold spaces, parentheses and numbers; the fields after the last parenthesis count."""
    fields = " ".join(["S", "7", "8", "9", *["0"] * 7, "150", "50", "0", "0", "20", "0", "3", "0", "1000", "5", "2"])
    seen = proc.parse_stat(f"42 (a) R 1 (b) {fields}\n".encode())
    assert seen is not None
    assert (seen.pid, seen.comm, seen.state, seen.ppid, seen.pgid, seen.sid) == (42, "a) R 1 (b", "S", 7, 8, 9)
    assert (seen.cpu_s, seen.threads) == (200 / proc.TICKS, 3)
    assert seen.started_at == pytest.approx(proc.BOOT_AT + 1000 / proc.TICKS, abs=0.01)


@pytest.mark.parametrize("raw", [b"", b"42", b"42 (x) S 1", b"x (y) " + b"0 " * 30])
def test_cut_stat_lines_are_nobody(raw: bytes) -> None:
    """A process that ends while it is read."""
    assert proc.parse_stat(raw) is None


def test_ourselves() -> None:
    """Our own process, seen from outside."""
    me = proc.stat(os.getpid())
    assert me is not None
    assert me.ppid == os.getppid()
    assert proc.is_alive(me.pid, me.started_at)
    assert not proc.is_alive(me.pid, me.started_at - 60)
    assert threading.get_native_id() in proc.threads(me.pid)
    assert proc.command(me.pid)
    assert proc.environment(me.pid)["PATH"]
    assert (proc.count_open_files(me.pid) or 0) > 2


def test_nobody() -> None:
    """A number without a process: no answer, no error."""
    nobody = 2**22 + 1
    assert proc.stat(nobody) is None
    assert (proc.threads(nobody), proc.command(nobody), proc.environment(nobody)) == ({}, [], {})
    assert proc.count_open_files(nobody) is None
    assert list(proc.open_files(nobody)) == []
    assert proc.waits_in(nobody) == ""
    assert proc.cgroup_paths(nobody) == {}


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_sockets_of_a_port(family: socket.AddressFamily) -> None:
    """Both tables; the client's end of the same connection does not count."""
    with socket.socket(family) as listening:
        try:
            listening.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        except OSError:
            pytest.skip("no such address family here")
        listening.listen()
        port = listening.getsockname()[1]
        assert len(proc.sockets(port, proc.LISTEN) or []) == 1
        assert proc.sockets(port, proc.ESTABLISHED) == []
        address = listening.getsockname()[:2]
        with socket.create_connection(address), socket.create_connection(address):  # not accepted: they count as well
            assert len(proc.sockets(port, proc.ESTABLISHED) or []) == 2


async def test_aside_returns_and_raises() -> None:
    """What the call returns or raises is the caller's; it ran in a thread that cannot keep us alive."""
    assert await aside(lambda: threading.current_thread().daemon, timeout=60)
    with pytest.raises(ZeroDivisionError):
        await aside(lambda: 1 // 0, timeout=60)


async def test_a_stuck_call_is_abandoned() -> None:
    """The loop goes on after the deadline, and a late answer hurts nobody."""
    go = threading.Event()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stuck() -> None:
        go.wait()
        loop.call_soon_threadsafe(ended.set)

    with pytest.raises(TimeoutError):
        await aside(stuck, timeout=0.01)
    go.set()
    await ended.wait()
    await asyncio.sleep(0)
