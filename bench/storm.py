"""How quickly are alerts acknowledged in a storm, and is each acknowledged one on disk? A life of its own."""

from __future__ import annotations

import asyncio
import pathlib
import sqlite3
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import psutil

from bench.kills import Lane

TARGETS = 25
CONNECTIONS = 50


@dataclass
class Figures:
    """Of one storm."""

    sent: int = 0
    refused: int = 0
    """503, fast; sent again by whoever sends."""
    on_disk: int = 0
    waits: list[float] = field(default_factory=list)
    """Seconds until 200."""
    resident_mb: float = 0.0
    seconds: float = 0.0

    def tell(self) -> str:
        """In one line."""
        waits = sorted(self.waits)
        p50, p99 = (waits[int(len(waits) * share)] * 1000 for share in (0.5, 0.99))
        return (
            f"{self.sent} alerts in {self.seconds:.0f} s ({self.sent / self.seconds:.0f}/s): acknowledged after median "
            f"{p50:.0f} ms, p99 {p99:.0f} ms, worst {waits[-1] * 1000:.0f} ms; {self.refused} answers 503; "
            f"{self.sent - self.on_disk} acknowledged and not on disk; {self.resident_mb:.0f} MB resident at most"
        )


async def storm(alerts: int, seconds: float) -> Figures:
    """So many alerts spread evenly over so many seconds, one in each payload."""
    figures = Figures()
    with tempfile.TemporaryDirectory() as scratch:
        lane = Lane(1, pathlib.Path(scratch))
        lane.round_s = 2.0  # as the daemon's
        async with aiohttp.ClientSession() as lane.http:
            pid = await lane.open()
            await _blow(lane, figures, alerts, seconds, psutil.Process(pid))
            figures.on_disk = _taken(lane.data)
            await lane.shut(pid)
    return figures


async def _blow(lane: Lane, figures: Figures, alerts: int, seconds: float, process: psutil.Process) -> None:
    began = time.monotonic()
    numbers = iter(range(alerts))

    async def one_connection() -> None:
        for number in numbers:
            due = began + number * seconds / alerts
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await _post(lane, figures, number)
            if number % 100 == 0:
                figures.resident_mb = max(figures.resident_mb, process.memory_info().rss / 1e6)

    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))
    figures.seconds = time.monotonic() - began


async def _post(lane: Lane, figures: Figures, number: int) -> None:
    labels = {"alertname": f"A{number // TARGETS}", "class": "high_ttft", "severity": "warning",
              "instance": f"t{number % TARGETS}"}  # fmt: skip
    alert = {"status": "firing", "labels": labels, "annotations": {}, "startsAt": datetime.now(UTC).isoformat()}
    asked = time.monotonic()
    while True:
        async with lane.http.post(
            f"http://127.0.0.1:{lane.port}/api/v1/alerts", json={"version": "4", "alerts": [alert]}
        ) as answer:
            if answer.status == 200:
                break
            figures.refused += 1
        await asyncio.sleep(0.05)
    figures.waits.append(time.monotonic() - asked)
    figures.sent += 1


def _taken(data: pathlib.Path) -> int:
    """How many payloads were ever put on disk: their key ascends."""
    db = sqlite3.connect(data / "responder.db", timeout=30)
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name='intake'").fetchone()
    db.close()
    return int(row[0]) if row else 0
