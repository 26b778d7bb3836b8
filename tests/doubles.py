"""What stands in for a vLLM server and for the world around a capture? Real sockets on loopback, no mocks of HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from responder.capture.step import Brief, Command, RangeQuery, Scene
from responder.model import Inventory, Target

NOW = 1_800_000_000.0
ONSET = NOW - 60.0
BRIEF = Brief(target="t", now=NOW, onset_at=ONSET, opened_at=NOW - 30.0)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer(body: object, status: int = 200) -> Handler:
    """A handler that gives this text, bytes or JSON."""

    async def handle(request: web.Request) -> web.Response:
        raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        return web.Response(body=raw, status=status)

    return handle


async def silence(request: web.Request) -> web.StreamResponse:
    """A handler that never answers: a frozen event loop, seen from outside."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def events(*chunks: bytes, then: Handler | None = None) -> Handler:
    """A streamed answer, chunk by chunk; `then=silence` stops in the middle."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if then is not None:
            await then(request)
        return response

    return handle


@dataclass
class Double:
    """A server and what it was asked."""

    url: str
    asked: list[tuple[str, Mapping[str, str], Any]] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


@asynccontextmanager
async def serving(routes: Mapping[str, Handler]) -> AsyncIterator[Double]:
    """A server on a free loopback port; a path it does not have is a 404, as in vLLM."""
    double = Double("")

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        double.asked.append((request.path, dict(request.headers), body))
        if request.path not in routes:
            return web.json_response({"detail": "Not Found"}, status=404)
        return await routes[request.path](request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    double.url = f"http://127.0.0.1:{port}"
    try:
        yield double
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(reply: bytes | None) -> AsyncIterator[str]:
    """A TCP server that says these bytes and cuts the connection; None: resets it after the request."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        if reply is None:
            writer.transport.abort()
            return
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def refused_url() -> str:
    """An address nobody listens on."""
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://127.0.0.1:{port}"


class Files:
    """A runner over files in memory and canned commands."""

    def __init__(self, files: Mapping[str, bytes] = {}, commands: Mapping[str, bytes] = {}) -> None:  # noqa: B006
        self.files, self.commands, self.ran = files, commands, list[list[str]]()

    async def run(self, argv: Sequence[str], *, timeout: float, max_bytes: int = 1 << 20) -> Command:
        self.ran.append(list(argv))
        if argv[0] not in self.commands:
            raise FileNotFoundError(argv[0])
        return Command(0, self.commands[argv[0]][:max_bytes], b"", 0.0)

    async def read(self, path: str, *, max_bytes: int, tail: bool = False) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path][-max_bytes:] if tail else self.files[path][:max_bytes]


@asynccontextmanager
async def scene(
    url: str = "http://127.0.0.1:9",
    *,
    runner: Files | None = None,
    inventory: Inventory | None = None,
    range_query: RangeQuery | None = None,
    signals: Mapping[str, str] | None = None,
    siblings: tuple[Target, ...] = (),
    **target: Any,
) -> AsyncIterator[Scene]:
    """A scene around a target named t with the label instance=a:8000."""
    async with aiohttp.ClientSession() as http:
        yield Scene(
            target=Target(name="t", url=url, **({"match": {"instance": "a:8000"}} | target)),
            inventory=inventory,
            now=NOW,
            onset_at=ONSET,
            opened_at=NOW - 30.0,
            http=http,
            runner=runner or Files(),
            range_query=range_query,
            signals=signals or {},
            siblings=siblings,
        )
