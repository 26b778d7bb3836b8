"""Are this server's answers right? Every case alone, again (its prefix is cached now), and all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp

from responder.canaries.ask import ask, ask_all
from responder.canaries.compare import judge
from responder.canaries.pins import Answer, Pin, Prompt, Record
from responder.model import Noun, Target

CASE_TIMEOUT_S = 120.0
COPIES = 3
ACROSS = 3.0
"""Another set of options computes in another order: more noise than one server has with itself."""
SHARE_LEFT = 0.15
"""What may be left of the original's shift: a heal takes away the error, not the noise of other kernels."""


class Asked(Noun):
    """All answers of one server, and the judgement over them."""

    answers: tuple[Answer, ...]
    """One for each case, asked alone."""
    right: bool
    match: float | None
    tolerances: float | None
    nan: bool | None
    wrong: tuple[str, ...]
    error: str = ""


async def question(http: aiohttp.ClientSession, url: str, model: str, prompts: Sequence[Prompt]) -> list[Answer]:
    """All answers, way by way; the first len(prompts) are those asked alone."""
    target = Target(name="bisect", url=url, model=model)

    async def one(prompt: Prompt) -> Answer:
        return await ask(http, target, model, prompt, timeout=CASE_TIMEOUT_S)

    limit = CASE_TIMEOUT_S * len(prompts)
    alone = await ask_all(http, target, model, prompts, timeout=limit)
    if any(answer.error and not answer.nan for answer in alone):
        return list(alone)
    cached = await ask_all(http, target, model, prompts, timeout=limit)
    together = await asyncio.gather(*(one(prompt) for prompt in list(prompts) * COPIES))
    return [*alone, *cached, *together]


def weigh(
    reference: Record, answers: Sequence[Answer], sick_shift: float | None = None, across: float = ACROSS
) -> Asked:
    """Right or wrong. `sick_shift`: tolerances of the original, to tell an error from another kernel's noise."""
    found = judge(wider(reference, sick_shift, across), answers)
    count = len(reference.pins)
    plain = judge(reference, answers)
    return Asked(
        answers=tuple(answers[:count]),
        right=found.bad is False,
        match=found.match,
        tolerances=plain.tolerances,
        nan=found.nan,
        wrong=found.wrong,
        error="; ".join(found.errors),
    )


def wider(reference: Record, sick_shift: float | None, across: float = ACROSS) -> Record:
    """The record with the tolerance that other options may need, but never as wide as the error looked for."""
    factor = across if sick_shift is None else max(1.0, min(across, SHARE_LEFT * sick_shift))
    pins = tuple(pin.model_copy(update={"tolerance": pin.tolerance * factor}) for pin in reference.pins)
    return reference.model_copy(update={"pins": pins})


def reference_of(answers: Sequence[Answer], prompts: Sequence[Prompt], tolerance: float, model: str) -> Record:
    """Answers of another implementation as a record."""
    known = {answer.prompt: answer for answer in answers}
    pins = tuple(
        Pin(prompt=prompt, answer=known[prompt.id], tolerance=tolerance, stable=len(known[prompt.id].tokens))
        for prompt in prompts
    )
    return Record(target="bisect", model=model, fingerprint={}, at=0.0, pins=pins)
