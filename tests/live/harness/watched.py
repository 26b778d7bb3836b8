"""What does the daemon tell people while a scenario plays? Server, Prometheus, receiver, daemon and load together."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from tests.live.harness.daemon import Daemon
from tests.live.harness.play import Play, measure_capacity
from tests.live.harness.prometheus_server import PrometheusServer
from tests.live.harness.receiver import Received, Report, WebhookReceiver
from tests.live.harness.scenarios import USUAL, Scenario
from tests.live.harness.vllm_server import VllmServer

BASELINE_S = 45.0
"""Usual traffic before the fault, for the daemon to know what usual is."""
HOLD_DOWN_S = 10.0
"""Without symptoms before an incident is over: what is proven here is that its end is told. The tests of correlation
prove that it holds as long as it should."""
OPENED_WITHIN_S = 90.0
FINAL_WITHIN_S = 90.0
RESOLVED_WITHIN_S = 180.0
"""How long an experiment waits before it gives up; what is fast enough is for the tests to say."""


@dataclass
class Told:
    """What people were told about one incident, and how long after the fault began (seconds)."""

    began: float
    first: Received
    final: Received
    resolved: Received | None = None
    served_on: bool | None = None

    @property
    def opened_after_s(self) -> float:
        """Fault → incident opened, by the daemon's clock, which is ours."""
        opened = datetime.fromisoformat(self.first.body["incident"]["opened_at"])
        return opened.timestamp() - self.began

    @property
    def reported_after_s(self) -> float:
        """Fault → first message received."""
        return self.first.at - self.began

    @property
    def cause_named_after_s(self) -> float | None:
        """Opened → a cause named, as the daemon measured it."""
        value = self.final.body["timings"]["first_cause_s"]
        return None if value is None else float(value)

    @property
    def complete_after_s(self) -> float:
        """Fault → complete report received."""
        return self.final.at - self.began

    @property
    def id(self) -> str:
        """The incident's id."""
        return str(self.final.body["incident"]["id"])


@dataclass
class Watched:
    """A server under load with a daemon that watches it."""

    scenario: Scenario
    server: VllmServer
    prometheus: PrometheusServer | None
    """None: the daemon runs a private one."""
    receiver: WebhookReceiver
    daemon: Daemon
    play: Play

    async def first(self) -> Received:
        """The first message about an open incident."""
        return await self.receiver.first(lambda r: r["incident"]["state"] == "open", within_s=OPENED_WITHIN_S)

    async def final(self, incident: str) -> Received:
        """The complete report of that incident."""
        return await self.receiver.first(lambda r: _is(r, incident, "final"), within_s=FINAL_WITHIN_S)

    async def resolved(self, incident: str) -> Received:
        """The message that the incident is over."""
        return await self.receiver.first(lambda r: _is(r, incident, "resolved"), within_s=RESOLVED_WITHIN_S)

    async def serves(self, timeout_s: float = 90.0) -> bool:
        """Whether a completion comes back."""
        return await asyncio.to_thread(self.server.completes, timeout_s=timeout_s)

    async def investigate(self, *, until_resolved: bool = True) -> Told:
        """The whole experiment: fault until the complete report is there, then whether it serves on and is resolved."""
        async with self.play.fault() as began:
            first = await self.first()
            told = Told(began, first, await self.final(first.body["incident"]["id"]))
        if self.scenario.deadly:
            self.server.end()
            await self.revive()
        told.served_on = await self.serves()
        if until_resolved:
            told.resolved = await self.resolved(told.id)
        return told

    async def revive(self) -> None:
        """Start the server again on its port, as a supervisor would."""
        self.server.launch()
        await asyncio.to_thread(self.server.wait_until_up)


def _is(report: Report, incident: str, stage: str) -> bool:
    return bool(report["incident"]["id"] == incident and report["stage"] == stage)


class Servers:
    """One vLLM at a time, kept between experiments, started again when the last one killed it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._server: VllmServer | None = None
        self._capacity: dict[tuple[str, ...], float] = {}

    def get(self, flags: tuple[str, ...]) -> VllmServer:
        """A server with these flags that serves."""
        if self._server is not None and self._server.flags == flags and self._server.completes(timeout_s=60):
            return self._server
        self.end()
        self._server = VllmServer(self._folder, flags, name=f"vllm-{len(list(self._folder.glob('vllm-*.log')))}")
        self._server.start()
        return self._server

    async def capacity(self, server: VllmServer) -> float:
        """Requests per second of the usual kind it can answer; measured once for each set of flags."""
        if server.flags not in self._capacity:
            self._capacity[server.flags] = await measure_capacity(server, USUAL)
        return self._capacity[server.flags]

    def end(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.end()
            self._server = None


@contextlib.asynccontextmanager
async def watched(
    scenario: Scenario,
    servers: Servers,
    folder: pathlib.Path,
    *,
    baseline_s: float = BASELINE_S,
    private_prometheus: bool = False,
) -> AsyncIterator[Watched]:
    """Everything up, and `baseline_s` of usual traffic behind us; everything but the vLLM server ends afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    server = servers.get(scenario.server)
    fixed = scenario.on(await servers.capacity(server))
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(WebhookReceiver())
        prometheus = None
        if not private_prometheus:
            prometheus = stack.enter_context(PrometheusServer(folder / "prometheus", [server.url]))
        source = prometheus.url if prometheus else None
        settings = {"hold_down": f"{HOLD_DOWN_S:.0f}s"}
        daemon = Daemon(folder, server.url, source, receiver.url, thresholds=scenario.thresholds, settings=settings)
        stack.enter_context(daemon)
        play = await stack.enter_async_context(Play(fixed, server))
        await asyncio.sleep(baseline_s)
        yield Watched(fixed, server, prometheus, receiver, daemon, play)
