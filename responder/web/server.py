"""What do we answer over HTTP? Health, our own metrics, Alertmanager's alerts, and the incidents' reports."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from aiohttp import web

from responder.model import Incident
from responder.web import plain, rawfiles
from responder.web.access import Access, Proxy, guard
from responder.web.desk import Desk, Overview, body_of
from responder.web.shell import Shell
from responder.words import ENGLISH, Language, speaking, told

log = structlog.get_logger()
MAX_ALERTS_BODY = 4 << 20
CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
SHOWN = ("report.html", "report.md", "report.json", "manifest.json", "content.json")
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Surface:
    """What the pages need of the daemon."""

    data_dir: Path
    token: str | None
    metrics: Callable[[], bytes]
    ready: Callable[[], Awaitable[str]]
    """'' when ready, else what is missing."""
    accept: Callable[[Any], Awaitable[bool]]
    """Put an alert payload on disk; False when full."""
    incidents: Callable[[], Awaitable[list[tuple[Incident, str, int]]]]
    reload: Callable[[], Awaitable[str]]
    """Reload the configuration; '' or what is wrong with it."""
    receipt: Callable[[Any], str] = lambda _: "ok"
    """What is said of one that is on disk: how many alerts were taken, and which are of no use."""
    capture: Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]] | None = None
    """(target, step, parameters) -> evidence and folder; LookupError in words."""
    decide: Callable[[str, str, bool, str], Awaitable[dict[str, Any]]] | None = None
    """(incident, step, approve, who) -> the approval; ValueError in words."""
    acknowledge: Callable[[str, str], Awaitable[str]] | None = None
    """(incident, who) -> words; ValueError in words."""
    slack: Callable[[bytes, Mapping[str, str]], Awaitable[tuple[int, str]]] | None = None
    """(body, headers) of what Slack posts -> HTTP status and words."""
    judge: Callable[[str, bool, str, str, str], Awaitable[dict[str, Any]]] | None = None
    """(incident, right, cause, who, note) -> the engineer's word as kept; ValueError in words."""
    bring: Callable[[str], Awaitable[None]] | None = None
    """Brings the folder of another replica's incident here."""
    requests: Callable[[float], Awaitable[bytes]] | None = None
    """Stored rows of the requests of the last so many seconds; LookupError in words."""
    viewer_token: str | None = None
    proxy: Proxy | None = None
    overview: Overview | None = None
    """What the user interface shows; without it there is none."""


def build(surface: Surface) -> web.Application:
    """The aiohttp application."""
    access = Access(surface.token, surface.viewer_token, surface.proxy)
    app = web.Application(client_max_size=MAX_ALERTS_BODY, middlewares=[guard(access), _brings(surface)])
    app.on_response_prepare.append(_headers)
    pages = Pages(surface)
    for path in ("/healthz", "/-/healthy"):
        app.router.add_get(path, pages.healthz)
    for path in ("/readyz", "/-/ready"):
        app.router.add_get(path, pages.readyz)
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_post("/api/v1/alerts", pages.alerts)
    app.router.add_post("/api/v1/alerts/alertmanager", pages.alerts)
    app.router.add_post("/-/reload", pages.reload)
    app.router.add_get("/api/v1/incidents", pages.incidents_json)
    app.router.add_get("/api/v1/requests", pages.requests)
    app.router.add_post("/api/v1/captures", pages.capture)
    app.router.add_post("/api/v1/incidents/{id}/approvals/{step}", pages.decide)
    app.router.add_post("/api/v1/incidents/{id}/acknowledge", pages.acknowledge)
    app.router.add_post("/slack/actions", pages.slack)
    app.router.add_post("/api/v1/incidents/{id}/verdict", pages.judge)
    Shell(lambda: _spoken(surface)).add_to(app)
    if surface.overview is not None:
        Desk(surface.overview, access).add_to(app)
    app.router.add_get("/incidents", pages.incidents)
    app.router.add_get("/incidents/{id}", pages.incident)
    app.router.add_get("/incidents/{id}/raw/{evidence}/{name}", pages.raw)
    app.router.add_get("/incidents/{id}/{name}", pages.file)
    app.router.add_get("/incidents/{id}/charts/{name}", pages.chart)
    return app


