"""How do the server's GPUs compare with each other, and are the links between them whole?

nvidia-smi's own texts (`pmon`, `dmon`, `nvlink`, `topo`) as evidence to read, and what they say as facts. A call into a
sick driver may never return: it is abandoned at its deadline and that is the evidence.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from responder import smi_text
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar

META = "server.json"
PMON, DMON, ERRORS, SPEEDS, TOPOLOGY = "pmon.txt", "dmon.txt", "nvlink-e.txt", "nvlink-s.txt", "topo.txt"
TRAFFIC, LATER = "nvlink-gt.txt", "nvlink-gt-later.txt"
APART_S = 2.0
QUICK_S, SAMPLED_S = 8.0, 12.0
SOURCES = {
    PMON: (["nvidia-smi", "pmon", "-c", "2"], SAMPLED_S),
    DMON: (["nvidia-smi", "dmon", "-c", "3"], SAMPLED_S),
    ERRORS: (["nvidia-smi", "nvlink", "-e"], QUICK_S),
    SPEEDS: (["nvidia-smi", "nvlink", "-s"], QUICK_S),
    TOPOLOGY: (["nvidia-smi", "topo", "-m"], QUICK_S),
    TRAFFIC: (["nvidia-smi", "nvlink", "-gt", "d"], QUICK_S),
}


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """All texts side by side; the link counters once more after two seconds."""
    inventory = scene.inventory
    if inventory is None or not inventory.reachable:
        return skipped(
            "the server's GPUs are on another host (or it was never seen): run a responder there, or `where:`"
        )
    files: dict[str, bytes] = {}
    stuck: list[str] = []
    errors: list[str] = []

    async def ask(name: str, argv: list[str], timeout: float) -> None:
        said = await scene.runner.run(argv, timeout=timeout, max_bytes=1 << 18)
        if said.stdout and said.code == 0:
            files[name] = said.stdout
        elif said.code is None:
            stuck.append(" ".join(argv[1:]))
        else:
            errors.append(
                f"{' '.join(argv[1:])}: {(said.stdout + said.stderr).decode('utf-8', 'replace').strip()[:120]}"
            )

    async def later() -> None:
        await asyncio.sleep(APART_S)
        await ask(LATER, *SOURCES[TRAFFIC])

    try:
        await asyncio.gather(*(ask(name, *how) for name, how in SOURCES.items()), later())
    except FileNotFoundError:
        return skipped("nvidia-smi is not on PATH: no NVIDIA driver here, or the container lacks its utilities")
    chosen = inventory.environment.get("CUDA_VISIBLE_DEVICES") or inventory.environment.get("NVIDIA_VISIBLE_DEVICES")
    server = {"pids": [process.pid for process in inventory.processes], "visible": chosen, "stuck": stuck}
    files[META] = json.dumps(server | {"apart_s": APART_S}, sort_keys=True).encode()
    if len(files) == 1 and not stuck:
        return skipped(f"nvidia-smi says nothing of GPUs here: {'; '.join(errors)[:300]}")
    told = [f"no answer within the deadline: {', '.join(stuck)}"] if stuck else []
    return Fetched(files, Outcome.PARTIAL if stuck else Outcome.OK, "; ".join([*told, *errors])[:500])


# ------------------------------------------------------------------------------------------------------ reading


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts over the GPUs of this server."""
    if META not in files:
        return
    server = json.loads(files[META])
    text = {name: raw.decode("utf-8", "replace") for name, raw in files.items()}

    def fact(name: str, value: Scalar, file: str, unit: str = "", says: str = "") -> Fact:
        name = f"nvidia_smi.{name}"
        return Fact(name=name, value=value, unit=unit, step="nvidia_smi", file=file, at=brief.now, says=says)

    yield fact("stuck_calls", len(server["stuck"]), META, "calls", ", ".join(server["stuck"]))
    load = smi_text.samples(text.get(DMON, ""))
    ours = _ours(smi_text.samples(text.get(PMON, "")), load, server)
    yield from _peers(fact, load, ours)
    if ERRORS in text:
        found = {gpu: kinds for gpu, kinds in smi_text.link_errors(text[ERRORS]).items() if gpu in ours or not ours}
        words = ", ".join(
            f"GPU {gpu}: {count} {kind}" for gpu, kinds in found.items() for kind, count in kinds.items() if count
        )
        total = sum(sum(kinds.values()) for kinds in found.values())
        yield fact("link_errors", total if found else None, ERRORS, "errors", words or "since the driver was loaded")
    if SPEEDS in text:
        yield from _speeds(fact, smi_text.link_speeds(text[SPEEDS]), ours)
    if TRAFFIC in text and LATER in text:
        first, last = smi_text.link_bytes(text[TRAFFIC]), smi_text.link_bytes(text[LATER])
        rates = {
            gpu: (last[gpu] - sent) / server["apart_s"] for gpu, sent in first.items() if last.get(gpu, -1) >= sent
        }
        mine = {gpu: rate for gpu, rate in rates.items() if gpu in ours or not ours}
        words = ", ".join(f"GPU {gpu}: {rate / 1e9:.3g} GB/s" for gpu, rate in mine.items())
        yield fact("link_rate", round(max(mine.values())) if mine else None, LATER, "bytes/s", words)
    if TOPOLOGY in text and len(ours) > 1:
        yield from _paths(fact, smi_text.topology(text[TOPOLOGY]), ours)


