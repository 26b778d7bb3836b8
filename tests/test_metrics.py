"""Prometheus answers: the real shape is read, everything else is silence, nothing blocks the loop for long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from responder import metrics
from responder.metrics import Prometheus, PrometheusSilent, number

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def body(result: object) -> web.Response:
    return web.Response(
        text=json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}),
        content_type="application/json",
    )


async def test_an_instant_answer_is_labels_time_and_value() -> None:
    """__name__ is dropped, NaN is None."""

    async def answer(_: web.Request) -> web.Response:
        return body(
            [{"metric": {"__name__": "up", "a": "b"}, "value": [1.5, "2"]}, {"metric": {}, "value": [1.5, "NaN"]}]
        )

    async with serving(answer) as url:
        prometheus = Prometheus(url)
        assert await prometheus.instant("up") == [({"a": "b"}, 1.5, 2.0), ({}, 1.5, None)]
        prometheus.close()


@pytest.mark.parametrize(
    "text",
    [
        "<html>welcome</html>",
        '{"status":"success","data":{"result":[{"metric":{},"val',
        '{"status":"success","data":{"result":{"a":1}}}',
        '{"status":"success","data":{"result":[{"metric":[],"value":[1,"1"]}]}}',
        '{"status":"success","data":{"result":[{"metric":{},"value":[1,1]}]}}',
        '{"status":"success","data":{"result":[{"metric":{},"value":[1,"1_000"]}]}}',
        '{"status":"error","error":"bad"}',
        "null",
        "",
    ],
)
async def test_garbage_is_silence_never_an_answer(text: str) -> None:
    """HTML, cut JSON, wrong types: PrometheusSilent, for instant and range alike."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    async with serving(answer) as url:
        prometheus = Prometheus(url)
        with pytest.raises(PrometheusSilent):
            await prometheus.instant("up")
        with pytest.raises(PrometheusSilent):
            await prometheus.range("up", 0, 1, 1)
        prometheus.close()


async def test_a_hanging_prometheus_gives_up_at_its_timeout() -> None:
    """The event loop goes on meanwhile."""
    release = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await release.wait()
        return body([])

    async with serving(answer) as url:
        prometheus = Prometheus(url, timeout_s=0.2)
        with pytest.raises(PrometheusSilent, match="in time"):
            await prometheus.instant("up")
        release.set()
        prometheus.close()


async def test_a_dead_prometheus_is_silence(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody listens; that is said at once, and not tried three times more, seconds apart, while a round waits."""
    prometheus = Prometheus("http://127.0.0.1:1", timeout_s=1)
    with pytest.raises(PrometheusSilent, match="cannot be reached"):
        await prometheus.instant("up")
    prometheus.close()
    assert [record.message for record in caplog.records if "Retrying" in record.message] == []


async def test_a_prometheus_that_has_moved_is_asked_where_it_is() -> None:
    """A private one that was started again answers at another port, and all questions go there."""

    async def answer(_: web.Request) -> web.Response:
        return body([])

    async with serving(answer) as url:
        prometheus = Prometheus("http://127.0.0.1:1", timeout_s=1)
        prometheus.url = url
        assert await prometheus.instant("up") == []
        assert await prometheus.range("up", 0, 1, 1) == []
        prometheus.close()


async def test_an_oversized_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body cap holds while reading, not after."""
    monkeypatch.setattr(metrics, "MAX_BODY", 1000)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="x" * 100_000)

    async with serving(answer) as url:
        prometheus = Prometheus(url)
        with pytest.raises(PrometheusSilent):
            await prometheus.instant("up")
        prometheus.close()


@pytest.mark.parametrize("text", ["1_000", "١", " 1", "0x1", "", "1e", 3])
def test_only_plain_numbers_are_numbers(text: object) -> None:
    """What float() would accept beyond them is refused."""
    with pytest.raises(ValueError, match="sample value"):
        number(text)


def test_infinite_is_not_a_number_we_compare() -> None:
    """NaN and infinities are None, huge exponents too."""
    assert [number(t) for t in ("NaN", "+Inf", "-Inf", "1e999", "1.5e3")] == [None, None, None, None, 1500.0]


async def test_the_scrape_interval_of_our_target_is_found() -> None:
    """Only a target with our labels counts."""

    async def answer(_: web.Request) -> web.Response:
        targets = [
            {"labels": {"instance": "x:1"}, "scrapeInterval": "1m"},
            {"labels": {"instance": "h:8000"}, "discoveredLabels": {"__scrape_interval__": "1m30s"}},
        ]
        return web.json_response({"status": "success", "data": {"activeTargets": targets}})

    async with serving(answer) as url:
        prometheus = Prometheus(url)
        assert await prometheus.scrape_interval([{"instance": "h:8000"}]) == 90.0
        assert await prometheus.scrape_interval([{"instance": "y"}]) is None
        prometheus.close()


async def test_an_answer_that_trickles_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps every single read within its timeout; a round of detection must not wait for all."""
    monkeypatch.setattr(metrics, "LONGER", 1)
    gone = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        try:
            while not gone.is_set():
                await response.write(b" ")
                await asyncio.sleep(0.02)
        except ConnectionError:
            gone.set()
        return response

    async with serving(answer) as url:
        prometheus = Prometheus(url, timeout_s=0.3)
        try:
            async with asyncio.timeout(10):
                with pytest.raises(PrometheusSilent, match="in time"):
                    await prometheus.instant("up")
                await gone.wait()
        finally:
            gone.set()
            prometheus.close()


async def test_connections_are_used_again() -> None:
    """Reading an answer to its end gives the connection back, whether its length is said or it comes in chunks."""
    peers = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        whole = body([{"metric": {}, "value": [1.5, "2"]}])
        if len(peers) % 2:
            whole.enable_chunked_encoding()
        return whole

    async with serving(answer) as url:
        prometheus = Prometheus(url)
        for _ in range(6):
            assert await prometheus.instant("up") == [({}, 1.5, 2.0)]
        prometheus.close()
    assert len(peers) == 1
