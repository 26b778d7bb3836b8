"""Does the receiver take what vLLM sends, over both protocols, and refuse the rest without harm?"""

from __future__ import annotations

import asyncio
import gzip
import io
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from responder.requests.forward import METHOD
from responder.requests.intake import Intake
from responder.requests.otlp import PROTOBUF, Receiver, _host, build
from responder.requests.ring import RequestRing
from responder.requests.wire import MAX_MESSAGE
from tests.requests.otlp import T0, message, recorded, span

NOW = T0 + 60


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[Receiver]:
    """A receiver on free ports."""
    made = build(lambda: NOW, grpc=("127.0.0.1", 0), http=("127.0.0.1", 0), capacity=1000, max_age_s=600, **options)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@contextmanager
def channel(receiver: Receiver, **options: Any) -> Iterator[Any]:
    """An exporter's call."""
    with grpc.insecure_channel(f"127.0.0.1:{receiver.ports['grpc']}", **options) as opened:
        yield opened.unary_unary(METHOD, request_serializer=None, response_deserializer=None)


async def export(receiver: Receiver, data: bytes, **options: Any) -> bytes:
    """Send over gRPC and wait until it is taken in."""
    with channel(receiver) as call:
        answer: bytes = await asyncio.to_thread(call, data, timeout=10, **options)
    assert await asyncio.to_thread(receiver.intake.settle)
    return answer


async def post(receiver: Receiver, data: bytes, **headers: str) -> tuple[int, bytes]:
    """Send over HTTP and wait until it is taken in."""
    named = {"Content-Type": PROTOBUF, **{k.replace("_", "-"): v for k, v in headers.items()}}
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        url = f"http://127.0.0.1:{receiver.ports['http']}/v1/traces"
        async with http.post(url, data=io.BytesIO(data), headers=named) as answer:
            body = await answer.read()
    assert await asyncio.to_thread(receiver.intake.settle)
    return answer.status, body


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_grpc_as_vllm_sends_it(compression: grpc.Compression) -> None:
    """What one server exported from its start to its end: 15 requests, 12 spans of the start."""
    async with receiving() as receiver:
        assert await export(receiver, recorded(), compression=compression) == b""
        assert len(receiver.ring) == 15
        counts = receiver.intake.counts
        assert (counts.spans, counts.requests, counts.start_up, counts.bad_spans) == (27, 15, 12, 0)
        assert receiver.ring.between(0, NOW, now=NOW)[0].replica.host == "127.0.0.1"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_http_as_exporters_send_it(encoding: str) -> None:
    """protobuf, compressed or not."""
    body = recorded()
    async with receiving() as receiver:
        sent = gzip.compress(body) if encoding == "gzip" else body
        assert await post(receiver, sent, Content_Encoding=encoding) == (200, b"")
        assert len(receiver.ring) == 15


async def test_a_huge_message_is_refused_over_grpc() -> None:
    """RESOURCE_EXHAUSTED, before it is read whole."""
    async with receiving() as receiver:
        with pytest.raises(grpc.RpcError) as refused:
            await export(receiver, bytes(MAX_MESSAGE + 1))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


BOMB = """
import grpc, sys
limits = [("grpc.max_send_message_length", -1)]
with grpc.insecure_channel(sys.argv[1], options=limits, compression=grpc.Compression.Gzip) as channel:
    call = channel.unary_unary(sys.argv[2], request_serializer=None, response_deserializer=None)
    try:
        call(bytes(300 << 20), timeout=60)
    except grpc.RpcError as refused:
        print(refused.code().name)
"""


async def test_a_gzip_bomb_is_refused_over_grpc() -> None:
    """300 MiB in 300 KiB, from another process: refused, never unpacked here, and the next message is taken."""
    async with receiving() as receiver:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        address = f"127.0.0.1:{receiver.ports['grpc']}"
        bomb = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BOMB, address, METHOD, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await bomb.communicate()
        assert said.decode().strip() == "RESOURCE_EXHAUSTED"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
        assert await export(receiver, message(span())) == b""
        assert len(receiver.ring) == 1


