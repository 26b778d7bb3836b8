"""What does the daemon itself cost? Start time, resident memory and processor time of `responder run`, one target.

python -m bench.footprint [SECONDS_IDLE]
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import tempfile
import time

import psutil

from bench import machine
from tests.live.harness import scenarios
from tests.live.harness.daemon import Daemon
from tests.live.harness.prometheus_server import PrometheusServer
from tests.live.harness.vllm_server import VllmServer

STARTS = 5


def main(idle_s: float) -> None:
    """Start it several times, then let the last one watch an idle server."""
    print(machine.describe())
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        with VllmServer(folder, scenarios.ROOMY) as server, PrometheusServer(folder / "p", [server.url]) as prometheus:
            starts = []
            for number in range(STARTS):
                with Daemon(folder / f"d{number}", server.url, prometheus.url, None) as daemon:
                    starts.append(daemon.started_in_s)
            with Daemon(folder / "idle", server.url, prometheus.url, None) as daemon:
                resident, cpu = watch(daemon, idle_s)
                rounds = sum(daemon.metric("responder_evaluations_total").values())
    print(f"start until /readyz: {_spread(starts, 's')} of {STARTS} starts (goal: under 2 s)")
    print(f"resident while idle for {idle_s:.0f} s: {_spread(resident, 'MB', 0)} (goal: under 150 MB)")
    print(f"processor while idle: {cpu:.1%} of one core, {rounds:.0f} rounds of evaluation")


def watch(daemon: Daemon, seconds: float) -> tuple[list[float], float]:
    """Resident megabytes once a second, and the share of a core used; children included."""
    process = psutil.Process(daemon.pid)
    resident, began, used = [], time.monotonic(), _cpu(process)
    while time.monotonic() < began + seconds:
        time.sleep(1)
        resident.append(sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 1e6)
    return resident, (_cpu(process) - used) / (time.monotonic() - began)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _spread(values: list[float], unit: str, digits: int = 2) -> str:
    middle = statistics.median(values)
    return f"median {middle:.{digits}f} {unit}, largest {max(values):.{digits}f} {unit}"


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
