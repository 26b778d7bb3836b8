"""Does the server's host give it what it needs: CPU, memory, disk, network, descriptors?

Two looks at the kernel's counters, two seconds apart, so that everything is a rate of now and not a sum since the boot.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Inventory, Outcome, ProcessInfo, Scalar

META = "system.json"
APART_S = 2.0
COMMAND_S = 4.0
TWICE = {
    "stat": "/proc/stat",
    "diskstats": "/proc/diskstats",
    "snmp": "/proc/net/snmp",
    "vmstat": "/proc/vmstat",
}
ONCE = {
    "meminfo": "/proc/meminfo",
    "loadavg": "/proc/loadavg",
    "pressure_cpu": "/proc/pressure/cpu",
    "pressure_io": "/proc/pressure/io",
    "pressure_memory": "/proc/pressure/memory",
}


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Counters twice; descriptors and their limit of every process; room on the disks."""
    inventory = scene.inventory
    if inventory is None or not inventory.reachable:
        return skipped("the server runs on another host: run a responder there, or say `where:` for this target")
    files: dict[str, bytes] = {}
    began = time.monotonic()
    await asyncio.gather(*(_read(scene, path, name, files) for name, path in {**TWICE, **ONCE}.items()))
    processes, disks = await asyncio.gather(_processes(scene, inventory), _disks(scene, files))
    await asyncio.sleep(max(0.0, APART_S - (time.monotonic() - began)))
    apart = time.monotonic() - began
    await asyncio.gather(*(_read(scene, path, f"{name}.later", files) for name, path in TWICE.items()))
    meta = {"apart_s": round(apart, 3), "processes": processes, "disks": disks, "log": inventory.log_file}
    files[META] = json.dumps(meta, indent=1, sort_keys=True).encode()
    if len(files) == 1:
        return Fetched(files, Outcome.FAILED, "/proc of the server's host could not be read")
    return Fetched(files)


async def _read(scene: Scene, path: str, name: str, files: dict[str, bytes]) -> None:
    try:
        raw = await scene.runner.read(path, max_bytes=1 << 18)
    except OSError:
        return
    if raw:
        files[name] = raw


async def _processes(scene: Scene, inventory: Inventory) -> list[dict[str, object]]:
    async def one(process: ProcessInfo) -> dict[str, object]:
        told: dict[str, object] = {"name": process.name, "pid": process.pid, "fds": None, "limit": None}
        try:
            said = await scene.runner.run(["ls", "-U", f"/proc/{process.pid}/fd"], timeout=COMMAND_S)
            limits = await scene.runner.read(f"/proc/{process.pid}/limits", max_bytes=1 << 13)
        except OSError:
            return told
        if said.code == 0 and not said.truncated:
            told["fds"] = len(said.stdout.split())
        if limit := re.search(rb"Max open files\s+(\d+)", limits):
            told["limit"] = int(limit[1])
        return told

    return await asyncio.gather(*(one(process) for process in inventory.processes))


async def _disks(scene: Scene, files: dict[str, bytes]) -> list[dict[str, object]]:
    """Room where the server writes: /tmp, /dev/shm (its message rings), its log's folder."""
    log = scene.inventory.log_file if scene.inventory else None
    paths = ["/tmp", "/dev/shm", *([log] if log else [])]
    try:
        said = await scene.runner.run(["df", "-P", "-k", *paths], timeout=COMMAND_S)
    except OSError:
        return []
    files["df.txt"] = said.stdout
    rows = []
    for path, line in zip(paths, said.stdout.decode("utf-8", "replace").splitlines()[1:], strict=False):
        cells = line.split()
        if len(cells) >= 6 and cells[1].isdigit() and cells[3].isdigit() and int(cells[1]):
            rows.append(
                {"path": path, "free_share": round(int(cells[3]) / int(cells[1]), 4), "free_kib": int(cells[3])}
            )
    return rows


