"""How do the driver's two voices, NVML's answers and nvidia-smi's text, become one picture of a GPU? Pure."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

BUSY = 90
"""Per cent from which a GPU without memory activity is taken to spin; spinning collectives show 98 to 100."""
HARMFUL = frozenset(
    {"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sync_boost"}
)


@dataclass(frozen=True)
class Gpu:
    """One GPU; None or empty: not told."""

    index: int
    name: str = ""
    uuid: str = ""
    util: tuple[float, ...] = ()
    """Per cent, one per look."""
    mem_util: tuple[float, ...] = ()
    power_w: float | None = None
    power_limit_w: float | None = None
    power_default_w: float | None = None
    sm_mhz: float | None = None
    sm_max_mhz: float | None = None
    throttle: tuple[str, ...] | None = None
    temperature: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    ecc_uncorrected: float | None = None
    links: tuple[bool, ...] = ()
    processes: tuple[tuple[int, str], ...] = ()
    """(pid, name)"""
    lost: str = ""
    """Why the driver cannot reach it."""

    @property
    def doing(self) -> str:
        """idle, spinning (busy without touching memory: waiting inside a kernel) or working, in every look."""
        if self.lost or not self.util:
            return "lost" if self.lost else "unknown"
        if max(self.util) == 0:
            return "idle"
        if min(self.util) >= BUSY and self.mem_util and max(self.mem_util) == 0:
            return "spinning"
        return "working"

    @property
    def power_share(self) -> float | None:
        return self.power_w / self.power_limit_w if self.power_w and self.power_limit_w else None

    @property
    def memory_share(self) -> float | None:
        return self.memory_used / self.memory_total if self.memory_used and self.memory_total else None

    @property
    def clock_share(self) -> float | None:
        """Of the maximum, where it means something: of a GPU at work that does not simply run into its normal power
        limit (a healthy H200 in matrix products: 695 of 700 W at 0.78 of its clock)."""
        full = "sw_power_cap" in (self.throttle or ()) and not self.limit_lowered and (self.power_share or 0) >= 0.95
        if full or self.doing not in ("spinning", "working") or not self.sm_mhz or not self.sm_max_mhz:
            return None
        return self.sm_mhz / self.sm_max_mhz

    @property
    def limit_lowered(self) -> bool:
        """Whether somebody set the power limit below the card's default."""
        return bool(self.power_limit_w and self.power_default_w and self.power_limit_w < 0.95 * self.power_default_w)

    @property
    def throttled(self) -> bool | None:
        """Slowed by heat or a fault, or capped below its default power; the cap itself is normal under full load."""
        if self.throttle is None:
            return None
        return bool(HARMFUL & set(self.throttle)) or (self.limit_lowered and "sw_power_cap" in self.throttle)

    @property
    def words(self) -> str:
        """What the GPU does, in one line."""
        if self.lost:
            return self.lost
        parts = [
            f"{fmean(self.util):.0f} % busy" if self.util else "utilisation unknown",
            f"memory {fmean(self.mem_util):.0f} %" if self.mem_util else "",
            f"{self.power_w:.0f} of {self.power_limit_w:.0f} W" if self.power_w and self.power_limit_w else "",
            f"{self.sm_mhz:.0f} MHz" if self.sm_mhz else "",
            f"{self.temperature:.0f} °C" if self.temperature else "",
        ]
        return ", ".join(part for part in parts if part)


def from_nvml(lines: bytes) -> list[Gpu]:
    """GPUs of the probe's JSON lines; a last line cut off by the deadline is left out."""
    gpus = []
    for line in lines.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and "samples" in said:
            gpus.append(_of_probe(said))
        elif isinstance(said, dict) and "lost" in said:
            gpus.append(Gpu(index=said["index"], lost=said["lost"]))
    return gpus


