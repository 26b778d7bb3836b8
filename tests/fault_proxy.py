"""What does a bad network do to a connection? A TCP proxy on loopback that resets, cuts, delays and swallows."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

Fault = Literal["none", "reset", "cut_request", "cut_answer", "delay", "blackhole"]
"""reset: closed at once. cut_request: half of it arrives. cut_answer: it arrives, its answer does not. delay: late.
blackhole: taken, never passed on, never answered."""
BLACKHOLE_S = 30.0
DELAY_S = 0.05


@dataclass
class FaultProxy:
    """`async with FaultProxy(host, port, faults, seed)`; each connection draws one of `faults`."""

    host: str
    port: int
    faults: Sequence[Fault] = ("none",)
    seed: int = 1
    drawn: Counter[str] = field(default_factory=Counter)
    listens: int = 0

    async def __aenter__(self) -> Self:
        self._dice = random.Random(self.seed)  # noqa: S311
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._met, "127.0.0.1", 0)
        self.listens = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._through(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._dice.choice(self.faults)
        self.drawn[fault] += 1
        if fault == "reset":
            writer.transport.abort()
            return
        if fault == "blackhole":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BLACKHOLE_S):
                    while await reader.read(1 << 16):
                        pass
            return
        if fault == "delay":
            await asyncio.sleep(DELAY_S)
        back, out = await asyncio.open_connection(self.host, self.port)
        try:
            await self._pass(fault, reader, writer, back, out)
        finally:
            out.close()

    async def _pass(
        self, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamReader,
        out: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        async def forth() -> None:
            while data := await reader.read(1 << 16):
                out.write(data[: len(data) // 2] if fault == "cut_request" else data)
                await out.drain()
                if fault == "cut_request":
                    return
            out.write_eof()

        forward = asyncio.create_task(forth())
        try:
            if fault == "cut_request":
                await forward
                return
            answer = asyncio.create_task(back.read(1 << 16))
            while data := await answer:
                if fault == "cut_answer":
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
                answer = asyncio.create_task(back.read(1 << 16))
        finally:
            forward.cancel()
            await asyncio.gather(forward, return_exceptions=True)
