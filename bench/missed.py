"""How many alerts of an outage of ours are found again? Real Prometheus and Alertmanager, our receiver dead meanwhile.

Time is scaled: servers are asked and rules evaluated every second, so that a minute stands for an hour of evaluations
every minute. Half of the alerts are over before the receiver lives again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from responder.correlate import Policy
from responder.metrics import Prometheus, PrometheusSilent
from responder.model import Content, Target
from responder.store_sqlite import SqliteStore
from responder.telemetry import Telemetry
from responder.watch import Watch
from responder.web.server import Surface, build
from tests.live.harness import find

EVERY = "1s"
SHORT_S = 3.0
FOUND_WITHIN_S = 60.0


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    alerts: int
    recovered: int
    doubled: int
    late: int
    """Found in ALERTS, not told by Alertmanager."""
    seconds: float
    """From our start until all were there."""


def dead_receiver(alerts: int, dead_s: float, seed: int = 1) -> Figures:
    """Run it once."""
    return asyncio.run(_run(alerts, dead_s, random.Random(seed)))  # noqa: S311


async def _run(count: int, dead_s: float, dice: random.Random) -> Figures:
    sick: dict[str, int] = {f"t{n}": 0 for n in range(count)}
    exporter, target = await _serve(web.Application(), lambda app: app.router.add_get("/metrics", _metrics(sick)))
    ours = find.free_port()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        with _prometheus_and_alertmanager(folder, target, ours) as url:
            await _scraped(url, count)
            await _one_life(folder, ours, url, sick, until=lambda _: True)  # a round, so that we know when we ended
            await asyncio.gather(*(_ill(sick, n, count, dead_s, dice) for n in range(count)), asyncio.sleep(dead_s))
            began = time.monotonic()
            incidents = await _one_life(folder, ours, url, sick, until=lambda found: len(found) >= count)
            took = time.monotonic() - began
    await exporter.cleanup()
    per_target = Counter(incident.target for incident in incidents)
    late = sum(any("found late" in entry.says for entry in incident.timeline) for incident in incidents)
    return Figures(count, len(per_target), sum(n - 1 for n in per_target.values()), late, took)


async def _scraped(url: str, count: int) -> None:
    """Wait until Prometheus knows the servers."""
    prometheus = Prometheus(url)
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(PrometheusSilent):
                if len(await prometheus.instant("sick")) == count:
                    break
            await asyncio.sleep(0.2)
    prometheus.close()


async def _ill(sick: dict[str, int], number: int, count: int, dead_s: float, dice: random.Random) -> None:
    """Half of them for a moment, the others for good."""
    await asyncio.sleep(dice.uniform(0, max(dead_s - 2 * SHORT_S, 0.1)))
    sick[f"t{number}"] = 1
    if number < count / 2:
        await asyncio.sleep(SHORT_S)
        sick[f"t{number}"] = 0


async def _one_life(folder: pathlib.Path, port: int, url: str, sick: dict[str, int], until: Any) -> list[Any]:
    """Our receiver and our rounds until the incidents are there, or a minute is over."""
    store = SqliteStore(folder / "data")
    store.open()
    prometheus = Prometheus(url)
    watch = Watch(prometheus, store, Telemetry(), time.time, scrape_interval_s=0.5, policy=Policy(hold_down_s=2.0),
                  silence_folder=folder / "silences")  # fmt: skip
    await watch.restore()

    async def accept(payload: Any) -> bool:
        return await store.add_intake(payload, time.time(), limit=10_000)

    async def nothing() -> str:
        return ""

    surface = Surface(data_dir=folder, token=None, metrics=lambda: b"", ready=nothing, accept=accept,
                      incidents=store.incidents, reload=nothing)  # fmt: skip
    runner = web.AppRunner(build(surface), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    targets = {name: Target(name=name, url="", match={"server": name}) for name in sick}
    limit = time.monotonic() + FOUND_WITHIN_S
    while True:
        await watch.tick(Content(), targets, {}, ())
        found = [incident for incident, _, _ in await store.incidents(limit=5000)]
        if until(found) or time.monotonic() > limit:
            break
        await asyncio.sleep(0.5)
    for _ in range(4 if found else 0):  # whoever is told twice would show now
        await asyncio.sleep(0.5)
        await watch.tick(Content(), targets, {}, ())
    found = [incident for incident, _, _ in await store.incidents(limit=5000)]
    await runner.cleanup()
    prometheus.close()
    store.close()
    return found


def _metrics(sick: dict[str, int]) -> Any:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="".join(f'sick{{server="{name}"}} {value}\n' for name, value in sick.items()))

    return metrics


async def _serve(app: web.Application, routes: Any) -> tuple[web.AppRunner, str]:
    routes(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    port = find.free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"127.0.0.1:{port}"


@contextlib.contextmanager
def _prometheus_and_alertmanager(folder: pathlib.Path, target: str, ours: int) -> Iterator[str]:
    """Both as Debian ships them; the URL of Prometheus."""
    port, manager = find.free_port(), find.free_port()
    rule = {"alert": "A", "expr": "sick == 1", "labels": {"class": "high_ttft", "severity": "warning"}}
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    (folder / "prometheus.yml").write_text(json.dumps({
        "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
        "rule_files": [str(folder / "rules.yml")],
        "scrape_configs": [{"job_name": "v", "static_configs": [{"targets": [target]}]}],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{manager}"]}]}]},
    }))  # fmt: skip
    hook = {"name": "us", "webhook_configs": [{"url": f"http://127.0.0.1:{ours}/api/v1/alerts"}]}
    route = {"receiver": "us", "group_by": ["server"], "group_wait": "1s", "group_interval": "2s"}
    (folder / "am.yml").write_text(json.dumps({"route": route, "receivers": [hook]}))
    argvs = (
        [find.binary("prometheus"), f"--config.file={folder / 'prometheus.yml'}",
         f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        [find.binary("prometheus-alertmanager"), f"--config.file={folder / 'am.yml'}",
         f"--storage.path={folder / 'am'}", f"--web.listen-address=127.0.0.1:{manager}", "--cluster.listen-address=",
         "--log.level=error"],
    )  # fmt: skip
    children = []
    try:
        for argv in argvs:
            children.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield f"http://127.0.0.1:{port}"
    finally:
        for child in children:
            child.kill()
            child.wait()