def _ours(users: list[dict[str, str]], load: list[dict[str, str]], server: Mapping[str, object]) -> list[int]:
    """The GPUs the server's processes are on, else those it was allowed, else all."""
    pids = {str(pid) for pid in server["pids"]}  # type: ignore[attr-defined]
    used = {int(row["gpu"]) for row in users if row.get("pid") in pids}
    every = {int(row["gpu"]) for row in load if row.get("gpu", "").isdigit()}
    allowed = {int(part) for part in str(server["visible"] or "").split(",") if part.strip().isdigit()}
    return sorted(used or (allowed & every) or every)


def _peers(fact, load: list[dict[str, str]], ours: list[int]) -> Iterator[Fact]:  # type: ignore[no-untyped-def]
    """One GPU that differs from its peers is a sick GPU, a sick link, or a rank that waits."""
    columns = (("sm", "%", 20.0), ("pwr", "W", 30.0), ("pclk", "MHz", 100.0), ("gtemp", "°C", 12.0))
    odd: list[str] = []
    which: set[int] = set()
    for column, unit, least in columns:
        values = {gpu: value for gpu, value in smi_text.means(load, column).items() if gpu in ours}
        share = 0.15 if column == "pclk" else 0.25
        found = smi_text.odd_one(values, least, share)
        if found:
            gpu, value, others = found
            which.add(gpu)
            odd.append(f"GPU {gpu}: {column} {value:.0f} {unit} against {others:.0f}")
    if len(ours) > 1 and load:
        yield fact("odd_gpus", len(which), DMON, "GPUs", "; ".join(odd) or "all alike")
        yield fact("odd_gpu", f"GPU {min(which)}" if len(which) == 1 else "", DMON, says="; ".join(odd))


def _speeds(fact, speeds: dict[int, list[float]], ours: list[int]) -> Iterator[Fact]:  # type: ignore[no-untyped-def]
    mine = {gpu: links for gpu, links in speeds.items() if gpu in ours or not ours}
    full = max((speed for links in speeds.values() for speed in links), default=0.0)
    if not full:
        return
    slow = {gpu: sum(0 < speed < full for speed in links) for gpu, links in mine.items()}
    words = ", ".join(f"GPU {gpu}: {count} of {len(mine[gpu])}" for gpu, count in slow.items() if count)
    yield fact("slow_links", sum(slow.values()), SPEEDS, "links", words or f"all at {full:g} GB/s")


def _paths(fact, found: smi_text.Topology, ours: list[int]) -> Iterator[Fact]:  # type: ignore[no-untyped-def]
    between = found.between(ours)
    if not between:
        return
    slowest = next((path for path in smi_text.SLOW_PATHS if path in between), "")
    yield fact("all_nvlink", all(path.startswith("NV") for path in between), TOPOLOGY, says=", ".join(sorted(between)))
    yield fact("slowest_path", slowest or min(between), TOPOLOGY, says=", ".join(sorted(between)))


STEP = Step(
    name="nvidia_smi",
    rung=0,
    says="reads nvidia-smi's process, load, link and topology tables; nothing is set and nothing stops",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("nvidia_smi.stuck_calls", "calls", "questions the driver did not answer in time; they were abandoned"),
        FactSpec(
            "nvidia_smi.odd_gpus", "GPUs", "GPUs whose load, power, clock or temperature differs from their peers"
        ),
        FactSpec("nvidia_smi.odd_gpu", "", "the one GPU that differs; empty: none, or several"),
        FactSpec("nvidia_smi.link_errors", "errors", "replay, recovery and CRC errors of the server's NVLinks so far"),
        FactSpec("nvidia_smi.slow_links", "links", "NVLinks that are up, but below the speed of the others"),
        FactSpec("nvidia_smi.link_rate", "bytes/s", "NVLink traffic of the GPU that has most, now"),
        FactSpec("nvidia_smi.all_nvlink", "", "whether all pairs of the server's GPUs are joined by NVLink"),
        FactSpec(
            "nvidia_smi.slowest_path", "", "the slowest path between two of its GPUs: NV18, PIX, PXB, PHB, NODE, SYS"
        ),
    ),
    momentary=("nvidia_smi.odd_gpus", "nvidia_smi.odd_gpu", "nvidia_smi.link_rate"),
    timeout_s=SAMPLED_S + APART_S + 6,
    max_bytes=1 << 20,
    needs=("same host", "nvidia-smi"),
)
