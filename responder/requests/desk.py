"""Where do the requests of one server come from? Our own ring first; a tracing back end when the ring has none.

What leaves here are stored rows (`record.dump`): the capture step keeps them as they are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from responder.config import RequestsPart
from responder.model import Inventory, Target
from responder.requests.backends import BackendSilent, Window, jaeger, tempo
from responder.requests.otlp import Receiver, build
from responder.requests.record import Replica, Request, dump
from responder.requests.ring import RequestRing

MOST_ROWS = 20_000
MOST_SLOW = 2_000


@dataclass
class Desk:
    """Asked by the capture step (through the scene) and by the HTTP surface."""

    ring: RequestRing | None
    http: aiohttp.ClientSession | None = None
    tempo_url: str | None = None
    jaeger_url: str | None = None
    jaeger_service: str | None = None
    alone: bool = True
    """Whether only one server is configured: then every request of the ring is its."""
    clock: Callable[[], float] = time.time

    async def rows(self, target: Target, inventory: Inventory | None, since: float, until: float) -> bytes:
        """Stored rows of a server's requests in a window. LookupError when there is no source or it is silent."""
        tried = []
        if self.ring is not None:
            # Copying a hundred thousand rows takes a second: not on the loop that watches servers.
            found = await asyncio.to_thread(self.ring.between, since, until, now=self.clock())
            mine, how = of_target(found, target, inventory, alone=self.alone)
            if mine:
                return stored(mine, source="otlp", how=how)
            tried.append(
                "no span of this server came to the OTLP receiver in this time: start it with --otlp-traces-endpoint"
                if not found
                else "spans came, but none can be told to be this server's: set OTEL_SERVICE_NAME to the target's name"
            )
        for name, ask_backend in (("tempo", self._tempo), ("jaeger", self._jaeger)):
            try:
                found_there = await ask_backend(Window(since, until))
            except BackendSilent as error:
                tried.append(f"{name}: {error}")
                continue
            if found_there is None:
                continue
            mine, how = of_target(found_there, target, inventory, alone=self.alone)
            if mine:
                return stored(mine, source=name, how=how)
            tried.append(f"{name} knows no request of this server in this time")
        raise LookupError(
            "; ".join(tried) or "request traces are not switched on: set `requests:` in the configuration"
        )

    async def _tempo(self, window: Window) -> list[Request] | None:
        if self.http is None or self.tempo_url is None:
            return None
        return await tempo(self.http, self.tempo_url, window)

    async def _jaeger(self, window: Window) -> list[Request] | None:
        if self.http is None or self.jaeger_url is None:
            return None
        return await jaeger(self.http, self.jaeger_url, window, service=self.jaeger_service)


async def open_desk(
    part: RequestsPart,
    http: aiohttp.ClientSession,
    clock: Callable[[], float],
    *,
    alone: bool,
    closers: list[Callable[[], Awaitable[Any]]],
) -> tuple[Desk | None, Receiver | None]:
    """The desk as configured, its receiver started and its end added to `closers`; None when nothing is switched on."""
    receiver: Receiver | None = None
    if part.grpc or part.http:
        receiver = build(
            clock, grpc=_address(part.grpc), http=_address(part.http), forward=part.forward, tenants=part.tenant,
            capacity=part.keep, max_age_s=part.age,
        )  # fmt: skip
        closers.append(receiver.stop)
        await receiver.start()
    elif not part.tempo and not part.jaeger:
        return None, None
    ring = receiver.ring if receiver else None
    return Desk(ring, http, part.tempo, part.jaeger, part.jaeger_service, alone=alone, clock=clock), receiver


async def recent(desk: Desk | None, window_s: float) -> bytes:
    """Stored rows of all servers' requests that were alive in the last so many seconds. LookupError in words."""
    if desk is None or desk.ring is None:
        raise LookupError("no OTLP receiver is running: set `requests.grpc` in the configuration")
    now = desk.clock()
    found = await asyncio.to_thread(desk.ring.between, now - window_s, now, now=now)
    return stored(found, source="otlp", how="all servers")


def _address(value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    return host.strip("[]"), int(port)


def of_target(
    requests: Sequence[Request], target: Target, inventory: Inventory | None, *, alone: bool
) -> tuple[list[Request], str]:
    """Those of one server, and how that is known."""
    replicas = {r.replica for r in requests}
    pids = {str(p.pid) for p in inventory.processes} if inventory is not None else set()
    host = urlsplit(target.url).hostname or ""
    ways: list[tuple[str, Callable[[Replica], bool]]] = [
        ("service name", lambda r: bool(r.service) and r.service == target.name),
        ("process id", lambda r: bool(r.pid) and r.pid in pids),
        ("host", lambda r: bool(r.host) and r.host == host and host not in ("127.0.0.1", "::1", "localhost")),
    ]
    for how, fits in ways:
        chosen = {r for r in replicas if fits(r)}
        if chosen:
            return [r for r in requests if r.replica in chosen], how
    return (list(requests), "the only server") if alone else ([], "")


def stored(requests: Sequence[Request], *, source: str, how: str) -> bytes:
    """Rows, thinned when there are too many: the slowest all stay, of the others every so manyth."""
    kept: Iterable[Request] = requests
    every = 1
    if len(requests) > MOST_ROWS:
        order = sorted(range(len(requests)), key=lambda i: -requests[i].e2e)
        slow = set(order[:MOST_SLOW])
        every = -(-(len(requests) - MOST_SLOW) // (MOST_ROWS - MOST_SLOW))
        kept = [r for i, r in enumerate(requests) if i in slow or i % every == 0]
    return dump(kept, source=source, notes={"known_by": how, "of": len(requests), "one_in": every})
