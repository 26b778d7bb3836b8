"""What does this server answer to a pinned prompt, and which server is it? Plain completions; nothing is streamed."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from responder.ask import credentials, get, reach_of
from responder.canaries.pins import TOP, Answer, Prompt, fingerprint_of
from responder.canary import NAN_WORDS, first_model
from responder.exposition import parse
from responder.model import Target

MAX_BYTES = 1 << 20
PROMPT_TIMEOUT_S = 30.0
LOOK_TIMEOUT_S = 4.0
MAX_METRICS = 8 << 20
_NONE = aiohttp.ClientTimeout(total=None)
_VITALS = frozenset({"process_start_time_seconds", "vllm:num_requests_running", "vllm:num_requests_waiting"})


@dataclass(frozen=True)
class Look:
    """One light look at a server before it is asked."""

    model: str | None
    entry: dict[str, Any]
    """The model's entry in /v1/models."""
    version: str | None
    started_at: float | None
    """Start of the API server, unix seconds: another one is another life."""
    in_flight: float | None
    error: str = ""

    def fingerprint(self, answers: Iterable[Answer], command: Sequence[str] = ()) -> dict[str, str]:
        """Which server this is, `system_fingerprint` of its answers included."""
        server = next((answer.server for answer in answers if answer.server), "")
        return fingerprint_of(self.entry, self.version, server, command)


async def look(http: aiohttp.ClientSession, target: Target) -> Look:
    """Model, version, age and load; the engine is not touched."""
    headers = credentials(target)
    models, version, metrics = await asyncio.gather(
        *(get(http, target.url + path, timeout=LOOK_TIMEOUT_S, max_bytes=MAX_METRICS, headers=headers)
          for path in ("/v1/models", "/version", "/metrics"))
    )  # fmt: skip
    name = target.model or first_model(models.body) if models.status == 200 else None
    entries = _json(models.body).get("data") or []
    entry = next((e for e in entries if isinstance(e, dict) and e.get("id") == name), {})
    said = _json(version.body).get("version") if version.status == 200 else None
    seen = parse(metrics.body, wanted=_VITALS.__contains__) if metrics.status == 200 else None
    flight = [seen.total(f"vllm:num_requests_{what}") for what in ("running", "waiting")] if seen else []
    error = "" if name else models.error or f"/v1/models answered {models.status} and names no model"
    return Look(
        model=name,
        entry=entry,
        version=str(said) if said else None,
        started_at=seen.highest("process_start_time_seconds") if seen else None,
        in_flight=sum(value or 0.0 for value in flight) if flight and None not in flight else None,
        error=error,
    )


async def ask(
    http: aiohttp.ClientSession,
    target: Target,
    model: str,
    prompt: Prompt,
    *,
    logprobs: bool = True,
    salt: str | None = None,
    timeout: float = PROMPT_TIMEOUT_S,
) -> Answer:
    """One greedy answer; never raises for what the server does. `salt` keeps cached prefixes out of it."""
    body: dict[str, Any] = {"model": model, "prompt": prompt.text, "max_tokens": prompt.max_tokens, "temperature": 0,
                            "seed": 0, "ignore_eos": True, "return_token_ids": True}  # fmt: skip
    if logprobs:
        body |= {"logprobs": TOP, "return_tokens_as_token_ids": True}
    if salt:
        body["cache_salt"] = salt
    started = time.monotonic()
    try:
        async with (
            asyncio.timeout(timeout),
            http.post(f"{target.url}/v1/completions", json=body, headers=credentials(target), allow_redirects=False,
                      timeout=_NONE) as response,
        ):  # fmt: skip
            raw = await response.content.read(MAX_BYTES)
            while not response.content.at_eof() and len(raw) < MAX_BYTES:
                raw += await response.content.read(MAX_BYTES)
            status = response.status
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(prompt=prompt.id, error=reach_of(error)[1][:300], seconds=time.monotonic() - started)
    return answer_of(prompt.id, status, raw, time.monotonic() - started)


async def ask_all(
    http: aiohttp.ClientSession, target: Target, model: str, prompts: Iterable[Prompt], *,
    logprobs: bool = True, salt: str | None = None, timeout: float = PROMPT_TIMEOUT_S,
) -> tuple[Answer, ...]:  # fmt: skip
    """One prompt after another, within `timeout` in all; stops at the first that gets no answer at all."""
    limit = time.monotonic() + timeout
    answers: list[Answer] = []
    for prompt in prompts:
        left = max(0.1, limit - time.monotonic())
        answers.append(await ask(http, target, model, prompt, logprobs=logprobs, salt=salt, timeout=left))
        if answers[-1].error and not answers[-1].nan:
            break
    return tuple(answers)


def answer_of(prompt: str, status: int, raw: bytes, seconds: float) -> Answer:
    """A response as an answer. NaN shows as HTTP 400 about numbers JSON cannot hold, or as a null or NaN number."""
    value = _json(raw)
    if status != 200:
        words = _message(value) or f"HTTP {status}"
        nan = True if NAN_WORDS.search(words) else None
        return Answer(prompt=prompt, nan=nan, error=words[:300], seconds=seconds)
    try:
        choice = value["choices"][0]
        numbers = choice.get("logprobs") or {}
        named = [_token(name) for name in numbers.get("tokens") or ()]
        tokens = [int(token) for token in choice.get("token_ids") or ()] or [t for t in named if t is not None]
        rows = [dict(row or {}) for row in numbers.get("top_logprobs") or ()]
        chosen = list(numbers.get("token_logprobs") or ())
        every = [*chosen, *(item for row in rows for item in row.values())]
        nan = any(item is None or not math.isfinite(item) for item in every) if every else None
        top = tuple({token: float(item) for name, item in row.items()
                     if (token := _token(name)) is not None and item is not None} for row in rows)  # fmt: skip
        finish, server = str(choice.get("finish_reason") or ""), str(value.get("system_fingerprint") or "")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return Answer(prompt=prompt, error="the answer is no completion", seconds=seconds)
    if not tokens:
        return Answer(prompt=prompt, error="the server tells no token ids (vLLM 0.10.2 or newer, or with logprobs)",
                      seconds=seconds)  # fmt: skip
    return Answer(prompt=prompt, tokens=tuple(tokens), top=() if nan else top, finish=finish, nan=nan,
                  seconds=seconds, server=server)  # fmt: skip


def _token(name: object) -> int | None:
    digits = str(name).removeprefix("token_id:")
    return int(digits) if str(name).startswith("token_id:") and digits.isdigit() else None


def _message(value: dict[str, Any]) -> str:
    error = value.get("error", value)
    return str((error.get("message") or error.get("detail") or "") if isinstance(error, dict) else error)


def _json(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
