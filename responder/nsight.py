"""What nsys is around a server, may its capture range be opened, and what does a report of it say?

nsys cannot attach. A server launched under it with `-c cudaProfilerApi` opens its range when vLLM's `cuda` profiler is
started. What happens when the range closes is nsys's choice: by default it *ends the server*.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
import tempfile
from collections.abc import Sequence

from responder.capture.step import Scene
from responder.model import Inventory

STATS = "nsys-stats.csv"
COMMAND_S, STATS_S = 5.0, 45.0
REPORTS = "cuda_gpu_kern_sum"
SAFE = ("-t", "cuda,nvtx", "--cuda-graph-trace=node", "-c", "cudaProfilerApi", "--capture-range-end=stop")
"""No `--sample=process-tree` (it has wedged workers); a range, because a whole run fills the disk; `stop`, because
without it nsys ends the server together with the range."""
CUDA_PROFILER = '--profiler-config={"profiler":"cuda"}'


async def launcher(scene: Scene, inventory: Inventory) -> list[str]:
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


async def newest(scene: Scene, under: list[str]) -> str:
    """The newest report beside the one the server's nsys is to write."""
    folder = option(under, "-o", "--output").rpartition("/")[0]
    if not folder.startswith("/"):
        return ""
    try:
        said = await scene.runner.run(["ls", "-1t", folder], timeout=COMMAND_S)
    except OSError:
        return ""
    names = [name for name in said.stdout.decode("utf-8", "replace").splitlines() if name.endswith(".nsys-rep")]
    return f"{folder}/{names[0]}" if names else ""


async def stats(scene: Scene, report: str, files: dict[str, bytes], timeout: float = STATS_S) -> str:
    """Put the tables of a report into `files`; '' or why there are none."""
    with tempfile.TemporaryDirectory(prefix="responder-nsys-") as folder:
        argv = ["nsys", "stats", "--report", REPORTS, "--format", "csv", "--force-export=true"]
        argv += ["--sqlite", f"{folder}/report.sqlite", report]
        try:
            said = await scene.runner.run(argv, timeout=timeout, max_bytes=4 << 20)
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


def kernels(text: str) -> list[tuple[str, float]]:
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


def kept_running(under: Sequence[str]) -> bool:
    """Whether the server lives on when the range closes: nsys's default is `stop-shutdown`."""
    chosen = option(under, "--capture-range-end")
    return chosen in ("stop", "none") or chosen.split(":")[0] == "repeat"


def option(argv: Sequence[str], *names: str) -> str:
    """An option's value in either spelling; '' when it is not there."""
    for at, word in enumerate(argv):
        for name in names:
            if word == name and at + 1 < len(argv):
                return argv[at + 1]
            if word.startswith(name + "="):
                return word.partition("=")[2]
    return ""


def why_not(under: Sequence[str], command: Sequence[str]) -> str:
    """'' when the range can be opened and closed from outside without harm; else the reason, with what to add."""
    if not under:
        return "the server was not started under nsys, and nsys cannot attach to a running process"
    if option(under, "-c", "--capture-range") != "cudaProfilerApi":
        return "nsys records all the time (no `-c cudaProfilerApi`): there is no range to open"
    if not kept_running(under):
        return "nsys would end the server when the range closes; start nsys with --capture-range-end=stop"
    if not re.search(r'profiler"?\s*[:=]\s*"?cuda|profiler-config\.profiler[ =]cuda', " ".join(command)):
        return f"nsys waits for a range that the server cannot open: it lacks {CUDA_PROFILER}"
    return ""
