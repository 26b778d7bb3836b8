"""Does one daemon evaluate all rules for 1,000 servers within its interval, and what does its loop feel of it?

    python -m bench.thousand_targets --targets 1000 --seconds 60
    python -m bench.thousand_targets --targets 100 --watched 75     # Prometheus knows them for so many minutes

A real Prometheus scrapes generated expositions every 5 s - the recorded one of a vLLM 0.32, its counters moving - from
one process that answers for all of them; a real daemon evaluates and probes. Printed: the time of a round, how late the
daemon's event loop runs, its resident memory and CPU, and the same of Prometheus, for what they share the machine.
What rules that look back an hour cost shows where there is an hour: `--watched` writes it (0.2 GB a server, on disk for
a moment).
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web

from bench import machine
from responder.prometheus_child import free_port
from tests.live.harness import find, processes

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "tests" / "data" / "metrics_0.32.txt.gz"
MOVING = re.compile(r"^(vllm:\w+_(?:total|count|sum|bucket)\{[^}]*\}) ([0-9.e+]+)$")
LATE = 'responder_loop_lag_sampled_seconds_bucket{le="%s"}'
LATE_EDGES = ("0.005", "0.01", "0.025", "0.05", "0.1", "+Inf")
LEAST_LINES = re.compile(r"^(#|python_|http_)")
BUCKETS_KEPT = re.compile(r'le="(0\.1|0\.5|1\.0|2\.5|5\.0|10\.0|30\.0|\+Inf)"')


def exposition(whole: bool) -> list[tuple[str, float | None]]:
    """(series, its value; None: the line as it is) of the recorded server; without `whole` fewer buckets."""
    rows: list[tuple[str, float | None]] = []
    for line in gzip.decompress(RECORDED.read_bytes()).decode().splitlines():
        if LEAST_LINES.match(line) or ("_bucket{" in line and not whole and not BUCKETS_KEPT.search(line)):
            continue
        found = MOVING.match(line)
        rows.append((found[1], float(found[2])) if found else (line, None))
    return rows


def grown(at: float, born: float) -> float:
    """How many times what was recorded a counter has come to."""
    return 1.0 + (at - born) / 100.0


def watched(folder: Path, count: int, whole: bool, born: float, until: float) -> None:
    """Lay a history under Prometheus' storage: scrapes each 5 s of all servers, as they will go on."""
    text = folder / "history.om"
    with text.open("w") as out:
        out.write("# TYPE up unknown\n")
        for n in range(count):
            out.writelines(f'up{{instance="t{n}",job="vllm"}} 1 {at:.3f}\n' for at in times(n, born, until))
        last = "up"
        for row, value in sorted(exposition(whole), key=lambda r: r[0].partition("{")[0]):
            if row.startswith("#"):
                continue
            series, _, given = (row, "", value) if value is not None else row.rpartition(" ")
            name, _, labels = str(series).rstrip("}").partition("{")
            if name != last:
                out.write(f"# TYPE {name} unknown\n")
                last = name
            for n in range(count):
                head = f'{name}{{{labels + "," if labels else ""}instance="t{n}",job="vllm"}}'
                out.writelines(
                    f"{head} {float(given) * (grown(at, born) if value is not None else 1.0):.3f} {at:.3f}\n"
                    for at in times(n, born, until)
                )
        out.write("# EOF\n")
    try:
        subprocess.run(
            [find.binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "tsdb")],
            check=True, capture_output=True, timeout=1800,
        )  # fmt: skip
    finally:
        text.unlink()