def _of_probe(said: dict[str, Any]) -> Gpu:
    samples = said["samples"]

    def each(what: str) -> tuple[float, ...]:
        return tuple(sample[what] for sample in samples if sample.get(what) is not None)

    def mean(what: str) -> float | None:
        return fmean(each(what)) if each(what) else None

    return Gpu(
        index=said["index"],
        name=said.get("name") or "",
        uuid=said.get("uuid") or "",
        util=each("util"),
        mem_util=each("mem_util"),
        power_w=mean("power_w"),
        power_limit_w=said.get("power_limit_w"),
        power_default_w=said.get("power_default_w"),
        sm_mhz=mean("sm_mhz"),
        sm_max_mhz=said.get("sm_max_mhz"),
        throttle=None if said.get("throttle") is None else tuple(said["throttle"]),
        temperature=said.get("temperature"),
        memory_used=said.get("memory_used"),
        memory_total=said.get("memory_total"),
        ecc_uncorrected=said.get("ecc_uncorrected"),
        links=tuple(link["active"] for link in said.get("nvlinks") or ()),
        processes=tuple((one["pid"], one.get("name") or "") for one in said.get("processes") or ()),
    )


# --------------------------------------------------------------------------------------------------- nvidia-smi

BITS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clocks_setting",
}
WORDS = {
    "Idle": "gpu_idle",
    "Applications Clocks Setting": "applications_clocks_setting",
    "SW Power Cap": "sw_power_cap",
    "HW Slowdown": "hw_slowdown",
    "HW Thermal Slowdown": "hw_thermal_slowdown",
    "HW Power Brake Slowdown": "hw_power_brake_slowdown",
    "Sync Boost": "sync_boost",
    "SW Thermal Slowdown": "sw_thermal_slowdown",
    "Display Clock Setting": "display_clocks_setting",
}


def from_nvidia_smi(table: str, query: str, links: str) -> list[Gpu]:
    """GPUs of `--query-gpu=… --format=csv`, `-q` and `nvlink -s`; any of them may be empty, the table is preferred."""
    by_table = {gpu.index: gpu for gpu in _table(table)}
    by_query = {gpu.index: gpu for gpu in _query(query)}
    link_states = _links(links)
    gpus = []
    for index in sorted(by_table.keys() | by_query.keys()):
        told: dict[str, Any] = {}
        for source in (by_query.get(index), by_table.get(index)):
            told |= {name: value for name, value in vars(source).items() if _told(name, value)} if source else {}
        gpus.append(Gpu(**{**told, "links": link_states.get(index, ())}))
    return gpus


def _told(name: str, value: Any) -> bool:
    return value is not None and (name == "throttle" or value not in ("", ()))  # no reason at all is an answer too


def _number(text: str | None) -> float | None:
    """'161.46 W' -> 161.46; None for [N/A], [Unknown Error], [Not Supported]."""
    found = re.match(r"\s*(-?\d+(?:\.\d+)?)", text or "")
    return float(found[1]) if found else None


def _looks(value: float | None) -> tuple[float, ...]:
    return () if value is None else (value,)


def _mebibytes(value: float | None) -> float | None:
    return None if value is None else value * (1 << 20)


def _table(text: str) -> Iterable[Gpu]:
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "$"))]
    for row in csv.DictReader(io.StringIO("\n".join(lines)), skipinitialspace=True):
        told = {str(name).split(" [")[0]: value for name, value in row.items() if isinstance(value, str)}
        index = _number(told.get("index"))
        if index is None:
            continue
        mask = told.get("clocks_event_reasons.active") or told.get("clocks_throttle_reasons.active") or ""
        bits = int(mask, 16) if re.fullmatch(r"0x[0-9a-fA-F]+", mask.strip()) else None
        yield Gpu(
            index=int(index),
            name=told.get("name", ""),
            uuid=told.get("uuid", ""),
            util=_looks(_number(told.get("utilization.gpu"))),
            mem_util=_looks(_number(told.get("utilization.memory"))),
            power_w=_number(told.get("power.draw")),
            power_limit_w=_number(told.get("power.limit")),
            sm_mhz=_number(told.get("clocks.current.sm")),
            sm_max_mhz=_number(told.get("clocks.max.sm")),
            throttle=None if bits is None else tuple(name for bit, name in BITS.items() if bits & bit),
            temperature=_number(told.get("temperature.gpu")),
            memory_used=_mebibytes(_number(told.get("memory.used"))),
            memory_total=_mebibytes(_number(told.get("memory.total"))),
            ecc_uncorrected=_number(told.get("ecc.errors.uncorrected.volatile.total")),
        )


