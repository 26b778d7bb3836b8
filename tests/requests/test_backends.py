"""Are Tempo's and Jaeger's answers understood, asked for slowest first, and their silence told?"""

from __future__ import annotations

import base64
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from responder.requests.backends import (
    BackendSilent,
    Window,
    choose,
    jaeger,
    jaeger_spans,
    otlp_spans,
    requests_of,
    tempo,
)
from tests.doubles import answer, serving
from tests.requests.otlp import FULL, T0

WINDOW = Window(T0 - 60, T0 + 60)


def attribute(key: str, value: Any) -> dict[str, Any]:
    """OTLP's JSON, with numbers of 64 bits as text."""
    kind = "stringValue" if isinstance(value, str) else "intValue" if isinstance(value, int) else "doubleValue"
    return {"key": key, "value": {kind: str(value) if kind == "intValue" else value}}


def tempo_trace(number: int, seconds: float, *, hexadecimal: bool = False) -> dict[str, Any]:
    """A trace of one request, as Tempo gives it: ids in base64."""

    def ident(value: int, size: int) -> str:
        raw = value.to_bytes(size, "big")
        return raw.hex() if hexadecimal else base64.b64encode(raw).decode()

    values = {**FULL, "gen_ai.latency.e2e": seconds, "gen_ai.request.id": f"cmpl-{number}"}
    span = {
        "traceId": ident(number, 16),
        "spanId": ident(number, 8),
        "name": "llm_request",
        "kind": "SPAN_KIND_SERVER",
        "startTimeUnixNano": str(int(T0 * 1e9)),
        "endTimeUnixNano": str(int((T0 + seconds) * 1e9)),
        "status": {},
        "attributes": [attribute(k, v) for k, v in values.items()],
    }
    resource = {"attributes": [attribute("service.name", "vllm-a")]}
    return {"batches": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}


def jaeger_trace(number: int, seconds: float) -> dict[str, Any]:
    """A trace of one request with its gateway, as Jaeger gives it."""
    tags = [{"key": k, "type": "float64", "value": v} for k, v in FULL.items() if k != "gen_ai.request.id"]
    tags += [{"key": "gen_ai.request.id", "type": "string", "value": f"cmpl-{number}"},
             {"key": "gen_ai.latency.e2e", "type": "float64", "value": seconds},
             {"key": "span.kind", "type": "string", "value": "server"}]  # fmt: skip
    parent = {"refType": "CHILD_OF", "traceID": f"{number:032x}", "spanID": "aa"}
    start = int(T0 * 1e6)
    return {
        "traceID": f"{number:032x}",
        "spans": [
            {
                "traceID": f"{number:032x}",
                "spanID": f"{number:016x}",
                "operationName": "llm_request",
                "references": [parent],
                "startTime": start,
                "duration": int(seconds * 1e6),
                "tags": tags,
                "processID": "p1",
            },
            {
                "traceID": f"{number:032x}",
                "spanID": "aa",
                "operationName": "POST",
                "references": [],
                "startTime": start,
                "duration": int(seconds * 1e6) + 500_000,
                "tags": [],
                "processID": "p2",
            },
        ],
        "processes": {"p1": {"serviceName": "vllm-a", "tags": []}, "p2": {"serviceName": "gate", "tags": []}},
    }


@pytest.mark.parametrize("hexadecimal", [False, True])
def test_tempos_traces_become_requests(hexadecimal: bool) -> None:
    """Ids in base64 or hexadecimal, numbers as text."""
    (got,) = requests_of(otlp_spans(tempo_trace(5, 2.0, hexadecimal=hexadecimal)))
    assert (got.id, got.e2e, got.queue, got.prompt_tokens) == ("cmpl-5", 2.0, 0.1, 100)
    assert got.trace == f"{5:032x}"
    assert got.replica.service == "vllm-a"


def test_jaegers_traces_become_requests_with_their_gateway() -> None:
    """The parent is another service's span."""
    (got,) = requests_of(jaeger_spans({"data": [jaeger_trace(5, 2.0)]}))
    assert (got.id, got.e2e, got.gateway, got.gateway_name) == ("cmpl-5", 2.0, pytest.approx(2.5), "POST")


