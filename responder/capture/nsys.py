"""What can Nsight Systems tell here, honestly? It cannot attach to a server that was not started under it.

Started under nsys: that is said, with how its capture range is opened. A report that exists already is read through
`nsys stats`. Otherwise the exact command to start the server anew with, for nsys and for layer-wise timing.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Inventory, Outcome, Scalar

META, STATS = "nsys.json", "nsys-stats.csv"
COMMAND_S, STATS_S = 5.0, 45.0
REPORTS = "cuda_gpu_kern_sum"
SAFE = ("-t", "cuda,nvtx", "--cuda-graph-trace=node", "-c", "cudaProfilerApi", "--capture-range-end=stop")
"""No `--sample=process-tree` (it has wedged workers); a range, because a whole run fills the disk."""
CUDA_PROFILER = '--profiler-config={"profiler":"cuda"}'
LAYERWISE = "--enable-layerwise-nvtx-tracing"


class Nsys(BaseModel):
    """Which finished report to read, if any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    report: str = Field(default="", pattern=r"^(/[\w./@:+-]+\.(nsys-rep|sqlite))?$")
    """Empty: the newest one in the folder of the server's own nsys."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """How the server was started, whether nsys runs, and the tables of a report."""
    chosen = Nsys.model_validate(params.model_dump()).report
    inventory = scene.inventory
    if inventory is None or not inventory.reachable or not inventory.command:
        return skipped("how the server was started is not known: it runs on another host, or was never seen alive")
    under = await _launcher(scene, inventory)
    report = chosen or (await _newest(scene, under) if under else "")
    meta: dict[str, object] = {"under": under, "command": list(inventory.command), "report": report}
    meta["relaunch"] = relaunch(inventory.command, under)
    meta["layerwise"] = layerwise(inventory.command)
    files: dict[str, bytes] = {}
    why = ""
    if report and inventory.local:
        why = await _stats(scene, report, files)
    meta["stats"] = why or ("read" if report else "")
    files[META] = json.dumps(meta, indent=1, sort_keys=True).encode()
    return Fetched(files, Outcome.PARTIAL if why else Outcome.OK, why)


async def _launcher(scene: Scene, inventory: Inventory) -> list[str]:
    """argv of the nsys that started the server; empty when none of its parents is one."""
    pid = inventory.processes[0].ppid if inventory.processes else 0
    for _ in range(8):
        if pid <= 1:
            break
        try:
            raw = await scene.runner.read(f"/proc/{pid}/cmdline", max_bytes=1 << 15)
            stat = await scene.runner.read(f"/proc/{pid}/stat", max_bytes=1 << 12)
        except OSError:
            break
        argv = [word.decode("utf-8", "replace") for word in raw.rstrip(b"\0").split(b"\0")]
        if is_nsys(argv):
            return argv
        parent = stat.rpartition(b")")[2].split()
        pid = int(parent[1]) if len(parent) > 1 else 0
    return list(inventory.command) if is_nsys(inventory.command) else []


def is_nsys(argv: Sequence[str]) -> bool:
    """Whether this is `nsys profile|launch|start`, under whatever path."""
    return len(argv) > 1 and re.fullmatch(r"(?:.*/)?nsys(?:-launcher)?", argv[0]) is not None and argv[1] in (
        "profile", "launch", "start",
    )  # fmt: skip


async def _newest(scene: Scene, under: list[str]) -> str:
    """The newest report beside the one the server's nsys is to write."""
    output = next((v for f, v in zip(under, under[1:], strict=False) if f in ("-o", "--output")), "")
    output = output or next((word.partition("=")[2] for word in under if word.startswith("--output=")), "")
    folder = output.rpartition("/")[0]
    if not folder.startswith("/"):
        return ""
    try:
        said = await scene.runner.run(["ls", "-1t", folder], timeout=COMMAND_S)
    except OSError:
        return ""
    names = [name for name in said.stdout.decode("utf-8", "replace").splitlines() if name.endswith(".nsys-rep")]
    return f"{folder}/{names[0]}" if names else ""


async def _stats(scene: Scene, report: str, files: dict[str, bytes]) -> str:
    with tempfile.TemporaryDirectory(prefix="responder-nsys-") as folder:
        argv = ["nsys", "stats", "--report", REPORTS, "--format", "csv", "--force-export=true"]
        argv += ["--sqlite", f"{folder}/report.sqlite", report]
        try:
            said = await scene.runner.run(argv, timeout=STATS_S, max_bytes=4 << 20)
        except FileNotFoundError:
            return f"nsys is not installed here: copy {report} to where it is and run `nsys stats` on it"
    if said.stdout:
        files[STATS] = said.stdout
    return "" if said.code == 0 else f"nsys stats: {'no end' if said.code is None else f'exit {said.code}'}"


