"""How does a command run inside a Kubernetes pod so that nothing of it outlives us there?

The API server's exec over a websocket, with the service account's token. The connection's end ends the command's
standard input, and that ends the command (`remote.py`). Nothing but exec on this one pod is asked of the API server.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import re
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import aiohttp

from responder.remote import Ended, FarRunner, guarded

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3
CONNECT_S = 8.0
STDERR_BYTES = 1 << 16
SESSIONS = 6
MAX_MESSAGE = 4 << 20


@dataclass(frozen=True)
class Pod:
    """Which container of which pod, and the API server that leads there."""

    api: str
    """https://host:port of the API server."""
    namespace: str
    name: str
    container: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None


class PodRunner(FarRunner):
    """Runs captures in a pod (`capture.step.Runner`)."""

    def __init__(self, pod: Pod, http: aiohttp.ClientSession) -> None:
        self.pod = pod
        self.via = f"pod {pod.namespace}/{pod.name}"
        self._http = http
        self._sessions = asyncio.Semaphore(SESSIONS)

    async def close(self) -> None:
        """Nothing stays open between commands."""

    def _url(self, argv: Sequence[str]) -> str:
        pod = self.pod
        query = [("command", item) for item in argv]
        query += [("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
        query += [("container", pod.container)] if pod.container else []
        path = f"/api/v1/namespaces/{quote(pod.namespace, safe='')}/pods/{quote(pod.name, safe='')}/exec"
        return f"{pod.api}{path}?{urlencode(query)}"

    async def _run(self, argv: Sequence[str], timeout: float, max_bytes: int) -> Ended:
        async with self._sessions:
            began = time.monotonic()
            # The token is read anew each time: Kubernetes replaces it every hour.
            headers, context = await asyncio.to_thread(self._credentials)
            kept = _Kept(max_bytes)
            code: int | None = None
            try:
                async with asyncio.timeout(CONNECT_S):
                    socket = await self._http.ws_connect(
                        self._url(guarded(argv, timeout)), headers=headers, protocols=PROTOCOLS, ssl=context,
                        max_msg_size=MAX_MESSAGE, autoping=True, heartbeat=None,
                    )  # fmt: skip
            except TimeoutError:
                raise OSError(errno.ETIMEDOUT, f"{self.via}: no connection within {CONNECT_S:g} s") from None
            except aiohttp.WSServerHandshakeError as error:
                raise OSError(errno.EACCES, f"{self.via}: exec was refused: {error.status} {error.message}") from None
            except (aiohttp.ClientError, OSError) as error:
                raise OSError(errno.ECONNREFUSED, f"{self.via}: {error}") from None
            try:
                async with asyncio.timeout(timeout):
                    code = await kept.collect(socket)
            except TimeoutError:
                code = None
            finally:  # also when we are cancelled: the end of its input ends the command there
                with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
                    async with asyncio.timeout(1.0):
                        await socket.close()
            seconds = time.monotonic() - began
            return Ended(code, bytes(kept.out), bytes(kept.err), seconds, kept.cut)

    def _credentials(self) -> tuple[dict[str, str], ssl.SSLContext | bool]:
        pod = self.pod
        headers = {}
        if pod.token_file is not None:
            headers["Authorization"] = f"Bearer {pod.token_file.read_text().strip()}"
        if pod.ca_file is None:
            return headers, True
        return headers, ssl.create_default_context(cafile=str(pod.ca_file))


class _Kept:
    """What comes over the channels, kept up to the cap."""

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self.out, self.err = bytearray(), bytearray()
        self.cut = False

    async def collect(self, socket: aiohttp.ClientWebSocketResponse) -> int | None:
        """Until the status comes: the exit code. None when the connection broke, or enough was said."""
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, part = message.data[0], message.data[1:]
            if channel == STATUS:
                return exit_code(part)
            if channel in (STDOUT, STDERR):
                kept, room = (self.out, self._max) if channel == STDOUT else (self.err, STDERR_BYTES)
                kept += part[: room - len(kept)]
                if len(part) and len(kept) >= room and channel == STDOUT:
                    self.cut = True
                    return None
        return None


def exit_code(status: bytes) -> int | None:
    """Of the Status object that ends an exec; 126 and 127 also where the runtime itself could not start it."""
    try:
        told = json.loads(status)
        if told.get("status") == "Success":
            return 0
        causes = (told.get("details") or {}).get("causes") or ()
    except (ValueError, AttributeError):
        return None
    for cause in causes:
        if cause.get("reason") == "ExitCode" and re.fullmatch(r"\d{1,3}", str(cause.get("message"))):
            return int(cause["message"])
    return 126
