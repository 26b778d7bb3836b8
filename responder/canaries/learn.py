"""How are canaries recorded? The operator says "this is good"; healthy runs at different load teach what noise is.

Load is made by ourselves: batches of another size sum in another order, and a tolerance learned from a calm server
alone would call a busy one sick.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from responder.canaries.ask import Look, ask, ask_all, look
from responder.canaries.compare import learn, middle
from responder.canaries.pins import Answer, Pin, Prompt, Record
from responder.model import Target

LOADS = (0, 4, 16)
RUNS_PER_LOAD = 4
WARMUP_TIMEOUT_S = 120.0
FILLER_TOKENS = 48
_WORDS = ("river", "mill", "bridge", "winter", "water", "wheel", "lamp", "street", "bread", "salt", "paper", "wool")


class NotRecorded(Exception):
    """Why there is no record, in words for the operator."""


@dataclass
class Recording:
    """A record and what was left out of it."""

    record: Record
    left_out: list[str] = field(default_factory=list)


async def record(
    http: aiohttp.ClientSession,
    target: Target,
    prompts: Sequence[Prompt],
    command: Sequence[str],
    *,
    clock: Callable[[], float] = time.time,
    loads: Sequence[int] = LOADS,
    runs_per_load: int = RUNS_PER_LOAD,
    say: Callable[[str], None] = lambda _: None,
) -> Recording:
    """Ask everything often enough to know what is noise. NotRecorded in words when the server is not well."""
    seen = await look(http, target)
    if seen.model is None:
        raise NotRecorded(f"{target.url}: {seen.error}")
    say("the first request for log-probabilities of a server's life may stop everybody while a kernel is compiled …")
    first = await ask(http, target, seen.model, prompts[0], timeout=WARMUP_TIMEOUT_S)
    say(f"… it took {first.seconds:.1f} s")
    _must_be_good((first,))
    good = await ask_all(http, target, seen.model, prompts, timeout=WARMUP_TIMEOUT_S)
    _must_be_good(good)
    runs: list[Sequence[Answer]] = []
    for load in loads:
        async with _Filler(http, target, seen.model, load):
            for number in range(runs_per_load):
                salt = uuid.uuid4().hex if number % 2 else None
                runs.append(await ask_all(http, target, seen.model, prompts, salt=salt, timeout=WARMUP_TIMEOUT_S))
                _must_be_good(runs[-1])
        say(f"{runs_per_load} runs beside {load} other requests")
    again = await look(http, target)
    if (again.started_at, again.fingerprint(())) != (seen.started_at, seen.fingerprint(())):
        raise NotRecorded("the server was restarted or changed while it was recorded; record again")
    return _finish(target, seen, prompts, good, runs, command, first.seconds, tuple(loads), clock())


def _must_be_good(answers: Sequence[Answer]) -> None:
    for answer in answers:
        if answer.nan:
            raise NotRecorded(f"prompt {answer.prompt}: the model computes NaN; this is not a good server")
        if not answer.usable or not answer.top:
            raise NotRecorded(f"prompt {answer.prompt}: {answer.error or 'no log-probabilities in the answer'}")


def _finish(
    target: Target, seen: Look, prompts: Sequence[Prompt], good: Sequence[Answer], runs: Sequence[Sequence[Answer]],
    command: Sequence[str], warmup_s: float, loads: tuple[int, ...], now: float,
) -> Recording:  # fmt: skip
    pins: list[Pin] = []
    left_out: list[str] = []
    for prompt, answer in zip(prompts, good, strict=True):
        draft = Pin(prompt=prompt, answer=answer, tolerance=1.0, stable=len(answer.tokens))
        try:
            pins.append(learn(draft, [a for run in runs for a in run if a.prompt == prompt.id]))
        except ValueError as error:
            left_out.append(str(error))
    if not pins:
        raise NotRecorded("no prompt has a stable answer: " + "; ".join(left_out))
    return Recording(
        Record(
            target=target.name, model=str(seen.model), fingerprint=seen.fingerprint(good, command), at=now,
            pins=tuple(pins), runs=len(runs), loads=loads, warmup_s=warmup_s,
            probe_s=middle(sum(a.seconds for a in run) for run in runs[: len(runs) // max(len(loads), 1)]),
        ),
        left_out,
    )  # fmt: skip


class _Filler:
    """Requests of our own beside the canaries: `async with`."""

    def __init__(self, http: aiohttp.ClientSession, target: Target, model: str, count: int) -> None:
        self._args = (http, target, model)
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        self._tasks = [asyncio.create_task(self._go(n), name=f"filler {n}") for n in range(self._count)]

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()  # closes the connection, which makes vLLM abort the request
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _go(self, number: int) -> None:
        draw = random.Random(number)
        while True:
            text = " ".join(draw.choices(_WORDS, k=draw.randint(8, 120)))
            prompt = Prompt(id="filler", text=text, max_tokens=draw.randint(8, FILLER_TOKENS))
            answer = await ask(*self._args, prompt, logprobs=False)
            if answer.error:
                await asyncio.sleep(0.5)  # a server in trouble is not to be hammered
