"""How long does a backtest of a month take, and how much memory? Made-up traffic of many servers in a real Prometheus.

python -m bench.backtest_speed [--days 30] [--servers 10] [--scrape 30] [--faults 20]

The traffic is synthetic (this measures speed, not diagnosis): quiet days with a daily wave, and so many queues of five
minutes on random servers. Figures: wall time, CPU and memory of `responder backtest` alone, and Prometheus's CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import psutil

from bench import machine
from bench.scoring.histories import serving
from tests.live.harness import find

END = 1_795_000_000 // 86400 * 86400
DAY_S = 86400
EDGES = ("0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "40.0", "+Inf")
FAULT_S = 300


def main() -> None:
    """Make the history, run the command, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.backtest_speed", description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--servers", type=int, default=10)
    parser.add_argument("--scrape", type=int, default=30, help="seconds between scrapes")
    parser.add_argument("--faults", type=int, default=20)
    given = parser.parse_args()
    print(machine.describe())
    dice = random.Random(1)
    start = END - given.days * DAY_S
    faults = [(dice.randrange(given.servers), start + dice.randrange(3600, given.days * DAY_S - 3600))
              for _ in range(given.faults)]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        began = time.time()
        for day in range(given.days):
            make(folder, start + day * DAY_S, given.servers, given.scrape, faults)
        size = sum(p.stat().st_size for p in (folder / "db").rglob("*") if p.is_file())
        print(f"history made in {time.time() - began:.0f} s: {given.days} days of {given.servers} servers, every "
              f"{given.scrape} s, {size / 1e6:.0f} MB of blocks", flush=True)  # fmt: skip
        with serving(folder) as (url, child):
            measure(url, child, start, given)


def make(folder: pathlib.Path, start: int, servers: int, scrape: int, faults: list[tuple[int, int]]) -> None:
    """One day's blocks."""
    path = folder / "day.om"
    with path.open("w") as out:
        for line in lines(start, servers, scrape, faults):
            out.write(line + "\n")
    done = [find.binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(path), str(folder / "db")]
    subprocess.run(done, check=True, capture_output=True, timeout=1800)
    path.unlink()


def lines(start: int, servers: int, scrape: int, faults: list[tuple[int, int]]) -> Iterator[str]:
    """OpenMetrics of one day: what a busy vLLM exposes, as far as rules ask for it."""
    rows: dict[str, list[str]] = {}
    for server in range(servers):
        label = f'instance="gpu-{server}:8000",job="vllm",model_name="m",engine="0"'
        mine = [at for which, at in faults if which == server]
        for at in range(start, start + DAY_S, scrape):
            since = at - (END - 400 * DAY_S)
            ill = any(0 <= at - fault < FAULT_S for fault in mine)
            wave = 0.6 + 0.3 * math.sin(2 * math.pi * at / DAY_S + server)
            done = since * 0.6 * 8 + 1000 * math.sin(2 * math.pi * at / DAY_S + server)
            slow = sum(max(0, min(FAULT_S, at - fault)) * 3.0 for fault in mine)
            for name, value in (
                ("up", 1), ("vllm:num_requests_running", 64 if ill else round(20 * wave)),
                ("vllm:num_requests_waiting", 200 if ill else 0), ("vllm:kv_cache_usage_perc", 0.1 + 0.2 * wave),
                ("vllm:num_preemptions_total", 0), ("vllm:generation_tokens_total", done * 150),
                ("vllm:prompt_tokens_total", done * 400), ("vllm:iteration_tokens_total_count", since * 60),
                ("vllm:iteration_tokens_total_sum", done * 550), ("vllm:prefix_cache_queries_total", done * 400),
                ("vllm:prefix_cache_hits_total", done * 150),
                ("vllm:time_to_first_token_seconds_sum", done * 0.03 + slow * 9),
                ("vllm:time_to_first_token_seconds_count", done), ("vllm:inter_token_latency_seconds_sum", done * 0.9),
                ("vllm:inter_token_latency_seconds_count", done * 149),
            ):  # fmt: skip
                labels = label.partition(",model_name")[0] if name == "up" else label
                rows.setdefault(name, []).append(f"{name}{{{labels}}} {value:.12g} {at}")
            late = min(done, slow)
            for kind, middle, count, behind in (
                ("time_to_first_token", 3, done, late),
                ("inter_token_latency", 1, done * 149, 0),
            ):
                for index, edge in enumerate(EDGES):
                    full = count if edge == "+Inf" else (count - behind) * (0.2 if index < middle else 1.0)
                    name = f"vllm:{kind}_seconds_bucket"
                    rows.setdefault(name, []).append(f'{name}{{{label},le="{edge}"}} {full:.12g} {at}')
            name = "vllm:request_success_total"
            rows.setdefault(name, []).append(f'{name}{{{label},finished_reason="stop"}} {done:.12g} {at}')
    for name in sorted(rows):
        yield f"# TYPE {name} unknown"
        yield from rows[name]
    yield "# EOF"


def measure(url: str, child: psutil.Process, start: int, given: argparse.Namespace) -> None:
    """Run the command as a user would."""
    before, began = sum(child.cpu_times()[:2]), time.time()
    earlier = resource.getrusage(resource.RUSAGE_CHILDREN)  # of what made the history
    done = subprocess.run(
        [sys.executable, "-m", "responder", "backtest", "--prometheus", url, "--from", str(start), "--to", str(END),
         "--format", "json"], capture_output=True, text=True, cwd=find.ROOT,
    )  # fmt: skip
    took = time.time() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(done.stderr[-1000:])
    body = json.loads(done.stdout)
    theirs = sum(child.cpu_times()[:2]) - before
    ours = used.ru_utime + used.ru_stime - earlier.ru_utime - earlier.ru_stime
    print(f"backtest: {took:.0f} s, {ours:.0f} s of CPU, {used.ru_maxrss / 1024:.0f} MB at most; "
          f"Prometheus used {theirs:.0f} s of CPU")  # fmt: skip
    total = body["summary"]
    print(f"{total['incidents']} incidents of {given.faults} made, {total['target_days']:g} server-days")
    if took:
        print(f"{given.days * given.servers / took * 60:.0f} server-days a minute")


if __name__ == "__main__":
    main()
