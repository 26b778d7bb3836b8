"""What do the server's users feel? An open-loop load whose traffic can be switched, and the times its clients measured.

Arrivals are Poisson with a seed. Bounded three ways: `longest_s` of run time, the traffic's `most_outstanding` requests
in flight (arrivals beyond it are counted as shed, not sent), and a timeout per request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import aiohttp

from tests.live.harness import find
from tests.live.harness.vllm_server import SERVED_AS

UNIQUE, FORM = "$unique", "$form"
SECTIONS, FIELDS, LONGEST_FIELD = 20, 3, 1600


@dataclass(frozen=True)
class Traffic:
    """What clients send. `shared` is the share of a prompt that all clients have in common."""

    rate: float
    """Requests per second."""
    prompt_tokens: int = 200
    output_tokens: int = 60
    shared: float = 0.5
    spread: float = 0.3
    """Relative standard deviation of both lengths."""
    lead: int = 0
    """So many of a prompt's own words stand before what it shares: a date, the name of a user."""
    abort_after: int = 0
    """Clients go away after so many tokens; 0: they stay."""
    timeout_s: float = 120.0
    most_outstanding: int = 200
    retries: int = 0
    """How often a client whose request failed or timed out asks again, at once."""
    options: Mapping[str, object] = field(default_factory=dict)
    """More fields of the request's body; in each request a value UNIQUE becomes another word, FORM another `form`."""
    pack: int = 1
    """So many prompts in one call."""


@dataclass
class Call:
    """One request as its client saw it. Times are seconds; `at` is unix time."""

    at: float
    ttft: float | None = None
    gaps: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    error: str = ""
    aborted: bool = False


@dataclass(frozen=True)
class Felt:
    """What the clients of one phase felt."""

    calls: int
    answered: int
    errors: int
    aborted: int
    tokens_per_second: float
    ttft_p50: float | None
    ttft_p99: float | None
    itl_p50: float | None
    itl_p99: float | None
    tpot_p50: float | None
    tpot_p99: float | None
    """Seconds per token after the first, per request: gaps alone are flattered when tokens arrive bundled."""
    worst_gap: float | None


