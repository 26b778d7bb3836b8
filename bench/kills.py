"""How often can it be killed? Lanes of lives on one memory each, ended by SIGKILL at named places; all is counted.

Every episode: an alert is posted until it is acknowledged (also twice, and late), later its end. After every batch a
life without a kill settles everything, and then each acknowledged alert must have one incident, one final report and
one resolution at the receiver, each capture that disturbs must have run at most once, and nothing may be left owed.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
from aiohttp import web

from bench.kill_stores import File, Memory, Server
from responder.killpoint import NAMES
from tests.cluster import Cluster, running

BATCH = 25
SETTLES_S = 60.0
OWES_SHARE = 0.15
"""Of lives whose captures owe their server an end; a guard process each is the dearest part of a life."""
LIFE_S = 4.0
"""A life that does not reach its place is killed anyway, wherever it is."""


@dataclass
class Tally:
    """What a lane has counted."""

    kills: Counter[str] = field(default_factory=Counter)
    episodes: int = 0
    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    repeated: int = 0
    """Messages that came again with the id they had: a receiver can tell."""
    messages: int = 0
    disturbed: int = 0
    restart_s: list[float] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        return len(self.lost) + len(self.double) + len(self.orphans) + len(self.untold)

    def add(self, other: Tally) -> None:
        """Put another lane's figures in."""
        self.kills += other.kills
        for name in ("lost", "double", "orphans", "untold", "restart_s"):
            getattr(self, name).extend(getattr(other, name))
        self.episodes += other.episodes
        self.repeated += other.repeated
        self.messages += other.messages
        self.disturbed += other.disturbed