def times(n: int, born: float, until: float) -> list[float]:
    """When the n-th server was scraped: not all at once."""
    first = born + (n % 50) / 10
    return [first + 5 * k for k in range(int((until - first) // 5))]


async def export(port: int, whole: bool, born: float) -> None:
    """Answer for all servers until killed: counters grow as of traffic, gauges stay."""
    rows = exposition(whole)
    page, page_at = "", 0.0

    async def metrics(_: web.Request) -> web.Response:
        nonlocal page, page_at
        if time.time() - page_at > 0.5:  # all servers have the same traffic: rendered twice a second
            page_at = time.time()
            times_more = grown(page_at, born)
            page = "\n".join(s if v is None else f"{s} {v * times_more:.3f}" for s, v in rows) + "\n"
        return web.Response(text=page)

    async def plain(_: web.Request) -> web.Response:
        return web.Response(text="")

    app = web.Application()
    app.router.add_get("/{target}/metrics", metrics)
    app.router.add_get("/{target}/health", plain)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


def prometheus_config(port: int, count: int) -> dict[str, object]:
    """One scrape configuration for all servers."""
    groups = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"__metrics_path__": f"/t{n}/metrics", "instance": f"t{n}"}}
        for n in range(count)
    ]
    return {
        "global": {"scrape_interval": "5s", "scrape_timeout": "5s"},
        "scrape_configs": [{"job_name": "vllm", "static_configs": groups}],
    }


def daemon_config(exporter: int, prometheus: int, listen: int, folder: Path, count: int) -> dict[str, object]:
    """The daemon's, with a receiver that is not there: nothing is expected to be told."""
    return {
        "apiVersion": "responder/v1",
        "prometheus": {"url": f"http://127.0.0.1:{prometheus}", "scrape_interval": "5s", "timeout": "10s"},
        "targets": [
            {"url": f"http://127.0.0.1:{exporter}/t{n}", "name": f"t{n}", "match": {"instance": f"t{n}"}}
            for n in range(count)
        ],
        "evaluation_interval": "5s",
        "data_dir": str(folder / "data"),
        "http": {"listen": f"127.0.0.1:{listen}"},
    }