def test_a_request_found_twice_counts_once() -> None:
    """Both questions may bring it."""
    trace = jaeger_trace(5, 2.0)
    assert len(requests_of(jaeger_spans({"data": [trace, trace]}))) == 1


@pytest.mark.parametrize(
    "body",
    [
        None,
        3,
        [],
        {},
        {"data": 3},
        {"data": [3, {"spans": [None, {"startTime": "x"}]}]},
        {"batches": [{"scopeSpans": 4}]},
        {"batches": [{"resource": 3, "scopeSpans": [{"spans": [{"startTimeUnixNano": "x"}, 7]}]}]},
    ],
)
def test_any_json_is_survived(body: object) -> None:
    """Nothing in it is believed."""
    assert requests_of(jaeger_spans(body)) == []
    assert requests_of(otlp_spans(body)) == []


def test_the_longest_are_fetched_first_and_some_of_the_others() -> None:
    """Sixty of the slowest, an even sample of the rest."""
    chosen = choose({f"t{k:04}": float(k) for k in range(500)})
    assert chosen[:3] == ["t0499", "t0498", "t0497"]
    assert 100 <= len(chosen) <= 121


async def test_tempo_is_asked_for_a_window() -> None:
    """Search, then every chosen trace whole; one that cannot be had does not cost the others."""

    async def search(request: web.Request) -> web.Response:
        assert request.query["q"] == '{ name = "llm_request" }'
        assert int(request.query["start"]) == int(WINDOW.since)
        found = [{"traceID": f"{k:032x}", "durationMs": 1000 * k} for k in (1, 2, 3)]
        return web.json_response({"traces": found})

    routes = {
        "/api/search": search,
        f"/api/traces/{1:032x}": answer(tempo_trace(1, 1.0)),
        f"/api/traces/{2:032x}": answer(tempo_trace(2, 2.0)),
        f"/api/traces/{3:032x}": answer("gone", status=404),
    }
    async with serving(routes) as double, aiohttp.ClientSession() as http:
        got = await tempo(http, double.url, WINDOW)
    assert sorted(r.id for r in got) == ["cmpl-1", "cmpl-2"]


async def test_jaeger_is_asked_for_every_service_and_again_for_the_longest() -> None:
    """A full answer is asked for once more with a minimum duration."""
    asked = []

    async def traces(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        if "minDuration" in request.query:
            return web.json_response({"data": [jaeger_trace(99, 50.0)]})
        many = 60 if request.query["service"] == "vllm-a" else 0
        return web.json_response({"data": [jaeger_trace(k, 1.0 + k / 100) for k in range(1, many + 1)]})

    routes = {"/api/services": answer({"data": ["gate", "vllm-a"]}), "/api/traces": traces}
    async with serving(routes) as double, aiohttp.ClientSession() as http:
        got = await jaeger(http, double.url, WINDOW)
    assert len(got) == 61
    assert max(r.e2e for r in got) == 50.0
    assert [a["service"] for a in asked] == ["gate", "vllm-a", "vllm-a"]
    assert asked[0]["operation"] == "llm_request"
    assert int(asked[0]["start"]) == int(WINDOW.since * 1e6)


@pytest.mark.parametrize("reply", [answer("<html>"), answer({}, status=500), answer(json.dumps([1])[:-1])])
async def test_a_back_end_that_answers_nonsense_is_silent(reply: Any) -> None:
    """With the words of what it did."""
    async with serving({"/api/search": reply, "/api/services": reply}) as double, aiohttp.ClientSession() as http:
        with pytest.raises(BackendSilent):
            await tempo(http, double.url, WINDOW)
        with pytest.raises(BackendSilent):
            await jaeger(http, double.url, WINDOW)


async def test_a_back_end_that_is_gone_is_silent() -> None:
    """Nobody listens."""
    async with aiohttp.ClientSession() as http:
        with pytest.raises(BackendSilent, match="refused"):
            await tempo(http, "http://127.0.0.1:9", WINDOW)
