"""Which of these happens first? Waiting for events, and for nothing to happen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


async def first_of(*events: asyncio.Event) -> asyncio.Event:
    """The first of these events that is set, in the order given when several are."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return next(event for event in events if event.is_set())


async def quiet(unless: asyncio.Event, seconds: float) -> bool:
    """Wait; True when the time has passed, False when the event came first."""
    try:
        async with asyncio.timeout(seconds):
            await unless.wait()
    except TimeoutError:
        return True
    return False


async def pause(least_s: float, most_s: float, *unless: asyncio.Event) -> None:
    """Wait `most_s` seconds, or only `least_s` where one of these events is set by then or comes."""
    await asyncio.sleep(min(least_s, most_s))
    if most_s > least_s:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s - least_s):
                await first_of(*unless)


@contextlib.contextmanager
def taken(event: asyncio.Event) -> Iterator[None]:
    """Something is done about an event: cleared before, so that the next one counts, and set again where it fails."""
    event.clear()
    try:
        yield
    except BaseException:
        event.set()
        raise