class World:
    """The servers that are watched and the receiver that is told, in one."""

    def __init__(self) -> None:
        self.active: Counter[str] = Counter()
        self.disturbed: Counter[str] = Counter()
        self.told: list[tuple[str, str, str]] = []

    async def start(self) -> str:
        app = web.Application()
        app.router.add_get("/{target}/metrics", self._metrics)
        app.router.add_post("/{target}/start_profile", self._start)
        app.router.add_post("/{target}/stop_profile", self._stop)
        app.router.add_post("/{target}/disturb", self._disturb)
        app.router.add_post("/hook", self._hook)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        port = free_port()
        await web.TCPSite(self.runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{port}"

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text="process_start_time_seconds 1.0\n")

    async def _start(self, request: web.Request) -> web.Response:
        self.active[request.match_info["target"]] = 1
        return web.Response()

    async def _stop(self, request: web.Request) -> web.Response:
        self.active.pop(request.match_info["target"], None)
        return web.Response()

    async def _disturb(self, request: web.Request) -> web.Response:
        self.disturbed[request.query["incident"]] += 1
        return web.Response()

    async def _hook(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.told.append((request.headers["webhook-id"], body["incident"]["id"], body["stage"]))
        return web.Response()


class Lane:
    """One chain of lives on one folder after another."""

    def __init__(
        self, seed: int, folder: pathlib.Path, names: tuple[str, ...] = NAMES, database: str = ""
    ) -> None:  # fmt: skip
        self.dice = random.Random(seed)  # noqa: S311
        self.names, self.turn = names, seed
        self.tally = Tally()
        self.world = World()
        self.port = free_port()
        self.data = folder / f"lane{self.port}"
        self.memory: Memory = Server(self.data, database) if database else File(self.data)
        self.round_s = 0.02
        """Between two rounds of detection."""

    async def run(self, kills: int) -> Tally:
        """So many kills."""
        await self._nurse()
        async with aiohttp.ClientSession() as self.http:
            while kills > 0:
                await self._batch(min(kills, BATCH))
                kills -= BATCH
        await self._rest()
        return self.tally

    async def open(self) -> int:
        """One life in peace; its pid, once it answers. `http` must be there."""
        await self._nurse()
        return await self._begin("")

    async def shut(self, pid: int) -> None:
        """End it."""
        _kill(pid)
        await self._ended()
        await self._rest()

    async def _nurse(self) -> None:
        self.server = await self.world.start()
        self.nursery = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.kill_driver", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )

    async def _rest(self) -> None:
        assert self.nursery.stdin is not None
        self.nursery.stdin.close()
        await self.nursery.wait()
        await self.world.runner.cleanup()

    async def _batch(self, kills: int) -> None:
        await asyncio.to_thread(self.memory.fresh)
        self.world.active.clear()
        self.world.disturbed.clear()
        self.world.told.clear()
        self.began: dict[int, str] = {}
        for number in range(kills):
            await self._killed(number)
        pid = await self._begin("")
        await self._settle(kills)
        await self._check(kills)
        _kill(pid)
        await self._ended()

    async def _killed(self, number: int) -> None:
        """One life: an alert begins, the one before ends, until it is killed."""
        self.turn += 1
        name = self.names[self.turn % len(self.names)]
        pid = await self._begin(f"{name}:{self.dice.choice((1, 1, 1, 2, 3))}")
        dead = asyncio.create_task(self._ended())
        try:
            async with asyncio.timeout(LIFE_S):
                work = asyncio.create_task(self._post_all(number))
                await asyncio.wait({dead, work}, return_when=asyncio.FIRST_COMPLETED)
                if not dead.done():
                    await asyncio.wait({dead}, timeout=self.dice.uniform(0.1, 1.0))
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        except TimeoutError:
            pass
        self.tally.kills[name if dead.done() or not _kill(pid) else "anywhere"] += 1
        await dead

    async def _post_all(self, number: int) -> None:
        """What Alertmanager would send now, as often as it takes; some of it twice, some of it late."""
        if self.dice.random() < 0.3:
            await asyncio.gather(self._post(number, "firing"), self._post(number, "firing"))
        else:
            await self._post(number, "firing")
        if number:
            await self._post(number - 1, "resolved")
            if self.dice.random() < 0.3:
                await self._post(number - 1, "firing")

    async def _post(self, number: int, status: str) -> None:
        """Until it is acknowledged."""
        since = self.began.setdefault(number, datetime.now(UTC).isoformat())
        labels = {"alertname": "A", "class": "high_ttft", "severity": "warning", "instance": f"t{number}"}
        alert = {"status": status, "labels": labels, "annotations": {}, "startsAt": since}
        while True:
            try:
                async with self.http.post(
                    f"http://127.0.0.1:{self.port}/api/v1/alerts", json={"version": "4", "alerts": [alert]}
                ) as answer:
                    if answer.status == 200:
                        return
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.005)

    async def _settle(self, kills: int) -> None:
        """A life in peace: everything that was begun is told to its end."""
        async with asyncio.timeout(SETTLES_S):  # a life that has ended by itself has told why
            for number in range(kills):
                await self._post(number, "firing")
                await self._post(number, "resolved")
        limit = time.monotonic() + SETTLES_S
        while time.monotonic() < limit and not await asyncio.to_thread(self._quiet):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def _quiet(self) -> bool:
        waiting = self.memory.rows(
            "SELECT (SELECT count(*) FROM intake) + (SELECT count(*) FROM incidents WHERE stage<>'resolved') + "
            "(SELECT count(*) FROM deliveries WHERE state='pending') + "
            "(SELECT count(*) FROM obligations WHERE state='open')"
        )
        return waiting[0][0] == 0

    async def _check(self, kills: int) -> None:
        tally, where = self.tally, self.data.name
        tally.episodes += kills
        rows = self.memory.rows("SELECT id, target, state, stage FROM incidents")
        of_target: dict[str, list[str]] = {f"t{n}": [] for n in range(kills)}
        for name, target, _, _ in rows:
            of_target[target].append(name)
        told = Counter((incident, stage) for _, incident, stage in set(self.world.told))
        tally.messages += len(self.world.told)
        tally.repeated += len(self.world.told) - len(set(self.world.told))
        for target, names in of_target.items():
            tally.lost += [f"{where} {target}"] if not names else []
            tally.double += [f"{where} {names}"] if len(names) > 1 else []
            for name in names:
                short = [stage for stage in ("final", "resolved") if told[name, stage] == 0]
                tally.untold += [f"{where} {name}: no {' and no '.join(short)}"] if short else []
                more = [stage for stage in ("final", "resolved") if told[name, stage] > 1]
                tally.double += [f"{where} {name}: more than one {more}"] if more else []
        tally.disturbed += sum(self.world.disturbed.values())
        tally.orphans += [f"{where} {i}: disturbed {n} times" for i, n in self.world.disturbed.items() if n > 1]
        tally.orphans += [f"{where} {target}: a profile left running" for target in self.world.active]
        tally.orphans += [f"{where} {row}" for row in self.memory.rows(
            "SELECT incident, evidence FROM steps WHERE state='started' UNION ALL "
            "SELECT target, id FROM obligations WHERE state='open'")]  # fmt: skip
        tally.orphans += [f"{path}" for path in (self.data / "incidents").rglob(".tmp-*")]

    async def _begin(self, kill: str) -> int:
        """Begin a life; its pid, once it answers or has died."""
        owes = kill.startswith("obligation") or self.dice.random() < OWES_SHARE
        spec = {"dir": str(self.data), "port": self.port, "server": self.server, "targets": BATCH, "kill": kill,
                "owes": owes, "round_s": self.round_s, **self.memory.spec}  # fmt: skip
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        began = time.monotonic()
        self.nursery.stdin.write(json.dumps(spec).encode() + b"\n")
        await self.nursery.stdin.drain()
        pid = int(json.loads(await self.nursery.stdout.readline())["pid"])
        if not kill:
            await self._answers()
            self.tally.restart_s.append(time.monotonic() - began)
        return pid

    async def _answers(self) -> None:
        limit = time.monotonic() + SETTLES_S
        while time.monotonic() < limit:
            try:
                async with self.http.get(f"http://127.0.0.1:{self.port}/readyz"):
                    return
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.005)

    async def _ended(self) -> int:
        assert self.nursery.stdout is not None
        code = int(json.loads(await self.nursery.stdout.readline())["ended"])
        await asyncio.to_thread(self.memory.died)
        return code