def _query(text: str) -> Iterable[Gpu]:
    """`nvidia-smi -q`: sections by indentation; the driver renames them (Throttle -> Event), their leaves stay."""
    for index, block in enumerate(re.split(r"^GPU [0-9A-Fa-f]+:.*$", text, flags=re.MULTILINE)[1:]):
        leaves = _leaves(block)

        def get(section: str, leaf: str, leaves: dict[tuple[str, ...], str] = leaves) -> str | None:
            return next((v for path, v in leaves.items() if path[-1] == leaf and section in path[:-1]), None)

        reasons = [
            (path[-1], value)
            for path, value in leaves.items()
            if any(part in ("Clocks Event Reasons", "Clocks Throttle Reasons") for part in path[:-1])
        ]
        errors = [_number(v) for path, v in leaves.items() if "Volatile" in path and "ncorrectable" in path[-1]]
        known_errors = [error for error in errors if error is not None]
        power = "GPU Power Readings" if any("GPU Power Readings" in path for path in leaves) else "Power Readings"
        yield Gpu(
            index=index,
            name=leaves.get(("Product Name",), ""),
            uuid=leaves.get(("GPU UUID",), ""),
            util=_looks(_number(get("Utilization", "GPU") or get("Utilization", "Gpu"))),
            mem_util=_looks(_number(get("Utilization", "Memory"))),
            power_w=_number(get(power, "Average Power Draw") or get(power, "Power Draw")),
            power_limit_w=_number(get(power, "Current Power Limit") or get(power, "Power Limit")),
            power_default_w=_number(get(power, "Default Power Limit")),
            sm_mhz=_number(get("Clocks", "SM")),
            sm_max_mhz=_number(get("Max Clocks", "SM")),
            throttle=tuple(WORDS[n] for n, value in reasons if value == "Active" and n in WORDS) if reasons else None,
            temperature=_number(get("Temperature", "GPU Current Temp")),
            memory_used=_mebibytes(_number(get("FB Memory Usage", "Used"))),
            memory_total=_mebibytes(_number(get("FB Memory Usage", "Total"))),
            ecc_uncorrected=sum(known_errors) if known_errors else None,
            processes=_query_processes(block),
        )


def _leaves(block: str) -> dict[tuple[str, ...], str]:
    found: dict[tuple[str, ...], str] = {}
    path: list[tuple[int, str]] = []
    for line in block.splitlines():
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        name, colon, value = line.strip().partition(" : ")
        name = name.strip()
        while path and path[-1][0] >= indent:
            path.pop()
        if colon:
            found.setdefault((*(part for _, part in path), name), value.strip())
        path.append((indent, name))
    return found


def _query_processes(block: str) -> tuple[tuple[int, str], ...]:
    pairs = re.findall(r"Process ID\s*:\s*(\d+)\s*\n\s*Type\s*:\s*\S+\s*\n\s*Name\s*:\s*(.*)", block)
    return tuple((int(pid), name.strip()) for pid, name in pairs)


def _links(text: str) -> dict[int, tuple[bool, ...]]:
    states: dict[int, list[bool]] = {}
    gpu = None
    for line in text.splitlines():
        if head := re.match(r"GPU (\d+):", line):
            gpu = int(head[1])
            states[gpu] = []
        elif gpu is not None and (link := re.match(r"\s*Link \d+: (.*)", line)):
            states[gpu].append("inactive" not in link[1].lower())
    return {gpu: tuple(found) for gpu, found in states.items()}
