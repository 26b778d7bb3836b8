"""What was in a process's memory? A core file beside the server, for a vendor or a debugger. Only by approval.

The process stands still while its memory is written: seconds per gigabyte. The core holds prompts, weights and secrets,
so it never enters the incident folder: it stays on the server's host, readable by its owner only, and the report says
where. Refused when the disk could not hold it twice over.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from responder import proc, ptrace
from responder.aside import aside
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, ProcessInfo

META = "gcore.json"
BEGUN_WITHIN_S = 30.0
SPARE = 2.0
"""Free disk must be this many times the core: the server itself writes there, too."""
KEEP_FREE = 1 << 30


class CoreOf(BaseModel):
    """Whose memory, where to, and how much at most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["worker", "engine_core", "api_server"] = "engine_core"
    rank: int | None = Field(default=None, ge=0)
    folder: str = Field(default="/var/tmp", pattern=r"^/[A-Za-z0-9_./-]*$")
    max_gib: float = Field(default=16.0, gt=0, le=512)
    deadline_s: float = Field(default=50.0, gt=0, le=55)


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Measure first, then write; an incomplete core is removed."""
    what = CoreOf.model_validate(params.model_dump())
    if scene.inventory is None or not scene.inventory.processes or not scene.inventory.local:
        return skipped("no processes known: the server runs on another host, or was never seen alive")
    gcore = shutil.which("gcore")
    if gcore is None:
        return skipped("gcore is not installed: apt-get install gdb")
    found = ptrace.candidates(scene.inventory, (what.role,), what.rank)
    if not found:
        return skipped(f"no living process of the server is {what.role}")
    process = found[0]
    if ptrace.state_of(process) in proc.STOPPED:
        return skipped(f"{process.name} (pid {process.pid}) is stopped, or another tracer has it")
    size, free = await aside(lambda: (core_bytes(process.pid), _free(what.folder)), timeout=5.0)
    why_not = refusal(size, free, what)
    meta = {"pid": process.pid, "name": process.name, "estimated_bytes": size, "free_bytes": free}
    if why_not:
        return Fetched({META: _json(meta)}, Outcome.DENIED, why_not)
    return await _write(scene, gcore, process, what, meta)


def refusal(size: int | None, free: int | None, what: CoreOf) -> str:
    """Why no core may be written, or nothing. Sizes in bytes; None: not known."""
    if size is None or free is None:
        return f"the size of the process or the room in {what.folder} cannot be seen, so no core is written"
    if size > what.max_gib * (1 << 30):
        return f"the core would be about {size / (1 << 30):.1f} GiB; this call allows {what.max_gib:g} GiB (`max_gib`)"
    if free < SPARE * size + KEEP_FREE:
        needed = (SPARE * size + KEEP_FREE) / (1 << 30)
        return f"{what.folder} has {free / (1 << 30):.1f} GiB free; a core is only written with {needed:.1f} GiB"
    return ""


def core_bytes(pid: int) -> int | None:
    """Resident and swapped private memory, which is what gcore writes of a process at the least."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    kib = {
        name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if rest.endswith("kB")
    }
    return (kib["VmRSS"] + kib.get("VmSwap", 0)) * 1024 if "VmRSS" in kib else None


def _free(folder: str) -> int | None:
    try:
        there = os.statvfs(folder)
    except OSError:
        return None
    return there.f_bavail * there.f_frsize


def remove_half(params: Mapping[str, Any], pids: Collection[int], began: float) -> list[str]:
    """Cores begun at about `began` (unix seconds) whose end nobody saw: we were killed meanwhile. Blocks."""
    gone = []
    for path in Path(CoreOf.model_validate(params).folder).glob("responder-core-*.*"):
        stamp, _, pid = path.name.removeprefix("responder-core-").partition(".")
        ours = stamp.isdigit() and pid.isdigit() and int(pid) in pids
        if ours and -BEGUN_WITHIN_S <= int(stamp) - began <= BEGUN_WITHIN_S:
            path.unlink(missing_ok=True)
            gone.append(str(path))
    return gone


async def _write(
    scene: Scene, gcore: str, process: ProcessInfo, what: CoreOf, meta: dict[str, object]
) -> Fetched:  # fmt: skip
    prefix = Path(what.folder) / f"responder-core-{int(scene.now)}"
    core = Path(f"{prefix}.{process.pid}")
    # Made beforehand, so that what gdb then fills is its owner's alone to read.
    await aside(lambda: os.close(os.open(core, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)), timeout=5.0)
    try:
        async with ptrace.looked_after(process):
            said = await scene.runner.run([gcore, "-o", str(prefix), str(process.pid)], timeout=what.deadline_s)
    except BaseException:  # broken off in the middle: gigabytes of half a core help nobody
        await asyncio.shield(aside(lambda: core.unlink(missing_ok=True), timeout=5.0))
        raise
    note = await ptrace.left_stopped(process)
    size = await aside(lambda: core.stat().st_size if core.exists() else 0, timeout=5.0)
    meta |= {"path": str(core), "bytes": size, "seconds": round(said.seconds, 3)}
    if said.code == 0 and size:
        files = {META: _json(meta)}
        return Fetched(files, Outcome.PARTIAL if note else Outcome.OK, note, round(said.seconds, 3))
    await aside(lambda: core.unlink(missing_ok=True), timeout=5.0)
    why = ptrace.complaint(said.code, said.stderr + said.stdout, what.deadline_s)
    reason = "; ".join(filter(None, [why + ptrace.hint([why]), note]))
    return Fetched({META: _json(meta | {"path": "", "bytes": 0})}, Outcome.FAILED, reason, round(said.seconds, 3))


def _json(meta: dict[str, object]) -> bytes:
    return json.dumps(meta, indent=1, sort_keys=True).encode()


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Where the core is."""
    meta = json.loads(files.get(META, b"{}"))
    if not meta.get("path"):
        return
    says = f"{meta['name']} (pid {meta['pid']}); it holds prompts and weights: remove it when it has served"
    yield Fact(name="gcore.path", value=meta["path"], step="gcore", file=META, at=brief.now, says=says)
    yield Fact(name="gcore.bytes", value=meta["bytes"], unit="bytes", step="gcore", file=META, at=brief.now)


async def ready(scene: Scene) -> str:
    """'' when gcore could look at the server now."""
    return ptrace.cannot(scene.inventory, "gcore")


STEP = Step(
    name="gcore",
    rung=3,
    says="writes a process's memory to a core file on the server's host; the process stands still for seconds per GiB",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("gcore.path", "", "where the core file lies, on the server's host"),
        FactSpec("gcore.bytes", "bytes", "size of the core file"),
    ),
    timeout_s=60.0,
    max_bytes=1 << 16,
    worst_pause_s=55.0,
    needs=("same host", "gcore (gdb)", "root or CAP_SYS_PTRACE", "a person's approval"),
    params=CoreOf,
    ready=ready,
)
