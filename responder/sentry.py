"""How is a server doing while we touch it? Its counters a few times a second, and a stream of our own when needed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Self

import aiohttp

from responder.ask import credentials, get, reach_of
from responder.canary import MAX_BYTES, first_model
from responder.harm import Beat, Tick, Window, served_in, tick_of
from responder.model import Target
from responder.moments import Level, in_spell

CALM_EVERY_S = 1.0
CLOSE_EVERY_S = 0.2
"""While something of rung 2 or up runs."""
SCRAPE_TIMEOUT_S = 2.0
COUNTED_WITHIN_S = 0.5
MAX_METRICS = 8 << 20
KEPT = 4000
SPELL_WITHIN_S, SPELL_SEEN_S, SPELL_LOOK_S = 60.0, 1.5, 0.25
"""How long the next spell of a fault is waited for, over how many seconds it must show, and how often we look."""
STREAM_TOKENS = 128
"""Of one request of our stream; then comes the next, whose first token is a TTFT."""
DEAD_AFTER = 2
"""Refused or reset so many times in a row: nobody is there any more."""
_NONE = aiohttp.ClientTimeout(total=None)


async def spell_begins(sentry: Sentry, grown: Mapping[str, Level], unless: Callable[[], bool]) -> bool:
    """Wait until users wait as in the fault; False where they have not within `SPELL_WITHIN_S`, where nobody is there
    any more, or as soon as `unless` says that there is something else to do."""
    limit = asyncio.get_running_loop().time() + SPELL_WITHIN_S
    while not unless() and not sentry.gone and asyncio.get_running_loop().time() < limit:
        now = sentry.clock()
        got = served_in(list(sentry.ticks), Window(now - SPELL_SEEN_S, now))
        if sentry.ticks and in_spell(got, grown, sentry.ticks[-1].running):
            return True
        await asyncio.sleep(SPELL_LOOK_S)
    return False


class Sentry:
    """Watches one server: `async with Sentry(...) as sentry`. Times are the clock's."""

    def __init__(self, http: aiohttp.ClientSession, target: Target, clock: Callable[[], float] = time.time) -> None:
        self.http, self.target, self.clock = http, target, clock
        self.ticks: deque[Tick] = deque(maxlen=KEPT)
        self.beats: deque[Beat] = deque(maxlen=KEPT)
        self.gone = ""
        """Why we believe that the server has died; '' while it lives."""
        self._every = CALM_EVERY_S
        self._hurry = asyncio.Event()
        self._counted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stream: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._count(), name=f"sentry {self.target.name}")]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in (*self._tasks, *([self._stream] if self._stream else [])):
            task.cancel()
        await asyncio.gather(*self._tasks, *([self._stream] if self._stream else []), return_exceptions=True)

    @contextlib.asynccontextmanager
    async def close(self, *, stream: bool):  # type: ignore[no-untyped-def]
        """Look closely for a while; with `stream`, as one of its users."""
        self._every = CLOSE_EVERY_S
        self._hurry.set()
        if stream:
            self._stream = asyncio.create_task(self._use(), name=f"sentry stream {self.target.name}")
        try:
            yield self
        finally:
            self._every = CALM_EVERY_S
            if self._stream is not None:
                self._stream.cancel()
                await asyncio.gather(self._stream, return_exceptions=True)
                self._stream = None

    async def count(self) -> None:
        """Count at once, and return when that is done; after half a second in any case, for nobody may answer."""
        self._counted.clear()
        self._hurry.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COUNTED_WITHIN_S):
                await self._counted.wait()

    @property
    def streaming(self) -> bool:
        """Whether our stream has brought a token lately."""
        return bool(self.beats) and self._stream is not None and not self._stream.done()

    async def _count(self) -> None:
        missed = 0
        while True:
            answer = await get(
                self.http, f"{self.target.url}/metrics", timeout=SCRAPE_TIMEOUT_S, max_bytes=MAX_METRICS,
                headers=credentials(self.target),
            )  # fmt: skip
            if answer.status == 200 and answer.body:
                self.ticks.append(tick_of(answer.body, self.clock()))
                missed, self.gone = 0, ""
            elif answer.reach in ("refused", "reset"):
                missed += 1
                self.gone = f"the server went away ({answer.reach})" if missed >= DEAD_AFTER else ""
            self._counted.set()
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_EVERY_S if missed else self._every):
                    await self._hurry.wait()

    async def _use(self) -> None:
        """One request after another, like a user who reads along; hung up on when we have seen enough."""
        model = self.target.model
        while True:
            try:
                if model is None:
                    found = await get(self.http, f"{self.target.url}/v1/models", timeout=SCRAPE_TIMEOUT_S,
                                      max_bytes=MAX_BYTES, headers=credentials(self.target))  # fmt: skip
                    model = first_model(found.body) if found.status == 200 else None
                if model is not None:
                    await self._read_along(model)
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                reach_of(error)
            await asyncio.sleep(0.05)

    async def _read_along(self, model: str) -> None:
        body = {"model": model, "prompt": "1", "max_tokens": STREAM_TOKENS, "ignore_eos": True, "stream": True,
                "temperature": 0}  # fmt: skip
        last, first = time.monotonic(), True
        async with self.http.post(
            f"{self.target.url}/v1/completions", json=body, headers=credentials(self.target), timeout=_NONE,
            allow_redirects=False,
        ) as answer:  # fmt: skip
            if answer.status != 200:
                await asyncio.sleep(1.0)
                return
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    now = time.monotonic()
                    self.beats.append(Beat(self.clock(), now - last, first))
                    last, first = now, False
