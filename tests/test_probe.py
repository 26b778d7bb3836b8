"""The probe: it tells idle from hung, asks rarely, and never mistakes its own blindness for a fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from responder.ask import newly_connected
from responder.model import Expectation, ProcessInfo, Target
from responder.probe import Probe, Senses, merge


@dataclass(frozen=True)
class Answer:
    ok: bool
    seconds: float = 0.1
    asked: bool = True


class World:
    """A vLLM-like server, a clock we turn, and a canary that does what the test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.health = 200
        self.load: object = web.json_response
        self.answer = Answer(True)
        self.hold: asyncio.Event | None = None
        self.asked = 0
        self.open_connections: int | None = 3
        self.dead: set[int] = set()
        self.full = False
        self.heard_on: list[asyncio.Transport | None] = []

    async def canary(self, _: Target, __: float) -> Answer:
        self.asked += 1
        if self.hold:
            await self.hold.wait()
        return self.answer

    def alive(self, processes: Sequence[ProcessInfo]) -> Sequence[ProcessInfo]:
        return [p for p in processes if p.pid not in self.dead]


@pytest.fixture
async def scene() -> AsyncIterator[tuple[World, Probe]]:
    world = World()

    async def health(request: web.Request) -> web.Response:
        world.heard_on.append(request.transport)
        if world.full and len(world.heard_on) > 1 and request.transport is not world.heard_on[0]:
            # As a server that is out of file descriptors: whom it does not know, it cuts off.
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=world.health)

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as http, newly_connected() as newcomer:
        senses = Senses(http, newcomer, lambda: world.now, world.canary, lambda _: world.open_connections, world.alive)
        probe = Probe(Target(name="t", url=url), senses, canary_interval_s=10.0)
        yield world, probe
        await probe.stop()
    await runner.cleanup()


def value(probe: Probe, signal: str, now: float) -> float | None:
    found = [s.value for s in probe.samples(now) if s.signal == signal]
    return found[0] if found else None


async def settle(probe: Probe) -> None:
    if probe._canary:
        await asyncio.gather(probe._canary, return_exceptions=True)


async def test_while_tokens_flow_nobody_asks_for_a_canary(scene: tuple[World, Probe]) -> None:
    """Progress proves life."""
    world, probe = scene
    for tick in range(10):
        probe.progress(float(tick), world.now)
        await probe.look()
        world.now += 2
    assert world.asked == 0
    assert value(probe, "responder_probe_canary_stuck_seconds", world.now) is None


async def test_a_quiet_server_is_asked_at_most_once_an_interval_and_its_answer_is_no_symptom(
    scene: tuple[World, Probe],
) -> None:
    """An idle night: answered canaries leave `stuck` at 0."""
    world, probe = scene
    for _ in range(21):
        probe.progress(5.0, world.now)
        await probe.look()
        await settle(probe)
        world.now += 1
    assert world.asked == 2
    assert value(probe, "responder_probe_canary_stuck_seconds", world.now) == 0
    assert probe.responsive(world.now) is True


async def test_a_canary_that_does_not_return_is_stuck_since_it_was_sent(scene: tuple[World, Probe]) -> None:
    """The seconds count from the sending, through the deadline and further canaries that fail as well."""
    world, probe = scene
    world.hold = asyncio.Event()
    probe.progress(5.0, world.now)
    world.now += 5
    probe.progress(5.0, world.now)
    await probe.look()
    world.now += 6
    assert value(probe, "responder_probe_canary_stuck_seconds", world.now) == 6
    assert value(probe, "responder_probe_flat_seconds", world.now) == 5
    assert probe.responsive(world.now) is False
    world.answer = Answer(False)
    world.hold.set()
    await settle(probe)
    world.now += 10
    probe.progress(5.0, world.now)
    await probe.look()
    await settle(probe)
    assert value(probe, "responder_probe_canary_stuck_seconds", world.now) == 16
    probe.progress(6.0, world.now + 1)
    world.now += 1
    await probe.look()
    assert value(probe, "responder_probe_canary_stuck_seconds", world.now) == 0


async def test_a_canary_that_could_not_even_be_sent_says_nothing_about_a_hang(scene: tuple[World, Probe]) -> None:
    """No model name, wrong key: the front end answered by itself."""
    world, probe = scene
    world.answer = Answer(False, asked=False)
    probe.progress(5.0, world.now)
    world.now += 5
    probe.progress(5.0, world.now)
    await probe.look()
    await settle(probe)
    assert value(probe, "responder_probe_canary_stuck_seconds", world.now + 30) == 0


async def test_a_silent_prometheus_does_not_make_a_server_look_frozen(scene: tuple[World, Probe]) -> None:
    """Flat seconds grow only as far as somebody looked."""
    world, probe = scene
    probe.progress(5.0, world.now)
    probe.progress(None, world.now + 100)
    assert value(probe, "responder_probe_flat_seconds", world.now + 100) == 0


