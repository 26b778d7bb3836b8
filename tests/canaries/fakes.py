"""A vLLM that answers pinned prompts: right, off by noise, of other weights, with NaN, or not at all."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from responder.canaries.pins import Answer, Pin, Prompt, Record
from tests.doubles import Double, Handler, serving

NAN_MESSAGE = "Out of range float values are not JSON compliant"
PROMPTS = (Prompt(id="short", text="one two", max_tokens=8), Prompt(id="long", text="one two " * 80, max_tokens=8))


def right(prompt: Prompt) -> Answer:
    """The answer of good weights: deterministic, with a clear winner at every position."""
    draw = random.Random(prompt.text)
    rows = []
    for at in range(prompt.max_tokens):
        tokens = draw.sample(range(100 + at, 900), 5)
        rows.append({token: -0.5 - 0.7 * rank for rank, token in enumerate(tokens)})
    return Answer(prompt=prompt.id, tokens=tuple(next(iter(row)) for row in rows), top=tuple(rows), nan=False)


def moved(answer: Answer, by: float, seed: int = 1) -> Answer:
    """The same tokens, log-probabilities off by up to `by`."""
    draw = random.Random(seed)
    top = tuple({token: value + draw.uniform(-by, by) for token, value in row.items()} for row in answer.top)
    return answer.model_copy(update={"top": top})


def record(prompts: tuple[Prompt, ...] = PROMPTS, tolerance: float = 0.02, **changes: Any) -> Record:
    """What a recording of good weights would be."""
    pins = tuple(Pin(prompt=p, answer=right(p), tolerance=tolerance, stable=p.max_tokens) for p in prompts)
    made = Record(target="t", model="m", fingerprint={"model": "m", "version": "1"}, at=1.0, pins=pins)
    return made.model_copy(update=changes)


class Weights:
    """What the fake's model is like now; tests change it while it serves."""

    def __init__(self) -> None:
        self.noise = 0.0
        self.nan = False
        self.other = False
        self.wrong_together = False
        self.wrong_cached = False
        self.version = "1"
        self.started_at = 100.0
        self.running = 0.0
        self.silent = False
        self._at_once = 0
        self._salted: set[str] = set()

    def answer(self, body: dict[str, Any]) -> Answer:
        """What this model says to the request."""
        prompt = Prompt(id="x", text=body["prompt"], max_tokens=body["max_tokens"])
        sick = self.other or (self.wrong_together and self._at_once > 1)
        sick = sick or (self.wrong_cached and "cache_salt" not in body and len(prompt.text) > 100)
        good = right(prompt)
        if not sick:
            return moved(good, self.noise, random.randrange(10**6)) if self.noise else good
        # Other weights: the first token is as likely as ever, everything else is another model's.
        return right(prompt.model_copy(update={"text": prompt.text + "!"}))

    async def complete(self, request: web.Request) -> web.Response:
        """POST /v1/completions."""
        body = await request.json()
        if self.silent:
            await asyncio.Event().wait()
        self._at_once += 1
        try:
            await asyncio.sleep(0.01 if self.wrong_together else 0)
            answer = self.answer(body)
            numbers = "logprobs" in body
            if self.nan and numbers:
                return web.json_response({"error": {"message": NAN_MESSAGE, "code": 400}}, status=400)
            tokens = [0] * len(answer.tokens) if self.nan else list(answer.tokens)
            rows = [{f"token_id:{token}": value for token, value in row.items()} for row in answer.top]
            chosen = [row[token] for row, token in zip(answer.top, answer.tokens, strict=True)]
            names = [f"token_id:{token}" for token in tokens]
            logprobs = {"tokens": names, "top_logprobs": rows, "token_logprobs": chosen}
            choice = {"index": 0, "text": "…", "token_ids": tokens, "finish_reason": "length",
                      "logprobs": logprobs if numbers else None}  # fmt: skip
            return web.json_response({"choices": [choice], "system_fingerprint": f"vllm-{self.version}"})
        finally:
            self._at_once -= 1

    def routes(self) -> dict[str, Handler]:
        """For `serving`."""

        async def models(_: web.Request) -> web.Response:
            return web.json_response({"data": [{"id": "m", "root": "/models/m", "max_model_len": 4096}]})

        async def version(_: web.Request) -> web.Response:
            return web.json_response({"version": self.version})

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(text=f"process_start_time_seconds {self.started_at}\nvllm:num_requests_running "
                                f"{self.running}\nvllm:num_requests_waiting 0.0\n")  # fmt: skip

        return {"/v1/models": models, "/version": version, "/metrics": metrics, "/v1/completions": self.complete}


@asynccontextmanager
async def fake_vllm() -> AsyncIterator[tuple[Weights, Double]]:
    """A server and its weights."""
    weights = Weights()
    async with serving(weights.routes()) as double:
        yield weights, double


def completion(answer: Answer, **choice: Any) -> bytes:
    """A response body with these tokens."""
    return json.dumps({"choices": [{"token_ids": list(answer.tokens), "finish_reason": "length", **choice}]}).encode()
