"""What else goes on around a server? Probes, wrong requests, idle connections, slow readers, processes that stop.

One asynchronous context manager each, over at its end; all on the lab's own server and bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import aiohttp

from bench.faults.scenario import Injection
from tests.live.harness.vllm_server import SERVED_AS

MOST_AT_ONCE = 64
ANSWER_WITHIN_S = 20.0
FOREVER_S = 900.0
READ_BYTES, READ_EVERY_S = 256, 1.0
KNOCKS_FOR_S = 0.5
STRANGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),  # TLS, which is not spoken here
    b"*1\r\n$4\r\nPING\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
    b"",
)
JSON = {"Content-Type": "application/json"}
TEXT = "every request waits in a queue until there is room for it then its prompt is read in one go"


@contextlib.asynccontextmanager
async def frozen(pid: int, seconds: float) -> AsyncIterator[None]:
    """The process stands still once, and goes on by itself."""

    async def hold() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(pid, signal.SIGCONT)

    async with _beside(hold()):
        yield


@contextlib.asynccontextmanager
async def hiccuping(pid: int, hold_s: float, period_s: float) -> AsyncIterator[None]:
    """The process stands still now and then: `hold_s` long every `period_s` on average, but never regularly."""
    when = random.Random(f"{hold_s} {period_s}")  # the same moments in each experiment

    async def hold() -> None:
        with contextlib.suppress(ProcessLookupError):
            try:
                while True:
                    # Between half and one and a half times as long as on average.
                    await asyncio.sleep((period_s - hold_s) * (0.5 + when.random()))
                    os.kill(pid, signal.SIGSTOP)
                    await asyncio.sleep(hold_s * (0.5 + when.random()))
                    os.kill(pid, signal.SIGCONT)
            finally:
                os.kill(pid, signal.SIGCONT)

    async with _beside(hold()):
        yield


@contextlib.asynccontextmanager
async def throttled(pids: Sequence[int], stopped_share: float, period_s: float) -> AsyncIterator[None]:
    """All of them run in the same part of each period only, as a container does whose processor time is limited."""

    def tell(number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def hold() -> None:
        try:
            while True:
                tell(signal.SIGSTOP)
                await asyncio.sleep(period_s * stopped_share)
                tell(signal.SIGCONT)
                await asyncio.sleep(period_s * (1 - stopped_share))
        finally:
            tell(signal.SIGCONT)

    async with _beside(hold()):
        yield


@contextlib.asynccontextmanager
async def in_spells(
    make: Callable[[], contextlib.AbstractAsyncContextManager[None]], after_s: float, lasts_s: float | None,
    every_s: float | None,
) -> AsyncIterator[None]:  # fmt: skip
    """What `make` makes begins later, is over before the end, or comes again and again."""

    async def come_and_go() -> None:
        await asyncio.sleep(after_s)
        while True:
            began = time.monotonic()
            async with make():
                here.set()
                # Without an end of its own it holds until it is cancelled.
                await asyncio.sleep(FOREVER_S if lasts_s is None else lasts_s)
            if every_s is None:
                return
            await asyncio.sleep(max(0.0, began + every_s - time.monotonic()))

    here = asyncio.Event()
    async with _beside(come_and_go()) as task:
        if after_s == 0:  # the fault begins when it is there
            waits = asyncio.create_task(here.wait(), name="bystanders.here")
            await asyncio.wait({waits, task}, return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
        yield


@contextlib.asynccontextmanager
async def asking(url: str, what: Injection) -> AsyncIterator[None]:
    """Requests of one kind at a steady rate; what is answered, and with which status, nobody reads."""
    at_once = asyncio.Semaphore(MOST_AT_ONCE)
    asked = request_of(what)
    body = None if asked is None else json.dumps(asked).encode()  # once: it may be megabytes

    async def one(http: aiohttp.ClientSession) -> None:
        async with at_once:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                method = "GET" if body is None else "POST"
                async with http.request(method, url + what.path, data=body, headers=JSON) as answer:
                    await answer.read()

    async def ask() -> None:
        limit = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        async with aiohttp.ClientSession(timeout=limit) as http, asyncio.TaskGroup() as group:
            while True:
                if not at_once.locked():
                    group.create_task(one(http), name="bystanders.ask")
                await asyncio.sleep(1 / what.per_second)

    async with _beside(ask()):
        yield


def request_of(what: Injection) -> dict[str, Any] | None:
    """The body; None: there is none, it is a GET."""
    if what.body_words:
        words = itertools.islice(itertools.cycle(TEXT.split()), what.body_words)
        return {"model": what.model or SERVED_AS, "prompt": " ".join(words), **what.options}
    if not what.model and not what.body_tokens:
        return None
    prompt: str | list[int] = [7] * what.body_tokens if what.body_tokens else "hello"
    return {"model": what.model or SERVED_AS, "prompt": prompt, "max_tokens": 2, **what.options}


@contextlib.asynccontextmanager
async def connected(url: str, clients: int) -> AsyncIterator[None]:
    """That many connections on which nobody says anything."""
    where = urllib.parse.urlsplit(url)
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(clients):
            writers.append((await asyncio.open_connection(where.hostname, where.port))[1])
        yield
    finally:
        for writer in writers:
            writer.close()


@contextlib.asynccontextmanager
async def knocking(url: str, per_second: float) -> AsyncIterator[None]:
    """Strangers of each kind in turn open a connection, say something that is no request, and go away."""
    where = urllib.parse.urlsplit(url)

    async def one(words: bytes) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_WITHIN_S):
                reader, writer = await asyncio.open_connection(where.hostname, where.port)
                try:
                    writer.write(words)
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(KNOCKS_FOR_S):
                            await reader.read(READ_BYTES)
                finally:
                    writer.close()

    async def knock() -> None:
        async with asyncio.TaskGroup() as group:
            for words in itertools.cycle(STRANGE):
                group.create_task(one(words), name="bystanders.knock")
                await asyncio.sleep(1 / per_second)

    async with _beside(knock()):
        yield


@contextlib.asynccontextmanager
async def lingering(url: str, clients: int) -> AsyncIterator[None]:
    """Clients that ask for long answers and read a little of them each second, one answer after the other."""
    body = {"model": SERVED_AS, "prompt": "tell me all of it", "max_tokens": 400, "ignore_eos": True, "stream": True}

    async def read(http: aiohttp.ClientSession) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with http.post(f"{url}/v1/completions", json=body) as answer:
                    while await answer.content.read(READ_BYTES):
                        await asyncio.sleep(READ_EVERY_S)
            await asyncio.sleep(READ_EVERY_S)

    async def all_of_them() -> None:
        limit = aiohttp.ClientTimeout(total=None, sock_read=ANSWER_WITHIN_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(timeout=limit, connector=connector, read_bufsize=2 * READ_BYTES) as http,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(clients):
                group.create_task(read(http), name="bystanders.linger")

    async with _beside(all_of_them()):
        yield


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """`work` goes on inside, and is ended afterwards; what it failed of is told then."""
    task = asyncio.create_task(work, name="bystanders")
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
