"""How does any program get our reports? An HTTP POST of the contract object, signed after Standard Webhooks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Self

import aiohttp
from pydantic import SecretStr, field_validator, model_validator
from standardwebhooks import Webhook as Signer

from responder.notify.notifier import (
    USER_AGENT,
    Message,
    Receiver,
    Sent,
    never_sent,
    request_timeout,
    retry_after,
    said,
    secret_text,
    utc,
    web_address,
)

KIND = "webhook"
WRITTEN = re.compile(r"(?:whsec_)?[A-Za-z0-9+/]+={0,2}")
LEAST_BYTES = 24
"""Standard Webhooks: a secret has 24 to 64 bytes."""
MAKE_ONE = 'make one: echo "whsec_$(openssl rand -base64 32)"'
NOT_A_SECRET = "the secret is not `whsec_` and base64, as Standard Webhooks writes it"


class WebhookReceiver(Receiver):
    """`url`, and a `whsec_…` secret if the receiver is to know that it is us."""

    kind: Literal["webhook"] = "webhook"
    url: str
    secret: SecretStr | None = None
    secret_file: Path | None = None
    previous_secret: SecretStr | None = None
    """While rotating: messages carry a signature by each of the two."""
    bearer_token: SecretStr | None = None
    bearer_token_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        return web_address(value)

    @field_validator("secret", "previous_secret")
    @classmethod
    def _signs(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            signature("check", 0, b"{}", [value.get_secret_value()])
        return value

    @model_validator(mode="after")
    def _secrets(self) -> Self:
        for name in ("secret", "bearer_token"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"give `{name}` or `{name}_file`, not both")
        return self

    @classmethod
    def doubtful(cls, field: str, text: str) -> str:
        """A secret that anybody could guess signs for nobody; one that is none signs nothing."""
        if "secret" not in field or not text:
            return super().doubtful(field, text)
        if not WRITTEN.fullmatch(text):
            return f"{NOT_A_SECRET}; {MAKE_ONE}"
        bare = text.removeprefix("whsec_").rstrip("=")
        short = len(bare) * 3 // 4 < LEAST_BYTES
        return f"the secret is shorter than {LEAST_BYTES} bytes; {MAKE_ONE}" if short else ""


def signature(message_id: str, at: float, body: bytes, secrets: list[str]) -> str:
    """The webhook-signature header: one signature by each secret. ValueError for a secret that is not base64."""
    # The library skips what is not base64, and so would sign with another secret than the one meant.
    if not all(WRITTEN.fullmatch(secret) for secret in secrets):
        raise ValueError(NOT_A_SECRET)
    try:
        return " ".join(Signer(secret).sign(message_id, utc(at), body.decode()) for secret in secrets)
    except Exception as error:  # the library raises what base64 raises, and kinds of its own
        raise ValueError(NOT_A_SECRET) from error


def signed_by(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a message carries this secret's signature and is not older than five minutes: for receivers."""
    try:
        Signer(secret).verify(body, {name.lower(): value for name, value in headers.items()})
    except Exception:  # the library raises kinds of its own, and what base64 raises
        return False
    return True


class Webhook:
    """Delivers to one URL. Its idempotency key is the delivery id, so every doubt is settled by sending again."""

    kind = KIND

    def __init__(self, name: str, settings: WebhookReceiver, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self.settings = settings
        self._clock = clock

    async def send(self, http: aiohttp.ClientSession, message: Message) -> Sent:
        """One attempt."""
        now = self._clock()
        try:
            headers = self._headers(message, now)
        except (OSError, ValueError) as error:
            return Sent("retry", f"secret not usable: {said(error) if isinstance(error, OSError) else error}")
        try:
            async with http.post(
                self.settings.url,
                data=message.body,
                headers=headers,
                timeout=request_timeout(self.settings.timeout_s),
                allow_redirects=False,
            ) as answer:
                return verdict(answer.status, retry_after(answer.headers.get("Retry-After"), now))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Sent("retry" if never_sent(error) else "ambiguous", said(error))

    def _headers(self, message: Message, now: float) -> dict[str, str]:
        ours = self.settings
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": message.delivery_id,
            "webhook-timestamp": str(int(now)),
        }
        current = secret_text(ours.secret, ours.secret_file)
        if current:
            secrets = [current] + ([ours.previous_secret.get_secret_value()] if ours.previous_secret else [])
            headers["webhook-signature"] = signature(message.delivery_id, now, message.body, secrets)
        token = secret_text(ours.bearer_token, ours.bearer_token_file)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers


def verdict(status: int, wait: float | None) -> Sent:
    """What an HTTP status means for a delivery."""
    if 200 <= status < 300:
        return Sent("delivered")
    if 300 <= status < 400:
        return Sent("dead", f"HTTP {status}: redirects are not followed, configure the final URL")
    if status in (408, 425, 429):
        return Sent("retry", f"HTTP {status}", wait)
    if 400 <= status < 500:
        return Sent("dead", f"HTTP {status}: the receiver refuses it")
    return Sent("retry", f"HTTP {status}", wait)
