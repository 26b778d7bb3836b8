"""Do two replicas on one PostgreSQL ever act twice? Kills, stops and cuts them in turn, under alerts, and counts.

    python -m bench.replicas --rounds 500            # about 80 minutes
    python -m bench.replicas --rounds 20 --postgres  # PostgreSQL itself is restarted `-m immediate`, every 5 to 40 s

Real daemons, real PostgreSQL; the servers are pretended: they count every capture that touches them (canaries of the
ladder carry `return_token_ids`). One act per incident and step is right, two are a double run; none is right only when
the replica died between writing down that it begins and beginning.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from responder.prometheus_child import free_port
from responder.shares import share_of
from tests.cluster import Cluster, running
from tests.cutter import Cutter
from tests.live.harness.processes import start

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("hang_or_crash", "wrong_output")
FAULTS = ("kill", "stop", "cut")
ENDS_WITHIN_S = 240.0


class World:
    """The servers, Prometheus and the receiver, all pretended, all in one process."""

    def __init__(self) -> None:
        self.acts: list[tuple[float, str]] = []
        self.told: list[dict[str, Any]] = []
        self.url = ""

    async def start(self) -> web.AppRunner:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/hook", self._hook)
        app.router.add_post("/api/v1/{query}", self._prometheus)
        app.router.add_get("/{target}/health", self._plain)
        app.router.add_get("/{target}/metrics", self._plain)
        app.router.add_post("/{target}/v1/completions", self._complete)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _hook(self, request: web.Request) -> web.Response:
        self.told.append(await request.json())
        return web.Response(text="ok")

    async def _prometheus(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": []}})

    async def _plain(self, _: web.Request) -> web.Response:
        return web.Response(text="")

    async def _complete(self, request: web.Request) -> web.Response:
        if (await request.json()).get("return_token_ids"):
            self.acts.append((time.time(), request.match_info["target"]))
        await asyncio.sleep(random.uniform(0.1, 1.0))
        choice = {"choices": [{"text": "a", "token_ids": [1], "index": 0}]}
        return web.Response(text=f"data: {json.dumps(choice)}\n\ndata: [DONE]\n\n", content_type="text/event-stream")


class Replica:
    """One daemon behind a proxy to the database."""

    def __init__(self, number: int, folder: Path, world: World, cluster: Cluster, database: str, options: Any) -> None:
        self.number, self.folder, self.world, self.options = number, folder, world, options
        self.cutter = Cutter(cluster.port)
        self.cluster, self.database = cluster, database
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.well = asyncio.Event()

    async def start(self) -> None:
        """Start the daemon and wait until it is ready."""
        if not self.cutter.port:
            await self.cutter.start()
        config = self.folder / f"replica-{self.number}.json"
        config.write_text(json.dumps(self._config()))
        argv = [
            sys.executable,
            "-m",
            "responder",
            "run",
            "--config",
            str(config),
            "--log-level",
            self.options.log_level,
        ]
        log = self.folder / f"replica-{self.number}.log"
        self.process = start(argv, log, cwd=ROOT)
        async with aiohttp.ClientSession() as http:
            async with asyncio.timeout(90):
                while not await self._ready(http):
                    if self.process.poll() is not None:
                        raise RuntimeError(f"replica {self.number} ended: see {log}")
                    await asyncio.sleep(0.1)
        self.well.set()

    async def _ready(self, http: aiohttp.ClientSession) -> bool:
        try:
            async with http.get(f"http://127.0.0.1:{self.port}/readyz", timeout=aiohttp.ClientTimeout(2)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def signal(self, number: int) -> None:
        """Send a signal to the daemon."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    async def stop(self) -> None:
        """End it for good."""
        if self.process is not None:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        await self.cutter.stop()

    def _config(self) -> dict[str, Any]:
        targets = [
            {"url": f"{self.world.url}/t{n}", "name": f"t{n}", "match": {"instance": f"t{n}"}, "model": "m"}
            for n in range(self.options.targets)
        ]
        return {
            "apiVersion": "responder/v1",
            "prometheus": {"url": self.world.url, "scrape_interval": "5s"},
            "targets": targets,
            "receivers": {"hook": {"kind": "webhook", "url": f"{self.world.url}/hook"}},
            "data_dir": str(self.folder / f"data-{self.number}"),
            "database": self.cluster.url(self.database, self.cutter.port),
            "artifacts": {"folder": str(self.folder / "shared")},
            "lease": f"{self.options.lease}s",
            "hold_down": "1s",
            "capture": {"shell": False},
            "http": {"listen": f"127.0.0.1:{self.port}"},
        }


