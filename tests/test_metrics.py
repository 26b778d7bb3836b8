"""Prometheus answers: the real shape is read, everything else is silence, nothing blocks the loop for long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from responder import metrics
from responder.metrics import Prometheus, PrometheusBusy, PrometheusSilent, asked_interval, gap_of, number
from responder.model import Target

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


async def test_where_there_are_no_targets_to_ask_about_samples_tell_the_scrape_interval() -> None:
    """Thanos, Mimir and VictoriaMetrics answer queries only; of several servers the slowest counts."""

    async def answer(request: web.Request) -> web.Response:
        if "targets" in request.path:
            return web.Response(status=404)
        rows = [
            {"metric": {"pod": pod}, "values": [[1000.0 + every * i, "1"] for i in range(6)]}
            for pod, every in (("a", 15.0), ("b", 30.02), ("other", 60.0))
        ]
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": rows}})

    async with serving(answer) as url:
        prometheus = Prometheus(url)
        targets = {name: Target(name=name, url="http://h:1", match={"pod": name}) for name in ("a", "b")}
        assert await asked_interval(prometheus, targets) == 30.0
        assert gap_of([0.0, 15.0, 30.0]) is None
        prometheus.close()


async def test_a_store_that_answers_in_part_or_later_says_so() -> None:
    """Warnings are kept, once each; 429 is no refusal but a wish for time; a gateway without POST is asked with GET."""
    answers = [
        web.json_response({"status": "success", "warnings": ["store away"], "data": {"result": []}}),
        web.json_response({"status": "success", "warnings": ["store away"], "data": {"result": []}}),
        web.Response(status=429, headers={"Retry-After": "3"}, text="slow down"),
    ]
    methods: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        methods.append(request.method)
        return web.Response(status=405) if request.method == "POST" else answers.pop(0)

    async with serving(answer) as url:
        prometheus = Prometheus(url, headers={"X-Scope-OrgID": "a"})
        assert [await prometheus.range("up", 0.0, 1.0, 1.0) for _ in range(2)] == [[], []]
        assert list(prometheus.warnings) == ["store away"]
        assert methods == ["POST", "GET", "GET"]
        with pytest.raises(PrometheusBusy, match="429: slow down") as busy:
            await prometheus.range("up", 0.0, 1.0, 1.0)
        assert busy.value.after_s == 3.0
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
