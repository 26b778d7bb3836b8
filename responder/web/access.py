"""Who is asking, and may they? Tokens, signed-in browsers, a trusted proxy, and nobody else's web page.

Loopback without a token trusts whoever is on this host, but no page of another site: names are checked against DNS
rebinding, and posts from browsers must carry a header that only our own pages know.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from aiohttp import web

from responder.config_http import HttpPart

Role = Literal["viewer", "operator"]
COOKIE = "responder_session"
CSRF_HEADER = "X-Responder-Csrf"
SESSION_S = 12 * 3600.0
MAX_SESSIONS = 1000
OPEN_PATHS = ("/healthz", "/readyz", "/-/healthy", "/-/ready", "/slack/actions")
"""Without our token; what Slack posts is signed by Slack."""
SHELL_PATHS = ("/", "/ui/", "/api/v1/ui/session")
"""The empty page and its script, and where a browser signs in: nothing in them is anybody's data."""
MACHINE_PATHS = ("/healthz", "/readyz", "/-/", "/metrics", "/api/v1/alerts", "/slack/")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
UNAUTHORIZED = "send the token as `Authorization: Bearer …`\n"


@dataclass(frozen=True)
class Proxy:
    """A reverse proxy that says who people are: in which header, from which networks, and who may act."""

    header: str
    peers: tuple[str, ...]
    operators: tuple[str, ...] = ()

    def person(self, request: web.Request) -> Person | None:
        """Whom the proxy has signed in; None when it is not the proxy that asks."""
        try:
            peer = ipaddress.ip_address(request.remote or "")
        except ValueError:
            return None
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped  # how a socket for both families shows IPv4
        name = request.headers.get(self.header, "").strip()[:80]
        if not name or not any(peer in ipaddress.ip_network(net) for net in self.peers):
            return None
        return Person("operator" if {"*", name} & set(self.operators) else "viewer", name, browser=True)


@dataclass(frozen=True)
class Person:
    """Whoever asks. `csrf`: what their pages must send with a post."""

    role: Role
    name: str = ""
    csrf: str = ""
    browser: bool = False
    """Signed in by what a browser sends by itself, so that a post must prove where it comes from."""


PERSON = web.RequestKey("person", Person)


@dataclass
class Access:
    """All ways in."""

    token: str | None = None
    viewer_token: str | None = None
    proxy: Proxy | None = None
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """Of everybody who has no session of their own."""
    _sessions: dict[str, tuple[Person, float]] = field(default_factory=dict)

    @property
    def free(self) -> bool:
        """Whether whoever reaches us may act: on loopback, without a token."""
        return self.token is None and self.proxy is None

    def role_of(self, token: str) -> Role | None:
        """Which of our tokens this is; compared in constant time, all of them."""
        given = token.encode()
        operator = self.token is not None and hmac.compare_digest(given, self.token.encode())
        viewer = self.viewer_token is not None and hmac.compare_digest(given, self.viewer_token.encode())
        return "operator" if operator else "viewer" if viewer else None

    def person(self, request: web.Request) -> Person | None:
        """Who asks; None: nobody we know."""
        if self.free:
            return Person("operator", csrf=self.csrf)
        if self.proxy and (person := self.proxy.person(request)):
            return Person(person.role, person.name, self.csrf, browser=True)
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        role = self.role_of(given)
        if kind == "Bearer" and role:
            return Person(role)
        known = self._sessions.get(request.cookies.get(COOKIE, ""))
        return known[0] if known and known[1] > time.monotonic() else None

    def sign_in(self, token: str) -> tuple[str, Person] | None:
        """A session for whoever has a token; None when it is none of ours."""
        role = self.role_of(token)
        if role is None:
            return None
        now = time.monotonic()
        self._sessions = {key: row for key, row in self._sessions.items() if row[1] > now}
        while len(self._sessions) >= MAX_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        key, person = secrets.token_urlsafe(32), Person(role, csrf=secrets.token_urlsafe(24), browser=True)
        self._sessions[key] = (person, now + SESSION_S)
        return key, person

    def sign_out(self, request: web.Request) -> None:
        """End the session of a browser."""
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)


def ways_in(part: HttpPart) -> dict[str, Any]:
    """What the configuration says of it, secrets read. OSError, ValueError as `HttpPart.tokens` raises them."""
    proxy = Proxy(part.proxy.header, part.proxy.peers, part.proxy.operators) if part.proxy else None
    return {**part.tokens(), "proxy": proxy}


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guard(access: Access) -> Any:
    """The middleware that lets in, or answers 401 or 403 in words that say nothing more."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if access.free and not _machine(request.path) and not _ours(request.host):
            raise web.HTTPForbidden(text="open it as http://127.0.0.1 or http://localhost\n")
        person = access.person(request)
        if person is None and request.path not in OPEN_PATHS and not _shell(request.path):
            raise web.HTTPUnauthorized(text=UNAUTHORIZED)
        if person is not None:
            request[PERSON] = person
        if request.method not in ("GET", "HEAD") and request.path not in OPEN_PATHS:
            _check_change(request, person)
        return await handler(request)

    return guarded


def _check_change(request: web.Request, person: Person | None) -> None:
    signing_in = request.path == "/api/v1/ui/session"
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise web.HTTPForbidden(text="no posts from browsers on other sites\n")
    if (origin is not None or (person and person.browser)) and not signing_in:
        given = request.headers.get(CSRF_HEADER, "")
        if not person or not person.csrf or not hmac.compare_digest(given.encode(), person.csrf.encode()):
            raise web.HTTPForbidden(text="no posts from browsers but our own pages\n")
    if person and person.role != "operator" and not signing_in:
        raise web.HTTPForbidden(text="with this token you may look, not act\n")


def _shell(path: str) -> bool:
    return any(path == known or (known.endswith("/") and known != "/" and path.startswith(known))
               for known in SHELL_PATHS)  # fmt: skip


def _machine(path: str) -> bool:
    return path.startswith(MACHINE_PATHS)


def _ours(host: str) -> bool:
    return (urlsplit(f"//{host}").hostname or "") in LOOPBACK_NAMES