async def _headers(_: web.Request, response: web.StreamResponse) -> None:
    """On every answer, refusals and streams as well."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _spoken(surface: Surface) -> Language:
    return surface.overview.spoken() if surface.overview else ENGLISH


class Pages:
    """The handlers."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface

    async def healthz(self, _: web.Request) -> web.Response:
        """The loop is alive."""
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        """Configuration loaded and store open; never Slack, never vLLM."""
        missing = await self.surface.ready()
        return web.Response(status=503 if missing else 200, text=(missing or "ok") + "\n")

    async def metrics(self, _: web.Request) -> web.Response:
        """Our own metrics; written beside the loop, for of a thousand targets there are many."""
        page = await asyncio.to_thread(self.surface.metrics)
        return web.Response(body=page, content_type="text/plain", charset="utf-8")

    async def requests(self, request: web.Request) -> web.Response:
        """Finished requests as stored rows, for `responder requests`; without tenants' names."""
        try:
            window_s = min(max(float(request.query.get("seconds", "600")), 1.0), 86400.0)
        except ValueError:
            raise web.HTTPBadRequest(text="seconds: a number\n") from None
        if self.surface.requests is None:
            raise web.HTTPNotFound(text="no request traces here\n")
        try:
            rows = await self.surface.requests(window_s)
        except LookupError as error:
            raise web.HTTPNotFound(text=f"{error.args[0]}\n") from None
        return web.Response(body=rows, content_type="application/jsonl")

    async def alerts(self, request: web.Request) -> web.Response:
        """Alertmanager's webhook v4: 200 only once it is on disk; 503, never 429, when we are full."""
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send application/json\n")
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise web.HTTPUnsupportedMediaType(text="send it uncompressed\n")
        try:
            payload = json.loads(await request.read())
        except (ValueError, RecursionError):
            raise web.HTTPBadRequest(text="not JSON\n") from None
        wrong = _wrong_with(payload)
        if wrong:
            raise web.HTTPBadRequest(text=wrong + "\n")
        if not await self.surface.accept(payload):
            raise web.HTTPServiceUnavailable(text="intake is full, send again\n", headers={"Retry-After": "5"})
        try:
            said = self.surface.receipt(payload)
        except Exception:  # it is on disk: no mistake in our words may make Alertmanager send it again for ever
            log.exception("alerts.not_worded")
            said = "ok"
        return web.Response(text=said + "\n")

    async def reload(self, _: web.Request) -> web.Response:
        """Reload the configuration; the old one stays if the new one is bad."""
        wrong = await self.surface.reload()
        return web.Response(status=400 if wrong else 200, text=(wrong or "reloaded") + "\n")

    async def incidents_json(self, _: web.Request) -> web.Response:
        """Incidents, newest first."""
        rows = await self.surface.incidents()
        return web.json_response(
            [{**json.loads(i.model_dump_json()), "stage": stage, "revision": rev} for i, stage, rev in rows]
        )

    async def capture(self, request: web.Request) -> web.Response:
        """Run one step now: {"target": …, "step": …, "params": {…}}."""
        body = await body_of(request)
        target, step, params = body.get("target"), body.get("step"), body.get("params", {})
        if not isinstance(target, str) or not isinstance(step, str) or not isinstance(params, dict):
            raise web.HTTPBadRequest(text='send {"target": "…", "step": "…", "params": {}}\n')
        if self.surface.capture is None:
            raise web.HTTPNotFound(text="no captures here\n")
        try:
            return web.json_response(await self.surface.capture(target, step, params))
        except LookupError as error:
            raise web.HTTPNotFound(text=f"{error.args[0]}\n") from None

    async def decide(self, request: web.Request) -> web.Response:
        """A person's answer about a capture: {"decision": "approve" or "deny", "who": …}."""
        body = await body_of(request)
        decision, who = body.get("decision"), body.get("who")
        if decision not in ("approve", "deny") or not isinstance(who, str) or not who.strip():
            raise web.HTTPBadRequest(text='send {"decision": "approve" or "deny", "who": "…"}\n')
        if self.surface.decide is None:
            raise web.HTTPNotFound(text="no approvals here\n")
        name, step = request.match_info["id"], request.match_info["step"]
        try:
            return web.json_response(await self.surface.decide(name, step, decision == "approve", who))
        except ValueError as error:
            raise web.HTTPConflict(text=f"{error}\n") from None

    async def acknowledge(self, request: web.Request) -> web.Response:
        """Somebody takes an incident: {"who": …}."""
        body = await body_of(request)
        who = body.get("who")
        if not isinstance(who, str) or not who.strip():
            raise web.HTTPBadRequest(text='send {"who": "…"}\n')
        if self.surface.acknowledge is None:
            raise web.HTTPNotFound(text="no incidents to take here\n")
        with speaking(_spoken(self.surface)):
            try:
                return web.json_response({"says": await self.surface.acknowledge(request.match_info["id"], who)})
            except ValueError as error:
                raise web.HTTPConflict(text=f"{told(str(error))}\n") from None

    async def slack(self, request: web.Request) -> web.Response:
        """What people press in Slack; answered at once, done afterwards."""
        if self.surface.slack is None:
            raise web.HTTPNotFound(text="no Slack here\n")
        status, words = await self.surface.slack(await request.read(), request.headers)
        return web.Response(status=status, text=words)

    async def judge(self, request: web.Request) -> web.Response:
        """An engineer's word: {"verdict": "right" or "wrong", "who": …, "cause": what it was, "note": …}."""
        body = await body_of(request)
        word, who = body.get("verdict"), body.get("who")
        cause, note = body.get("cause", ""), body.get("note", "")
        strings = isinstance(who, str) and isinstance(cause, str) and isinstance(note, str)
        if word not in ("right", "wrong") or not strings or not str(who).strip():
            raise web.HTTPBadRequest(text='send {"verdict": "right" or "wrong", "who": "…", "cause": "", "note": ""}\n')
        if self.surface.judge is None:
            raise web.HTTPNotFound(text="no verdicts here\n")
        try:
            said = await self.surface.judge(request.match_info["id"], word == "right", cause, str(who), note)
        except ValueError as error:
            raise web.HTTPConflict(text=f"{error}\n") from None
        return web.json_response(said)

    async def incidents(self, _: web.Request) -> web.Response:
        """All of them as a page without scripts, each with its report."""
        body = await asyncio.to_thread(plain.page, await self.surface.incidents(), _spoken(self.surface))
        return web.Response(text=body, content_type="text/html")

    async def incident(self, request: web.Request) -> web.StreamResponse:
        """The report page, at a place where its links to raw files lead there."""
        name = quote(request.match_info["id"], safe="")
        raise web.HTTPFound(f"/incidents/{name}/report.html")

    async def file(self, request: web.Request) -> web.StreamResponse:
        """One of the top files of an incident folder."""
        name = request.match_info["name"]
        if name not in SHOWN:
            raise web.HTTPNotFound
        return await self._send(request, request.match_info["id"], name)

    async def chart(self, request: web.Request) -> web.StreamResponse:
        """One chart."""
        name = request.match_info["name"]
        if not name.endswith((".svg", ".png")):
            raise web.HTTPNotFound
        return await self._send(request, request.match_info["id"], "charts", name)

    async def raw(self, request: web.Request) -> web.StreamResponse:
        """One raw file of a capture, to be saved and not to be shown."""
        about = request.match_info
        return await rawfiles.send(request, self.surface.data_dir, about["id"], "raw", about["evidence"], about["name"])

    async def _send(self, request: web.Request, *parts: str) -> web.StreamResponse:
        kind = mimetypes.guess_type(parts[-1])[0] or "application/octet-stream"
        kind = f"{kind}; charset=utf-8" if "text" in kind else kind
        return await rawfiles.send(request, self.surface.data_dir, *parts, kind=kind)


def _brings(surface: Surface) -> Any:
    @web.middleware
    async def bring(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Whatever is shown of an incident must be here first."""
        incident = request.match_info.get("id")
        if surface.bring is not None and incident and request.method == "GET":
            await surface.bring(incident)
        return await handler(request)

    return bring


def _wrong_with(payload: Any) -> str:
    if not isinstance(payload, dict) or not isinstance(payload.get("alerts"), list):
        return "not an Alertmanager webhook payload: an object with a list `alerts` is expected"
    if payload.get("version", "4") != "4":
        return f"payload version {payload['version']!r} is not known, only 4"
    for index, alert in enumerate(payload["alerts"]):
        if not isinstance(alert, dict) or not isinstance(alert.get("labels"), dict):
            return f"alerts[{index}] has no labels"
        if "alertname" not in alert["labels"]:
            return f"alerts[{index}] has no label alertname"
    return ""