@pytest.mark.parametrize("data", [b"\xff\xff", b"hello world", b"\x0a\x05abc"])
async def test_what_is_no_otlp_is_refused(data: bytes) -> None:
    """INVALID_ARGUMENT and 400: exporters do not repeat these."""
    async with receiving() as receiver:
        with pytest.raises(grpc.RpcError) as refused:
            await export(receiver, data)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await post(receiver, data))[0] == 400
        assert receiver.intake.counts.refused_messages == 2


async def test_http_refuses_within_limits() -> None:
    """Too large, a bomb, broken compression, another content type, another path."""
    async with receiving() as receiver:
        assert (await post(receiver, bytes(MAX_MESSAGE + 1)))[0] == 413
        assert (await post(receiver, gzip.compress(bytes(64 << 20)), Content_Encoding="gzip"))[0] == 413
        assert (await post(receiver, b"nonsense", Content_Encoding="gzip"))[0] == 400
        assert (await post(receiver, b"{}", Content_Type="application/json"))[0] == 415
        assert receiver.intake.counts.refused_messages == 4
        assert await post(receiver, message(span())) == (200, b"")


@pytest.mark.parametrize("shift", [-90_000.0, 3_600.0])
async def test_spans_of_broken_clocks_are_left_out(shift: float) -> None:
    """A day in the past, an hour in the future."""
    async with receiving() as receiver:
        await export(receiver, message(span(start=T0 + shift), span(start=T0, end=T0 - 1, own=2)))
        assert len(receiver.ring) == 0
        assert receiver.intake.counts.bad_spans == 2


async def test_an_address_in_use_is_an_error_with_its_name() -> None:
    """Somebody else's collector has the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        made = build(lambda: NOW, grpc=("127.0.0.1", port), http=None, capacity=1000, max_age_s=600)
        with pytest.raises(OSError, match=str(port)):
            await made.start()
        await made.stop()


def test_when_the_queue_is_full_spans_are_dropped_and_counted() -> None:
    """The sender gets its answer at once, as a partial success, and has no reason to send again."""
    body = message(span(), span(own=2))
    intake = Intake(RequestRing(1000), clock=lambda: NOW, queue_bytes=len(body) + 1)
    assert intake.offer(body) == 0
    assert intake.offer(body) == 2
    assert (intake.counts.dropped_messages, intake.counts.dropped_spans) == (1, 2)
    intake.start()
    assert intake.settle()
    assert intake.offer(body) == 0
    intake.stop()
    assert len(intake.ring) == 4


async def test_a_drop_is_told_as_partial_success() -> None:
    """OTLP's own word for it."""
    async with receiving() as receiver:
        receiver.intake.queue_bytes = 0
        told = ExportTraceServiceResponse.FromString(await export(receiver, message(span())))
        assert told.partial_success.rejected_spans == 1
        assert "full" in told.partial_success.error_message


async def test_spans_are_forwarded_as_they_came() -> None:
    """A second receiver stands for the operator's collector, over both protocols; ours goes on without it."""
    async with receiving() as collector:
        for url in (
            f"http://127.0.0.1:{collector.ports['grpc']}",
            f"http://127.0.0.1:{collector.ports['http']}/v1/traces",
        ):
            before = len(collector.ring)
            async with receiving(forward=url) as receiver:
                await export(receiver, recorded())
                assert receiver.intake.forward is not None
                for _ in range(500):
                    if receiver.intake.forward.counts.sent:
                        break
                    await asyncio.sleep(0.01)
                assert receiver.numbers()["forward_sent"] == 1
            assert await asyncio.to_thread(collector.intake.settle)
            assert len(collector.ring) == before + 15


async def test_a_collector_that_is_gone_costs_only_its_copy() -> None:
    """Counted as failed."""
    async with receiving(forward="http://127.0.0.1:9/v1/traces") as receiver:
        assert await export(receiver, recorded()) == b""
        for _ in range(500):
            if receiver.numbers()["forward_failed"]:
                break
            await asyncio.sleep(0.01)
        assert receiver.numbers()["forward_failed"] == 1
        assert len(receiver.ring) == 15


@pytest.mark.parametrize(
    ("peer", "host"), [("ipv4:10.0.0.7:51234", "10.0.0.7"), ("ipv6:%5B::1%5D:5", "::1"), ("unix:/x", ""), ("", "")]
)
def test_the_peers_address(peer: str, host: str) -> None:
    """As gRPC spells it."""
    assert _host(peer) == host
