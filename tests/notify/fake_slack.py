"""A local server that answers like Slack: documented limits, error codes, 429 with Retry-After, lost answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from tests.notify.slack_limits import broken, of_block

TOKEN = "xoxb-test"
CHANNEL = "C0123ABCD"
APP_TOKEN = "xapp-test"


@dataclass
class FakeSlack:
    """State a test looks at, and `answers`: what to do instead, by method, first one first."""

    base: str = ""
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    shared: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    answers: dict[str, list[Any]] = field(default_factory=dict)
    no_history: bool = False
    whispers: list[dict[str, Any]] = field(default_factory=list)
    """What was told to one person."""
    envelopes: list[dict[str, Any]] = field(default_factory=list)
    """What Socket Mode sends to whoever connects, and the ids that were acknowledged."""
    heard: list[str] = field(default_factory=list)
    posted: int = 0
    violations: list[str] = field(default_factory=list)
    """What in any payload broke a documented limit or a rule of ours; the fixture wants none."""

    def threads(self, ts: str) -> list[dict[str, Any]]:
        """Messages in the thread of `ts`."""
        return [m for m in self.messages.values() if m.get("thread_ts") == ts]

    def parents(self) -> list[dict[str, Any]]:
        """Messages of the channel itself."""
        return [m for m in self.messages.values() if not m.get("thread_ts")]

    def app(self) -> web.Application:
        """The server."""
        app = web.Application(client_max_size=8 << 20)
        app.router.add_post("/api/{method}", self._api)
        app.router.add_get("/api/{method}", self._api)
        app.router.add_post("/upload/{id}", self._receive)
        app.router.add_post("/hook", self._hook)
        app.router.add_get("/socket", self._socket)
        return app

    async def _api(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        self.calls.append(method)
        after = None
        instead = self.answers.get(method)
        if instead:
            after = instead.pop(0)
            if isinstance(after, web.Response):
                return after
        if method == "apps.connections.open" and request.headers.get("Authorization") == f"Bearer {APP_TOKEN}":
            return web.json_response({"ok": True, "url": f"{self.base.replace('http', 'ws')}/socket"})
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"ok": False, "error": "invalid_auth"})
        arguments = await self._arguments(request)
        answer = getattr(self, f"_{method.replace('.', '_')}")(arguments)
        if after == "lost":  # done, but the answer never arrives
            assert request.transport
            request.transport.close()
        return web.json_response(answer)

    async def _arguments(self, request: web.Request) -> dict[str, Any]:
        if request.content_type == "application/json":
            parsed: dict[str, Any] = await request.json()
            return parsed
        return dict(request.query) | {k: str(v) for k, v in (await request.post()).items()}

    def _problem(self, message: dict[str, Any]) -> str:
        """Slack's word for what is wrong; what breaks a rule of our own is remembered for the end of the test."""
        self.violations += broken(message)
        return problem(message)

    def _chat_postMessage(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - Slack's name
        error = self._problem(message)
        if message.get("thread_ts") and message["thread_ts"] not in self.messages:
            error = "thread_not_found"
        if error:
            return {"ok": False, "error": error}
        self.posted += 1
        ts = f"1795144384.{self.posted:06d}"
        self.messages[ts] = {"ts": ts, **message}
        return {"ok": True, "ts": ts, "channel": message["channel"]}

    def _chat_update(self, message: dict[str, Any]) -> dict[str, Any]:
        error = self._problem(message) or ("" if message["ts"] in self.messages else "message_not_found")
        if error:
            return {"ok": False, "error": error}
        self.messages[message["ts"]] |= message | {"edited": True}
        return {"ok": True, "ts": message["ts"]}

    def _chat_postEphemeral(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - Slack's name
        self.whispers.append(message)
        return {"ok": True, "message_ts": "1"}

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        line = web.WebSocketResponse()
        await line.prepare(request)
        await line.send_json({"type": "hello", "num_connections": 1})
        for envelope in self.envelopes:
            await line.send_json(envelope)
        async for message in line:
            if message.type is WSMsgType.TEXT:
                self.heard.append(json.loads(message.data)["envelope_id"])
        return line

    def _conversations_history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.no_history:
            return {"ok": False, "error": "missing_scope"}
        return {"ok": True, "messages": self.parents()}

    def _conversations_replies(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.no_history:
            return {"ok": False, "error": "missing_scope"}
        return {"ok": True, "messages": self.threads(arguments["ts"])}

    def _files_getUploadURLExternal(self, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - Slack's name
        if int(arguments["length"]) <= 0:
            return {"ok": False, "error": "file_upload_size_error"}
        file = f"F{len(self.files):05d}"
        self.files[file] = b""
        return {"ok": True, "upload_url": f"{self.base}/upload/{file}", "file_id": file}

    def _files_completeUploadExternal(self, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - Slack's name
        files = json.loads(arguments["files"])
        if not all(self.files.get(file["id"]) for file in files):
            return {"ok": False, "error": "file_not_found"}
        self.shared.append({**arguments, "files": files})
        return {"ok": True, "files": files}

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        instead = self.answers.get("upload")
        if instead:
            return instead.pop(0)
        self.files[request.match_info["id"]] = await request.read()
        return web.Response(text="OK")

    async def _hook(self, request: web.Request) -> web.StreamResponse:
        self.calls.append("hook")
        instead = self.answers.get("hook")
        after = instead.pop(0) if instead else None
        if isinstance(after, web.Response):
            return after
        message = await request.json()
        error = self._problem(message | {"channel": CHANNEL})
        if error:
            return web.Response(status=400, text=error)
        self.messages[str(len(self.messages))] = message
        if after == "lost":
            assert request.transport
            request.transport.close()
        return web.Response(text="ok")


def problem(message: dict[str, Any]) -> str:
    """Slack's word for what is wrong with a message; '' when nothing is."""
    if message["channel"] != CHANNEL:
        return "channel_not_found"
    blocks = message.get("blocks") or []
    if not blocks and not message.get("text"):
        return "no_text"
    if len(message.get("text", "")) > 40_000:
        return "msg_too_long"
    return "invalid_blocks" if any(of_block(block) for block in blocks) else ""


def error(word: str, status: int = 200, **headers: str) -> web.Response:
    """An answer of Slack's that says no."""
    return web.json_response({"ok": False, "error": word}, status=status, headers=headers)
