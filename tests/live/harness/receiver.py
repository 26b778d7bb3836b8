"""What did the daemon tell people? A webhook receiver that keeps every body with its arrival time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

Report = dict[str, Any]


@dataclass(frozen=True)
class Received:
    """One webhook delivery."""

    at: float
    """Unix time of arrival."""
    headers: dict[str, str]
    body: Report


class WebhookReceiver:
    """`async with WebhookReceiver() as receiver: ... await receiver.first(lambda report: ..., within_s=15)`."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.url = ""
        self._arrived = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        at = time.time()
        body = await request.json()
        async with self._arrived:
            self.received.append(Received(at, dict(request.headers), body))
            self._arrived.notify_all()
        return web.Response()

    @property
    def reports(self) -> list[Report]:
        """Bodies in order of arrival."""
        return [r.body for r in self.received]

    async def first(self, wanted: Callable[[Report], bool], *, within_s: float, after: int = 0) -> Received:
        """The first delivery (from index `after` on) that `wanted` accepts; AssertionError with what came instead."""
        limit = time.monotonic() + within_s
        async with self._arrived:
            while True:
                for delivery in self.received[after:]:
                    if wanted(delivery.body):
                        return delivery
                left = limit - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"nothing of the kind within {within_s:.0f} s; received: {self.told()}")
                try:
                    await asyncio.wait_for(self._arrived.wait(), left)
                except TimeoutError:
                    continue

    def told(self) -> list[str]:
        """One line per delivery, for failure messages."""
        return [tell(r.body) for r in self.received]


def tell(report: Report) -> str:
    """A report in one line."""
    incident = report.get("incident", {})
    causes = ", ".join(f"{h['cause']} {h['status']} {h['probability']:.2f}" for h in report.get("hypotheses", [])[:3])
    alerts = ",".join(s["alert"] for s in report.get("symptoms", []))
    what = f"{incident.get('state')} {incident.get('class')}"
    return f"#{report.get('revision')} {incident.get('id')} {what} [{alerts}] {causes}"
