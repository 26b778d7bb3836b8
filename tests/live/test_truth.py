"""Does the daemon tell the truth about a real vLLM? Each test makes one fault and reads what a receiver was told.

Servers are kept between tests, so tests of one server stand together and the one that kills it comes last.
"""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from tests.live.harness import scenarios
from tests.live.harness.figures import note
from tests.live.harness.receiver import tell
from tests.live.harness.scenarios import Scenario
from tests.live.harness.watched import Servers, Told, watched

pytestmark = pytest.mark.timeout(900)

HANG_REPORTED_WITHIN_S = 15.0
"""Fault → message received."""
SLOW_FOUND_WITHIN_S = 45.0
"""Fault → incident opened."""
CAUSE_NAMED_WITHIN_S = 20.0
COMPLETE_WITHIN_S = 60.0


BEFORE_A_HANG_S = 20.0
"""Of usual traffic: neither a hang nor an end is told by comparison with it."""


def judge(scenario: Scenario, told: Told, *, resolved: bool = True) -> None:
    """Class, first cause, speed, service and resolution: all that a woken engineer relies on."""
    note(scenario, told)
    report = told.final.body
    assert report["incident"]["class"] == scenario.incident_class, tell(report)
    assert report["hypotheses"][0]["cause"] in scenario.causes, tell(report)
    assert report["hypotheses"][0]["status"] in ("confirmed", "probable"), tell(report)
    if scenario.incident_class == "hang_or_crash":
        assert told.reported_after_s <= HANG_REPORTED_WITHIN_S, tell(told.first.body)
    assert told.opened_after_s <= SLOW_FOUND_WITHIN_S, tell(told.first.body)
    assert told.cause_named_after_s is not None
    assert told.cause_named_after_s <= CAUSE_NAMED_WITHIN_S
    assert report["timings"]["report_s"] <= COMPLETE_WITHIN_S
    assert told.served_on, "the server did not answer a completion after the fault"
    if resolved:
        assert told.resolved is not None
        assert told.resolved.body["incident"]["state"] == "resolved"
        assert told.resolved.body["incident"]["resolved_at"] is not None


async def test_capacity_exceeded(servers: Servers, tmp_path: pathlib.Path) -> None:
    """Arrivals over what the server can answer, with KV cache to spare, are a capacity problem."""
    async with watched(scenarios.SPIKE, servers, tmp_path) as lab:
        told = await lab.investigate()
    judge(scenarios.SPIKE, told)


async def test_prefix_cache_collapse(servers: Servers, tmp_path: pathlib.Path) -> None:
    """Same arrivals, same lengths, but nothing is found in the prefix cache any more."""
    async with watched(scenarios.PREFIX_COLLAPSE, servers, tmp_path) as lab:
        told = await lab.investigate(until_resolved=False)
    judge(scenarios.PREFIX_COLLAPSE, told, resolved=False)


async def test_engine_hang(servers: Servers, tmp_path: pathlib.Path) -> None:
    """A stopped engine answers /health with 200 all the while; it is reported as hung, and serves on when woken."""
    async with watched(scenarios.ENGINE_HANG, servers, tmp_path, baseline_s=BEFORE_A_HANG_S) as lab:
        told = await lab.investigate()
    judge(scenarios.ENGINE_HANG, told)


async def test_worker_hang_is_told_from_engine_hang(servers: Servers, tmp_path: pathlib.Path) -> None:
    """In the metrics a stopped worker looks exactly like a stopped engine; the processes tell. Without a Prometheus of
    the operator's: `responder run --target URL` brings its own."""
    async with watched(
        scenarios.WORKER_HANG, servers, tmp_path, baseline_s=BEFORE_A_HANG_S, private_prometheus=True
    ) as lab:
        told = await lab.investigate()
    judge(scenarios.WORKER_HANG, told)


async def test_frontend_frozen(servers: Servers, tmp_path: pathlib.Path) -> None:
    """A stopped API server accepts connections and answers nothing."""
    async with watched(scenarios.FRONTEND_FROZEN, servers, tmp_path, baseline_s=BEFORE_A_HANG_S) as lab:
        told = await lab.investigate(until_resolved=False)
    judge(scenarios.FRONTEND_FROZEN, told, resolved=False)


async def test_burst_stays_silent(servers: Servers, tmp_path: pathlib.Path) -> None:
    """A healthy server with a ten-second burst wakes nobody, and the daemon was looking all the time."""
    async with watched(scenarios.BURST, servers, tmp_path) as lab:
        async with lab.play.fault():
            await asyncio.sleep(scenarios.BURST.fault_s)
        await asyncio.sleep(60)
        looked = sum(lab.daemon.metric("responder_evaluations_total").values())
        served = await lab.serves()
    felt = lab.play.felt("fault")
    assert lab.receiver.told() == []
    assert looked >= 30, f"only {looked:.0f} rounds of evaluation in two minutes"
    assert felt.calls > 5 * scenarios.BURST.usual.rate, "the burst did not happen"
    assert served


async def test_daemon_killed_mid_incident(servers: Servers, tmp_path: pathlib.Path) -> None:
    """kill -9 of the daemon loses nothing: the next start goes on with the same incident and tells its end."""
    async with watched(scenarios.ENGINE_HANG, servers, tmp_path, baseline_s=BEFORE_A_HANG_S) as lab:
        async with lab.play.fault():
            first = await lab.first()
            lab.daemon.kill()
            before = len(lab.receiver.received)
            lab.daemon.start()
            incident = first.body["incident"]["id"]
            final = await lab.final(incident)
        resolved = await lab.resolved(incident)
        served = await lab.serves()
    assert final.body["incident"]["onset_at"] == first.body["incident"]["onset_at"]
    assert resolved.body["revision"] > first.body["revision"]
    assert {r["incident"]["id"] for r in lab.receiver.reports[before:]} == {incident}
    assert served


async def test_engine_killed(servers: Servers, tmp_path: pathlib.Path) -> None:
    """A killed engine takes the server along; the cause is still known afterwards, from log and processes."""
    async with watched(scenarios.ENGINE_KILLED, servers, tmp_path, baseline_s=BEFORE_A_HANG_S) as lab:
        told = await lab.investigate()
    judge(scenarios.ENGINE_KILLED, told)


async def test_kv_starvation(servers: Servers, tmp_path: pathlib.Path) -> None:
    """Long generations with too little KV cache: preemptions, fewer running than allowed, a queue."""
    async with watched(scenarios.KV_STARVATION, servers, tmp_path) as lab:
        told = await lab.investigate()
    judge(scenarios.KV_STARVATION, told)