class Load:
    """`async with Load(url, Traffic(...)) as load: ... load.switch(Traffic(...))`."""

    def __init__(self, url: str, traffic: Traffic, *, seed: int = 1, salt: int = 0, longest_s: float = 600.0) -> None:
        self.calls: list[Call] = []
        self.shed = 0
        self.traffic = traffic
        self._url = url
        self._random = random.Random(seed)
        # Another salt gives the same arrivals and lengths with other words, which no prefix cache has seen.
        self._wording = random.Random(f"{seed} {salt}")
        self._words: list[str] = json.loads((find.model() / "words.json").read_text())
        self._common = [self._wording.choice(self._words) for _ in range(4096)]
        self._longest_s = longest_s
        self._switched = asyncio.Event()
        self._stopping = False
        self._requests: set[asyncio.Task[None]] = set()
        self._arrivals: asyncio.Task[None] | None = None
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._arrivals = asyncio.create_task(self._arrive(), name="load.arrivals")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def switch(self, traffic: Traffic) -> None:
        """From now on send this instead."""
        self.traffic = traffic
        self._switched.set()

    @property
    def outstanding(self) -> int:
        """Requests in flight."""
        return len(self._requests)

    async def drain(self, timeout_s: float) -> bool:
        """Send nothing more and wait for the answers; False if some had not come in time."""
        self.switch(Traffic(rate=0.0))
        if self._requests:
            await asyncio.wait(set(self._requests), timeout=timeout_s)
        return not self._requests

    async def stop(self) -> None:
        """Send nothing more, hang up on whoever is still waiting."""
        self._stopping = True
        tasks = [*self._requests, *([self._arrivals] if self._arrivals else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    async def _arrive(self) -> None:
        limit = time.monotonic() + self._longest_s
        due = time.monotonic()
        # `wait_for` may swallow a cancellation that comes together with a switch: then the flag ends it.
        while time.monotonic() < limit and not self._stopping:
            rate = self.traffic.rate
            due = max(due, time.monotonic() - 1.0) + self._random.expovariate(rate) if rate > 0 else limit
            self._switched.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._switched.wait(), max(0.0, due - time.monotonic()))
            if self._switched.is_set():
                due = time.monotonic()
            elif len(self._requests) >= self.traffic.most_outstanding:
                self.shed += 1
            else:
                self._send(self.traffic)

    def _send(self, traffic: Traffic) -> None:
        one = self._prompt(traffic)
        prompt = one if traffic.pack == 1 else [one, *(self._prompt(traffic) for _ in range(traffic.pack - 1))]
        output = self._around(traffic.output_tokens, traffic.spread)
        task = asyncio.create_task(self._ask(traffic, prompt, output))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    def _around(self, mean: int, spread: float) -> int:
        return max(2, round(self._random.gauss(mean, mean * spread)))

    def _prompt(self, traffic: Traffic) -> str:
        length = min(self._around(traffic.prompt_tokens, traffic.spread), 3400)
        shared = min(round(length * traffic.shared), len(self._common))
        own = [self._wording.choice(self._words) for _ in range(length - shared)]
        return " " + " ".join(own[: traffic.lead] + self._common[:shared] + own[traffic.lead :])

    async def _ask(self, traffic: Traffic, prompt: str | list[str], output: int) -> None:
        for _ in range(1 + traffic.retries):
            if not (await self._call(traffic, prompt, output)).error:
                return

    async def _call(self, traffic: Traffic, prompt: str | list[str], output: int) -> Call:
        call = Call(at=time.time())
        self.calls.append(call)
        began = time.monotonic()
        body: dict[str, object] = {
            "model": SERVED_AS,
            "prompt": prompt,
            "max_tokens": output,
            "ignore_eos": True,
            "stream": True,
        }
        for name, value in traffic.options.items():
            body[name] = self._filled(value)
        timeout = aiohttp.ClientTimeout(total=traffic.timeout_s)
        try:
            assert self._http is not None
            async with self._http.post(f"{self._url}/v1/completions", json=body, timeout=timeout) as answer:
                if answer.status != 200:
                    call.error = f"HTTP {answer.status}"
                    return call
                await self._read(answer, call, began, traffic.abort_after)
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            call.error = type(failure).__name__
        except asyncio.CancelledError:
            call.error = call.error or "hung up"
            raise
        finally:
            call.seconds = time.monotonic() - began
        return call

    def _filled(self, value: object) -> object:
        if isinstance(value, dict):
            return {key: self._filled(inner) for key, inner in value.items()}
        if value == UNIQUE:
            return f"{self._wording.getrandbits(64):x}"
        return form(self._wording) if value == FORM else value

    async def _read(self, answer: aiohttp.ClientResponse, call: Call, began: float, abort_after: int) -> None:
        last = began
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            if line.startswith(b'data: {"error"'):
                call.error = "error in stream"
                return
            now = time.monotonic()
            if call.ttft is None:
                call.ttft = now - began
            else:
                call.gaps.append(now - last)
            last = now
            call.tokens += 1
            if abort_after and call.tokens >= abort_after:
                call.aborted = True
                return


def form(numbers: random.Random) -> dict[str, object]:
    """A JSON schema like no other: sections of fields, each of which may have its own number of characters."""

    def section(fields: dict[str, object]) -> dict[str, object]:
        return {"type": "object", "properties": fields, "required": list(fields)}

    own = f"{numbers.getrandbits(32):x}"
    return section(
        {
            f"section_{number}_{own}": section(
                {
                    f"field_{place}_{own}": {"type": "string", "maxLength": numbers.randint(10, LONGEST_FIELD)}
                    for place in range(FIELDS)
                }
            )
            for number in range(SECTIONS)
        }
    )


def felt(calls: Iterable[Call], seconds: float) -> Felt:
    """Fold the calls that began in one phase of `seconds` into what its clients felt."""
    calls = list(calls)
    ttfts = [c.ttft for c in calls if c.ttft is not None]
    gaps = [g for c in calls for g in c.gaps]
    tpots = [sum(c.gaps) / len(c.gaps) for c in calls if len(c.gaps) > 4]
    return Felt(
        calls=len(calls),
        answered=sum(1 for c in calls if c.tokens and not c.error and not c.aborted),
        errors=sum(1 for c in calls if c.error),
        aborted=sum(1 for c in calls if c.aborted),
        tokens_per_second=sum(c.tokens for c in calls) / seconds if seconds > 0 else 0.0,
        ttft_p50=quantile(ttfts, 0.5),
        ttft_p99=quantile(ttfts, 0.99),
        itl_p50=quantile(gaps, 0.5),
        itl_p99=quantile(gaps, 0.99),
        tpot_p50=quantile(tpots, 0.5),
        tpot_p99=quantile(tpots, 0.99),
        worst_gap=max(gaps, default=None),
    )


def quantile(values: Iterable[float], q: float) -> float | None:
    """Nearest-rank quantile; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else None
