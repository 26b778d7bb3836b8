"""How fast and how small is the trace engine, beside HolisticTraceAnalysis and beside the physical limit?

    python -m bench.traces [--sizes 50 500 2000] [--rounds 3] [--hta-up-to 800] [--folder DIR]

One run measures, per trace: ours as a whole process and inside a process that has imported already; the limit, which is
to decompress and count line ends, as a whole process; HTA (default load, kernel and temporal breakdown, idle time,
overlap) as a whole process. CPU seconds (user and system) and peak memory of each, the best round. HTA lives in its own
environment, made on the first run. Generated traces have known truth, and ours is compared with it before it is timed.
`--store-hta FILE` and `--store-facts FILE` write what the tests compare with instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.kineto_maker import Wish, make
from bench.kineto_repeat import repeat

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / "tests" / "data" / "traces"
HTA_HOME = ROOT / ".cache" / "hta"
HTA_VERSION = "0.5.0"

# an installed package has its bytecode; a checkout under PYTHONDONTWRITEBYTECODE would compile 40 files every time
OURS = {
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "bench-bytecode"),
}

LAUNCHER = """
import os, sys
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
sys.stdout.write("\\n%f %d" % (usage.ru_utime + usage.ru_stime, usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""

LIMIT = """
import sys
import numpy as np
from isal import igzip
path = sys.argv[1]
lines = 0
with (igzip.open(path) if path.endswith(".gz") else open(path, "rb")) as file:
    while piece := file.read(1 << 20):
        lines += int(np.count_nonzero(np.frombuffer(piece, np.uint8) == 10))
print(lines)
"""

INSIDE = """
import gc, resource, sys
from pathlib import Path
from responder.traces.engine import run
gc.disable()
before = resource.getrusage(resource.RUSAGE_SELF)
report = run([Path(sys.argv[1])])
after = resource.getrusage(resource.RUSAGE_SELF)
assert report.ranks, report.problems
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""

HTA = """
import json, os, sys
os.environ["HTA_DISABLE_NS_ROUNDING"] = "1" if sys.argv[2] == "exact" else "0"
import logging; logging.disable(logging.CRITICAL)
from hta.trace_analysis import TraceAnalysis
t = TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir="/")
try:
    temporal = t.get_temporal_breakdown(visualize=False)
except IndexError:
    sys.exit("no GPU work: HTA loads such a trace and fails") if len(sys.argv) > 3 else sys.exit(0)
kinds, kernels = t.get_gpu_kernel_breakdown(visualize=False, num_kernels=10_000, duration_ratio=1.0)
idle = t.get_idle_time_breakdown(ranks=[0], visualize=False)[0]
overlap = t.get_comm_comp_overlap(visualize=False)
kernels = kernels[["name", "sum (us)", "max (us)", "mean (us)"]].to_dict("records")
result = {"temporal": temporal.iloc[0].to_dict(), "overlap": overlap.iloc[0].to_dict(),
          "idle": idle.to_dict("records"), "kernels": kernels}
if len(sys.argv) > 3:
    stats = t.get_cuda_kernel_launch_stats(ranks=[0], visualize=False)[0]
    result["launch"] = {"short": int((stats.gpu_duration < stats.cpu_duration).sum())}
    json.dump(result, open(sys.argv[3], "w"), default=float)
"""


@dataclass(frozen=True)
class Cost:
    """One measured process."""

    cpu_s: float
    peak_mb: float
    output: str


def measure(argv: list[str], **environment: str) -> Cost:
    """Run it from a small launcher: a child's peak memory is never below that of the process that forked it."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *argv],
        capture_output=True, text=True, env={**os.environ, **environment}, cwd=ROOT, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(argv[:4])}: exit {done.returncode}\n{done.stderr[-2000:]}")
    output, _, usage = done.stdout.rpartition("\n")
    cpu, peak = map(float, usage.split())
    return Cost(cpu, peak * 1024 / 1e6, output)


def best(rounds: int, argv: list[str], **environment: str) -> Cost:
    """The round with least CPU: other work on the machine only ever adds."""
    return min((measure(argv, **environment) for _ in range(rounds)), key=lambda cost: cost.cpu_s)


def ours(path: Path, rounds: int) -> tuple[Cost, float]:
    """(whole process, CPU seconds inside one that has imported)."""
    whole = best(rounds, [sys.executable, "-m", "responder.traces.child", str(path)], **OURS)
    inside = [float(measure([sys.executable, "-c", INSIDE, str(path)], **OURS).output) for _ in range(rounds)]
    return whole, min(inside)


def hta_python() -> Path:
    """An environment with HTA, made if it is missing."""
    python = Path(os.environ.get("HTA_PYTHON", HTA_HOME / "bin" / "python"))
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HTA_HOME)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", f"HolisticTraceAnalysis=={HTA_VERSION}"], check=True)
    return python


def hta(path: Path, rounds: int) -> Cost:
    """HTA as people run it."""
    return best(rounds, [str(hta_python()), "-c", HTA, str(path), "default"])


def check(report: dict[str, object], truth: dict[str, object]) -> str:
    """Empty, or how our numbers differ from the truth by more than a hundredth of a percent."""
    rank = report["ranks"][0]  # type: ignore[index]
    if not truth["gpu_events"]:
        return "" if rank["events"] == truth["events"] else "events"
    got = {row["name"]: row["sum_ms"] * 1e6 for row in rank["categories"]}
    pairs = [
        ("busy", rank["busy"]["busy_ms"] * 1e6, truth["busy_ns"]),
        ("idle share", rank["busy"]["idle_share"], truth["idle_share"]),
        ("steps", rank["steps"]["count"], truth["steps"]),
        ("blocked", rank["blocked"]["total_ms"] * 1e6, truth["blocked_ns"]),
        *((kind, got.get(kind, 0.0), ns) for kind, ns in truth["kind_ns"].items()),  # type: ignore[attr-defined]
    ]
    return ", ".join(f"{name} {mine} not {real}" for name, mine, real in pairs if abs(mine - real) > 1e-4 * abs(real))