# ------------------------------------------------------------------------------------------------------ reading


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Rates between the two looks, and levels of now."""
    if META not in files:
        return
    meta = json.loads(files[META])
    text = {name: raw.decode("utf-8", "replace") for name, raw in files.items()}

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", file: str = META) -> Fact:
        name = f"system.{name}"
        return Fact(name=name, value=value, unit=unit, step="system", file=file, at=brief.now, says=says)

    seconds = meta["apart_s"]
    yield from _cpu(fact, text)
    if free := _memory(text.get("meminfo", "")):
        yield fact("memory_available_share", free, "share", file="meminfo")
    for name in ("cpu", "io", "memory"):
        waiting = re.search(r"some avg10=([\d.]+)", text.get(f"pressure_{name}", ""))
        if waiting:
            yield fact(f"{name}_pressure", round(float(waiting[1]) / 100, 4), "share", file=f"pressure_{name}")
    swapped = _grown(text, "vmstat", r"^(?:pswpin|pswpout) (\d+)$", seconds)
    if swapped is not None:
        yield fact("swap_rate", round(swapped, 1), "pages/s", file="vmstat.later")
    yield from _disk_times(fact, text, seconds)
    if meta["disks"]:
        fullest = min(meta["disks"], key=lambda disk: disk["free_share"])
        words = ", ".join(f"{disk['path']} {disk['free_share']:.0%}" for disk in meta["disks"])
        yield fact("disk_free_share_min", fullest["free_share"], "share", words, "df.txt")
    yield from _network(fact, text)
    known = [process for process in meta["processes"] if process["fds"] is not None and process["limit"]]
    if known:
        fullest = max(known, key=lambda process: process["fds"] / process["limit"])
        words = f"{fullest['name']}: {fullest['fds']} of {fullest['limit']}"
        yield fact("fds_share_max", round(fullest["fds"] / fullest["limit"], 4), "share", words)
        yield fact("fds", sum(process["fds"] for process in known), "descriptors", words)


Maker = Callable[..., Fact]


def _cpu(fact: Maker, text: Mapping[str, str]) -> Iterator[Fact]:
    looks = [re.search(r"^cpu +(.+)$", text.get(name, ""), re.MULTILINE) for name in ("stat", "stat.later")]
    if looks[0] and looks[1]:
        first, last = ([int(part) for part in look[1].split()] for look in looks if look)
        grown = [after - before for before, after in zip(first, last, strict=False)]
        total = sum(grown[:8])
        if total > 0:
            yield fact("cpu_busy", round(1 - (grown[3] + grown[4]) / total, 4), "share", file="stat.later")
            yield fact("cpu_iowait", round(grown[4] / total, 4), "share", file="stat.later")
            yield fact("cpu_steal", round(grown[7] / total, 4) if len(grown) > 7 else None, "share", file="stat.later")
    cores = len(re.findall(r"^cpu\d+ ", text.get("stat", ""), re.MULTILINE))
    load = re.match(r"([\d.]+)", text.get("loadavg", ""))
    if cores and load:
        yield fact("load_per_core", round(float(load[1]) / cores, 3), "", f"{cores} cores", "loadavg")


def _memory(text: str) -> float | None:
    total, free = (re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE) for name in ("MemTotal", "MemAvailable"))
    return round(int(free[1]) / int(total[1]), 4) if total and free and int(total[1]) else None


def _grown(text: Mapping[str, str], name: str, pattern: str, seconds: float) -> float | None:
    looks = [re.findall(pattern, text.get(file, ""), re.MULTILINE) for file in (name, f"{name}.later")]
    if not all(looks) or seconds <= 0:
        return None
    return max(0.0, sum(map(int, looks[1])) - sum(map(int, looks[0]))) / seconds


def _disk_times(fact: Maker, text: Mapping[str, str], seconds: float) -> Iterator[Fact]:
    """Mean time of an operation and share of the time it was busy, of the disk that waits most."""

    def of(name: str) -> dict[str, list[int]]:
        rows = [line.split() for line in text.get(name, "").splitlines()]
        return {row[2]: [int(cell) for cell in row[3:14]] for row in rows
                if len(row) >= 14 and not re.match(r"loop|ram|zram", row[2])}  # fmt: skip

    first, last = of("diskstats"), of("diskstats.later")
    worst: tuple[float, str] = (0.0, "")
    busiest = 0.0
    for disk, after in last.items():
        if disk not in first:
            continue
        grown = [now - before for before, now in zip(first[disk], after, strict=True)]
        operations = grown[0] + grown[4]
        if operations > 0:
            worst = max(worst, ((grown[3] + grown[7]) / operations / 1000, disk))
        busiest = max(busiest, grown[9] / 1000 / seconds)
    if set(first) & set(last):
        yield fact("disk_latency", round(worst[0], 5), "s", worst[1] or "no disk did anything", "diskstats.later")
        yield fact("disk_busy", round(min(1.0, busiest), 4), "share", file="diskstats.later")


def _network(fact: Maker, text: Mapping[str, str]) -> Iterator[Fact]:
    def of(name: str) -> dict[str, int]:
        rows = [line.split()[1:] for line in text.get(name, "").splitlines() if line.startswith("Tcp:")]
        return {key: int(value) for key, value in zip(*rows, strict=True)} if len(rows) == 2 else {}

    first, last = of("snmp"), of("snmp.later")
    if first and last:
        sent = last["OutSegs"] - first["OutSegs"]
        again = last["RetransSegs"] - first["RetransSegs"]
        yield fact(
            "tcp_retransmits", round(again / sent, 5) if sent > 0 else 0.0, "share", f"{again} of {sent}", "snmp.later"
        )
        yield fact("tcp_resets", last["EstabResets"] - first["EstabResets"], "connections", file="snmp.later")


STEP = Step(
    name="system",
    rung=0,
    says="reads the host's CPU, memory, disk and network counters twice; the server does not notice",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("system.cpu_busy", "share", "CPU time of the host in use"),
        FactSpec("system.cpu_iowait", "share", "CPU time spent waiting for disks"),
        FactSpec("system.cpu_steal", "share", "CPU time the hypervisor gave to others"),
        FactSpec("system.load_per_core", "", "runnable processes per core over the last minute"),
        FactSpec("system.memory_available_share", "share", "memory that could be had without swapping"),
        FactSpec("system.cpu_pressure", "share", "share of the last 10 s in which something waited for a CPU"),
        FactSpec("system.io_pressure", "share", "share of the last 10 s in which something waited for a disk"),
        FactSpec("system.memory_pressure", "share", "share of the last 10 s in which something waited for memory"),
        FactSpec("system.swap_rate", "pages/s", "pages swapped in and out, now"),
        FactSpec("system.disk_latency", "s", "mean time of an operation on the disk that waits most, now"),
        FactSpec("system.disk_busy", "share", "share of the time the busiest disk was busy, now"),
        FactSpec("system.disk_free_share_min", "share", "room on the fullest of /tmp, /dev/shm and the log's disk"),
        FactSpec("system.tcp_retransmits", "share", "TCP segments sent again, now"),
        FactSpec("system.tcp_resets", "connections", "established connections that were reset, now"),
        FactSpec("system.fds", "descriptors", "open descriptors of the server's processes"),
        FactSpec("system.fds_share_max", "share", "open descriptors by limit, of the process nearest to it"),
    ),
    momentary=(
        "system.cpu_busy",
        "system.cpu_iowait",
        "system.cpu_steal",
        "system.swap_rate",
        "system.disk_latency",
        "system.disk_busy",
        "system.tcp_retransmits",
        "system.tcp_resets",
    ),
    timeout_s=APART_S + 3 * COMMAND_S,
    max_bytes=2 << 20,
    needs=("same host",),
)
