"""What does the kernel say: a process killed for memory, a GPU error (XID), throttled CPUs, memory pressure?"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from responder import proc
from responder.aside import aside
from responder.capture.step import Brief, Command, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Inventory, Outcome, Scalar

INDEX, LOG, PRESSURE = "index.json", "dmesg.txt", "pressure_memory.txt"
APART_S = 1.0
BEFORE_ONSET_S = 300.0
"""A fault of the hardware comes before its symptom; the kernel's clock may also be a minute or two off after months."""

LOGS = (
    ["dmesg"],
    ["journalctl", "--dmesg", "--no-pager", "--output=short-monotonic", "--lines=5000", "--boot"],
)


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """The kernel log, and two readings of the cgroup's counters."""
    inventory = scene.inventory
    if inventory is None or not inventory.reachable:
        return skipped("the server runs on another host (or was never seen): its kernel cannot be asked from here")
    groups = await aside(lambda: _groups(inventory), timeout=5.0) if inventory.local else {}
    files = {name: raw for name, path in groups.items() if (raw := await _read(scene, path))}
    log, why = await _kernel_log(scene)
    if log is not None:
        files[LOG] = log
    if pressure := await _read(scene, "/proc/pressure/memory"):
        files[PRESSURE] = pressure
    if "cpu.stat" in files:
        await asyncio.sleep(APART_S)
        files["cpu.stat.later"] = await _read(scene, groups["cpu.stat"])
    uptime = (await _read(scene, "/proc/uptime")).split()
    index = {
        "uptime_s": float(uptime[0]) if uptime else None,
        "now": scene.now,
        "pids": [process.pid for process in inventory.processes],
        "why_no_log": why,
    }
    files[INDEX] = json.dumps(index, indent=1, sort_keys=True).encode()
    if log is None:
        return Fetched(files, Outcome.PARTIAL, f"kernel log: {why}")
    return Fetched(files)


def _groups(inventory: Inventory) -> dict[str, str]:
    """File name in the folder -> cgroup file of a living process of the server (v2, else v1)."""
    for process in reversed(inventory.processes):  # workers first: they hold the memory
        if not proc.is_alive(process.pid, process.started_at):
            continue
        paths = proc.cgroup_paths(process.pid)
        two = paths.get("", "/nowhere")
        return {
            "memory.events": f"{two}/memory.events",
            "memory.oom_control": f"{paths.get('memory', '/nowhere')}/memory.oom_control",
            "cpu.stat": f"{paths.get('cpu', two)}/cpu.stat",
        }
    return {}


async def _read(scene: Scene, path: str) -> bytes:
    try:
        return await scene.runner.read(path, max_bytes=1 << 16)
    except OSError:
        return b""


async def _kernel_log(scene: Scene) -> tuple[bytes | None, str]:
    why = []
    for argv in LOGS:
        try:
            said: Command = await scene.runner.run(argv, timeout=4.0, max_bytes=4 << 20)
        except FileNotFoundError:
            why.append(f"{argv[0]} is not installed")
            continue
        if said.code == 0 or (said.truncated and said.stdout):
            return said.stdout, ""
        why.append(f"{argv[0]}: {said.stderr.decode('utf-8', 'replace').strip()[:200] or f'exit {said.code}'}")
    return None, "; ".join(why)


# ------------------------------------------------------------------------------------------------------ reading

XIDS = {
    13: "graphics engine exception (usually a bug in a kernel)",
    31: "memory page fault on the GPU (usually a bug in a kernel)",
    43: "reset channel after a software error",
    45: "work cut off because of an earlier error",
    48: "double-bit ECC error",
    61: "internal microcontroller halt",
    62: "internal microcontroller halt",
    63: "row remapping or page retirement",
    64: "row remapping or page retirement failed",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    92: "many single-bit ECC errors",
    94: "contained ECC error",
    95: "uncontained ECC error",
    119: "GPU system processor timed out",
    120: "GPU system processor error",
    121: "chip-to-chip link error",
    140: "unrecovered ECC error",
    143: "GPU initialisation failed",
    154: "GPU needs a reset or a reboot",
}
SOFTWARE = frozenset({13, 31, 43, 45})
NVLINK = frozenset({74, *range(144, 151)})

XID = re.compile(r"NVRM: Xid \((?P<gpu>[^)]*)\): (?P<code>\d+)(?:, pid='?(?P<pid>\d+))?")
KILLED = re.compile(r"[Oo]ut of memory: Killed process (?P<pid>\d+) \((?P<name>[^)]*)\)")
STAMP = re.compile(r"^(?:<\d+>)?\[\s*(\d+\.\d+)\]")
NVLINK_WORDS = re.compile(r"NVRM: .*NVLink.*(?:error|fatal|fail)", re.IGNORECASE)


