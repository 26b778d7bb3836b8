"""Are a server's own requests found, from the first source that has some, and its absence told in words?"""

from __future__ import annotations

import time

import aiohttp
import pytest

from responder.config import RequestsPart
from responder.model import Inventory, ProcessInfo, Target
from responder.requests.desk import Desk, of_target, open_desk, recent, stored
from responder.requests.record import Replica, Request, replace, restore
from responder.requests.ring import RequestRing
from tests.doubles import answer, serving
from tests.requests.otlp import T0
from tests.requests.test_backends import jaeger_trace, tempo_trace

TARGET = Target(name="gpu-1", url="http://10.0.0.7:8000")
MINE = Request(id="mine", start=T0, e2e=1.0, replica=Replica(service="gpu-1"))
OTHER = Request(id="other", start=T0, e2e=1.0, replica=Replica(service="gpu-2", pid="9", host="10.0.0.9"))


def inventory(*pids: int) -> Inventory:
    """A server with these processes."""
    return Inventory(at=T0, local=True, processes=tuple(
        ProcessInfo(pid=p, ppid=1, started_at=0.0, role="api_server", name="VLLM") for p in pids))  # fmt: skip


@pytest.mark.parametrize(
    ("replica", "how"),
    [
        (Replica(service="gpu-1"), "service name"),
        (Replica(pid="77", host="10.9.9.9"), "process id"),
        (Replica(pid="3", host="10.0.0.7"), "host"),
    ],
)
def test_a_server_is_known_by_its_name_its_process_or_its_host(replica: Replica, how: str) -> None:
    """In this order."""
    got, known_by = of_target([replace(MINE, replica=replica), OTHER], TARGET, inventory(77), alone=False)
    assert [r.id for r in got] == ["mine"]
    assert known_by == how


def test_a_stranger_is_never_taken_for_ours() -> None:
    """Unless there is only one server."""
    assert of_target([OTHER], TARGET, None, alone=False) == ([], "")
    assert of_target([OTHER], TARGET, None, alone=True)[0] == [OTHER]


async def test_the_ring_comes_first() -> None:
    """Then nobody else is asked."""
    ring = RequestRing(10)
    ring.add([MINE], now=T0)
    desk = Desk(ring, tempo_url="http://127.0.0.1:9", clock=lambda: T0)
    got, head = restore(await desk.rows(TARGET, None, T0 - 1, T0 + 1))
    assert [r.id for r in got] == ["mine"]
    assert head["source"] == "otlp"


async def test_a_back_end_stands_in_for_an_empty_ring() -> None:
    """Tempo, then Jaeger."""
    routes = {
        "/api/search": answer({"traces": [{"traceID": f"{1:032x}", "durationMs": 5}]}),
        f"/api/traces/{1:032x}": answer(tempo_trace(1, 1.0)),
        "/api/services": answer({"data": ["vllm-a"]}),
        "/api/traces": answer({"data": [jaeger_trace(7, 1.0)]}),
    }
    async with serving(routes) as double, aiohttp.ClientSession() as http:
        desk = Desk(RequestRing(10), http, double.url, double.url, clock=lambda: T0)
        _, first = restore(await desk.rows(TARGET, None, T0 - 1, T0 + 1))
        desk = Desk(None, http, None, double.url, clock=lambda: T0)
        _, second = restore(await desk.rows(TARGET, None, T0 - 1, T0 + 1))
    assert (first["source"], second["source"]) == ("tempo", "jaeger")


async def test_no_source_says_what_to_do() -> None:
    """Three reasons, three ways out."""
    with pytest.raises(LookupError, match="set `requests:`"):
        await Desk(None).rows(TARGET, None, 0, 1)
    with pytest.raises(LookupError, match="--otlp-traces-endpoint"):
        await Desk(RequestRing(10), clock=lambda: T0).rows(TARGET, None, 0, 1)
    ring = RequestRing(10)
    ring.add([OTHER], now=T0)
    with pytest.raises(LookupError, match="OTEL_SERVICE_NAME"):
        await Desk(ring, alone=False, clock=lambda: T0).rows(TARGET, None, T0 - 9, T0 + 9)


def test_very_many_rows_are_thinned_and_the_slowest_stay() -> None:
    """And it is said how much."""
    many = [replace(MINE, id=str(k), start=T0 + k, e2e=1.0 + (k % 997)) for k in range(50_000)]
    got, head = restore(stored(many, source="otlp", how="x"))
    assert len(got) <= 20_000
    assert head["notes"]["of"] == 50_000
    slowest = sorted(many, key=lambda r: -r.e2e)[:500]
    assert {r.id for r in slowest} <= {r.id for r in got}


async def test_nothing_configured_opens_nothing() -> None:
    """No port, no thread, no gRPC."""
    async with aiohttp.ClientSession() as http:
        closers: list[object] = []
        desk, receiver = await open_desk(RequestsPart(), http, time.time, alone=True, closers=closers)  # type: ignore[arg-type]
    assert (desk, receiver, closers) == (None, None, [])
    with pytest.raises(LookupError, match="OTLP receiver"):
        await recent(desk, 60)


async def test_a_configured_receiver_is_opened_and_closed() -> None:
    """Both endpoints."""
    async with aiohttp.ClientSession() as http:
        part = RequestsPart(grpc="127.0.0.1:0", http="127.0.0.1:0", keep=1000)
        closers: list[object] = []
        desk, receiver = await open_desk(part, http, time.time, alone=True, closers=closers)  # type: ignore[arg-type]
        assert desk is not None
        assert receiver is not None
        assert set(receiver.ports) == {"grpc", "http"}
        assert restore(await recent(desk, 60))[0] == []
        for close in closers:
            await close()  # type: ignore[operator]
