"""What has the DCGM exporter recorded of the server's GPUs before and since the onset?

A second view of the same GPUs with a memory: throttling counted over the whole incident, errors that came and went, the
share of time the tensor cores worked. Only where Prometheus has the exporter's series for this host.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.gpu_text import Gpu
from responder.model import Fact, Outcome, Scalar
from responder.window import host_of

SERIES = "series.json"
BEFORE_S = 600.0
TIMEOUT_S = 6.0
POINTS = 240
LATELY_S = 15.0
DIPPED = 0.75
"""Of its usual clock: less is no clock that wanders."""
AT_WORK = 60.0
"""Per cent of the time: an idle GPU rests at a low clock."""

COUNTERS = {
    "xid": "DCGM_FI_DEV_XID_ERRORS",
    "ecc_double_bit": "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
    "pcie_replays": "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    "nvlink_replays": "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL",
    "nvlink_crc": "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
    "power_violation": "DCGM_FI_DEV_POWER_VIOLATION",
    "thermal_violation": "DCGM_FI_DEV_THERMAL_VIOLATION",
}
GAUGES = {
    "gpu_util": "DCGM_FI_DEV_GPU_UTIL",
    "mem_util": "DCGM_FI_DEV_MEM_COPY_UTIL",
    "power": "DCGM_FI_DEV_POWER_USAGE",
    "sm_clock": "DCGM_FI_DEV_SM_CLOCK",
    "temperature": "DCGM_FI_DEV_GPU_TEMP",
    "tensor_active": "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "sm_active": "DCGM_FI_PROF_SM_ACTIVE",
    "dram_active": "DCGM_FI_PROF_DRAM_ACTIVE",
}


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """All series of this host in one window around the onset."""
    if scene.range_query is None:
        return skipped("no Prometheus to ask")
    query, start = scene.range_query, scene.onset_at - BEFORE_S
    step = max(scene.scrape_interval_s, (scene.now - start) / POINTS)
    hosts = _hosts(scene)
    names = {**COUNTERS, **GAUGES}
    errors: list[str] = []

    async def ask(metric: str) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                rows = await query(metric, start, scene.now, step)
        except Exception as error:  # Prometheus is the outside: one series that fails leaves the others
            errors.append(f"{metric}: {type(error).__name__}: {error}"[:120])
            return []
        return [{"labels": labels, "points": points} for labels, points in rows if _here(labels, hosts)]

    found = dict(zip(names, await asyncio.gather(*(ask(metric) for metric in names.values())), strict=True))
    found = {name: rows for name, rows in found.items() if rows}
    if not found and errors:
        return Fetched(outcome=Outcome.FAILED, reason="; ".join(errors)[:300])
    if not found:
        return skipped(f"Prometheus has no DCGM exporter series for {' or '.join(sorted(hosts))}")
    return Fetched(
        {SERIES: json.dumps(found).encode()}, Outcome.PARTIAL if errors else Outcome.OK, "; ".join(errors)[:300]
    )


def _hosts(scene: Scene) -> set[str]:
    """Names the exporter may know this host by: the URL's host, and what Prometheus calls the target."""
    names = {urlsplit(scene.target.url).hostname or ""}
    names |= {host_of(scene.target.match.get("instance", "")), scene.target.labels.get("node", "")}
    return {name for name in names if name}


def _here(labels: Mapping[str, str], hosts: set[str]) -> bool:
    told = {labels.get(key, "") for key in ("Hostname", "hostname", "node", "kubernetes_node")}
    told.add(host_of(labels.get("instance", "")))
    short = {name.partition(".")[0] for name in told if name}
    return bool(hosts & told) or bool({host.partition(".")[0] for host in hosts if not host[:1].isdigit()} & short)


