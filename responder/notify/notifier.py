"""What is a notifier? Something that hands one message to one receiver and says honestly how that ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from responder import __version__
from responder.model import Button
from responder.words import CODES

USER_AGENT = f"vllm-responder/{__version__}"
LONGEST_WAIT_S = 3600.0
CONNECT_TIMEOUT_S = 5.0

Stage = Literal["first", "update", "final", "resolved"]


@dataclass(frozen=True)
class Message:
    """One delivery: the report in every wording, and what this receiver gave us for earlier ones."""

    delivery_id: str
    """The receiver's idempotency key: the same for every attempt."""
    incident: str
    revision: int
    stage: Stage
    body: bytes
    """The contract object, exactly as signed and sent."""
    text: str
    """At most 1,000 characters of plain text."""
    markdown: str
    charts: tuple[str, ...] = ()
    """PNG files on this machine."""
    receipt: str = ""
    """The latest receipt this notifier returned for this incident; empty at first."""
    possible_duplicate: bool = False
    """An earlier attempt of this delivery ended `ambiguous`."""
    buttons: tuple[Button, ...] = ()
    """What a person may press, where the receiver has buttons."""

    @cached_property
    def report(self) -> Mapping[str, Any]:
        """The contract object."""
        parsed: Mapping[str, Any] = json.loads(self.body)
        return parsed

    @cached_property
    def earlier(self) -> dict[str, str]:
        """The receipt as the notifier wrote it; empty when there is none or somebody else wrote it."""
        try:
            parsed = json.loads(self.receipt) if self.receipt else {}
        except ValueError:
            return {}
        return {str(k): str(v) for k, v in parsed.items()} if isinstance(parsed, dict) else {}

    @property
    def cause(self) -> str:
        """The leading cause with its status; empty while none is weighed."""
        hypotheses = self.report.get("hypotheses") or []
        return f"{hypotheses[0]['cause']} {hypotheses[0]['status']}" if hypotheses else ""

    @property
    def told(self) -> dict[str, str]:
        """What of this message later ones are measured by; for the receipt of a receiver that cannot edit."""
        incident = self.report.get("incident") or {}
        return {
            "cause": self.cause,
            "class": str(incident.get("class", "")),
            "severity": str(incident.get("severity", "")),
        }

    @property
    def news(self) -> bool:
        """Whether people must hear of an update where nothing can be edited: another cause, or it has become worse."""
        earlier = self.earlier
        worse = any(earlier.get(name, value) != value for name, value in self.told.items())
        return not earlier or "cause" not in earlier or worse


@dataclass(frozen=True)
class Sent:
    """How one attempt ended. `receipt` (opaque JSON) comes back with the incident's next message."""

    outcome: Literal["delivered", "retry", "dead", "ambiguous"]
    """ambiguous: it may have arrived; try again, marked as a possible duplicate."""
    reason: str = ""
    retry_after_s: float | None = None
    receipt: str = ""


class Notifier(Protocol):
    """One receiver. Waits at most its own timeout; never raises for what the receiver does."""

    name: str
    kind: str

    async def send(self, http: aiohttp.ClientSession, message: Message) -> Sent:
        """One attempt."""


class Receiver(BaseModel):
    """What an operator may write for any receiver; the kinds add their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_s: float = Field(default=10.0, gt=0, le=50)
    """Of one request."""
    fallback: str = ""
    """Another receiver that is told when this one has failed `fallback_after` times, or for good."""
    fallback_after: int = Field(default=5, ge=1)
    language: str = ""
    """Of its messages; as configured for all when empty."""

    @field_validator("language")
    @classmethod
    def _spoken(cls, value: str) -> str:
        if value and value not in CODES:
            raise ValueError(f"no such language; there are {', '.join(CODES)}")
        return value

    @classmethod
    def doubtful(cls, field: str, text: str) -> str:
        """What is wrong with a secret that `field` gives, itself or by its file, or nothing. Never repeats it."""
        return "" if text else "is empty"


def receipt_of(values: Mapping[str, str]) -> str:
    """A receipt as stored."""
    return json.dumps(dict(values), sort_keys=True)


def one_of(value: object, file: object, what: str) -> None:
    """Exactly one of the secret itself and its file must be given. ValueError otherwise."""
    if (value is None) == (file is None):
        both = "not both" if value is not None else "one of them is needed"
        raise ValueError(f"give `{what}` or `{what}_file`, {both}")


def secret_text(value: SecretStr | None, file: Path | None) -> str | None:
    """The secret, read anew each time so that a rotated file counts at once. OSError as open() raises it."""
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    return value.get_secret_value() if value is not None else None


def web_address(value: str) -> str:
    """An absolute http(s) URL. ValueError says what is wrong, without repeating it: it may be a secret."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("this is not a URL; write for example https://example.com/hook")
    return value


def request_timeout(total: float) -> aiohttp.ClientTimeout:
    """A total limit and a shorter one for connecting."""
    return aiohttp.ClientTimeout(total=total, sock_connect=min(CONNECT_TIMEOUT_S, total))


async def post_json(
    http: aiohttp.ClientSession, url: str, body: Any, timeout: float, clock: Callable[[], float],
    headers: Mapping[str, str] | None = None,
) -> Sent:  # fmt: skip
    """POST an object; what the answer means. Redirects are not followed, a refusal is told with its first words."""
    try:
        async with http.post(
            url,
            json=body,
            headers={"User-Agent": USER_AGENT, **(headers or {})},
            timeout=request_timeout(timeout),
            allow_redirects=False,
        ) as answer:
            if 200 <= answer.status < 300:
                return Sent("delivered")
            words = " ".join((await answer.content.read(300)).decode(errors="replace").split())[:160]
            reason = f"HTTP {answer.status}: {words}" if words else f"HTTP {answer.status}"
            if answer.status in (408, 425, 429) or answer.status >= 500:
                return Sent("retry", reason, retry_after(answer.headers.get("Retry-After"), clock()))
            return Sent("dead", reason)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Sent("retry" if never_sent(error) else "ambiguous", said(error))


def link_to(template: str, incident: str) -> str:
    """The configured link with {id} filled in."""
    return template.replace("{id}", quote(incident, safe=""))


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds from a Retry-After header (seconds or a date); None when absent or unreadable, at most an hour."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    return min(max(seconds, 0.0), LONGEST_WAIT_S) if seconds == seconds else None


def utc(now: float) -> datetime:
    """Unix seconds as an aware datetime."""
    return datetime.fromtimestamp(now, UTC)


def never_sent(error: BaseException) -> bool:
    """Whether this failure happened before the request left, so that trying again cannot double anything."""
    return isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL)


def said(error: BaseException) -> str:
    """An error in words for people; never the URL, which may be a secret."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return type(error).__name__
