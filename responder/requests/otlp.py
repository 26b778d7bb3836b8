"""How does vLLM send us its request traces? OTLP over gRPC (its default) and over HTTP with protobuf.

    vllm serve … --otlp-traces-endpoint http://responder:4317

gRPC runs on threads of its own and is imported only when this is switched on. Limits: 4 MiB a message after
decompression, 16 calls at a time, 8 streams a connection, idle connections closed; what is over a limit is refused
with the status OTLP has for it, what comes while we are full is dropped, counted and answered as a partial success, so
that no exporter repeats it.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote, urlsplit

from aiohttp import web

from responder.requests.forward import METHOD, Forwarder
from responder.requests.intake import Intake
from responder.requests.ring import RequestRing
from responder.requests.wire import MAX_MESSAGE, Refused, TooBig, inflate

CALLS_AT_ONCE = 16
STREAMS = 8
IDLE_MS = 300_000
AGE_MS = 600_000
PROTOBUF = "application/x-protobuf"
FULL = "dropped: the responder's queue is full"


class Receiver:
    """Both endpoints, the intake behind them and the ring: start, ask, stop."""

    def __init__(self, intake: Intake, *, grpc: tuple[str, int] | None, http: tuple[str, int] | None) -> None:
        self.intake = intake
        self.ports: dict[str, int] = {}
        """grpc and http -> the port that was bound (of use when 0 was asked for)."""
        self._addresses = {"grpc": grpc, "http": http}
        self._server: Any = None
        self._runner: web.AppRunner | None = None

    @property
    def ring(self) -> RequestRing:
        """The finished requests."""
        return self.intake.ring

    async def start(self) -> None:
        """Bind and serve. OSError when an address cannot be had; ImportError when grpcio is missing."""
        if self.intake.forward:
            self.intake.forward.start()
        self.intake.start()
        if (at := self._addresses["grpc"]) is not None:
            self._server, self.ports["grpc"] = await asyncio.to_thread(_serve_grpc, self.intake, *at)
        if (at := self._addresses["http"]) is not None:
            # We decompress ourselves: aiohttp would do it before we can say how much is too much.
            self._runner = web.AppRunner(
                http_app(self.intake), access_log=None, auto_decompress=False, shutdown_timeout=1.0
            )
            await self._runner.setup()
            site = web.TCPSite(self._runner, *at)
            await site.start()
            self.ports["http"] = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop taking in, then end the threads; idempotent."""
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.to_thread(lambda: server.stop(0.5).wait(2.0))
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await asyncio.to_thread(self.intake.stop)
        if self.intake.forward:
            await asyncio.to_thread(self.intake.forward.stop)

    def numbers(self) -> dict[str, int]:
        """Counters for our own metrics."""
        out = dict(asdict(self.intake.counts))
        if self.intake.forward:
            out |= {f"forward_{name}": value for name, value in asdict(self.intake.forward.counts).items()}
        return out


def build(
    clock: Callable[[], float], *, grpc: tuple[str, int] | None, http: tuple[str, int] | None, capacity: int,
    max_age_s: float, forward: str | None = None, tenants: tuple[str, ...] = (),
) -> Receiver:  # fmt: skip
    """A receiver with its ring, as `app.py` wants it; nothing runs yet."""
    ring = RequestRing(capacity, max_age_s)
    intake = Intake(ring, clock=clock, forward=Forwarder(forward) if forward else None, tenants=tenants)
    return Receiver(intake, grpc=grpc, http=http)


# ------------------------------------------------------------------------------------------------------------ gRPC


def _serve_grpc(intake: Intake, host: str, port: int) -> tuple[Any, int]:
    # A daemon that starts other programs must not run gRPC's fork handlers in every child.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    grpc: Any = importlib.import_module("grpc")

    def export(data: bytes, context: Any) -> bytes:
        try:
            return partial(intake.offer(data, _host(context.peer())))
        except TooBig as error:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except Refused as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        raise AssertionError("abort raises")

    server = grpc.server(
        ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="otlp"),
        maximum_concurrent_rpcs=CALLS_AT_ONCE,
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", 1 << 16),
            ("grpc.max_concurrent_streams", STREAMS),
            ("grpc.max_metadata_size", 16 << 10),
            ("grpc.max_connection_idle_ms", IDLE_MS),
            # A client that opens calls and sends nothing must not keep its places for ever.
            ("grpc.max_connection_age_ms", AGE_MS),
            ("grpc.max_connection_age_grace_ms", 10_000),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ],
    )
    service, method = METHOD.strip("/").split("/")
    handler = grpc.unary_unary_rpc_method_handler(export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    bracketed = f"[{host}]" if ":" in host else host
    try:
        bound = server.add_insecure_port(f"{bracketed}:{port}")
    except RuntimeError as error:
        raise OSError(f"cannot listen for OTLP on {host}:{port}: {error}") from error
    if bound == 0:
        raise OSError(f"cannot listen for OTLP on {host}:{port}")
    server.start()
    return server, bound


def partial(rejected: int) -> bytes:
    """An ExportTraceServiceResponse: empty when all was taken, else how many spans were not."""
    if not rejected:
        return b""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = FULL
    return bytes(answer.SerializeToString())


def _host(peer: str) -> str:
    """`ipv4:10.0.0.7:51234` -> 10.0.0.7."""
    address = unquote(peer).split(":", 1)[-1]
    host = urlsplit(f"//{address}").hostname or ""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""


# ------------------------------------------------------------------------------------------------------------ HTTP


def http_app(intake: Intake) -> web.Application:
    """POST /v1/traces."""

    async def traces(request: web.Request) -> web.Response:
        if request.content_type != PROTOBUF:
            intake.refuse()
            raise web.HTTPUnsupportedMediaType(text=f"send {PROTOBUF}\n")
        try:
            body = await _body(request)
            # Large bodies take milliseconds to unpack and check: not on the loop that watches servers.
            rejected = await asyncio.to_thread(_offer, intake, body, request)
        except TooBig as error:
            raise web.HTTPRequestEntityTooLarge(MAX_MESSAGE, MAX_MESSAGE, text=f"{error}\n") from None
        except Refused as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        return web.Response(body=partial(rejected), content_type=PROTOBUF)

    async def _body(request: web.Request) -> bytes:
        parts, size = [], 0
        async for part in request.content.iter_chunked(1 << 16):
            size += len(part)
            if size > MAX_MESSAGE:
                intake.refuse()
                raise TooBig(f"more than {MAX_MESSAGE} bytes")
            parts.append(part)
        return b"".join(parts)

    app = web.Application(client_max_size=MAX_MESSAGE)
    app.router.add_post("/v1/traces", traces)
    return app


def _offer(intake: Intake, body: bytes, request: web.Request) -> int:
    try:
        data = inflate(body, request.headers.get("Content-Encoding", "").strip().lower())
    except Refused:
        intake.refuse()
        raise
    return intake.offer(data, request.remote or "")
