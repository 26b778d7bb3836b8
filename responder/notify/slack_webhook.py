"""How do we tell a Slack channel through an incoming webhook? It cannot edit: only what is new is posted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
from pydantic import Field, SecretStr, field_validator, model_validator

from responder.folder import safe_name
from responder.notify.digest import COVERED, Digest
from responder.notify.notifier import (
    USER_AGENT,
    Message,
    Receiver,
    Sent,
    never_sent,
    one_of,
    receipt_of,
    request_timeout,
    retry_after,
    said,
    secret_text,
    web_address,
)
from responder.notify.slack_blocks import fallback, parent

KIND = "slack_webhook"


class SlackWebhookReceiver(Receiver):
    """`url` (it is a secret: whoever has it may post) or `url_file`."""

    kind: Literal["slack_webhook"] = "slack_webhook"
    url: SecretStr | None = None
    url_file: Path | None = None
    link: str = ""
    """Where a report can be read, with {id} for the incident: https://responder.example.com/incidents/{id}"""

    digest_over: int = Field(default=5, ge=1)
    digest_within_s: float = Field(default=60.0, gt=0)
    """More new incidents than this within so many seconds share a message, the digest."""

    @field_validator("url")
    @classmethod
    def _url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            web_address(value.get_secret_value())
        return value

    @field_validator("link")
    @classmethod
    def _link(cls, value: str) -> str:
        return web_address(value) if value else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        one_of(self.url, self.url_file, "url")
        return self

    @classmethod
    def doubtful(cls, field: str, text: str) -> str:
        """The file must hold the URL, alone."""
        try:
            web_address(text)
        except ValueError as error:
            return str(error)
        return "there is more in it than a URL" if len(text.split()) > 1 else ""


class SlackWebhook:
    """Posts the first message, an update whose leading cause is another one, the final report and the end."""

    kind = KIND

    def __init__(
        self, name: str, settings: SlackWebhookReceiver, clock: Callable[[], float] = time.time,
        folder: Path | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.settings = settings
        path = folder / f"{safe_name(name)}.json" if folder else None
        self.digest = Digest(settings.digest_over, settings.digest_within_s, path)
        self._clock = clock

    async def send(self, http: aiohttp.ClientSession, message: Message) -> Sent:
        """One attempt."""
        if message.stage == "update" and not message.news:
            return Sent("delivered", "not posted: nothing new and this webhook cannot edit", receipt=message.receipt)
        try:
            url = web_address(secret_text(self.settings.url, self.settings.url_file) or "")
        except OSError as error:
            return Sent("retry", f"url_file not readable: {error.strerror}")
        except ValueError as error:
            return Sent("dead", f"url_file: {error}")
        if self.digest.covers(message, self._clock()):
            return await self._in_digest(http, url, message)
        text = {"text": fallback(message.text), "unfurl_links": False, "unfurl_media": False}
        blocks = parent(message.report, self.settings.link, message.possible_duplicate)
        sent = await self._post(http, url, text | {"blocks": blocks}, message)
        if sent.outcome == "dead" and "blocks" in sent.reason:
            # Slack finds the blocks too much: the text alone must do.
            sent = await self._post(http, url, text, message)
        return sent

    async def _in_digest(self, http: aiohttp.ClientSession, url: str, message: Message) -> Sent:
        """Part of a storm: one message for all, and another one only a while later, since it cannot be edited."""
        digest, now = self.digest, self._clock()
        digest.take(message)
        receipt = receipt_of({"digest": "told", **message.told})
        if digest.shown(message):
            return Sent("delivered", COVERED, receipt=receipt)
        if digest.ts and not digest.over_now and 0 <= now - digest.edited_at < digest.within_s:
            return Sent("retry", "waits for the next message about the storm", receipt=receipt)
        payload = {"text": digest.words(), "blocks": digest.blocks(self.settings.link), "unfurl_links": False,
                   "unfurl_media": False}  # fmt: skip
        sent = await self._post(http, url, payload, message)
        if sent.outcome == "delivered":
            await asyncio.to_thread(digest.written, f"{now:.3f}", now)
            return Sent("delivered", COVERED, receipt=receipt)
        return replace(sent, receipt=receipt)

    async def _post(self, http: aiohttp.ClientSession, url: str, payload: dict[str, Any], message: Message) -> Sent:
        try:
            async with http.post(
                url,
                json=payload,
                headers={"User-Agent": USER_AGENT},
                timeout=request_timeout(self.settings.timeout_s),
                allow_redirects=False,
            ) as answer:
                words = (await answer.content.read(200)).decode(errors="replace")
                return self._verdict(answer, words, message)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Sent("retry" if never_sent(error) else "ambiguous", said(error))

    def _verdict(self, answer: aiohttp.ClientResponse, words: str, message: Message) -> Sent:
        if answer.status == 200:
            return Sent("delivered", receipt=receipt_of(message.told))
        reason = f"HTTP {answer.status}: {words.strip()[:80]}"
        if answer.status in (408, 429):
            return Sent("retry", reason, retry_after(answer.headers.get("Retry-After"), self._clock()))
        # Slack may have posted before it failed.
        return Sent("ambiguous" if answer.status >= 500 else "dead", reason)
