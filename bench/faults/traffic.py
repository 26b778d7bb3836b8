"""What do clients send? Streams of the harness's open-loop load, with a shape over time and with clients that retry."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from bench.faults.scenario import Requests
from tests.live.harness.load import Load, Traffic

_wordings = itertools.count(1)
TICK_S = 1.0
WAVE_S, WAVE_LOW = 8.0, 0.1
RAMP_S, RAMP_FROM = 40.0, 0.33
BURST_EVERY_S, BURST_S, BURST_LOW = 30.0, 4.0, 0.25
SLOW_S, GROW_FROM = 60.0, 0.1
GONE_S, HERD_S, HERD = 20.0, 6.0, 2.5


def traffic(requests: Requests, capacity: float) -> Traffic:
    """The stream with its rate fixed for a server of that capacity (requests per second)."""
    return Traffic(
        rate=requests.rate if requests.rate is not None else requests.share * capacity,
        prompt_tokens=requests.prompt_tokens,
        output_tokens=requests.output_tokens,
        shared=requests.shared,
        spread=requests.spread,
        lead=requests.lead,
        abort_after=requests.abort_after,
        timeout_s=requests.timeout_s,
        retries=requests.retries,
        most_outstanding=requests.most_outstanding,
        options=requests.options,
        pack=requests.pack,
    )


def stream(url: str, requests: Requests, capacity: float, *, seed: int) -> Load:
    """A stream that can be entered; words are never the same twice, arrivals and lengths are."""
    return Load(url, traffic(requests, capacity), seed=seed, salt=next(_wordings), longest_s=900)


@contextlib.asynccontextmanager
async def shaped(load: Load, requests: Requests, capacity: float) -> AsyncIterator[None]:
    """Inside, `load` sends `requests` in their shape."""
    wanted = traffic(requests, capacity)
    load.switch(wanted)
    task = asyncio.create_task(_shape(load, wanted, requests.shape), name="traffic.shape")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _shape(load: Load, wanted: Traffic, shape: str) -> None:
    began = time.monotonic()
    while shape != "steady":
        load.switch(shaped_at(wanted, shape, time.monotonic() - began))
        await asyncio.sleep(TICK_S)


def shaped_at(wanted: Traffic, shape: str, elapsed: float) -> Traffic:
    """What is sent so many seconds after the stream began."""
    match shape:
        case "waves":
            factor = 2.0 - WAVE_LOW if int(elapsed / WAVE_S) % 2 == 0 else WAVE_LOW
        case "bursts":
            factor = 1.0 if elapsed % BURST_EVERY_S < BURST_S else BURST_LOW
        case "fade":
            factor = max(0.0, 1 - elapsed / SLOW_S)
        case "grow":
            length = min(1.0, GROW_FROM + (1 - GROW_FROM) * elapsed / SLOW_S)
            return replace(wanted, prompt_tokens=max(2, round(wanted.prompt_tokens * length)))
        case "outage":
            factor = 0.0 if elapsed < GONE_S else HERD if elapsed < GONE_S + HERD_S else 1.0
        case _:
            factor = min(1.0, RAMP_FROM + (1 - RAMP_FROM) * elapsed / RAMP_S)
    return replace(wanted, rate=wanted.rate * factor)
