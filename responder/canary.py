"""Does a one-token request come back? The only question a hung engine cannot answer with a frozen number.

Cheapest path: `/v1/completions`, one short prompt, one token, greedy, streamed. Used by the capture step and by the
daemon's own probe. Closing the connection at the deadline makes vLLM abort the request, so nothing of ours stays queued
on a server that wakes up again.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from responder.ask import Reach, credentials, get, reach_of
from responder.model import Target

MAX_BYTES = 64 << 10
"""One token with log-probabilities is under 1 kB; a page of something else is cut here."""
PROMPT = "1"
NAN_WORDS = re.compile(r"Out of range float|NaNs? detected in logits", re.IGNORECASE)
_NAN_LOGPROB = re.compile(r'"token_logprobs"\s*:\s*\[\s*(?:NaN|null)\s*\]')
_NONE = aiohttp.ClientTimeout(total=None)


@dataclass(frozen=True)
class CanaryResult:
    """How one canary request ended. Times are wall seconds as a client sees them."""

    reach: Reach
    status: int | None
    seconds: float
    ttft_s: float | None = None
    """Until the first event that carries a choice."""
    text: str | None = None
    token_id: int | None = None
    nan: bool | None = None
    """Whether the model produced NaN; None when nothing was seen that could tell."""
    error: str = ""
    model: str = ""
    gaps_s: tuple[float, ...] = ()
    """Between one event with a choice and the next: ITL as a client sees it."""

    @property
    def ok(self) -> bool:
        """A token came back in time."""
        return self.reach == "ok" and self.status == 200 and self.ttft_s is not None and not self.error

    @property
    def asked(self) -> bool:
        """Whether the engine's answer was at stake: not when nobody listens, and not when the front end turned the
        request down by itself (wrong key, no such model, too many requests)."""
        if self.reach == "ok":
            return self.status is not None and (self.status == 200 or self.status >= 500)
        return self.reach in ("timeout", "reset")


async def send_canary(
    http: aiohttp.ClientSession,
    target: Target,
    model: str | None,
    timeout: float,
    token_ids: bool = False,
    logprobs: bool = False,
    tokens: int = 1,
) -> CanaryResult:
    """Ask for one token (or a few) within `timeout` seconds, the search for a model name included.

    `token_ids` asks for the token's number (servers before 0.10.2 log a warning about a field they do not know, so the
    probe that runs all night does not). `logprobs` is the only thing that gives NaN logits away, and not harmless: the
    first such request of a server's life compiles a kernel while every other request waits (12.7 s on a CPU server)."""
    started = time.monotonic()
    headers = credentials(target)
    if model is None:
        found = await get(http, f"{target.url}/v1/models", timeout=timeout, max_bytes=MAX_BYTES, headers=headers)
        model = first_model(found.body) if found.status == 200 else None
        if model is None:
            why = found.error or f"/v1/models answered {found.status} and names no model; set `model:` for this target"
            return CanaryResult(found.reach, found.status if found.status != 200 else None, found.seconds, error=why)
    left = max(0.1, timeout - (time.monotonic() - started))
    result = await _complete(http, target.url, headers, request_body(model, token_ids, logprobs, tokens), left)
    return replace(result, seconds=time.monotonic() - started, model=model)


def request_body(model: str, token_ids: bool = False, logprobs: bool = False, tokens: int = 1) -> dict[str, Any]:
    """The request: greedy, because sampling would hide a difference between two canaries."""
    body: dict[str, Any] = {"model": model, "prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "stream": True}
    if tokens > 1:
        # A model that stops early would leave nothing to measure.
        body |= {"ignore_eos": True}
    return body | ({"return_token_ids": True} if token_ids else {}) | ({"logprobs": 1} if logprobs else {})


def first_model(body: bytes) -> str | None:
    """The first base model `/v1/models` names; LoRA adapters (they name a parent) only when there is nothing else."""
    try:
        entries = [entry for entry in json.loads(body)["data"] if isinstance(entry.get("id"), str)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    base = [entry for entry in entries if not entry.get("parent")]
    names: list[str] = [entry["id"] for entry in base or entries]
    return names[0] if names else None


async def _complete(
    http: aiohttp.ClientSession, url: str, headers: Mapping[str, str], body: dict[str, Any], timeout: float
) -> CanaryResult:
    started = time.monotonic()
    status: int | None = None
    reading = _Reading()
    try:
        async with (
            asyncio.timeout(timeout),
            http.post(
                f"{url}/v1/completions", json=body, headers=headers, allow_redirects=False, timeout=_NONE
            ) as response,
        ):
            status = response.status
            async for chunk in response.content.iter_any():
                if reading.take(chunk, time.monotonic() - started):
                    break
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        reach, words = reach_of(error)
        if reading.done:
            # The answer was complete; how the connection ended afterwards says nothing.
            return reading.result(status, time.monotonic() - started)
        return replace(reading.result(status, time.monotonic() - started), reach=reach, error=words)
    return reading.result(status, time.monotonic() - started)


class _Reading:
    """The response while it arrives: server-sent events, or a JSON error."""

    def __init__(self) -> None:
        self.raw = b""
        self.events: list[str] = []
        self.first_at: float | None = None
        self.tokens_at: list[float] = []
        """When each event that carries a choice had come; several in one chunk came together."""
        self.done = False

    def take(self, chunk: bytes, at: float) -> bool:
        """Add bytes; True when no more are needed."""
        self.raw += chunk
        lines = self.raw.split(b"\n")
        # The last piece may be half an event: it waits for its line end.
        self.events = [line[5:].strip().decode("utf-8", "replace") for line in lines[:-1] if line.startswith(b"data:")]
        told = sum('"choices"' in event for event in self.events)
        self.tokens_at += [at] * (told - len(self.tokens_at))
        self.first_at = self.tokens_at[0] if self.tokens_at else None
        self.done = "[DONE]" in self.events
        return self.done or len(self.raw) > MAX_BYTES

    def result(self, status: int | None, seconds: float) -> CanaryResult:
        text, token_id, error, nan = self._content()
        if status != 200 and not error:
            error = _message(self.raw) or f"HTTP {status}"
        if NAN_WORDS.search(error):
            nan = True
        if status == 200 and not error and self.first_at is None:
            error = "the answer is no stream of completion events"
        gaps = tuple(round(b - a, 5) for a, b in zip(self.tokens_at, self.tokens_at[1:], strict=False))
        return CanaryResult("ok", status, seconds, self.first_at, text, token_id, nan, error[:300], gaps_s=gaps)

    def _content(self) -> tuple[str | None, int | None, str, bool | None]:
        text: str | None = None
        token_id: int | None = None
        nan: bool | None = None
        for event in self.events:
            try:
                value = json.loads(event)
            except (ValueError, RecursionError):
                continue
            if not isinstance(value, dict):
                continue
            if "error" in value:
                return text, token_id, _message(event.encode()) or "error event in the stream", nan
            for choice in value.get("choices") or ():
                if not isinstance(choice, dict):
                    continue
                text = (text or "") + str(choice.get("text") or "")
                ids = choice.get("token_ids")
                if isinstance(ids, list) and ids and isinstance(ids[0], int):
                    token_id = ids[0]
                if choice.get("logprobs"):
                    nan = bool(nan) or bool(_NAN_LOGPROB.search(json.dumps(choice["logprobs"])))
        return text, token_id, "", nan


def _message(raw: bytes) -> str:
    """The words of an error body, in the shapes vLLM has used."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    error = value.get("error", value)
    found = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return str(found or "")
