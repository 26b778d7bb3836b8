"""What are the server's GPUs doing: working, spinning, idle, throttled, broken?

NVML in a child with a deadline; nvidia-smi's text where NVML's library is missing. Both become the same `Gpu`
(`gpu_text.py`), so that one `read` serves both.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean

from pydantic import BaseModel

from responder.capture.step import Brief, Command, FactSpec, Fetched, Scene, Step, skipped
from responder.gpu_text import Gpu, from_nvidia_smi, from_nvml
from responder.model import Fact, Outcome, Scalar

NVML, SERVER = "nvml.jsonl", "server.json"
CSV, QUERY, LINKS = "nvidia-smi.csv", "nvidia-smi-q.txt", "nvidia-smi-nvlink.txt"
NVML_TIMEOUT_S, SMI_TIMEOUT_S = 10.0, 8.0

SMI = {
    CSV: [
        "nvidia-smi",
        "--query-gpu=index,name,uuid,utilization.gpu,utilization.memory,memory.used,memory.total,temperature.gpu,"
        "power.draw,power.limit,clocks.sm,clocks.max.sm,clocks_throttle_reasons.active,"
        "ecc.errors.uncorrected.volatile.total",
        "--format=csv",
    ],
    QUERY: ["nvidia-smi", "-q"],
    LINKS: ["nvidia-smi", "nvlink", "-s"],
}


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Ask NVML; if it cannot be asked (not: if it hangs), ask nvidia-smi."""
    inventory = scene.inventory
    if inventory is None or not inventory.reachable:
        return skipped("the server's GPUs are on another host (or it was never seen): run a responder there")
    chosen = inventory.environment.get("CUDA_VISIBLE_DEVICES") or inventory.environment.get("NVIDIA_VISIBLE_DEVICES")
    server = {"pids": [process.pid for process in inventory.processes], "visible": chosen, "timed_out": False}
    probe = [sys.executable, "-m", "responder.nvml_probe"]
    nowhere = Command(3, b"", b"asked over a runner, our package is not there", 0.0)
    said = await scene.runner.run(probe, timeout=NVML_TIMEOUT_S) if inventory.local else nowhere
    files = {NVML: said.stdout}
    why = _error(said.stdout) or said.stderr.decode("utf-8", "replace").strip()[-300:]
    outcome, reason = Outcome.OK, ""
    if said.code is None:
        server["timed_out"] = True
        outcome, reason = Outcome.PARTIAL, f"the driver did not answer within {NVML_TIMEOUT_S:g} s"
    elif said.code != 0:
        text, smi_timed_out, smi_why = await _nvidia_smi(scene)
        files |= text
        server["timed_out"] = smi_timed_out
        if not text and not smi_timed_out:
            return skipped(f"no NVIDIA GPU to ask here: NVML: {why}; {smi_why}")
        outcome, reason = Outcome.PARTIAL, f"NVML: {why}; asked nvidia-smi instead. {smi_why}".strip()
    files[SERVER] = json.dumps(server, sort_keys=True).encode()
    return Fetched(files, outcome, reason)


async def _nvidia_smi(scene: Scene) -> tuple[dict[str, bytes], bool, str]:
    async def ask(argv: list[str]) -> tuple[bytes, bool, str]:
        try:
            said = await scene.runner.run(argv, timeout=SMI_TIMEOUT_S)
        except FileNotFoundError:
            return b"", False, "nvidia-smi is not on PATH"
        if said.code is None:
            return said.stdout, True, f"nvidia-smi did not answer within {SMI_TIMEOUT_S:g} s"
        why = "" if said.code == 0 else f"nvidia-smi: {said.stdout.decode('utf-8', 'replace').strip()[:200]}"
        return b"" if why else said.stdout, False, why

    answers = dict(zip(SMI, await asyncio.gather(*(ask(argv) for argv in SMI.values())), strict=True))
    files = {name: text for name, (text, _, _) in answers.items() if text}
    why = next((why for _, _, why in answers.values() if why), "")
    return files, any(stuck for _, stuck, _ in answers.values()), why


def _error(out: bytes) -> str:
    for line in out.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and "error" in said:
            return str(said["error"])
    return ""


