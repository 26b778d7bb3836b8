"""What goes on around the lab's server: sent while it lasts, and over afterwards; shapes of traffic over time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bench.faults import bystanders
from bench.faults.scenario import Injection
from bench.faults.traffic import shaped_at
from tests.live.harness.load import Traffic

USUAL = Traffic(rate=8.0, prompt_tokens=1000)


@contextlib.asynccontextmanager
async def server(seen: list[tuple[str, str, int]]) -> AsyncIterator[str]:
    """Keeps method, path and size of each request; answers 404."""

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, len(await request.read())))
        return web.Response(status=404, text="x" * 5000)

    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
    assert site._server is not None
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


async def until(seen: list[tuple[str, str, int]], count: int) -> None:
    async with asyncio.timeout(20):
        while len(seen) < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("what", "method", "least"),
    [
        (Injection(kind="ask", path="/health", per_second=200), "GET", 0),
        (Injection(kind="ask", path="/v1/completions", model="gone", per_second=200), "POST", 20),
        (Injection(kind="ask", path="/v1/completions", body_tokens=5000, per_second=200), "POST", 10_000),
        (Injection(kind="ask", path="/tokenize", body_words=5000, per_second=200), "POST", 10_000),
    ],
)
async def test_requests_are_sent_while_it_lasts(what: Injection, method: str, least: int) -> None:
    """A GET without a body, else a POST; refused ones are asked again, and none comes afterwards."""
    seen: list[tuple[str, str, int]] = []
    async with server(seen) as url:
        async with bystanders.asking(url, what):
            await until(seen, 4)
        count = len(seen)
        await asyncio.sleep(0.05)
        assert len(seen) <= count + 1
    assert {(entry[0], entry[1]) for entry in seen} == {(method, what.path)}
    assert all(entry[2] >= least for entry in seen)


async def test_who_lingers_asks_and_reads_slowly() -> None:
    """Each client has one request under way."""
    seen: list[tuple[str, str, int]] = []
    async with server(seen) as url, bystanders.lingering(url, 3):
        await until(seen, 3)
    assert len(seen) == 3


async def test_who_knocks_sends_no_request() -> None:
    """The server hears half of one at most, and serves on."""
    seen: list[tuple[str, str, int]] = []
    async with server(seen) as url:
        async with bystanders.knocking(url, 100.0):
            await asyncio.sleep(0.2)
        async with aiohttp.ClientSession() as http, http.get(f"{url}/well") as answer:
            assert answer.status == 404
    assert seen == [("GET", "/well", 0)]


async def test_idle_connections_are_open_and_say_nothing() -> None:
    """Nothing is asked on them."""
    seen: list[tuple[str, str, int]] = []
    async with server(seen) as url, bystanders.connected(url, 20):
        pass
    assert seen == []


async def test_a_process_stands_still_once_and_goes_on() -> None:
    """By itself, while the rest of the experiment holds; and in any case at its end."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        async with bystanders.frozen(child.pid, 0.1):
            async with asyncio.timeout(20):
                while state(child.pid) != "T":
                    await asyncio.sleep(0.005)
                while state(child.pid) == "T":
                    await asyncio.sleep(0.005)
        async with bystanders.frozen(child.pid, 60):
            async with asyncio.timeout(20):
                while state(child.pid) != "T":
                    await asyncio.sleep(0.005)
        os.waitid(os.P_PID, child.pid, os.WCONTINUED | os.WNOHANG)
        assert state(child.pid) != "T"
    finally:
        child.kill()
        child.wait(10)


async def test_a_process_stands_still_again_and_again() -> None:
    """And goes on at the experiment's end, wherever it was."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        async with bystanders.hiccuping(child.pid, 0.02, 0.04), asyncio.timeout(20):
            for wanted in "TSTS":
                while state(child.pid) not in (wanted, "R" if wanted == "S" else wanted):
                    await asyncio.sleep(0.001)
        assert state(child.pid) != "T"
    finally:
        child.kill()
        child.wait(10)


async def test_all_processes_run_in_the_same_part_of_each_period() -> None:
    """And all go on at the experiment's end; one that is gone meanwhile holds up nobody."""
    children = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(3)]
    try:
        async with bystanders.throttled([c.pid for c in children], 0.5, 0.2), asyncio.timeout(20):
            for wanted in "TSTS":
                while {state(c.pid) for c in children} - {wanted, "R" if wanted == "S" else wanted}:
                    await asyncio.sleep(0.001)
            children[0].kill()
            children[0].wait(10)
        assert all(state(c.pid) != "T" for c in children[1:])
    finally:
        for child in children:
            child.kill()
            child.wait(10)


@contextlib.asynccontextmanager
async def told(seen: list[str]) -> AsyncIterator[None]:
    seen.append("in")
    try:
        yield
    finally:
        seen.append("out")


async def test_it_comes_and_goes() -> None:
    """The first spell is there when the fault begins, and none outlasts it."""
    seen: list[str] = []
    async with bystanders.in_spells(lambda: told(seen), 0.0, 0.01, 0.02), asyncio.timeout(20):
        assert seen[0] == "in"
        while len(seen) < 5:
            await asyncio.sleep(0.005)
    assert seen.count("in") == seen.count("out")


async def test_it_begins_later_and_holds_to_the_end() -> None:
    """Or it is not needed any more before it began."""
    seen: list[str] = []
    async with bystanders.in_spells(lambda: told(seen), 60.0, None, None):
        await asyncio.sleep(0.01)
    assert seen == []
    async with bystanders.in_spells(lambda: told(seen), 0.01, None, None), asyncio.timeout(20):
        while not seen:
            await asyncio.sleep(0.005)
    assert seen == ["in", "out"]


@contextlib.asynccontextmanager
async def broken() -> AsyncIterator[None]:
    raise RuntimeError("no neighbour")
    yield


async def test_a_fault_that_cannot_be_made_ends_the_experiment() -> None:
    """It is not taken for one that was made."""
    with pytest.raises(RuntimeError, match="no neighbour"):
        async with bystanders.in_spells(broken, 0.0, None, None):
            pass


def test_an_asked_request_may_have_more_fields() -> None:
    """They replace those that are there."""
    asked = bystanders.request_of(Injection(kind="ask", body_tokens=2, options={"echo": True, "max_tokens": 1}))
    assert asked is not None
    assert (asked["prompt"], asked["echo"], asked["max_tokens"]) == ([7, 7], True, 1)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(
    ("shape", "elapsed", "rate", "prompt"),
    [
        ("bursts", 1.0, 8.0, 1000), ("bursts", 10.0, 2.0, 1000), ("bursts", 31.0, 8.0, 1000), ("fade", 30.0, 4.0, 1000),
        ("fade", 90.0, 0.0, 1000), ("grow", 0.0, 8.0, 100), ("grow", 60.0, 8.0, 1000), ("ramp", 40.0, 8.0, 1000),
        ("outage", 19.0, 0.0, 1000), ("outage", 21.0, 20.0, 1000), ("outage", 30.0, 8.0, 1000),
    ],
)  # fmt: skip
def test_traffic_has_a_shape(shape: str, elapsed: float, rate: float, prompt: int) -> None:
    """Rates and lengths so many seconds after the stream began."""
    found = shaped_at(USUAL, shape, elapsed)
    assert found.rate == pytest.approx(rate)
    assert found.prompt_tokens == prompt