def size_of(path: Path) -> float:
    """Unpacked MB."""
    command = ["gzip", "-dc", str(path)] if path.suffix == ".gz" else ["cat", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        total = 0
        while piece := child.stdout.read(1 << 20):
            total += len(piece)
    return total / 1e6


def machine() -> str:
    """Where this was measured."""
    described = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in described if line.startswith("model name")), "?")
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')}, {cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}; CPU seconds of user and system"
    )


def line(path: Path, rounds: int, hta_up_to: float, truth: dict[str, object] | None) -> str:
    """One row of the table."""
    size = size_of(path)
    whole, inside = ours(path, rounds)
    wrong = check(json.loads(whole.output), truth) if truth else ""
    limit = best(rounds, [sys.executable, "-c", LIMIT, str(path)], **OURS)
    row = (
        f"| {path.name} | {size:,.0f} | {limit.cpu_s:.2f} / {limit.peak_mb:.0f} "
        f"| **{whole.cpu_s:.2f} / {whole.peak_mb:.0f}** "
        f"| {inside:.2f} | {whole.cpu_s / limit.cpu_s:.1f} | "
    )
    if size > hta_up_to:
        row += "not run | | |"
    else:
        other = hta(path, rounds if size < 100 else max(rounds // 2, 1))
        times, less = other.cpu_s / whole.cpu_s, other.peak_mb / whole.peak_mb
        row += f"{other.cpu_s:.1f} / {other.peak_mb:.0f} | {times:.0f} | {less:.0f} |"
    return row + (f" WRONG: {wrong}" if wrong else " equal |" if truth else " real |")


def traces(folder: Path, sizes: list[float]) -> list[tuple[Path, dict[str, object] | None]]:
    """Real traces, one of them repeated to the length of a long recording, and generated ones."""
    found: list[tuple[Path, dict[str, object] | None]] = [
        (path, None) for path in sorted(REAL.glob("*_rank0*.json.gz"))
    ]
    long = folder / "graph_repeated_6x.json.gz"
    found.append((long if long.exists() else repeat(REAL / "torch_tp2_graph_rank0.json.gz", long, 6), None))
    for size in sizes:
        wishes = [("stack", Wish(size)), ("graph", Wish(size, stack=False, graph=True))]
        if size >= 500:
            wishes.append(("cpu", Wish(size * 1.554 if size < 1000 else 777.0, layout="single", cpu_only=True)))
        if size >= 1000:
            wishes = [("stack", Wish(size, layout="single"))]
        for name, wish in wishes:
            path = folder / f"made_{name}_{wish.megabytes:.0f}.json.gz"
            known = path.with_name(path.name.replace(".json.gz", ".truth.json"))
            found.append((path, json.loads(known.read_text()) if known.exists() else make(path, wish)))
    return found


def store_hta(target: Path) -> None:
    """HTA's own numbers on the real traces, with its microsecond rounding switched off, for the tests."""
    stored: dict[str, object] = {"version": HTA_VERSION, "HTA_DISABLE_NS_ROUNDING": "1"}
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(REAL.glob("*.json.gz")):
            if path.name.startswith("torch213"):
                continue
            out = Path(folder) / "out.json"
            measure([str(hta_python()), "-c", HTA, str(path), "exact", str(out)])
            stored[path.name] = json.loads(out.read_text())
    target.write_text(json.dumps(stored, indent=0))


def store_facts(target: Path) -> None:
    """Our own facts of the real traces, one file at a time, for the test that they do not change."""
    from responder.traces.facts import facts_of
    from responder.traces.parent import decode

    stored = {}
    for path in sorted(REAL.glob("*.json.gz")):
        report = decode(measure([sys.executable, "-m", "responder.traces.child", str(path)], **OURS).output.encode())
        stored[path.name] = {fact.name: fact.value for fact in facts_of(report)}
    target.write_text(json.dumps(stored, indent=0) + "\n")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", type=float, default=[50, 500, 2000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hta-up-to", type=float, default=800, help="MB; HTA's default load needs 5 bytes per byte")
    parser.add_argument("--folder", type=Path, default=None, help="keep generated traces here, and use those there")
    parser.add_argument("--also", nargs="*", type=Path, default=[], help="more traces")
    parser.add_argument("--only", default="", help="traces with this in their name")
    parser.add_argument("--store-hta", type=Path, default=None)
    parser.add_argument("--store-facts", type=Path, default=None)
    asked = parser.parse_args()
    if asked.store_facts:
        store_facts(asked.store_facts)
        return
    if asked.store_hta:
        store_hta(asked.store_hta)
        return
    os.nice(10)
    print(machine())
    print(
        "| trace | MB | limit s / MB | ours s / MB | inside s | x limit | HTA s / MB | HTA/ours CPU | memory | truth |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        kept = asked.folder or Path(folder)
        for path, truth in [*((p, None) for p in asked.also), *traces(kept, asked.sizes)]:
            if asked.only not in path.name:
                continue
            print(line(path, asked.rounds, asked.hta_up_to, truth), flush=True)


if __name__ == "__main__":
    main()
