"""Against an API server that really runs what it is asked: does a command in a pod end with us?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from responder.runner_pod import Pod, PodRunner, exit_code

PATH = "/api/v1/namespaces/llm/pods/vllm-0/exec"


class ApiServer:
    """Exec as Kubernetes does it: channels over a websocket, standard input ends with the connection."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.headers: dict[str, str] = {}
        self.query: dict[str, str] = {}

    async def exec(self, request: web.Request) -> web.StreamResponse:
        self.headers, self.query = dict(request.headers), dict(request.query)
        if request.headers.get("Authorization") != "Bearer right":
            return web.Response(status=403)
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"))
        await socket.prepare(request)
        child = await asyncio.create_subprocess_exec(
            *request.query.getall("command"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.pids.append(child.pid)

        async def copy(stream: asyncio.StreamReader, channel: int) -> None:
            while part := await stream.read(8192):
                await socket.send_bytes(bytes([channel]) + part)

        async def run() -> None:
            assert child.stdout
            assert child.stderr
            await asyncio.gather(copy(child.stdout, 1), copy(child.stderr, 2))
            code = await child.wait()
            cause = {"details": {"causes": [{"reason": "ExitCode", "message": str(code)}]}, "status": "Failure"}
            await socket.send_bytes(b"\x03" + json.dumps(cause if code else {"status": "Success"}).encode())
            await socket.close()

        running = asyncio.create_task(run())
        try:
            async for _ in socket:
                pass
            assert child.stdin
            child.stdin.close()
            with contextlib.suppress(ConnectionError):
                await running
        finally:
            # A grandchild may hold our end of the pipe: nobody else closes it when this handler is cancelled.
            running.cancel()
            child._transport.close()  # type: ignore[attr-defined]
        return socket


@asynccontextmanager
async def runner(tmp_path: Path, token: str = "right") -> AsyncIterator[tuple[PodRunner, ApiServer]]:
    api = ApiServer()
    app = web.Application()
    app.router.add_get(PATH, api.exec)
    site = web.AppRunner(app, shutdown_timeout=0.1)
    await site.setup()
    await web.TCPSite(site, "127.0.0.1", 0).start()
    (tmp_path / "token").write_text(token + "\n")
    pod = Pod(f"http://127.0.0.1:{site.addresses[0][1]}", "llm", "vllm-0", "vllm", tmp_path / "token")
    async with aiohttp.ClientSession() as http:
        yield PodRunner(pod, http), api
    await site.cleanup()


async def gone(pid: int) -> bool:
    async with asyncio.timeout(30):
        while os.path.exists(f"/proc/{pid}"):
            await asyncio.sleep(0.02)
    return True


async def test_a_command_and_its_ending(tmp_path: Path) -> None:
    """Items, outputs and exit code, from the container that was named."""
    async with runner(tmp_path) as (there, api):
        hostile = ["a b", "$(x)", "&command=no", "ä\n", ""]
        said = await there.run(["printf", "%s|", *hostile], timeout=20)
        assert (said.code, said.stdout.decode()) == (0, "".join(f"{item}|" for item in hostile))
        assert api.query["container"] == "vllm"
        said = await there.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=20)
        assert (said.code, said.stdout, said.stderr) == (3, b"out\n", b"err\n")
        with pytest.raises(FileNotFoundError):
            await there.run(["no-such-program"], timeout=20)


async def test_files(tmp_path: Path) -> None:
    """As open() and read() would."""
    (tmp_path / "f").write_bytes(b"0123456789")
    async with runner(tmp_path) as (there, _):
        assert await there.read(str(tmp_path / "f"), max_bytes=4, tail=True) == b"6789"
        with pytest.raises(FileNotFoundError):
            await there.read(str(tmp_path / "none"), max_bytes=4)


async def test_nothing_outlives_its_deadline(tmp_path: Path) -> None:
    """What ignores signals ends with the connection."""
    async with runner(tmp_path) as (there, api):
        said = await there.run(["sh", "-c", "trap '' TERM HUP; sleep 600; sleep 600"], timeout=1.0)
        assert said.code is None
        assert await gone(api.pids[0])


async def test_output_is_capped(tmp_path: Path) -> None:
    """An endless writer is cut, and ends."""
    async with runner(tmp_path) as (there, api):
        said = await there.run(["yes"], timeout=30, max_bytes=10_000)
        assert (said.truncated, len(said.stdout)) == (True, 10_000)
        assert await gone(api.pids[0])


async def test_not_allowed_is_said(tmp_path: Path) -> None:
    """A service account that may not exec."""
    async with runner(tmp_path, "wrong") as (there, _):
        with pytest.raises(OSError, match="exec was refused: 403"):
            await there.run(["true"], timeout=5)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (b'{"status":"Success"}', 0),
        (b'{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}', 7),
        (b'{"status":"Failure","message":"container not found"}', 126),
        (b"garbage", None),
        (b"[]", None),
    ],
)
def test_exit_codes(status: bytes, code: int | None) -> None:
    """Of the Status object; what it does not say stays unknown."""
    assert exit_code(status) == code
