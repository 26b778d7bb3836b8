"""How are the server's processes: running, stopped, stuck in the kernel, gone, orphaned?

Two looks at /proc, so that CPU use is that of now, and a thread asleep in a driver is told from one that reads a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from responder import proc
from responder.aside import aside
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Inventory, Outcome, Scalar

FILE = "processes.json"
APART_S = 0.7
LOOK_TIMEOUT_S = 5.0

STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "asleep in the kernel",
    "I": "idle",
    "T": "stopped by a signal",
    "t": "stopped by a tracer",
    "Z": "dead, not yet reaped",
    "X": "dead",
    "gone": "gone",
}
WORST_FIRST = ("gone", "X", "Z", "T", "t", "D", "R", "S", "I")


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Two looks, a moment apart."""
    inventory = scene.inventory
    if inventory is None or not inventory.processes:
        why = inventory.why_not if inventory else "the server was never seen alive by this daemon"
        return skipped(f"no processes known: {why or 'none found'}")
    address = urlsplit(scene.target.url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        samples = [await aside(lambda: _look(inventory), timeout=LOOK_TIMEOUT_S)]
        await asyncio.sleep(APART_S)
        samples.append(await aside(lambda: _look(inventory), timeout=LOOK_TIMEOUT_S))
        record = await aside(lambda: _around(inventory, port), timeout=LOOK_TIMEOUT_S)
    except TimeoutError:
        return Fetched(outcome=Outcome.TIMED_OUT, reason=f"/proc gave no answer within {LOOK_TIMEOUT_S:g} s")
    record |= {"known": [process.model_dump(mode="json") for process in inventory.processes], "samples": samples}
    return Fetched({FILE: json.dumps(record, indent=1, sort_keys=True).encode()})


def _look(inventory: Inventory) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for known in inventory.processes:
        seen = proc.stat(known.pid)
        if seen is None or abs(seen.started_at - known.started_at) >= proc.SAME_START_S:
            continue
        threads = proc.threads(known.pid)
        found[str(known.pid)] = {
            "state": seen.state,
            "ppid": seen.ppid,
            "cpu_s": round(seen.cpu_s, 2),
            "rss_bytes": seen.rss_bytes,
            "threads": len(threads),
            "uninterruptible": sorted(tid for tid, thread in threads.items() if thread.state == "D"),
            "waits_in": proc.waits_in(known.pid),
            "open_files": proc.count_open_files(known.pid),
        }
    return {"at": time.time(), "clock": time.monotonic(), "processes": found, "host": proc.host_cpu()}


def _around(inventory: Inventory, port: int) -> dict[str, Any]:
    """Who holds the port now, and how many connections stand open."""
    found = proc.all_sockets(port)
    listening = None if found is None else found.get(proc.LISTEN, [])
    sockets = {f"socket:[{inode}]" for inode in listening or ()}
    alive = [known.pid for known in inventory.processes if proc.is_alive(known.pid, known.started_at)]
    ours = any(what in sockets for pid in alive for _, what in proc.open_files(pid))
    return {
        "port": port,
        "listening": None if listening is None else bool(listening),
        "listening_is_known": ours,
        "connections": None if found is None else len(found.get(proc.ESTABLISHED, [])),
        "cores": os.cpu_count(),
    }


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the record."""
    if FILE not in files:
        return
    view = _View(json.loads(files[FILE]))
    yield from _states(view)
    yield from _use(view)
    for known in view.known:
        subject = f"{known['name']} (pid {known['pid']})"
        yield view.fact("state", view.state(known), says=view.words(known), subject=subject)


def _states(view: _View) -> Iterator[Fact]:
    yield view.fact("found", view.alive > 0)
    yield view.fact("count", view.alive, "processes")
    for role, name in (("api_server", "api_server_state"), ("engine_core", "engine_state")):
        states = [view.state(known) for known in view.of(role)]
        if states:
            worst = min(states, key=WORST_FIRST.index)
            yield view.fact(name, worst, says=STATES[worst])
    yield view.fact("worker_states", " ".join(view.state(known) for known in view.of("worker")) or None)
    stopped = [known for known in view.known if view.state(known) in ("T", "t")]
    workers = [known for known in stopped if known["role"] == "worker"]
    yield view.fact("stopped", len(stopped), "processes", _names(stopped))
    yield view.fact("stopped_names", _names(stopped))
    yield view.fact("stopped_workers", len(workers), "processes", _names(workers))
    asleep = [known for known in view.known if view.stuck_threads(known)]
    yield view.fact("disk_sleep", len(asleep), "processes", "the same thread in state D in both looks")
    yield view.fact("disk_sleep_names", _names(asleep))
    yield view.fact("zombies", sum(view.state(known) == "Z" for known in view.known), "processes")
    yield view.fact("orphans", len(view.orphans()), "processes", _names(view.orphans()))
    for role, name in (("engine_core", "engine"), ("worker", "worker"), ("api_server", "api_server")):
        gone = [known for known in view.of(role) if view.state(known) in DEAD]
        yield view.fact(f"{name}_missing", bool(gone), says=_names(gone))
    yield view.fact("restarted", view.restarted())


def _use(view: _View) -> Iterator[Fact]:
    cpu = {role: [use for known in view.of(role) if (use := view.cores(known)) is not None] for role in ROLES}
    yield view.fact("api_server_cpu", max(cpu["api_server"], default=None), "cores")
    yield view.fact("engine_cpu", max(cpu["engine_core"], default=None), "cores")
    yield view.fact("worker_cpu_max", max(cpu["worker"], default=None), "cores")
    yield view.fact("worker_cpu_min", min(cpu["worker"], default=None), "cores")
    yield view.fact("rss_bytes", view.total("rss_bytes") if view.alive else None, "bytes")
    busy, steal = view.host()
    yield view.fact("host_cpu_busy", busy, "share")
    yield view.fact("host_steal", steal, "share")
    yield view.fact("fds", view.api_files(), "descriptors")
    yield view.fact("connections", view.connections, "connections")


DEAD = ("gone", "Z", "X")
ROLES = ("api_server", "engine_core", "worker")


class _View:
    """The record with what follows from its two looks."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.known: list[dict[str, Any]] = record["known"]
        self.first, self.last = record["samples"]
        self.seconds: float = self.last["clock"] - self.first["clock"]
        self.at = float(self.last["at"])
        self.alive = sum(self.state(known) not in DEAD for known in self.known)
        self.connections: int | None = record["connections"] if record["listening"] else None

    def fact(self, name: str, value: Scalar, unit: str = "", says: str = "", subject: str = "") -> Fact:
        at = round(self.at, 3)
        name = f"processes.{name}"
        return Fact(name=name, value=value, unit=unit, step="processes", file=FILE, at=at, says=says, subject=subject)

    def of(self, role: str) -> list[dict[str, Any]]:
        found = [known for known in self.known if known["role"] == role]
        return sorted(found, key=lambda known: (known["rank"] if known["rank"] is not None else -1, known["pid"]))

    def seen(self, known: Mapping[str, Any]) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.last["processes"].get(str(known["pid"]))
        return found

    def state(self, known: Mapping[str, Any]) -> str:
        seen = self.seen(known)
        if seen is None:
            return "gone"
        state = str(seen["state"])
        return state if state in STATES else "S"

    def cores(self, known: Mapping[str, Any]) -> float | None:
        """CPU used between the looks, in cores; None for a process that is not there twice."""
        before, after = self.first["processes"].get(str(known["pid"])), self.seen(known)
        if not before or not after or self.seconds <= 0:
            return None
        used: float = max(0.0, after["cpu_s"] - before["cpu_s"])
        return round(used / self.seconds, 2)

    def stuck_threads(self, known: Mapping[str, Any]) -> list[int]:
        before, after = self.first["processes"].get(str(known["pid"])), self.seen(known)
        if not before or not after:
            return []
        return sorted(set(before["uninterruptible"]) & set(after["uninterruptible"]))

    def orphans(self) -> list[dict[str, Any]]:
        """Alive, while the process of the server that started it is not."""
        gone = {known["pid"] for known in self.known if self.state(known) in DEAD}
        return [known for known in self.known if known["pid"] not in gone and known["ppid"] in gone]

    def restarted(self) -> bool | None:
        """Another process than the known ones has the port; None when the port cannot be seen."""
        if self.record["listening"] is None:
            return None
        return bool(self.record["listening"]) and not self.record["listening_is_known"]

    def total(self, what: str) -> int:
        return sum(seen[what] for seen in self.last["processes"].values())

    def api_files(self) -> int | None:
        counts = [seen["open_files"] for known in self.of("api_server") if (seen := self.seen(known))]
        known_counts = [count for count in counts if count is not None]
        return sum(known_counts) if known_counts else None

    def host(self) -> tuple[float | None, float | None]:
        """Busy share and stolen share of the host's CPUs between the looks."""
        first, last = self.first["host"], self.last["host"]
        total = sum(last.values()) - sum(first.values())
        if total <= 0:
            return None, None
        idle = sum(last[kind] - first[kind] for kind in ("idle", "iowait"))
        steal = last["steal"] - first["steal"]
        return round(max(0.0, 1 - idle / total), 3), round(steal / total, 3)

    def words(self, known: Mapping[str, Any]) -> str:
        seen = self.seen(known)
        said = STATES[self.state(known)]
        if not seen:
            return said
        cores = self.cores(known)
        where = f", waits in {seen['waits_in']}" if seen["waits_in"] else ""
        used = f", {cores:.2f} cores" if cores is not None else ""
        return f"{said}{used}, {seen['rss_bytes'] / 1e9:.1f} GB, {seen['threads']} threads{where}"


def _names(processes: list[dict[str, Any]]) -> str:
    return ", ".join(f"{known['name']} (pid {known['pid']})" for known in processes)


STEP = Step(
    name="processes",
    rung=0,
    says="reads the states of the server's processes from /proc, twice; the server does not notice",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("processes.found", "", "whether any known process of the server is alive"),
        FactSpec("processes.count", "processes", "known processes of the server that are alive"),
        FactSpec("processes.api_server_state", "", "R, S, D, T, t, Z or gone; the worst of several"),
        FactSpec("processes.engine_state", "", "R, S, D, T, t, Z or gone; the worst of several"),
        FactSpec("processes.worker_states", "", "state of every worker in rank order: 'S T'"),
        FactSpec("processes.stopped", "processes", "processes stopped by a signal or a tracer"),
        FactSpec("processes.stopped_names", "", "their names"),
        FactSpec("processes.stopped_workers", "processes", "stopped workers"),
        FactSpec("processes.disk_sleep", "processes", "processes with a thread that stays asleep in the kernel (D)"),
        FactSpec("processes.disk_sleep_names", "", "their names"),
        FactSpec("processes.zombies", "processes", "processes that are dead and not reaped"),
        FactSpec("processes.orphans", "processes", "living processes of the server whose parent has died"),
        FactSpec("processes.engine_missing", "", "an engine process that was there has died"),
        FactSpec("processes.worker_missing", "", "a worker process that was there has died"),
        FactSpec("processes.api_server_missing", "", "an API server process that was there has died"),
        FactSpec("processes.api_server_cpu", "cores", "CPU the API server uses (the busiest of several)"),
        FactSpec("processes.engine_cpu", "cores", "CPU the engine process uses (the busiest of several)"),
        FactSpec("processes.worker_cpu_max", "cores", "CPU of the busiest worker (workers spin between steps)"),
        FactSpec("processes.worker_cpu_min", "cores", "CPU of the idlest worker"),
        FactSpec("processes.rss_bytes", "bytes", "resident memory of all its processes, shared pages counted in each"),
        FactSpec("processes.restarted", "", "another process than the known ones has the port"),
        FactSpec("processes.host_cpu_busy", "share", "how busy the host's CPUs are"),
        FactSpec("processes.host_steal", "share", "CPU time the hypervisor took away"),
        FactSpec("processes.fds", "descriptors", "open descriptors of the API server"),
        FactSpec("processes.connections", "connections", "connections established on the server's port"),
        FactSpec("processes.state", "", "one process's state (facts per process)"),
    ),
    timeout_s=3 * LOOK_TIMEOUT_S + APART_S + 1,
    max_bytes=1 << 20,
    needs=("same host", "same user or root"),
)
