"""What is killed? One life of the daemon without metrics, charts and command line: store, intake, flow, outbox.

Run as a program this is a nursery: it has everything imported and forks a life for each line of JSON it is given, so
that a life starts in milliseconds. {"dir", "port", "server", "targets", "kill", "owes", "round_s"} -> {"pid"}, then
{"ended"}. With "database" a life is a replica on that PostgreSQL.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import pathlib
import signal
import sys
import time
import traceback
from typing import Any

import aiohttp
import structlog
from aiohttp import web
from pydantic import BaseModel

from responder import interpreter, killpoint, publish, respond
from responder.capture.step import Fetched, Scene, Step
from responder.case import Kit
from responder.config import Config
from responder.correlate import Policy
from responder.fleet import Fleet
from responder.model import Change, Target
from responder.notify.webhook import Webhook, WebhookReceiver
from responder.obligations import Obligations
from responder.outbox import Outbox
from responder.respond import Responder
from responder.store import Store
from responder.store_sqlite import SqliteStore
from responder.telemetry import Telemetry
from responder.watch import Watch
from responder.web.server import Surface, build
from tests import flow

LEASE_S = 3.0


async def _look(_: Scene) -> Fetched:
    """Says nothing for sure, so that the step that disturbs is worth its while."""
    return Fetched({"facts.json": b'{"busy": false}'})


async def _deep(scene: Scene) -> Fetched:
    """Disturbs the server: it counts how often."""
    async with scene.http.post(f"{scene.target.url}/disturb?incident={scene.incident}") as answer:
        await answer.read()
    return Fetched({"facts.json": b'{"busy": true}'})


async def _owing(scene: Scene) -> Fetched:
    """Begins something on the server, and ends it."""
    assert scene.duties is not None
    owed = await scene.duties.owe(scene.target, "deep", incident=scene.incident, within_s=30, repeat_safe=True)
    async with scene.http.post(f"{scene.target.url}/start_profile") as answer:
        await answer.read()
    await scene.duties.settle(owed.id)
    return await _deep(scene)


async def _no_charts(*_: Any) -> dict[str, str]:
    return {}


class Life:
    """The same order of things as in `app.py`."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.folder = pathlib.Path(spec["dir"])
        self.targets = {
            name: Target(name=name, url=f"{spec['server']}/{name}", match={"instance": name})
            for name in (f"t{n}" for n in range(spec["targets"]))
        }

    async def run(self) -> None:
        """Until killed, or until asked over HTTP to stop."""
        interpreter.settle()
        fleet = self.fleet = self._fleet()
        self.store: Store = fleet.store if fleet else SqliteStore(self.folder)
        self.store.open()
        self.http = aiohttp.ClientSession()
        telemetry = Telemetry()
        duties = Obligations(
            self.store, self.http, self.folder / "obligations", place=fleet.place if fleet else ""
        )  # fmt: skip
        await duties.restore()
        ended = asyncio.Event()
        runner = await self._serve(ended)
        hook = Webhook("hook", WebhookReceiver(url=f"{self.spec['server']}/hook"))
        outbox = Outbox(self.store, self.http, {"hook": hook}, self.folder, time.time)
        responder = Responder(self._kit(outbox, telemetry, duties))
        watch = Watch(
            _NoPrometheus(), self.store, telemetry, time.time, scrape_interval_s=1.0,
            policy=Policy(hold_down_s=0.0), silence_folder=self.folder / "silences",
        )  # fmt: skip
        if fleet:
            outbox.may_tell, outbox.fetch = fleet.may_tell, fleet.fetch
            await fleet.start(watch, responder, _Nobody(), duties.take_over)
            await fleet.change_hands()
        else:
            await watch.restore()
            for incident, _, _ in await self.store.incidents(untold=True):
                over = incident.state == "resolved"
                responder.handle(Change.RESOLVED if over else Change.UNCHANGED, incident)
        outbox.start()
        interpreter.started()
        while not ended.is_set():
            if fleet:
                await fleet.change_hands()
            for change, incident in await watch.tick(self.content, self._ours(), {}, (), everywhere=self.targets):
                responder.handle(change, incident)
            interpreter.sweep()
            await asyncio.sleep(self.spec["round_s"])
        await responder.stop()
        await outbox.stop()
        if fleet:
            await fleet.stop()
        await duties.stop()
        await runner.cleanup()
        await self.http.close()
        self.store.close()

    def _fleet(self) -> Fleet | None:
        if "database" not in self.spec:
            return None
        config = {"database": self.spec["database"], "data_dir": self.spec["dir"], "lease": f"{LEASE_S}s"}
        return Fleet(self.spec["database"], Config.model_validate(config), lambda: self.targets)

    def _ours(self) -> dict[str, Target]:
        return {name: t for name, t in self.targets.items() if self.fleet is None or self.fleet.looks_after(name)}

    def _kit(self, outbox: Outbox, telemetry: Telemetry, duties: Obligations) -> Kit:
        steps: list[Step] = [
            flow.step("look", _look),
            flow.step(respond.AFTERMATH, _look),  # asked once more when it is over
            flow.step("deep", _owing if self.spec["owes"] else _deep, rung=1, timeout_s=20.0),
        ]
        self.content = flow.content(*steps)
        return Kit(
            content=self.content, targets=self.targets, steps={s.name: s for s in steps}, store=self.store,
            data_dir=self.folder, http=self.http, runner=flow.NoRunner(), range_query=None, outbox=outbox,
            telemetry=telemetry, clock=time.time, duties=duties, **(self.fleet.tools() if self.fleet else {}),
        )  # fmt: skip

    async def _serve(self, ended: asyncio.Event) -> web.AppRunner:
        async def metrics() -> bytes:
            return b""

        async def ready() -> str:
            return ""

        async def stop() -> str:
            ended.set()
            return ""

        async def accept(payload: Any) -> bool:
            killpoint.reach("intake.before_commit")
            kept = await self.store.add_intake(payload, time.time(), limit=10_000)
            killpoint.reach("intake.after_commit")
            return kept

        surface = Surface(data_dir=self.folder, token=None, metrics=lambda: b"", ready=ready, accept=accept,
                          incidents=self.store.incidents, reload=stop)  # fmt: skip
        runner = web.AppRunner(build(surface), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.spec["port"], reuse_address=True).start()
        return runner


class _Nobody:
    """There is nothing to tell other replicas."""

    def healthy(self) -> list[str]:
        return []

    def disturbed(self) -> list[str]:
        return []


class _NoPrometheus:
    """There are no rules of our own here, and it remembers nothing."""

    async def raw(self, expr: str, at: float) -> list[Any]:
        return []

    async def instant(self, expr: str) -> list[Any]:
        return []

    async def range(self, expr: str, start: float, end: float, step: float) -> list[Any]:
        return []


class _Params(BaseModel):
    pass


def _die_with_parent() -> None:
    """Nobody is left to end us when the bench was ended by force."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def nursery() -> None:
    """Fork a life per line; die with our parent."""
    _die_with_parent()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    publish.charts.draw = _no_charts  # type: ignore[assignment]
    respond.FIRST_WORD_S, respond.SECOND_LOOK_S, respond.GREW_SETTLES_S = 0.05, 0.01, 0.01
    for line in sys.stdin:
        spec = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _die_with_parent()
                os.close(0)
                killpoint.arm(spec["kill"])
                asyncio.run(Life(spec).run())
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"ended": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    nursery()
