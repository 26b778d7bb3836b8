"""How does one experiment run? Usual traffic, then the fault until the report is complete, then usual traffic again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import sys
import time
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench.faults.feeling import Measured, judge
from bench.faults.inject import injected
from bench.faults.pool import Pool
from bench.faults.scenario import Scenario, servers
from bench.faults.traffic import shaped, stream, traffic
from responder.canaries.learn import record
from responder.canaries.pins import DEFAULT_PROMPTS
from responder.canaries.stored import Shelf
from responder.model import Target
from tests.live.harness import find, processes
from tests.live.harness.daemon import Daemon
from tests.live.harness.load import Load
from tests.live.harness.prometheus_server import PrometheusServer
from tests.live.harness.receiver import Report, WebhookReceiver
from tests.live.harness.vllm_server import SERVED_AS, VllmServer

FINAL_WITHIN_S = 100.0
QUIET_AFTER_S = 45.0
"""A silent control is watched this long after its disturbance."""
PIN_EVERY_S = 10.0
PROBE = {"model": SERVED_AS, "prompt": " one two three four five six", "max_tokens": 12, "temperature": 0}


@dataclass
class Outcome:
    """What was true, what was told, and what clients felt."""

    scenario: Scenario
    began: float = 0.0
    ended: float = 0.0
    capacity: float = 0.0
    felt: list[Measured] = field(default_factory=list)
    reports: dict[str, Report] = field(default_factory=dict)
    """Newest report of each incident, oldest incident first."""
    folders: dict[str, pathlib.Path] = field(default_factory=dict)
    problem: str = ""
    """Why the experiment could not be played."""

    @property
    def was_felt(self) -> bool:
        """Whether the run counts."""
        return not self.problem and all(item.holds for item in self.felt)

    @property
    def report(self) -> Report | None:
        """Of the incident that the truth is about: of the right class if there is one, else the first."""
        classes = (self.scenario.truth.class_, *self.scenario.truth.also_class)
        told = list(self.reports.values())
        return next((r for r in told if r["incident"]["class"] in classes), told[0] if told else None)


async def play(scenario: Scenario, pool: Pool, folder: pathlib.Path, *, baseline_s: float = 1e9) -> Outcome:
    """Everything up, the experiment, everything but the vLLM servers down."""
    outcome = Outcome(scenario)
    shutil.rmtree(folder, ignore_errors=True)  # an older run's incidents would be told again
    folder.mkdir(parents=True)
    replicas = pool.get(servers()[scenario.server], scenario.truth.replicas)
    outcome.capacity = await pool.capacity(replicas[0], scenario.usual)
    streams = {name: await pool.rated(replicas[0], getattr(scenario, name)) for name in ("during", "beside")}
    outcome.scenario = scenario = scenario.model_copy(update=streams)
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(WebhookReceiver())
        exporters = _exporters(folder, stack)
        urls = [s.url for s in replicas]
        prometheus = stack.enter_context(PrometheusServer(folder / "prometheus", urls, exporters=exporters))
        daemon = Daemon(folder, ",".join(s.url for s in replicas), prometheus.url, receiver.url,
                        settings=_settings(scenario, replicas, outcome.capacity))  # fmt: skip
        if scenario.truth.pinned:
            await _pin(daemon.data_dir, replicas)
        stack.enter_context(daemon)
        loads = []
        for number, server in enumerate(replicas):
            usual = stream(server.url, scenario.usual, outcome.capacity, seed=_seed(scenario, number))
            loads.append(await stack.enter_async_context(usual))
        since = time.time()
        await asyncio.sleep(min(baseline_s, scenario.truth.baseline_s))
        if receiver.received:
            raise RuntimeError(f"an incident before the fault: {receiver.told()[-1]}")
        right = await asyncio.to_thread(_answer, replicas[0])
        changed = await _fault(scenario, outcome, replicas[0], loads, receiver, pool, right)
        calls = loads[0].calls
        before = [call for call in calls if since <= call.at < outcome.began - 5]
        inside = [call for call in calls if outcome.began <= call.at < outcome.ended]
        usual_s = outcome.began - 5 - since
        outcome.felt = judge(scenario.felt, before, usual_s, inside, outcome.began, outcome.ended, changed)
        if scenario.truth.deadly:
            pool.end()
        for load in loads:
            await load.drain(20)
        outcome.folders = {path.name: path for path in daemon.folders()}
    return outcome


async def _fault(
    scenario: Scenario, outcome: Outcome, server: VllmServer, loads: Sequence[Load], receiver: WebhookReceiver,
    pool: Pool, right: str,
) -> bool | None:  # fmt: skip
    """The fault holds inside; gives whether answers changed meanwhile."""
    during, changed = scenario.during or scenario.usual, None
    async with contextlib.AsyncExitStack() as stack:
        outcome.began = time.time()
        await stack.enter_async_context(shaped(loads[0], during, outcome.capacity))
        if scenario.beside is not None:
            seed = _seed(scenario, 77)
            other = await stack.enter_async_context(stream(server.url, scenario.beside, outcome.capacity, seed=seed))
            await stack.enter_async_context(shaped(other, scenario.beside, outcome.capacity))
        await stack.enter_async_context(injected(scenario.inject, server, pool.switch))
        if any(one.kind in ("crowd", "lend") for one in scenario.inject):
            outcome.began = time.time()  # they took seconds to start, and began only now
        await _watch(scenario, outcome, receiver)
        if right and any(want.measure == "answers_changed" for want in scenario.felt):
            changed = await asyncio.to_thread(_answer, server) != right
        outcome.ended = time.time()
    loads[0].switch(traffic(scenario.usual, outcome.capacity))
    if scenario.truth.cause is None:
        await asyncio.sleep(QUIET_AFTER_S)
    _note(outcome, receiver)
    return changed


def _exporters(folder: pathlib.Path, stack: contextlib.ExitStack | contextlib.AsyncExitStack) -> list[str]:
    """Where the server has a GPU: the address of an exporter of its figures."""
    if os.environ.get("RESPONDER_LAB_DEVICE", "cpu") != "cuda":
        return []
    port = find.free_port()
    argv = [sys.executable, "-m", "bench.faults.gpu_exporter", str(port)]
    child = processes.start(argv, folder / "gpu_exporter.log", cwd=find.ROOT)
    stack.callback(processes.end, child, patience_s=2)
    return [f"127.0.0.1:{port}"]


async def _watch(scenario: Scenario, outcome: Outcome, receiver: WebhookReceiver) -> None:
    """Until the final report of the incident that counts, or until the time is up."""
    limit = time.monotonic() + scenario.hold_s
    final_by = None
    classes = (scenario.truth.class_, *scenario.truth.also_class)
    while time.monotonic() < limit and (final_by is None or time.monotonic() < final_by):
        await asyncio.sleep(0.5)
        _note(outcome, receiver)
        if scenario.truth.cause is None:
            continue
        for report in outcome.reports.values():
            right = report["incident"]["class"] in classes
            if right and report["timings"]["report_s"] is not None:
                return
            if right and final_by is None:
                final_by = time.monotonic() + FINAL_WITHIN_S
                limit = max(limit, final_by)


def _note(outcome: Outcome, receiver: WebhookReceiver) -> None:
    for received in receiver.received:
        identity = received.body["incident"]["id"]
        held = outcome.reports.get(identity)
        if held is None or received.body["revision"] > held["revision"]:
            outcome.reports[identity] = received.body


def _settings(scenario: Scenario, replicas: Sequence[VllmServer], capacity: float) -> dict[str, Any]:
    targets: list[dict[str, Any]] = [{"url": server.url} for server in replicas]
    if scenario.truth.expect_share is not None:
        rate = scenario.usual.share * capacity * scenario.usual.output_tokens
        targets[0]["expect"] = {"generation_tokens_per_second": rate * scenario.truth.expect_share}
    settings: dict[str, Any] = {"targets": targets}
    if scenario.truth.pinned:
        settings["canaries"] = {"interval": PIN_EVERY_S}
    return settings


async def _pin(data_dir: pathlib.Path, replicas: Sequence[VllmServer]) -> None:
    """What `responder canary record` does: the answers of a healthy server are kept."""
    data_dir.mkdir(parents=True, exist_ok=True)
    async with aiohttp.ClientSession() as http:
        for server in replicas:
            target = Target(name=server.url.removeprefix("http://"), url=server.url, model=SERVED_AS)
            kept = await record(http, target, DEFAULT_PROMPTS, (), loads=(0, 4), runs_per_load=2)
            Shelf(data_dir).keep(kept.record)


def _answer(server: VllmServer) -> str:
    """What it says to a fixed prompt; empty when it does not answer."""
    request = urllib.request.Request(
        f"{server.url}/v1/completions", data=json.dumps(PROBE).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(json.load(answer)["choices"][0]["text"])
    except (OSError, ValueError, KeyError):
        return ""


def _seed(scenario: Scenario, number: int) -> int:
    return zlib.crc32(f"{scenario.name} {number}".encode())
