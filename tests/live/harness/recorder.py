"""How is an experiment kept? /metrics once a second, in the format the replay tools read."""

from __future__ import annotations

import asyncio
import gzip
import pathlib
import time
from typing import Self

import aiohttp


class Recorder:
    """`async with Recorder(server.url, folder)` writes folder/metrics.txt.gz until the end of the block.

    Each scrape follows a line `### <unix time> status=<http status or what went wrong> took=<s>`; comments and
    `_created` series are left out.
    """

    def __init__(self, url: str, folder: pathlib.Path, *, interval_s: float = 1.0) -> None:
        self._url = f"{url}/metrics"
        self._path = folder / "metrics.txt.gz"
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._task = asyncio.create_task(self._run(), name="recorder")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as http:
            with gzip.open(self._path, "wt") as out:
                due = time.monotonic()
                while True:
                    out.write(await self._scrape(http))
                    due = max(due + self._interval_s, time.monotonic())
                    await asyncio.sleep(due - time.monotonic())

    async def _scrape(self, http: aiohttp.ClientSession) -> str:
        at, began, text = time.time(), time.monotonic(), ""
        try:
            async with http.get(self._url) as answer:
                status, text = str(answer.status), await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            status = type(failure).__name__
        kept = [
            line
            for line in text.splitlines()
            if not line.startswith("#") and "_created" not in line.split("{")[0].split(" ")[0]
        ]
        return f"### {at:.3f} status={status} took={time.monotonic() - began:.3f}\n" + "".join(
            f"{line}\n" for line in kept
        )
