"""A server that profiles like vLLM, at will: a process of its own, so that it lives on when the daemon is killed.

    python -m tests.fake_vllm PORT FOLDER      (writes what it was asked to FOLDER/asked.txt, one line each)

`freeze_s` in FOLDER/orders.json makes a profile stop everything for so long, as an unbounded one does.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web


class Server:
    """Counters that move while requests run, and one profiler session."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tokens, self.session, self.prefix = folder, 0.0, False, ""
        self.born = time.time()
        self.frozen_until = 0.0
        self.running = 2

    def orders(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / "orders.json").read_text())
        except (OSError, ValueError):
            return {}

    def note(self, says: str) -> None:
        with (self.folder / "asked.txt").open("a") as file:
            file.write(f"{time.time():.3f} {says}\n")

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            if time.time() > self.frozen_until:
                self.tokens += 4

    async def metrics(self, _: web.Request) -> web.Response:
        labels = '{engine="0",model_name="m"}'
        running = self.orders().get("running", self.running)
        rows = {"vllm:num_requests_running": running, "vllm:generation_tokens_total": self.tokens if running else 0,
                "vllm:iteration_tokens_total_count": self.tokens / 4 if running else 0}  # fmt: skip
        text = "".join(f"{name}{labels} {value}\n" for name, value in rows.items())
        return web.Response(text=text + f"process_start_time_seconds {self.born}\n")

    async def start(self, request: web.Request) -> web.Response:
        self.note("start")
        orders = self.orders()
        if orders.get("start_status"):
            return web.Response(status=orders["start_status"])
        if self.session:
            return web.Response(status=409)
        body = await request.json() if request.can_read_body else {}
        self.session, self.prefix = True, body.get("profile_prefix", "")
        self.frozen_until = time.time() + orders.get("freeze_s", 0.0)
        return web.Response()

    async def stop(self, request: web.Request) -> web.Response:
        self.note(f"stop {request.headers.get('Authorization', '')}".strip())
        await asyncio.sleep(self.orders().get("stop_s", 0.0))
        if self.session:
            raw = gzip.compress(json.dumps({"traceEvents": []}).encode())
            name = f"{self.prefix}_rank0.1.pt.trace.json.gz"
            (self.folder / name).write_bytes(raw)
        self.session, self.frozen_until = False, 0.0
        return web.Response()

    async def complete(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for _ in range(64):
            while time.time() < self.frozen_until:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
            await answer.write(b'data: {"choices":[{"text":"a"}]}\n\n')
        await answer.write(b"data: [DONE]\n\n")
        return answer

    async def page(self, request: web.Request) -> web.Response:
        bodies: dict[str, Any] = {"/version": {"version": self.orders().get("version", "0.32.0")},
                                  "/v1/models": {"data": [{"id": "m"}]}}  # fmt: skip
        return web.json_response(bodies.get(request.path, {}))


async def serve(port: int, folder: Path) -> None:
    server = Server(folder)
    app = web.Application()
    app.router.add_get("/metrics", server.metrics)
    app.router.add_post("/start_profile", server.start)
    app.router.add_post("/stop_profile", server.stop)
    app.router.add_post("/v1/completions", server.complete)
    for path in ("/version", "/v1/models", "/health"):
        app.router.add_get(path, server.page)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    (folder / "up").touch()
    await server.run()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
