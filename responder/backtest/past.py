"""What did Prometheus know? Range queries of any length, cut into what any Prometheus answers, and asked again.

A history may be large, its server busy or limited: a range that is refused or late is halved until it is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from responder.metrics import Labels, Point, Prometheus, PrometheusBusy, PrometheusSilent

MAX_POINTS = 10_000
"""Prometheus refuses more than 11,000 points per series."""
FEWEST_POINTS = 60
PAUSES_S = (0.5, 2.0, 5.0)
"""Before asking once more what was not answered although it is short."""
BUSY_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Before asking one more time where there were too many queries: shorter ones would be more of them."""
AT_ONCE = 4
Rows = list[tuple[Labels, list[Point]]]


class HistorySilent(Exception):
    """Prometheus does not answer, or refuses a query however short; the message says which and why."""


class Past:
    """Range queries of a history. `sleep` is for tests."""

    def __init__(self, prometheus: Prometheus, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.prometheus = prometheus
        self.sleep = sleep
        self.queries = 0
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def range(self, expr: str, start: float, end: float, step: float) -> Rows:
        """Labels and points of every series in [start, end], every `step` seconds. HistorySilent."""
        parts = []
        at, length = start, (MAX_POINTS - 1) * step
        while at <= end + 1e-6:
            until = min(end, at + length)
            parts.append((at, until))
            at += MAX_POINTS * step
        return _joined([await self._piece(expr, since, until, step) for since, until in parts])

    async def _piece(self, expr: str, start: float, end: float, step: float) -> Rows:
        points = int((end - start) / step + 1e-6) + 1
        for pause in (*PAUSES_S, None):
            try:
                return await self._patiently(expr, start, end, step)
            except PrometheusBusy as error:
                raise HistorySilent(
                    f"{self.prometheus.url} has had too many queries for minutes: {error}; ask for less at once "
                    "(--from, --to, --target), or raise its limits"
                ) from None
            except PrometheusSilent as error:
                why = str(error)
                if _final(why):
                    raise HistorySilent(f"{self.prometheus.url} refuses `{_short(expr)}`: {why}") from None
                if points > FEWEST_POINTS and "cannot be reached" not in why:
                    half = start + (points // 2) * step
                    before = await self._piece(expr, start, half - step, step)
                    return _joined([before, await self._piece(expr, half, end, step)])
                if pause is None:
                    raise HistorySilent(f"{self.prometheus.url}: {why} (`{_short(expr)}`)") from None
            await self.sleep(pause)
        raise AssertionError("the last round returns or raises")

    async def _patiently(self, expr: str, start: float, end: float, step: float) -> Rows:
        """One query, asked again while there are too many."""
        for pause in (*BUSY_PAUSES_S, None):
            self.queries += 1
            try:
                async with self._slots:
                    return await self.prometheus.range(expr, start, end, step)
            except PrometheusBusy as error:
                if pause is None:
                    raise
                await self.sleep(max(pause, error.after_s))
        raise AssertionError("the last round returns or raises")


def _final(why: str) -> bool:
    """Refusals that no shorter range and no patience will change."""
    bad = "HTTP 400" in why and not any(word in why for word in ("resolution", "too many", "limit"))
    return bad or any(f"HTTP {status}" in why for status in (401, 403, 404, 405))


def _short(expr: str) -> str:
    line = " ".join(expr.split())
    return line if len(line) <= 120 else line[:119] + "…"


def _joined(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    rows: dict[tuple[tuple[str, str], ...], tuple[Labels, list[Point]]] = {}
    for part in parts:
        for labels, points in part:
            rows.setdefault(tuple(sorted(labels.items())), (labels, []))[1].extend(points)
    return list(rows.values())