def relaunch(command: Sequence[str], under: Sequence[str]) -> str:
    """The command that starts this server so that nsys can capture a range of it; '' when it runs so already."""
    if under:
        return ""
    flags = [word for word in command if not word.startswith("--profiler-config")]
    argv = ["nsys", "profile", *SAFE, "-o", "/tmp/vllm-%p", *flags, CUDA_PROFILER]
    return "VLLM_WORKER_MULTIPROC_METHOD=spawn " + shlex.join(argv)


def layerwise(command: Sequence[str]) -> str:
    """The command for NVTX ranges per layer, to be read with nsys; offline: `vllm.profiler.layerwise_profile`."""
    argv = [*command, *([] if LAYERWISE in command else [LAYERWISE])]
    return f"{shlex.join(argv)}   # offline instead: from vllm.profiler.layerwise_profile import layerwise_profile"


# ------------------------------------------------------------------------------------------------------ reading


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """What could be captured, what to type, and the kernels of a report."""
    if META not in files:
        return
    meta = json.loads(files[META])

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", file: str = META) -> Fact:
        name = f"nsys.{name}"
        return Fact(name=name, value=value, unit=unit, step="nsys", file=file, at=brief.now, says=says)

    under, command = meta["under"], " ".join(meta["command"])
    ranged = any("cudaProfilerApi" in word for word in under)
    cuda = re.search(r'profiler"?\s*[:=]\s*"?cuda|profiler-config\.profiler[ =]cuda', command) is not None
    yield fact("under_nsys", bool(under), says=shlex.join(under)[:300] if under else "")
    yield fact("can_capture", bool(under) and ranged and cuda, says=_how(bool(under), ranged, cuda))
    yield fact("relaunch", meta["relaunch"] or None, says="how to start this server under nsys")
    yield fact("layerwise", meta["layerwise"], says="how to start it with a range per layer")
    rows = _kernels(files.get(STATS, b"").decode("utf-8", "replace"))
    if rows:
        name, share = rows[0]
        words = "; ".join(f"{part:.0%} {kernel[:60]}" for kernel, part in rows[:5])
        yield fact("top_kernel", name[:200], says=words, file=STATS)
        yield fact("top_kernel_share", round(share, 4), "share", name[:200], STATS)
        collective = sum(part for kernel, part in rows if "nccl" in kernel.lower() or "all_reduce" in kernel.lower())
        yield fact("collective_share", round(collective, 4), "share", file=STATS)


def _how(under: bool, ranged: bool, cuda: bool) -> str:
    if not under:
        return "the server was not started under nsys, and nsys cannot attach to a running process"
    if ranged and cuda:
        return "POST /start_profile opens the capture range of the server's nsys and POST /stop_profile closes it"
    if not ranged:
        return "nsys records all the time (no `-c cudaProfilerApi`): there is no range to open"
    return f"nsys waits for a range that the server cannot open: it lacks {CUDA_PROFILER}"


def _kernels(text: str) -> list[tuple[str, float]]:
    """(kernel, share of GPU time), largest first; lines before the header are nsys's talk."""
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if "Total Time" in line and "Name" in line), None)
    if start is None:
        return []
    rows = []
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        cells = {key.strip(): value for key, value in row.items() if isinstance(key, str) and value}
        total = next((value for key, value in cells.items() if key.startswith("Total Time")), "")
        if re.fullmatch(r"\d+(?:\.\d+)?", total) and cells.get("Name"):
            rows.append((cells["Name"], float(total)))
    whole = sum(total for _, total in rows)
    return sorted(((name, total / whole) for name, total in rows), key=lambda row: -row[1]) if whole else []


STEP = Step(
    name="nsys",
    rung=0,
    says="says what Nsight Systems can capture of this server and how to start it so; reads a report that exists",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("nsys.under_nsys", "", "whether the server was started under nsys"),
        FactSpec("nsys.can_capture", "", "whether its capture range can be opened from outside"),
        FactSpec("nsys.relaunch", "", "the command that starts this server under nsys"),
        FactSpec("nsys.layerwise", "", "the command that starts this server with a range per layer"),
        FactSpec("nsys.top_kernel", "", "the kernel with most GPU time in the report"),
        FactSpec("nsys.top_kernel_share", "share", "its share of the GPU time"),
        FactSpec("nsys.collective_share", "share", "share of the GPU time inside collectives"),
    ),
    timeout_s=STATS_S + 2 * COMMAND_S,
    max_bytes=6 << 20,
    needs=("same host", "nsys only for reading a report"),
    params=Nsys,
)