# ------------------------------------------------------------------------------------------------------ reading


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts over the GPUs of this server (those its processes are on, else those it was allowed, else all)."""
    if SERVER not in files and not set(files) & {NVML, CSV, QUERY}:
        return
    server = json.loads(files.get(SERVER, b"{}"))
    every, file = from_nvml(files.get(NVML, b"")), NVML
    if not every:
        file = CSV if CSV in files else QUERY
        every = from_nvidia_smi(*(files.get(name, b"").decode("utf-8", "replace") for name in (CSV, QUERY, LINKS)))
    yield _fact("driver_stuck", bool(server.get("timed_out")), brief, SERVER)
    if not every:
        return
    ours = choose(every, server.get("pids", ()), server.get("visible"))
    yield _fact("count", len(ours), brief, file, "GPUs", f"of {len(every)} on the host")
    for name, value, unit, says in (*_measured(ours), *_judged(ours, every)):
        yield _fact(name, value, brief, file, unit, says)
    others = neighbours(ours, server.get("pids", ()))
    names = ", ".join(f"{name or 'a process'} (pid {pid})" for pid, name in others or ())
    yield _fact("neighbours", None if others is None else len(others), brief, file, "processes", names[:300])
    for gpu in ours:
        yield _fact("state", gpu.doing, brief, file, "", gpu.words, f"GPU {gpu.index}")


def _fact(name: str, value: Scalar, brief: Brief, file: str, unit: str = "", says: str = "", subject: str = "") -> Fact:
    name = f"gpu.{name}"
    return Fact(name=name, value=value, unit=unit, step="gpu", file=file, at=brief.now, says=says, subject=subject)


def choose(gpus: list[Gpu], pids: Iterable[int], visible: str | None) -> list[Gpu]:
    """The GPUs of this server: another server's idle GPU on the same host must not look like ours."""
    mine = set(pids)
    used = [gpu for gpu in gpus if gpu.lost or mine & {pid for pid, _ in gpu.processes}]
    if any(not gpu.lost for gpu in used):
        return used
    wanted = {part.strip() for part in (visible or "").split(",") if part.strip()}
    named = tuple(part for part in wanted if part.startswith("GPU-"))
    allowed = [gpu for gpu in gpus if str(gpu.index) in wanted or (named and gpu.uuid.startswith(named))]
    return allowed or gpus


def neighbours(gpus: Iterable[Gpu], pids: Iterable[int]) -> list[tuple[int, str]] | None:
    """(pid, name) of whoever else computes on these GPUs. None where the driver lists none of the server's own
    processes: it numbers them as another PID namespace does, or lists none at all, and nobody can tell whose they are.
    The daemon that lets several processes share a GPU (MPS) computes nothing itself."""
    mine = set(pids)
    there = {pid: name for gpu in gpus for pid, name in gpu.processes if "nvidia-cuda-mps" not in name}
    return sorted((pid, name) for pid, name in there.items() if pid not in mine) if mine & there.keys() else None


Row = tuple[str, Scalar, str, str]
"""Name, value, unit, words."""


def _measured(gpus: list[Gpu]) -> Iterator[Row]:
    def over(values: Iterable[float | None]) -> list[float]:
        return [value for value in values if value is not None]

    util = over(fmean(gpu.util) if gpu.util else None for gpu in gpus)
    memory_util = over(fmean(gpu.mem_util) if gpu.mem_util else None for gpu in gpus)
    power = over(gpu.power_share for gpu in gpus)
    ecc = over(gpu.ecc_uncorrected for gpu in gpus)
    yield "util_max", _rounded(max(util, default=None), 1), "%", ""
    yield "util_min", _rounded(min(util, default=None), 1), "%", ""
    yield "mem_util_max", _rounded(max(memory_util, default=None), 1), "%", ""
    yield "power_w_max", _rounded(max(over(gpu.power_w for gpu in gpus), default=None), 1), "W", ""
    yield "power_share_max", _rounded(max(power, default=None)), "share", "of the power limit"
    yield "power_share_min", _rounded(min(power, default=None)), "share", "of the power limit"
    clock = min(over(gpu.clock_share for gpu in gpus), default=None)
    yield "sm_clock_share_min", _rounded(clock), "share", "of the maximum; GPUs at work and below their power limit"
    yield "temperature_max", max(over(gpu.temperature for gpu in gpus), default=None), "°C", ""
    yield "memory_used_share_max", _rounded(max(over(gpu.memory_share for gpu in gpus), default=None)), "share", ""
    yield "ecc_uncorrected", int(sum(ecc)) if ecc else None, "errors", "since the driver was loaded"