# ------------------------------------------------------------------------------------------------------ reading


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Counters as how much they grew since the onset, gauges as now against before."""
    if SERIES not in files:
        return
    found = json.loads(files[SERIES])

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        return Fact(name=f"dcgm.{name}", value=value, unit=unit, step="dcgm", file=SERIES, at=brief.now, says=says)

    gpus = {_label(row) for rows in found.values() for row in rows}
    yield fact("gpus", len(gpus), "GPUs", ", ".join(sorted(gpus)))
    for name in COUNTERS:
        rows = found.get(name, ())
        grown = {_label(row): _growth(row["points"], brief, name) for row in rows}
        known = {gpu: value for gpu, value in grown.items() if value is not None}
        if not known:
            continue
        words = ", ".join(f"GPU {gpu}: {value:g}" for gpu, value in sorted(known.items()) if value)
        if name.endswith("_violation"):
            seconds = max(brief.now - brief.onset_at, 1.0)
            share = min(1.0, max(known.values()) / 1e9 / seconds)
            yield fact(f"{name}_share", round(share, 4), "share", words)
        else:
            yield fact(name, max(known.values()) if name == "xid" else sum(known.values()), "errors", words)
    doing = _doing(found, brief)
    for kind in ("spinning", "idle"):
        which = sorted(gpu for gpu, state in doing.items() if state == kind)
        yield fact(kind, len(which) if doing else None, "GPUs", ", ".join(f"GPU {gpu}" for gpu in which))
    for name in GAUGES:
        values = [_around(row["points"], brief) for row in found.get(name, ())]
        now = [after for _, after in values if after is not None]
        ratios = [after / before for before, after in values if before and after is not None]
        if now:
            yield fact(f"{name}.now", round(median(now), 4))
            yield fact(f"{name}.lowest", round(min(now), 4))
        if ratios:
            yield fact(f"{name}.ratio", round(median(ratios), 3), "ratio")
    dips = [_dips(row, found.get("gpu_util", ()), brief) for row in found.get("sm_clock", ())]
    yield fact("sm_clock.dips", max((share for share in dips if share is not None), default=None), "share")


def _dips(clock: Mapping[str, Any], utils: Iterable[Mapping[str, Any]], brief: Brief) -> float | None:
    """Share of the time since the onset in which a GPU at work ran below DIPPED of its usual clock; None: not known."""
    busy = {
        at for row in utils if _label(row) == _label(clock) for at, value in row["points"] if (value or 0) >= AT_WORK
    }
    usual, _ = _around(clock["points"], brief)
    since = [value for at, value in clock["points"] if value is not None and at >= brief.onset_at and at in busy]
    return round(sum(value < DIPPED * usual for value in since) / len(since), 4) if usual and since else None


def _doing(found: Mapping[str, list[dict[str, Any]]], brief: Brief) -> dict[str, str]:
    """GPU -> idle, spinning (busy without touching memory: waiting inside a kernel) or working, lately; of GPUs whose
    utilisation the exporter tells."""
    util, memory = ({_label(row): _lately(row["points"], brief) for row in found.get(name, ())}
                    for name in ("gpu_util", "mem_util"))  # fmt: skip
    return {
        gpu: Gpu(index=0, util=tuple(values), mem_util=tuple(memory.get(gpu, ()))).doing
        for gpu, values in util.items()
        if values
    }


def _lately(points: list[list[float | None]], brief: Brief) -> list[float]:
    since = max(brief.onset_at, brief.now - max(LATELY_S, 2.5 * brief.scrape_interval_s))
    return [value for at, value in points if value is not None and at is not None and at >= since]


def _label(row: Mapping[str, Any]) -> str:
    return str(row["labels"].get("gpu") or row["labels"].get("device") or row["labels"].get("UUID") or "?")


def _growth(points: list[list[float | None]], brief: Brief, name: str) -> float | None:
    """How much a counter grew from the onset on; XID_ERRORS holds the last XID's number, not a count."""
    after = [value for at, value in points if value is not None and at is not None and at >= brief.onset_at]
    before = [value for at, value in points if value is not None and at is not None and at < brief.onset_at]
    if not after:
        return None
    if name == "xid":
        return max(after) if not before or max(after) != before[-1] else 0.0
    first = before[-1] if before else after[0]
    return max(0.0, after[-1] - first)


def _around(points: list[list[float | None]], brief: Brief) -> tuple[float | None, float | None]:
    before = [value for at, value in points if value is not None and at is not None and at < brief.onset_at - 10]
    after = [value for at, value in points if value is not None and at is not None and at >= brief.onset_at]
    return (median(before) if before else None, median(after) if after else None)


STEP = Step(
    name="dcgm",
    rung=0,
    says="asks Prometheus what the DCGM exporter recorded of the server's GPUs; the server is not touched",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("dcgm.gpus", "GPUs", "GPUs of this host that the exporter knows"),
        FactSpec("dcgm.xid", "errors", "the number of an XID that came after the onset; 0: none"),
        FactSpec("dcgm.ecc_double_bit", "errors", "double-bit memory errors since the onset"),
        FactSpec("dcgm.pcie_replays", "errors", "PCIe replays since the onset"),
        FactSpec("dcgm.nvlink_replays", "errors", "NVLink replays since the onset"),
        FactSpec("dcgm.nvlink_crc", "errors", "NVLink CRC errors since the onset"),
        FactSpec("dcgm.power_violation_share", "share", "share of the time since the onset the power cap slowed a GPU"),
        FactSpec("dcgm.thermal_violation_share", "share", "share of the time since the onset heat slowed a GPU"),
        FactSpec(
            "dcgm.sm_clock.dips", "share", "of the time since the onset, what a GPU at work ran far below its clock"
        ),
        FactSpec("dcgm.spinning", "GPUs", "busy without memory activity lately: waiting inside a kernel"),
        FactSpec("dcgm.idle", "GPUs", "GPUs at 0 % utilisation lately"),
        *(
            FactSpec(f"dcgm.{name}.{kind}", "ratio" if kind == "ratio" else "", f"{GAUGES[name]}, {words}")
            for name in GAUGES
            for kind, words in (
                ("now", "median GPU, since the onset"),
                ("lowest", "lowest GPU, since the onset"),
                ("ratio", "since the onset against before"),
            )
        ),
    ),
    timeout_s=TIMEOUT_S + 4,
    max_bytes=8 << 20,
    needs=("Prometheus with the DCGM exporter",),
)