def free_port() -> int:
    """A port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kill(pid: int) -> bool:
    """End it wherever it is; False when it has just reached its place."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


async def kill_often(
    kills: int, lanes: int, names: tuple[str, ...] = NAMES, seed: int = 1, cluster: Cluster | None = None
) -> Tally:  # fmt: skip
    """So many kills over so many lanes side by side; on SQLite, or on databases of their own in `cluster`."""
    total = Tally()
    with tempfile.TemporaryDirectory() as scratch:
        share = -(-kills // lanes)
        urls = [cluster.new_database(f"lane{n}") if cluster else "" for n in range(lanes)]
        folder = pathlib.Path(scratch)
        parts = [Lane(seed * 1000 + 97 * n, folder, names, url).run(share) for n, url in enumerate(urls)]
        for part in await asyncio.gather(*parts):
            total.add(part)
    return total


def kill_often_on_postgres(kills: int, lanes: int, seed: int = 1) -> Tally:
    """The same on a PostgreSQL of our own. PostgresMissing in words."""
    with running() as cluster:
        return asyncio.run(kill_often(kills, lanes, seed=seed, cluster=cluster))


def tell(tally: Tally, seconds: float) -> str:
    """The figures."""
    kills = sum(tally.kills.values())
    places = sorted(name for name in tally.kills if name != "anywhere")
    least = min((tally.kills[name] for name in places), default=0)
    restart = sorted(tally.restart_s)
    lines = [
        f"{kills} SIGKILLs in {seconds:.0f} s ({kills / seconds * 60:.0f} a minute), {len(places)} of {len(NAMES)} "
        f"named places (at least {least} at each), {tally.kills['anywhere']} anywhere",
        f"{tally.episodes} acknowledged episodes: {len(tally.lost)} lost, {len(tally.double)} doubled",
        f"{tally.disturbed} captures that disturb, {len(tally.orphans)} left over or run twice",
        f"final reports or ends not told: {len(tally.untold)}",
        f"{tally.messages} messages arrived, {tally.repeated} of them again, with the id they had",
        f"from fork to answering, after kills: median {restart[len(restart) // 2]:.2f} s, worst {restart[-1]:.2f} s",
    ]
    missing = sorted(set(NAMES) - set(places))
    lines += [f"never reached: {', '.join(missing)}"] if missing else []
    lines += [*tally.lost, *tally.double, *tally.orphans, *tally.untold][:20]
    return "\n".join(lines)
