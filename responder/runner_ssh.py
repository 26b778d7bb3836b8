"""How does a command run on another host over SSH so that nothing of it outlives us there?

A connection of our own with keys and known hosts of our own: no agent, no forwarding, no configuration of whoever
started us, and a host whose key is not known is not talked to. Every item of argv is quoted for the far shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from responder.remote import Ended, FarRunner, guarded, quoted

CONNECT_S = 8.0
STDERR_BYTES = 1 << 16
SESSIONS = 6
"""At once on one connection; sshd allows ten."""
KEEPALIVE_S = 15.0


@dataclass(frozen=True)
class SshHost:
    """Where, as whom, and how both sides know each other."""

    host: str
    user: str
    key_file: Path
    known_hosts: Path
    port: int = 22


class SshRunner(FarRunner):
    """Runs captures on another host (`capture.step.Runner`)."""

    def __init__(self, there: SshHost) -> None:
        self.there = there
        self.via = f"ssh {there.host}"
        self._connection: asyncssh.SSHClientConnection | None = None
        self._lock = asyncio.Lock()
        self._sessions = asyncio.Semaphore(SESSIONS)

    async def close(self) -> None:
        """Close the connection, which ends what still runs there."""
        if self._connection is not None:
            self._connection.close()
            with contextlib.suppress(TimeoutError, OSError, asyncssh.Error):
                async with asyncio.timeout(2.0):
                    await self._connection.wait_closed()
            self._connection = None

    async def _connected(self) -> asyncssh.SSHClientConnection:
        """The connection, made anew when it is gone."""
        async with self._lock:
            if self._connection is not None and not self._connection.is_closed():
                return self._connection
            there = self.there
            try:
                async with asyncio.timeout(CONNECT_S):
                    self._connection = await asyncssh.connect(
                        there.host, there.port, username=there.user, client_keys=[str(there.key_file)],
                        known_hosts=str(there.known_hosts), agent_path=None, agent_forwarding=False, config=None,
                        x509_trusted_certs=None, gss_auth=False, gss_kex=False, password=None,
                        preferred_auth="publickey", keepalive_interval=KEEPALIVE_S,
                    )  # fmt: skip
            except TimeoutError:
                raise OSError(errno.ETIMEDOUT, f"{self.via}: no connection within {CONNECT_S:g} s") from None
            except asyncssh.Error as error:
                raise OSError(errno.ECONNREFUSED, f"{self.via}: {error.reason}") from None
            except ValueError as error:  # a key or a known_hosts file that cannot be read as one
                raise OSError(errno.EINVAL, f"{self.via}: {error}") from None
            return self._connection

    async def _run(self, argv: Sequence[str], timeout: float, max_bytes: int) -> Ended:
        async with self._sessions:
            connection = await self._connected()
            began = time.monotonic()
            line = quoted(guarded(argv, timeout))
            try:
                async with asyncio.timeout(timeout + 2):
                    process = await connection.create_process(line, encoding=None)
            except TimeoutError:
                return Ended(None, b"", b"", time.monotonic() - began, False)
            except asyncssh.Error as error:
                raise OSError(errno.ECONNRESET, f"{self.via}: {error.reason}") from None
            return await self._collect(process, timeout, max_bytes, began)

    async def _collect(
        self, process: asyncssh.SSHClientProcess[bytes], timeout: float, max_bytes: int, began: float
    ) -> Ended:
        out, err = _Kept(max_bytes), _Kept(STDERR_BYTES)
        readers = [asyncio.create_task(out.read(process.stdout)), asyncio.create_task(err.read(process.stderr))]
        late = False
        try:
            async with asyncio.timeout(timeout):
                done, _ = await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
                while not (out.cut or err.cut) and len(done) < len(readers):
                    more, _ = await asyncio.wait(set(readers) - done, return_when=asyncio.FIRST_COMPLETED)
                    done |= more
                if not (out.cut or err.cut):
                    await process.wait_closed()
        except TimeoutError:
            late = True
        finally:  # also when we are cancelled: the end of its input ends the command there
            for reader in readers:
                reader.cancel()
            with contextlib.suppress(OSError, asyncssh.Error):
                process.close()
        await asyncio.gather(*readers, return_exceptions=True)
        code = None if late else process.returncode
        return Ended(code, out.content, err.content, time.monotonic() - began, out.cut or err.cut)


class _Kept:
    """One output, kept up to the cap."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._parts: list[bytes] = []
        self.cut = False

    @property
    def content(self) -> bytes:
        return b"".join(self._parts)

    async def read(self, stream: asyncssh.SSHReader[bytes]) -> None:
        while not self.cut and (part := await stream.read(1 << 16)):
            self._parts.append(part[: self._room])
            self.cut = len(part) > self._room
            self._room -= len(self._parts[-1])
