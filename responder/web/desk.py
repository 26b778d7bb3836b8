"""What do our pages ask for, and what may people do on them? JSON for the script in `assets/`, nothing for others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from responder.web.access import COOKIE, PERSON, SESSION_S, Access
from responder.words import Language, speaking, told

MAX_WORDS = 300
MAX_NOTE = 1000


class Starting(Exception):
    """There is nothing to show yet; the message says what is missing."""


@dataclass(frozen=True)
class Word:
    """What a person says of a cause: right, or which one it was instead, as far as they know."""

    right: bool
    cause: str
    truth: str = ""
    note: str = ""


class Overview(Protocol):
    """What the pages need of the daemon; LookupError and ValueError come in words for the person."""

    def spoken(self) -> Language:
        """The language of the reports, and so of the pages; what the following say of themselves is in it."""

    async def incidents(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        """A page of incidents."""

    async def incident(self, name: str) -> dict[str, Any]:
        """One incident as it is at this moment. LookupError when there is none."""

    async def approvals(self) -> list[dict[str, Any]]:
        """Captures that wait for a person."""

    async def silences(self) -> list[dict[str, Any]]:
        """Maintenance windows that have not ended."""

    async def add_silence(self, match: Mapping[str, str], seconds: float, comment: str) -> dict[str, Any]:
        """Open nothing for what matches. ValueError."""

    async def expire_silence(self, name: str, who: str) -> dict[str, Any]:
        """End it now. LookupError, ValueError."""

    async def targets(self) -> list[dict[str, Any]]:
        """The servers, their health, and what keeps us from capturing there."""

    async def doctor(self, name: str) -> dict[str, Any]:
        """Try every step on a server. LookupError."""

    async def playbooks(self) -> list[dict[str, Any]]:
        """Problem classes, how right they were, when they last ran."""

    async def deliveries(self) -> dict[str, Any]:
        """Messages, and ends we owe servers."""

    async def system(self) -> dict[str, Any]:
        """How the daemon itself is."""

    async def acknowledge(self, incident: str, who: str) -> str:
        """Take an incident. ValueError."""

    async def judge(self, incident: str, word: Word, who: str) -> str:
        """Say whether a cause was right. ValueError."""

    async def decide(self, incident: str, step: str, approve: bool, who: str) -> dict[str, Any]:
        """Answer about a capture. ValueError."""


Ask = Callable[[web.Request], Awaitable[Any]]


class Desk:
    """The handlers."""

    def __init__(self, overview: Overview, access: Access) -> None:
        self.overview = overview
        self.access = access

    def add_to(self, app: web.Application) -> None:
        """All routes."""
        show = self.overview
        gets: dict[str, Ask] = {
            "incidents": lambda request: show.incidents(request.query),
            "incidents/{id}": lambda request: show.incident(request.match_info["id"]),
            "approvals": lambda _: show.approvals(),
            "silences": lambda _: show.silences(),
            "targets": lambda _: show.targets(),
            "playbooks": lambda _: show.playbooks(),
            "deliveries": lambda _: show.deliveries(),
            "system": lambda _: show.system(),
        }
        posts: dict[str, Ask] = {
            "incidents/{id}/acknowledge": self._acknowledge,
            "incidents/{id}/approvals/{step}": self._decide,
            "incidents/{id}/verdict": self._judge,
            "silences": self._add_silence,
            "silences/{id}/expire": self._expire_silence,
            "targets/{name}/doctor": lambda request: show.doctor(request.match_info["name"]),
        }
        for path, ask in gets.items():
            app.router.add_get(f"/api/v1/ui/{path}", self._answering(ask))
        for path, ask in posts.items():
            app.router.add_post(f"/api/v1/ui/{path}", self._answering(ask))
        app.router.add_get("/api/v1/ui/session", self.session)
        app.router.add_post("/api/v1/ui/session", self.sign_in)
        app.router.add_delete("/api/v1/ui/session", self.sign_out)

    async def session(self, request: web.Request) -> web.Response:
        """Who is signed in; without anybody: that one must."""
        person = request.get(PERSON)
        if person is None:
            return web.json_response({"signed_in": False})
        return web.json_response(
            {"signed_in": True, "role": person.role, "name": person.name, "csrf": person.csrf,
             "free": self.access.free, "proxied": bool(person.name)}
        )  # fmt: skip

    async def sign_in(self, request: web.Request) -> web.Response:
        """A token becomes a session cookie that no script can read and no other site can send."""
        token = (await body_of(request)).get("token")
        session = self.access.sign_in(token) if isinstance(token, str) else None
        if session is None:
            raise web.HTTPUnauthorized(text=self._said("this is not the token"))
        key, person = session
        answer = web.json_response({"signed_in": True, "role": person.role, "csrf": person.csrf})
        secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        answer.set_cookie(COOKIE, key, httponly=True, samesite="Strict", secure=secure, max_age=int(SESSION_S))
        return answer

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session."""
        self.access.sign_out(request)
        answer = web.json_response({"signed_in": False})
        answer.del_cookie(COOKIE)
        return answer

    def _said(self, words: object) -> str:
        """What a person is told of a refusal, as a line in the language of the pages."""
        with speaking(self.overview.spoken()):
            return f"{told(str(words))}\n"

    def _answering(self, ask: Ask) -> Ask:
        async def answer(request: web.Request) -> web.Response:
            try:
                body = json.dumps(await ask(request)).encode()
            except Starting as error:
                raise web.HTTPServiceUnavailable(text=self._said(error), headers={"Retry-After": "2"}) from None
            except LookupError as error:
                raise web.HTTPNotFound(text=self._said(error.args[0] if error.args else "not here")) from None
            except ValueError as error:
                raise web.HTTPConflict(text=self._said(error)) from None
            tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            if request.headers.get("If-None-Match") == tag:
                return web.Response(status=304, headers={"ETag": tag})
            return web.Response(body=body, content_type="application/json", headers={"ETag": tag})

        return answer

    async def _acknowledge(self, request: web.Request) -> Any:
        return {"says": await self.overview.acknowledge(request.match_info["id"], await _who(request))}

    async def _decide(self, request: web.Request) -> Any:
        decision = (await body_of(request)).get("decision")
        if decision not in ("approve", "deny"):
            raise web.HTTPBadRequest(text="decision: approve or deny\n")
        incident, step = request.match_info["id"], request.match_info["step"]
        return await self.overview.decide(incident, step, decision == "approve", await _who(request))

    async def _judge(self, request: web.Request) -> Any:
        body = await body_of(request)
        verdict, told = body.get("verdict"), [body.get(key, "") for key in ("cause", "truth", "note")]
        if verdict not in ("right", "wrong") or not all(isinstance(text, str) for text in told) or not told[0]:
            raise web.HTTPBadRequest(text="verdict: right or wrong; cause, truth, note: text\n")
        word = Word(verdict == "right", told[0], told[1], told[2][:MAX_NOTE])
        return {"says": await self.overview.judge(request.match_info["id"], word, await _who(request))}

    async def _add_silence(self, request: web.Request) -> Any:
        body = await body_of(request)
        match, length, comment = body.get("match"), body.get("seconds"), body.get("comment", "")
        if not isinstance(match, dict) or not all(isinstance(value, str) for value in match.values()):
            raise web.HTTPBadRequest(text='match: {"label": "regular expression"}\n')
        if isinstance(length, bool) or not isinstance(length, int | float) or not isinstance(comment, str):
            raise web.HTTPBadRequest(text="seconds: a number; comment: text\n")
        said = f"{await _who(request)}: {comment}"[:MAX_WORDS]
        return await self.overview.add_silence(match, float(length), said)

    async def _expire_silence(self, request: web.Request) -> Any:
        return await self.overview.expire_silence(request.match_info["id"], await _who(request))


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object of a post. 415 or 400 in words."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send application/json\n")
    try:
        body = json.loads(await request.read())
        json.dumps(body, ensure_ascii=False).encode()  # half of a surrogate pair: no report could be written with it
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="not JSON\n") from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="send an object\n")
    return body


async def _who(request: web.Request) -> str:
    """Who acts: as the proxy says, else as the person says."""
    person = request.get(PERSON)
    if person is not None and person.name:
        return str(person.name)
    who = (await body_of(request)).get("who")
    words = who.strip()[:80] if isinstance(who, str) else ""
    if not words:
        raise web.HTTPBadRequest(text="say who you are\n")
    return words
