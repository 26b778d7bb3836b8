"""Which files is the user interface made of? Plain modules, a style sheet and one page, read once and kept."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""Only our own files; no inline script or style, no framing, no strings that become markup. The trace viewer is opened
as a window of its own and handed its data by a message, for which no exception is needed."""


class Shell:
    """The assets by name."""

    def __init__(self) -> None:
        folder = Path(__file__).with_name("assets")
        self.files = {
            path.name: (path.read_bytes(), KINDS[path.suffix]) for path in folder.iterdir() if path.suffix in KINDS
        }

    def add_to(self, app: web.Application) -> None:
        """All routes."""
        app.router.add_get("/", self.page)
        app.router.add_get("/ui/{name}", self.asset)

    async def page(self, _: web.Request) -> web.Response:
        """The one page; which view it shows is behind the `#`."""
        return self._send("index.html")

    async def asset(self, request: web.Request) -> web.Response:
        """A script or the style sheet."""
        name = request.match_info["name"]
        if name not in self.files:
            raise web.HTTPNotFound
        return self._send(name)

    def _send(self, name: str) -> web.Response:
        body, kind = self.files[name]
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
