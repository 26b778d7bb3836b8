"""Which tools look into a process here, and what do they leave behind? A process must not stay stopped after us.

A tracer that is killed while attached can leave its target stopped (measured: gdb 1 of 20, py-spy 0 of 240). So after
every such tool the threads are looked at, and a process that we stopped is set going through its pidfd, which cannot
hit another process under a recycled number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import structlog

from responder import proc
from responder.aside import aside
from responder.model import Inventory, ProcessInfo

log = structlog.get_logger()
SETTLE_S = 0.5
"""A detach takes effect within milliseconds; what is stopped after this long stays so."""
LOOK_S = 5.0
NEEDS = " (needs root or CAP_SYS_PTRACE, and the server's PID namespace)"


def find_tool() -> str | None:
    """py-spy of our own environment, else of PATH."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


def ready(inventory: Inventory | None) -> tuple[Inventory, str] | str:
    """What stacks are read of and the py-spy to read them with; or why that cannot be now, as `cannot` says it."""
    tool, why = find_tool(), cannot(inventory, "py-spy")
    return why if why or inventory is None or tool is None else (inventory, tool)


def cannot(inventory: Inventory | None, program: str) -> str:
    """Why this tracer (py-spy, gdb, gcore) could not look at the server now, with what to add; '' when it could."""
    if inventory is None or not inventory.processes:
        return f"no processes known: {inventory.why_not if inventory else 'the server was never seen alive'}"
    if not inventory.local:
        return "the server runs on another host: run a responder there"
    if program == "py-spy":
        return "" if find_tool() else "py-spy is not installed: pip install py-spy, next to the responder or on PATH"
    return "" if shutil.which(program) else f"{program} is not installed: apt-get install gdb"


def complaint(code: int | None, said: bytes, timeout: float) -> str:
    """Why a tool brought nothing, in its own words."""
    if code is None:
        return f"no answer within {timeout:g} s"
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines()]
    told = [line for line in lines if line and not line.startswith(("Process ", "Python v", "Stack backtrace"))]
    causes = [line for line in told if re.match(r"Error|\d+: |Permission|ptrace", line)]
    return "; ".join(causes[:4] or told[:2])[:300] or f"exit {code}"


def hint(errors: Iterable[str]) -> str:
    """What is missing, when the errors say that we may not look."""
    return NEEDS if any("ermission" in error or "ptrace" in error for error in errors) else ""


def state_of(process: ProcessInfo) -> str:
    """State letter of this very process; 'gone' when it ended or its number belongs to another one."""
    seen = proc.stat(process.pid)
    if seen is None or not proc.is_alive(process.pid, process.started_at):
        return "gone"
    return seen.state


def candidates(inventory: Inventory, roles: Iterable[str], rank: int | None = None) -> list[ProcessInfo]:
    """The living processes of these roles, of one rank if asked for; workers and engine first, they do the work."""
    order = {"worker": 0, "engine_core": 1, "api_server": 2}
    wanted = set(roles)
    found = [
        process
        for process in inventory.processes
        if process.role in wanted and (rank is None or process.rank == rank) and state_of(process) != "gone"
    ]
    return sorted(found, key=lambda process: (order.get(process.role, 3), process.rank or 0, process.pid))


@contextlib.asynccontextmanager
async def looked_after(process: ProcessInfo) -> AsyncIterator[None]:
    """Around the run of a tracer: where it is broken off, the tracer is killed, and nobody else looks what it left."""
    try:
        yield
    except BaseException:
        if note := await asyncio.shield(left_stopped(process)):
            log.warning("target.continued", says=note)
        raise


async def left_stopped(process: ProcessInfo) -> str:
    """Call after a tracer has gone, for a process that ran before: sets it going if it is stopped. '' or a note."""
    return await aside(lambda: _set_going(process), timeout=LOOK_S)


def _set_going(process: ProcessInfo) -> str:
    deadline = time.monotonic() + SETTLE_S
    while stopped := _stopped_threads(process):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    if not stopped:
        return ""
    who = f"{process.name} (pid {process.pid})"
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return ""
    try:
        if not proc.is_alive(process.pid, process.started_at):
            return ""
        signal.pidfd_send_signal(handle, signal.SIGCONT)
    except OSError as error:
        return f"{who} was left stopped and could not be continued: {error.strerror}"
    finally:
        os.close(handle)
    return f"{who} was left stopped and was continued"


def _stopped_threads(process: ProcessInfo) -> int:
    if not proc.is_alive(process.pid, process.started_at):
        return 0
    return sum(thread.state in proc.STOPPED for thread in proc.threads(process.pid).values())