async def test_switched_off_means_never(scene: tuple[World, Probe]) -> None:
    """canary: false."""
    world, probe = scene
    probe.target = probe.target.model_copy(update={"canary": False})
    probe.progress(5.0, world.now)
    world.now += 60
    probe.progress(5.0, world.now)
    await probe.look()
    assert world.asked == 0


async def test_unhealthy_refused_and_gone_are_told_apart(scene: tuple[World, Probe]) -> None:
    """503 is reachable; a closed port is refused; a dead process is seen by its pid and start time."""
    world, probe = scene
    world.health = 503
    probe.processes = (
        ProcessInfo(pid=1, ppid=0, started_at=0, role="api_server", name="a"),
        ProcessInfo(pid=2, ppid=1, started_at=0, role="engine_core", name="e"),
    )
    await probe.look()
    assert value(probe, "responder_probe_health_status", 0) == 503
    assert value(probe, "responder_probe_reachable", 0) == 1
    assert value(probe, "responder_probe_process_gone", 0) == 0
    world.dead.add(2)
    probe.target = probe.target.model_copy(update={"url": "http://127.0.0.1:1"})
    await probe.look()
    assert value(probe, "responder_probe_refused", 0) == 1
    assert value(probe, "responder_probe_reachable", 0) == 0
    assert value(probe, "responder_probe_health_status", 0) is None
    assert value(probe, "responder_probe_process_gone", 0) == 1


async def test_the_processes_of_an_earlier_server_are_no_loss(scene: tuple[World, Probe]) -> None:
    """After a restart the port answers again before the new processes are known; of two API servers one may be lost."""
    world, probe = scene
    probe.processes = (
        ProcessInfo(pid=1, ppid=0, started_at=0, role="api_server", name="a"),
        ProcessInfo(pid=2, ppid=1, started_at=0, role="engine_core", name="e"),
    )
    world.dead |= {1, 2}
    await probe.look()
    assert value(probe, "responder_probe_reachable", 0) == 1
    assert value(probe, "responder_probe_process_gone", 0) is None
    probe.processes += (ProcessInfo(pid=3, ppid=1, started_at=0, role="api_server", name="b"),)
    await probe.look()
    assert value(probe, "responder_probe_process_gone", 0) == 1


async def test_connections_count_only_where_the_server_runs_on_this_host(scene: tuple[World, Probe]) -> None:
    """The same port on this host would be somebody else's server."""
    _, probe = scene
    await probe.look()
    assert value(probe, "responder_probe_connections", 0) is None
    probe.local = True
    await probe.look()
    assert value(probe, "responder_probe_connections", 0) == 3


async def test_samples_of_all_probes_come_as_answers_by_signal(scene: tuple[World, Probe]) -> None:
    """An expectation of throughput is a signal too, so that a rule can compare with it."""
    _, probe = scene
    probe.target = probe.target.model_copy(update={"expect": Expectation(generation_tokens_per_second=100)})
    answers = merge([probe], 5.0, ["responder_log_running"])
    assert answers["responder_log_running"] == (), "asked, and nothing known: no silence"
    (sample,) = answers["responder_expected_generation_rate"]
    assert (sample.value, sample.labels) == (100.0, {"target": "t"})


async def test_a_clock_set_back_blinds_nobody(scene: tuple[World, Probe]) -> None:
    """The engine freezes, and the clock goes back an hour: the next canary is asked now, and it is known to be flat."""
    world, probe = scene
    world.answer = Answer(False)
    for moment in (0.0, 5.0):
        world.now = 1_000_000.0 + moment
        probe.progress(5.0, world.now)
        await probe.look()
        await settle(probe)
    assert world.asked == 1
    world.now -= 3600
    for _ in range(2):
        world.now += 11
        probe.progress(5.0, world.now)
        await probe.look()
        await settle(probe)
    assert world.asked == 2
    flat, stuck = (value(probe, f"responder_probe_{name}_seconds", world.now) for name in ("flat", "canary_stuck"))
    assert (flat, stuck) == (16.0, 11.0)


async def test_a_server_that_takes_no_new_connection_is_not_reachable(scene: tuple[World, Probe]) -> None:
    """Whoever has a connection is served as ever: it is a new client's answer that is asked for each time."""
    world, probe = scene
    await probe.look()
    assert value(probe, "responder_probe_reachable", 0) == 1
    world.full = True
    await probe.look()
    assert value(probe, "responder_probe_reachable", 0) == 0
    assert value(probe, "responder_probe_refused", 0) == 0
    world.full = False
    await probe.look()
    assert value(probe, "responder_probe_reachable", 0) == 1
    assert world.heard_on.count(world.heard_on[0]) == 1
