"""Are the InfiniBand (or RoCE) ports of the server's host up, at full width, and without errors?"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar

IBSTAT, DEVINFO, COUNTERS = "ibstat.txt", "ibv_devinfo.txt", "counters.json"
ROOT = "/sys/class/infiniband"
APART_S = 2.0
COMMAND_S = 5.0
ERRORS = (
    "symbol_error", "link_error_recovery", "link_downed", "port_rcv_errors", "port_rcv_remote_physical_errors",
    "port_xmit_discards", "local_link_integrity_errors", "excessive_buffer_overrun_errors",
)  # fmt: skip
HARDWARE = ("out_of_sequence", "packet_seq_err", "local_ack_timeout_err", "rnr_nak_retry_err", "roce_adp_retrans")
DATA = ("port_xmit_data", "port_rcv_data", "port_xmit_wait")
NOT_HERE = "no InfiniBand or RoCE device on the server's host (/sys/class/infiniband is not there)"


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """The ports' counters twice, and both tools where they are installed."""
    inventory = scene.inventory
    if inventory is None or not inventory.reachable:
        return skipped("the server runs on another host: run a responder there, or say `where:` for this target")
    ports = await _ports(scene)
    if not ports:
        return skipped(NOT_HERE)
    files: dict[str, bytes] = {}
    missing: list[str] = []
    first = await _counters(scene, ports)
    for name, argv in ((IBSTAT, ["ibstat"]), (DEVINFO, ["ibv_devinfo"])):
        try:
            said = await scene.runner.run(argv, timeout=COMMAND_S, max_bytes=1 << 18)
        except FileNotFoundError:
            missing.append(f"{argv[0]} is not installed")
            continue
        if said.code == 0:
            files[name] = said.stdout
        else:
            missing.append(f"{argv[0]}: {'no answer' if said.code is None else f'exit {said.code}'}")
    await asyncio.sleep(APART_S)
    last = await _counters(scene, ports)
    files[COUNTERS] = json.dumps({"apart_s": APART_S, "first": first, "last": last}, indent=1, sort_keys=True).encode()
    return Fetched(files, Outcome.OK, "; ".join(missing))


async def _ports(scene: Scene) -> list[str]:
    """`mlx5_0/ports/1` for every port."""

    async def listed(path: str) -> list[str]:
        try:
            said = await scene.runner.run(["ls", path], timeout=COMMAND_S, max_bytes=1 << 14)
        except OSError:
            return []
        names = said.stdout.decode("ascii", "replace").split() if said.code == 0 else []
        return [name for name in names if re.fullmatch(r"[A-Za-z0-9_.-]+", name)]

    return [
        f"{device}/ports/{port}" for device in await listed(ROOT) for port in await listed(f"{ROOT}/{device}/ports")
    ]


async def _counters(scene: Scene, ports: list[str]) -> dict[str, dict[str, str]]:
    async def one(port: str, path: str) -> str | None:
        try:
            return (await scene.runner.read(f"{ROOT}/{port}/{path}", max_bytes=256)).decode("ascii", "replace").strip()
        except OSError:
            return None

    paths = {name: name for name in ("state", "phys_state", "rate", "link_layer")}
    paths |= {name: f"counters/{name}" for name in (*ERRORS, *DATA)} | {
        name: f"hw_counters/{name}" for name in HARDWARE
    }
    told: dict[str, dict[str, str]] = {}
    for port in ports:
        values = await asyncio.gather(*(one(port, path) for path in paths.values()))
        told[port] = {name: value for name, value in zip(paths, values, strict=True) if value is not None}
    return told


# ------------------------------------------------------------------------------------------------------ reading


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Ports that are down or narrower than their peers, errors so far and of now, congestion."""
    if COUNTERS not in files:
        return
    told = json.loads(files[COUNTERS])
    first, last, seconds = told["first"], told["last"], told["apart_s"]

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        name = f"infiniband.{name}"
        return Fact(name=name, value=value, unit=unit, step="infiniband", file=COUNTERS, at=brief.now, says=says)

    yield fact(
        "ports", len(last), "ports", ", ".join(f"{port}: {values.get('rate', '?')}" for port, values in last.items())
    )
    up = {port for port, values in last.items() if "ACTIVE" in values.get("state", "").upper()}
    down = sorted(set(last) - up)
    yield fact("ports_down", len(down), "ports", ", ".join(f"{port}: {last[port].get('state', '?')}" for port in down))
    rates = {port: _number(last[port].get("rate")) for port in up}
    known = [rate for rate in rates.values() if rate]
    slow = [port for port, rate in rates.items() if rate and known and rate < max(known)]
    yield fact(
        "slow_ports", len(slow) if known else None, "ports", ", ".join(f"{p}: {last[p]['rate']}" for p in sorted(slow))
    )
    total, grown, words = 0.0, 0.0, []
    for port, values in last.items():
        for name in (*ERRORS, *HARDWARE):
            count = _number(values.get(name)) or 0.0
            total += count
            more = count - (_number(first.get(port, {}).get(name)) or 0.0)
            if more > 0:
                grown += more
                words.append(f"{port} {name}: +{more:g}")
    yield fact("errors", int(total), "errors", "since the counters were cleared")
    yield fact("errors_growing", int(grown), "errors", ", ".join(words)[:300])
    sent = [_rate(first, last, port, "port_xmit_data", seconds) for port in last]
    yield fact("sent_rate", round(4 * sum(part for part in sent if part)), "bytes/s", "counted in words of 4 bytes")
    waited = [_rate(first, last, port, "port_xmit_wait", seconds) for port in last]
    yield fact("congested", any(part > 0 for part in waited if part is not None) if waited else None)


def _number(text: str | None) -> float | None:
    found = re.match(r"\s*(\d+(?:\.\d+)?)", text or "")
    return float(found[1]) if found else None


def _rate(first: Mapping[str, Mapping[str, str]], last: Mapping[str, Mapping[str, str]], port: str, name: str,
          seconds: float) -> float | None:  # fmt: skip
    before, after = _number(first.get(port, {}).get(name)), _number(last[port].get(name))
    return max(0.0, after - before) / seconds if before is not None and after is not None and seconds > 0 else None


STEP = Step(
    name="infiniband",
    rung=0,
    says="reads state, rate and error counters of the host's InfiniBand ports; nothing is set",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("infiniband.ports", "ports", "ports of the host"),
        FactSpec("infiniband.ports_down", "ports", "ports that are not active; some may be unused by design"),
        FactSpec("infiniband.slow_ports", "ports", "active ports at a lower rate than the fastest"),
        FactSpec("infiniband.errors", "errors", "link and packet errors since the counters were cleared"),
        FactSpec("infiniband.errors_growing", "errors", "link and packet errors within two seconds of now"),
        FactSpec("infiniband.sent_rate", "bytes/s", "bytes sent over all ports, now"),
        FactSpec("infiniband.congested", "", "a port had data to send and could not, now"),
    ),
    timeout_s=APART_S + 4 * COMMAND_S,
    max_bytes=1 << 20,
    needs=("same host", "an InfiniBand or RoCE device"),
)