class Trial:
    """Everything of one run, and what it counted."""

    def __init__(self, cluster: Cluster, folder: Path, options: Any) -> None:
        self.cluster, self.folder, self.options = cluster, folder, options
        self.world = World()
        self.database = "replicas"
        cluster.new_database(self.database)
        self.replicas = [
            Replica(n, folder, self.world, cluster, self.database, options) for n in range(options.replicas)
        ]
        self.faults: Counter[str] = Counter()
        self.takeovers: list[float] = []
        self.posted, self.refused = 0, 0
        self.quiet = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        """The whole of it: figures."""
        runner = await self.world.start()
        try:
            for replica in self.replicas:
                await replica.start()
            load = asyncio.create_task(self._load())
            database = asyncio.create_task(self._restart_database()) if self.options.postgres else None
            await self._hurt()
            self.quiet.set()
            if database:
                await database
            await load
            return self._counted()
        finally:
            for replica in self.replicas:
                await replica.stop()
            await runner.cleanup()

    # ------------------------------------------------------------------------------------------------ the load

    async def _load(self) -> None:
        """Each target in turn: an alert, its reports, its end."""
        async with aiohttp.ClientSession() as http:
            await asyncio.gather(*(self._episodes(http, n) for n in range(self.options.targets)))

    async def _episodes(self, http: aiohttp.ClientSession, number: int) -> None:
        name, episode = f"t{number}", 0
        while not self.quiet.is_set():
            episode += 1
            # The same trouble within ten minutes would be the same incident: another class each time.
            kind = CLASSES[episode % len(CLASSES)]
            # A moment of its own: one that lies within an episode that is over would be that episode, told late.
            started = datetime.now(UTC).isoformat()
            before = len(self._incidents(name))
            await self._post(http, name, started, "firing", kind)
            await self._until(lambda: len(self._incidents(name)) > before)  # noqa: B023
            await asyncio.sleep(random.uniform(1, 12))
            await self._post(http, name, started, "resolved", kind)
            await self._until(lambda: all(state == "resolved" for _, state in self._incidents(name)))

    def _incidents(self, target: str) -> list[tuple[str, str]]:
        """(id, last state told) of a target's incidents."""
        last: dict[str, str] = {}
        for body in self.world.told:
            if body["incident"]["target"] == target:
                last[body["incident"]["id"]] = body["incident"]["state"]
        return list(last.items())

    async def _post(self, http: aiohttp.ClientSession, name: str, started: str, status: str, kind: str) -> None:
        """To any replica that takes it, as Alertmanager would: again and again until one says 200."""
        labels = {"alertname": f"Test_{kind}", "class": kind, "severity": "critical", "instance": name}
        alert = {"status": status, "startsAt": started, "annotations": {}, "labels": labels}
        while True:
            replica = random.choice(self.replicas)
            try:
                async with http.post(
                    f"http://127.0.0.1:{replica.port}/api/v1/alerts", json={"version": "4", "alerts": [alert]},
                    timeout=aiohttp.ClientTimeout(3),
                ) as answer:  # fmt: skip
                    if answer.status == 200:
                        self.posted += 1
                        return
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            self.refused += 1
            await asyncio.sleep(0.3)

    async def _until(self, done: Any) -> None:
        end = time.monotonic() + ENDS_WITHIN_S
        while not done():
            if time.monotonic() > end:
                raise TimeoutError(f"an incident got stuck; see {self.folder}")
            await asyncio.sleep(0.2)

    # ---------------------------------------------------------------------------------------------- the faults

    async def _hurt(self) -> None:
        for number in range(self.options.rounds):
            await asyncio.sleep(random.uniform(0.5, self.options.calm))
            fault = FAULTS[number % len(FAULTS)]
            victim = random.choice(self.replicas)
            self.faults[fault] += 1
            lost = await self._held_by(victim)
            began = time.monotonic()
            watch = asyncio.create_task(self._taken_over(lost, began))
            await getattr(self, f"_{fault}")(victim)
            await watch
            if self.options.progress:
                print(f"round {number + 1}: {fault}, {len(self.world.told)} messages", flush=True)

    async def _kill(self, victim: Replica) -> None:
        victim.signal(signal.SIGKILL)
        assert victim.process is not None
        await asyncio.to_thread(victim.process.wait)
        await victim.start()

    async def _stop(self, victim: Replica) -> None:
        victim.signal(signal.SIGSTOP)
        await asyncio.sleep(self.options.lease + random.uniform(0.5, 3))
        victim.signal(signal.SIGCONT)

    async def _cut(self, victim: Replica) -> None:
        victim.cutter.cut()
        await asyncio.sleep(self.options.lease + random.uniform(0.5, 3))
        victim.cutter.mend()

    async def _restart_database(self) -> None:
        while not self.quiet.is_set():
            await asyncio.sleep(random.uniform(5, 40))
            self.faults["postgres -m immediate"] += 1
            await asyncio.to_thread(self.cluster.restart)

    async def _held_by(self, victim: Replica) -> set[int]:
        assert victim.process is not None
        holder = f"%-{victim.process.pid}-%"
        rows = await self._sql(f"SELECT share FROM shares WHERE holder LIKE '{holder}' AND until > now()")
        used = {share_of(f"t{n}") for n in range(self.options.targets)}
        return {int(row) for row in rows} & used

    async def _taken_over(self, lost: set[int], began: float) -> None:
        """How long until somebody else holds what the victim held."""
        if not lost:
            return
        before = await self._sql(f"SELECT share || ' ' || term FROM shares WHERE share IN ({_list(lost)})")
        while time.monotonic() - began < 60:
            if not set(before) & set(
                await self._sql(f"SELECT share || ' ' || term FROM shares WHERE share IN ({_list(lost)})")
            ):
                self.takeovers.append(time.monotonic() - began)
                return
            await asyncio.sleep(0.1)

    async def _sql(self, statement: str) -> list[str]:
        for _ in range(100):
            try:
                return (await asyncio.to_thread(self.cluster.sql, statement, self.database)).splitlines()
            except subprocess.CalledProcessError:  # it is being restarted
                await asyncio.sleep(0.2)
        raise TimeoutError("PostgreSQL does not come back")

    # ---------------------------------------------------------------------------------------------- the figures

    def _counted(self) -> dict[str, Any]:
        incidents: dict[str, list[dict[str, Any]]] = {}
        for body in self.world.told:
            incidents.setdefault(body["incident"]["id"], []).append(body)
        acts = Counter(self._incident_of(at, target, incidents) for at, target in self.world.acts)
        messages = Counter((b["incident"]["id"], b["revision"]) for b in self.world.told)
        texts: dict[tuple[str, int], set[str]] = {}
        for body in self.world.told:
            texts.setdefault((body["incident"]["id"], body["revision"]), set()).add(json.dumps(body, sort_keys=True))
        times = sorted(self.takeovers)
        return {
            "rounds": dict(self.faults),
            "incidents": len(incidents),
            "alerts accepted": self.posted,
            "alerts refused and sent again": self.refused,
            "captures that touched a server": len(self.world.acts),
            "double runs": sum(count - 1 for count in acts.values() if count > 1),
            "incidents not told as over": sum(all(b["incident"]["state"] == "open" for b in told)
                                              for told in incidents.values()),
            "messages": len(self.world.told),
            "messages sent again": sum(count - 1 for count in messages.values()),
            "revisions told with two contents": sum(len(said) > 1 for said in texts.values()),
            "takeover s, median": round(times[len(times) // 2], 1) if times else None,
            "takeover s, worst": round(times[-1], 1) if times else None,
            "takeovers over 20 s": f"{sum(each > 20 for each in times)} of {len(times)}",
        }  # fmt: skip

    def _incident_of(self, at: float, target: str, incidents: dict[str, list[dict[str, Any]]]) -> str:
        """The incident of a target that was open at a time."""
        opened = sorted(
            (told[0]["incident"]["opened_at"], name)
            for name, told in incidents.items()
            if told[0]["incident"]["target"] == target
        )
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at + 0.001))
        before = [name for moment, name in opened if moment[:19] <= stamp]
        return before[-1] if before else f"nobody's, on {target}"


def _list(numbers: set[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers))


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--rounds", type=int, default=9, help="faults, in turn: kill, stop, cut")
    flags.add_argument("--replicas", type=int, default=2)
    flags.add_argument("--targets", type=int, default=4)
    flags.add_argument("--lease", type=float, default=3.0, help="seconds; 12 by default in the daemon")
    flags.add_argument("--calm", type=float, default=4.0, help="seconds at most between two faults")
    flags.add_argument("--postgres", action="store_true", help="restart PostgreSQL as well")
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--log-level", default="info")
    flags.add_argument("--progress", action="store_true")
    return flags.parse_args(words)


def main() -> None:
    """Run it, print the figures; exit 1 when something was done twice."""
    options = options_of()
    random.seed(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="responder-replicas-"))
    with running() as cluster:
        figures = asyncio.run(Trial(cluster, folder, options).run())
    for name, value in figures.items():
        print(f"{name:36} {value}")
    print(f"load average {os.getloadavg()[0]:.1f}, lease {options.lease} s, logs in {folder}")
    sys.exit(bool(figures["double runs"] or figures["incidents not told as over"]))


if __name__ == "__main__":
    main()