async def measure(listen: int, daemon: psutil.Process, store: psutil.Process, seconds: float) -> dict[str, float]:
    """Scrape the daemon every second; figures of the time after the first two rounds."""
    lags: list[float] = []
    answered: list[float] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as http:

        async def page() -> dict[str, float]:
            began = time.monotonic()
            async with http.get(f"http://127.0.0.1:{listen}/metrics") as answer:
                text = await answer.text()
            answered.append(time.monotonic() - began)
            found = re.findall(r'^(responder_[a-z_]+(?:\{le="[^"]*"\}|\{result="[^"]*"\})?) ([0-9.e+-]+)$', text, re.M)
            return {name: float(value) for name, value in found}

        while (await page()).get("responder_evaluation_seconds_count", 0) < 2:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.5)
        first, began = await page(), time.monotonic()
        answered.clear()
        cpu, asked = daemon.cpu_times(), store.cpu_times()
        peak = 0.0
        while time.monotonic() - began < seconds:
            await asyncio.sleep(1.0)
            now = await page()
            lags.append(now["responder_loop_lag_seconds"])
            peak = max(peak, daemon.memory_info().rss / 2**20)
        used, answering = daemon.cpu_times(), store.cpu_times()
        took = time.monotonic() - began
        rounds = now["responder_evaluation_seconds_count"] - first["responder_evaluation_seconds_count"]
        spent = now["responder_evaluation_seconds_sum"] - first["responder_evaluation_seconds_sum"]
        kind = 'responder_evaluation_seconds_bucket{le="%s"}'
        within = now[kind % "5.0"] - first[kind % "5.0"]
        unhappy = sum(
            now.get(name, 0) - first.get(name, 0)
            for name in (
                'responder_evaluations_total{result="partial"}',
                'responder_evaluations_total{result="silent"}',
            )
        )
        lags.sort()
        late = {edge: now[LATE % edge] - first[LATE % edge] for edge in LATE_EDGES}
        return {
            "rounds": rounds,
            "rounds within 5 s": within,
            "rounds with a silent query": unhappy,
            "round s, mean": spent / max(rounds, 1),
            "loop lag samples": late["+Inf"],
            **{
                f"of them within {1000 * float(edge):g} ms, %": 100 * late[edge] / max(1.0, late["+Inf"])
                for edge in LATE_EDGES
                if edge != "+Inf"
            },
            "loop lag ms, median of 1-s maxima": lags[len(lags) // 2] * 1000,
            "loop lag ms, worst": lags[-1] * 1000,
            "own /metrics s, worst": max(answered),
            "resident MB, peak": peak,
            "daemon CPU %": 100 * (used.user + used.system - cpu.user - cpu.system) / took,
            "Prometheus CPU %": 100 * (answering.user + answering.system - asked.user - asked.system) / took,
            "incidents open": now["responder_incidents_open"],
        }


def main() -> None:
    """Start everything, measure, print."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--targets", type=int, default=1000)
    flags.add_argument("--seconds", type=float, default=60.0)
    flags.add_argument("--whole", action="store_true", help="all histogram buckets: three times the series")
    flags.add_argument("--watched", type=float, default=0.0, metavar="MINUTES", help="of history before the start")
    flags.add_argument("--export", type=int, help=argparse.SUPPRESS)
    flags.add_argument("--born", type=float, default=0.0, help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.export:
        asyncio.run(export(options.export, options.whole, options.born))
        return
    folder = Path(tempfile.mkdtemp(prefix="responder-thousand-"))
    exporter, prometheus, listen = free_port(), free_port(), free_port()
    (folder / "prometheus.yml").write_text(json.dumps(prometheus_config(exporter, options.targets)))
    (folder / "responder.json").write_text(
        json.dumps(daemon_config(exporter, prometheus, listen, folder, options.targets))
    )
    started = []
    now = time.time()
    born = now - 60 * options.watched
    if options.watched:
        watched(folder, options.targets, options.whole, born, now)
    try:
        own = [sys.executable, "-m", "bench.thousand_targets", "--export", str(exporter), "--born", str(born)]
        started.append(processes.start([*own, *(["--whole"] if options.whole else [])], folder / "log", cwd=ROOT))
        started.append(
            processes.start(
                [find.binary("prometheus"), f"--config.file={folder / 'prometheus.yml'}", "--log.level=warn",
                 f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{prometheus}"],
                folder / "prometheus.log",
            )
        )  # fmt: skip
        time.sleep(12)  # every server has been scraped twice: rates exist
        started.append(
            processes.start([sys.executable, "-m", "responder", "run", "--config", str(folder / "responder.json")],
                            folder / "responder.log", cwd=ROOT)
        )  # fmt: skip
        figures = asyncio.run(
            _when_ready(listen, psutil.Process(started[-1].pid), psutil.Process(started[1].pid), options.seconds)
        )
        cpu = [psutil.Process(child.pid).cpu_times() for child in started]
    finally:
        for child in reversed(started):
            processes.end(child, patience_s=8)
    print(machine.describe())
    series = sum(not row.startswith("#") for row, _ in exposition(options.whole))
    known = f", known for {options.watched:g} minutes" if options.watched else ""
    print(f"{options.targets} servers of {series} series each, scraped every 5 s by Prometheus{known}")
    for name, value in figures.items():
        print(f"{name:36} {value:.1f}")
    print(f"CPU seconds: exporter {cpu[0].user + cpu[0].system:.0f}, Prometheus {cpu[1].user + cpu[1].system:.0f}")
    print(f"load average {os.getloadavg()[0]:.1f}; logs in {folder}")
    sys.exit(figures["rounds within 5 s"] < figures["rounds"])


async def _when_ready(listen: int, daemon: psutil.Process, store: psutil.Process, seconds: float) -> dict[str, float]:
    async with aiohttp.ClientSession() as http, asyncio.timeout(120):
        while True:
            try:
                async with http.get(f"http://127.0.0.1:{listen}/readyz") as answer:
                    if answer.status == 200:
                        break
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.3)
    return await measure(listen, daemon, store, seconds)


if __name__ == "__main__":
    main()
