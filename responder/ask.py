"""How did a server answer one HTTP request? Refused, timed out, reset and answered are four different illnesses.

An edge of its own because several captures and the canary ask servers, and edges do not import each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp

from responder.model import Target

Reach = Literal["ok", "refused", "timeout", "reset", "error"]
"""ok: any HTTP status came back. refused: nobody listens. timeout: connected or not, no answer (a frozen process still
accepts connections in the kernel). reset: the connection was cut. error: everything else (name, TLS, not HTTP)."""


_NONE = aiohttp.ClientTimeout(total=None)
"""Our own deadline covers the whole exchange; aiohttp's would only add a second, different error."""


@dataclass(frozen=True)
class Answer:
    """What one request brought."""

    reach: Reach
    seconds: float
    status: int | None = None
    body: bytes = b""
    truncated: bool = False
    """The body went on past the cap and was dropped there."""
    error: str = ""


def credentials(target: Target) -> dict[str, str]:
    """Headers that authorise us at the server; never written anywhere."""
    if target.api_key is None:
        return {}
    return {"Authorization": f"Bearer {target.api_key.get_secret_value()}"}


def reach_of(error: BaseException) -> tuple[Reach, str]:
    """Which of the illnesses an exception stands for, and its words."""
    words = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return "timeout", "no answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "refused", "nobody listens on the port"
        if isinstance(cause, ConnectionResetError | BrokenPipeError | aiohttp.ServerDisconnectedError):
            return "reset", "the connection was cut"
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    if isinstance(error, aiohttp.ClientPayloadError):
        return "reset", words
    return "error", f"{type(error).__name__}: {words}"


def newly_connected() -> aiohttp.ClientSession:
    """A session that connects anew for each request, as a client that was not here before: a server without file
    descriptors, or with a full backlog, goes on answering those that it knows."""
    connector = aiohttp.TCPConnector(limit=200, force_close=True)
    return aiohttp.ClientSession(timeout=_NONE, connector=connector, trust_env=False)


async def get(
    http: aiohttp.ClientSession,
    url: str,
    *,
    timeout: float,
    max_bytes: int,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """GET with a deadline over everything (connect, headers, body) and a cap on the body; never raises for what the
    server does. Redirects are not followed: they would carry our key elsewhere."""
    started = time.monotonic()
    body = bytearray()
    status: int | None = None
    try:
        async with asyncio.timeout(timeout):
            async with http.get(url, headers=headers, allow_redirects=False, timeout=_NONE) as response:
                status = response.status
                async for chunk in response.content.iter_chunked(1 << 16):
                    body += chunk
                    if len(body) > max_bytes:
                        # Leaving the block with data pending closes the connection: nothing more is read.
                        return Answer("ok", time.monotonic() - started, status, bytes(body[:max_bytes]), truncated=True)
        return Answer("ok", time.monotonic() - started, status, bytes(body))
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        reach, words = reach_of(error)
        return Answer(reach, time.monotonic() - started, status, bytes(body), bool(body), words)