@dataclass(frozen=True)
class _Line:
    at: float
    text: str


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the log around the incident, and of the counters."""
    if INDEX not in files:
        return
    index = json.loads(files[INDEX])

    def fact(name: str, value: Scalar, file: str, unit: str = "", says: str = "", at: float = 0.0) -> Fact:
        when = round(at or brief.now, 3)
        return Fact(name=f"kernel.{name}", value=value, unit=unit, step="kernel", file=file, at=when, says=says)

    yield fact("readable", LOG in files, INDEX, says=index["why_no_log"])
    if LOG in files and index["uptime_s"] is not None:
        recent = list(_recent(files[LOG], index, brief))
        killed = _killed(recent, set(index["pids"]))
        yield (
            fact("oom_killed", bool(killed), LOG, says=killed.text[:300], at=killed.at)
            if killed
            else fact("oom_killed", False, LOG)
        )
        xids = [(line, int(found["code"])) for line in recent if (found := XID.search(line.text))]
        worst = max(xids, key=lambda one: (one[1] not in SOFTWARE, one[0].at), default=None)
        code = worst[1] if worst else 0
        says = f"Xid {code}: {XIDS.get(code, 'see the driver manual')}" if worst else "no GPU error in the log"
        yield fact("xid", code, LOG, says=says, at=worst[0].at if worst else 0)
        yield fact("xid_count", len(xids), LOG, "errors")
        links = [line for line in recent if NVLINK_WORDS.search(line.text) and not XID.search(line.text)]
        yield fact("nvlink_errors", len(links) + sum(code in NVLINK for _, code in xids), LOG, "errors")
    for name in ("memory.events", "memory.oom_control"):
        if (kills := _pairs(files.get(name, b"")).get("oom_kill")) is not None:
            yield fact("cgroup_oom_kills", kills, name, "kills", "since the cgroup was made")
            break
    if (throttled := _throttled(files)) is not None:
        yield fact("cpu_throttled", throttled, "cpu.stat.later", "share", "periods cut short by the CPU quota")
    if waiting := re.search(rb"some avg10=([\d.]+)", files.get(PRESSURE, b"")):
        yield fact("memory_pressure", round(float(waiting[1]) / 100, 4), PRESSURE, "share")


def _recent(log: bytes, index: Mapping[str, Any], brief: Brief) -> Iterator[_Line]:
    booted = index["now"] - index["uptime_s"]
    for text in log.decode("utf-8", "replace").splitlines():
        stamp = STAMP.match(text)
        if stamp and booted + float(stamp[1]) >= brief.onset_at - BEFORE_ONSET_S:
            yield _Line(booted + float(stamp[1]), text)


def _killed(lines: list[_Line], pids: set[int]) -> _Line | None:
    """The last kill of one of the server's processes: by number, or by name where numbers differ (containers)."""
    ours = None
    for line in lines:
        found = KILLED.search(line.text)
        if found and (int(found["pid"]) in pids or found["name"].startswith(("VLLM", "vllm", "ray::"))):
            ours = line
    return ours


def _throttled(files: Mapping[str, bytes]) -> float | None:
    """Share of the scheduling periods between the readings that the CPU quota cut short; None without a quota."""
    first, last = _pairs(files.get("cpu.stat", b"")), _pairs(files.get("cpu.stat.later", b""))
    if "nr_periods" not in first or "nr_periods" not in last:
        return None
    periods = last["nr_periods"] - first["nr_periods"]
    return round((last["nr_throttled"] - first["nr_throttled"]) / periods, 3) if periods > 0 else 0.0


def _pairs(raw: bytes) -> dict[str, int]:
    pairs = (line.split() for line in raw.decode("ascii", "replace").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


STEP = Step(
    name="kernel",
    rung=0,
    says="reads the kernel log and the cgroup's counters; the server does not notice",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("kernel.readable", "", "whether the kernel log could be read"),
        FactSpec("kernel.oom_killed", "", "the kernel killed a process of the server for memory, around the incident"),
        FactSpec("kernel.xid", "", "the gravest NVIDIA XID around the incident; 0: none"),
        FactSpec("kernel.xid_count", "errors", "XID errors around the incident"),
        FactSpec("kernel.nvlink_errors", "errors", "NVLink errors around the incident"),
        FactSpec("kernel.cgroup_oom_kills", "kills", "kills for memory in the server's cgroup since it was made"),
        FactSpec("kernel.cpu_throttled", "share", "share of scheduling periods cut short by the CPU quota, now"),
        FactSpec("kernel.memory_pressure", "share", "share of the last 10 s in which something waited for memory"),
    ),
    momentary=("kernel.cpu_throttled",),
    timeout_s=20.0,
    max_bytes=6 << 20,
    needs=("same host", "kernel log (dmesg)"),
)
