"""Which files is the user interface made of? Plain modules, a style sheet and one page, read once and kept.

The page, and one module of words, are written in the language of the reports: the scripts hold no words themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from pathlib import Path

from aiohttp import web

from responder.words import Language, say, speaking

KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""Only our own files; no inline script or style, no framing, no strings that become markup. The trace viewer is opened
as a window of its own and handed its data by a message, for which no exception is needed."""


OWN, SHARED = "ui.", ("time.", "rung.", "stage.")
"""The scripts' words, whose keys they know without this; and those they have in common with reports."""


class Shell:
    """The assets by name. `spoken()`: the language of the reports."""

    def __init__(self, spoken: Callable[[], Language]) -> None:
        self.spoken = spoken
        folder = Path(__file__).with_name("assets")
        self.files = {
            path.name: (path.read_bytes(), KINDS[path.suffix]) for path in folder.iterdir() if path.suffix in KINDS
        }

    def add_to(self, app: web.Application) -> None:
        """All routes."""
        app.router.add_get("/", self.page)
        app.router.add_get("/ui/words.js", self.words)
        app.router.add_get("/ui/{name}", self.asset)

    async def page(self, _: web.Request) -> web.Response:
        """The one page; which view it shows is behind the `#`."""
        body, kind = self.files["index.html"]
        return _answer(page_in(self.spoken(), body.decode()).encode(), kind)

    async def words(self, _: web.Request) -> web.Response:
        """What the scripts say, as a module: no inline script, and nothing to wait for after the page is there."""
        spoken = self.spoken()
        lang, words = json.dumps(spoken.html), json.dumps(words_of(spoken))
        return _answer(f"export const lang = {lang};\nexport const words = {words};\n".encode(), "text/javascript")

    async def asset(self, request: web.Request) -> web.Response:
        """A script or the style sheet."""
        name = request.match_info["name"]
        if name not in self.files or name == "index.html":
            raise web.HTTPNotFound
        return _answer(*self.files[name])


def words_of(language: Language) -> dict[str, str]:
    """What the scripts say, by their keys."""
    with speaking(language):
        own = {key.removeprefix(OWN): say(key) for key in language.words if key.startswith(OWN)}
        return own | {key: say(key) for key in language.words if key.startswith(SHARED)}


def page_in(language: Language, page: str) -> str:
    """The one page, with its words in their places."""
    with speaking(language):
        link = f'<a href="/incidents">{escape(say("ui.noscript.link"))}</a>'
        texts = {name: escape(say(f"ui.{name}")) for name in ("skip", "sections", "loading")}
        return page.format(lang=language.html, noscript=escape(say("ui.noscript")).format(link=link), **texts)


def _answer(body: bytes, kind: str) -> web.Response:
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
