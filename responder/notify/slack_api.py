"""What does an answer of Slack's API mean for a delivery? One call at a time, paced, with its own deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from responder.notify.notifier import never_sent, request_timeout, retry_after, said

Outcome = Literal["retry", "dead", "ambiguous"]

DEFAULT_WAIT_S = 30.0
HICCUPS = {"internal_error", "fatal_error", "service_unavailable", "request_timeout", "service_timeout"}
"""Slack: 'it is possible some aspect of the operation succeeded'."""
TOO_BIG = {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long"}
GONE = {"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found"}
HINTS = {
    "invalid_auth": "the token is not valid",
    "not_authed": "no token was sent",
    "account_inactive": "the token's bot has been removed",
    "token_revoked": "the token was revoked",
    "token_expired": "the token has expired",
    "missing_scope": "the bot needs chat:write (and files:write for charts)",
    "channel_not_found": "no such channel, or a private one the bot is not in",
    "not_in_channel": "invite the bot to the channel",
    "is_archived": "the channel is archived",
}


class Refused(Exception):
    """A call did not succeed; what that means for the delivery, and Slack's own word for it."""

    def __init__(self, outcome: Outcome, reason: str, after: float | None = None, code: str = "") -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.after = after
        self.code = code


class Pace:
    """At most one new message a second: more is what Slack answers with 429."""

    def __init__(self, gap_s: float) -> None:
        self._gap_s = gap_s
        self._next = 0.0
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Until the next message may be posted."""
        async with self._turn:
            now = time.monotonic()
            if now < self._next:
                await asyncio.sleep(self._next - now)
            self._next = time.monotonic() + self._gap_s


class SlackApi:
    """Slack's Web API for one delivery."""

    def __init__(
        self, http: aiohttp.ClientSession, token: str, base_url: str, timeout_s: float, pace: Pace,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._http = http
        self._timeout_s = timeout_s
        self._pace = pace
        self._clock = clock
        # No retry handlers: the library would send a message again that Slack may have posted already.
        self._client = AsyncWebClient(token=token, base_url=base_url, session=http, retry_handlers=[])
        self._client.proxy = None  # the library takes one from the environment; receivers come only from configuration

    async def call(self, method: str, *, safe_to_repeat: bool = False, post: bool = False, **arguments: Any) -> Any:
        """The answer as a dict. Refused otherwise: 'ambiguous' only where repeating could be seen by people."""
        if post:
            await self._pace.wait()
        doubt: Outcome = "retry" if safe_to_repeat else "ambiguous"
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await getattr(self._client, method)(**arguments)
        except SlackApiError as error:
            raise self._meaning(error, doubt) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Refused("retry" if never_sent(error) else doubt, said(error)) from error
        except (SlackClientError, AttributeError, ValueError) as error:
            # AttributeError: the library trips over a body that is not JSON (a proxy's page with status 200).
            raise Refused(doubt, f"unreadable answer ({type(error).__name__})") from error
        data = answer.data
        if not isinstance(data, dict):
            raise Refused(doubt, "unreadable answer")
        return data

    def _meaning(self, error: SlackApiError, doubt: Outcome) -> Refused:
        response: Any = error.response
        status = int(getattr(response, "status_code", None) or getattr(response, "status", None) or 0)
        data = getattr(response, "data", None)
        code = str(data.get("error", "")) if isinstance(data, dict) else ""
        headers = getattr(response, "headers", None) or {}
        if status == 429 or code in ("ratelimited", "rate_limited"):
            wait = retry_after(headers.get("Retry-After"), self._clock())
            return Refused("retry", "rate limited by Slack", DEFAULT_WAIT_S if wait is None else wait, "ratelimited")
        if status >= 500 or code in HICCUPS or not code:
            return Refused(doubt, f"Slack: HTTP {status} {code}".strip(), None, code)
        hint = HINTS.get(code)
        return Refused("dead", f"Slack: {code}" + (f" ({hint})" if hint else ""), None, code)

    async def upload(self, url: str, content: bytes) -> None:
        """Send a file's bytes where Slack told us to; repeating is harmless until the upload is completed."""
        for last in (False, True):
            try:
                async with self._http.post(
                    url, data=content, timeout=request_timeout(self._timeout_s), allow_redirects=False
                ) as answer:
                    if answer.status == 200:
                        return
                    reason = f"upload: HTTP {answer.status}"
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                reason = f"upload: {said(error)}"
            if last:
                raise Refused("retry", reason)