def _judged(gpus: list[Gpu], every: list[Gpu]) -> Iterator[Row]:
    known = [gpu.throttled for gpu in gpus if gpu.throttled is not None]
    reasons = sorted({reason for gpu in gpus for reason in gpu.throttle or ()} - {"gpu_idle"})
    yield "throttled", any(known) if known else None, "", ", ".join(reasons)
    yield "throttle_reasons", ",".join(reasons) if known else None, "", ""
    counted = any(gpu.util for gpu in gpus)
    for doing in ("spinning", "idle"):
        which = [gpu for gpu in gpus if gpu.doing == doing]
        names = ", ".join(f"GPU {gpu.index}" for gpu in which)
        yield doing, len(which) if counted else None, "GPUs", names
    yield "lost", sum(bool(gpu.lost) for gpu in gpus), "GPUs", ", ".join(gpu.lost for gpu in gpus if gpu.lost)
    yield "nvlink_down", _links_down(gpus, every), "links", ""
    names = ", ".join(sorted({name for gpu in gpus for _, name in gpu.processes if name}))
    yield "processes", sum(len(gpu.processes) for gpu in gpus), "processes", names[:300]


def _links_down(gpus: list[Gpu], every: list[Gpu]) -> int | None:
    """Links fewer than the best GPU of the same kind has; None where no GPU has any. Some are unused by design."""
    best: dict[str, int] = {}
    for gpu in every:
        best[gpu.name] = max(best.get(gpu.name, 0), sum(gpu.links))
    if not any(best[gpu.name] for gpu in gpus):
        return None
    return sum(best[gpu.name] - sum(gpu.links) for gpu in gpus)


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


STEP = Step(
    name="gpu",
    rung=0,
    says="asks the NVIDIA driver about the server's GPUs, in a child process; nothing is set and nothing stops",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("gpu.count", "GPUs", "GPUs of this server"),
        FactSpec("gpu.util_max", "%", "utilisation of the busiest GPU"),
        FactSpec("gpu.util_min", "%", "utilisation of the idlest GPU"),
        FactSpec("gpu.mem_util_max", "%", "memory-controller activity of the busiest GPU"),
        FactSpec("gpu.power_w_max", "W", "power of the GPU that draws most"),
        FactSpec("gpu.power_share_max", "share", "power by power limit, of the GPU that draws most"),
        FactSpec("gpu.power_share_min", "share", "power by power limit, of the GPU that draws least"),
        FactSpec("gpu.sm_clock_share_min", "share", "SM clock by maximum, slowest GPU at work below its power limit"),
        FactSpec("gpu.throttled", "", "slowed by heat, a fault, or a power limit below the default"),
        FactSpec("gpu.throttle_reasons", "", "reasons the driver gives for lower clocks, idleness left out"),
        FactSpec("gpu.temperature_max", "°C", "temperature of the hottest GPU"),
        FactSpec("gpu.memory_used_share_max", "share", "memory in use on the fullest GPU"),
        FactSpec("gpu.ecc_uncorrected", "errors", "uncorrected ECC errors since the driver was loaded"),
        FactSpec("gpu.spinning", "GPUs", "busy at 90 % or more without memory activity: waiting inside a kernel"),
        FactSpec("gpu.idle", "GPUs", "GPUs at 0 % utilisation"),
        FactSpec("gpu.lost", "GPUs", "GPUs the driver cannot reach any more"),
        FactSpec("gpu.driver_stuck", "", "the driver did not answer in time"),
        FactSpec("gpu.nvlink_down", "links", "NVLinks fewer than the best GPU of the same kind has"),
        FactSpec("gpu.processes", "processes", "compute processes on these GPUs"),
        FactSpec("gpu.neighbours", "processes", "of them, those that are not this server's"),
        FactSpec("gpu.state", "", "idle, spinning or working (facts per GPU)"),
    ),
    momentary=(
        "gpu.util_max",
        "gpu.util_min",
        "gpu.mem_util_max",
        "gpu.power_w_max",
        "gpu.power_share_max",
        "gpu.power_share_min",
        "gpu.sm_clock_share_min",
        "gpu.throttled",
        "gpu.throttle_reasons",
        "gpu.spinning",
        "gpu.idle",
        "gpu.state",
    ),
    timeout_s=NVML_TIMEOUT_S + SMI_TIMEOUT_S + 4,
    max_bytes=2 << 20,
    needs=("same host", "NVIDIA driver (NVML or nvidia-smi)"),
)
