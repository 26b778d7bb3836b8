"""What do the server's own endpoints say, and how fast? Answered by the API server; changes nothing.

Which endpoints are mounted is read, never tried: `/start_profile` can stop a server for minutes. The start-up log lists
them for nothing. `/openapi.json` lists them too, but vLLM builds it at the first request inside its event loop, and all
streams wait meanwhile: only where a playbook asks for it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from responder.ask import Answer, credentials, get, newly_connected
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step
from responder.model import Fact, Outcome, Scalar

FILE = "endpoints.json"
TIMEOUT_S = 2.0
SCHEMA_TIMEOUT_S = 4.0
MAX_BODY = 64 << 10
MAX_SCHEMA = 8 << 20
PLAIN = ("/health", "/version", "/v1/models", "/load", "/is_paused", "/is_sleeping")
"""The last two exist in development mode only; elsewhere they are a 404 that costs nothing."""
DEVELOPMENT = ("/server_info", "/is_sleeping", "/collective_rpc", "/reset_prefix_cache")
MAX_LOG = 4 << 20
_ROUTE = re.compile(rb"Route: (/\S*), Methods:")
LOAD_TRACKING = "--enable-server-load-tracking"


class EndpointsParams(BaseModel):
    """What a playbook may ask of this step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    openapi: bool = False
    """Read `/openapi.json` when the log does not list the endpoints."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """All endpoints side by side, each with its own deadline; the schema, if wanted, only if the server answers."""
    wanted = EndpointsParams.model_validate(params.model_dump())
    headers = credentials(scene.target)

    async def ask(path: str, timeout: float = TIMEOUT_S, max_bytes: int = MAX_BODY) -> Answer:
        return await get(scene.http, scene.target.url + path, timeout=timeout, max_bytes=max_bytes, headers=headers)

    async def ask_anew() -> Answer:
        async with newly_connected() as http:
            return await get(http, scene.target.url + "/health", timeout=TIMEOUT_S, max_bytes=MAX_BODY, headers=headers)

    new, *known = await asyncio.gather(ask_anew(), *(ask(path) for path in PLAIN))
    answers = dict(zip(PLAIN, known, strict=True))
    mounted = await _routes_in_log(scene)
    if mounted is None and wanted.openapi and answers["/health"].reach == "ok":
        schema = await ask("/openapi.json", SCHEMA_TIMEOUT_S, MAX_SCHEMA)
        mounted = paths_of(schema)
        answers["/openapi.json"] = replace(schema, body=b"")
    command = scene.inventory.command if scene.inventory else ()
    record = {
        "answers": {path: _record(answer) for path, answer in answers.items()},
        "newly_connected": _record(new),
        "mounted": mounted,
        "load_tracking": LOAD_TRACKING in (word.replace("_", "-") for word in command) if command else None,
    }
    files = {FILE: json.dumps(record, indent=1, sort_keys=True).encode()}
    bad = [f"{path}: {answer.reach}" for path, answer in answers.items() if answer.reach != "ok"]
    return Fetched(files, Outcome.PARTIAL if bad else Outcome.OK, ", ".join(bad))


async def _routes_in_log(scene: Scene) -> list[str] | None:
    """Routes of the last start in the log; None when the log is not there, or longer than what is read: then the
    server may have been started again, otherwise, where we do not look."""
    path = scene.target.log_file or (scene.inventory.log_file if scene.inventory else None)
    if path is None:
        return None
    try:
        raw = await scene.runner.read(path, max_bytes=MAX_LOG)
    except OSError:
        return None
    _, marker, routes = raw.rpartition(b"Available routes are")
    if not marker or len(raw) >= MAX_LOG:
        return None
    return sorted({match[1].decode("utf-8", "replace") for match in _ROUTE.finditer(routes)})


def paths_of(schema: Answer) -> list[str] | None:
    """Mounted paths; None when the schema is switched off or unreadable (then nothing is known about any path)."""
    if schema.status != 200 or schema.truncated:
        return None
    try:
        paths = json.loads(schema.body)["paths"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return sorted(str(path) for path in paths) if isinstance(paths, dict) else None


def _record(answer: Answer) -> dict[str, Any]:
    body = answer.body.decode("utf-8", "replace")
    return {
        "reach": answer.reach,
        "status": answer.status,
        "seconds": round(answer.seconds, 4),
        "body": body,
        "error": answer.error,
    }


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the answers; what was not answered stays unknown."""
    try:
        record = json.loads(files[FILE])
        answers: dict[str, dict[str, Any]] = record["answers"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return
    mounted: list[str] | None = record["mounted"]

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        name = f"endpoints.{name}"
        return Fact(name=name, value=value, unit=unit, step="endpoints", file=FILE, at=brief.now, says=says)

    health = answers.get("/health", {})
    yield fact("reachable", health.get("reach"), says=health.get("error", ""))
    new = record.get("newly_connected") or {}
    yield fact("new_connection", new.get("reach"), says=new.get("error", ""))
    yield fact("health_status", health.get("status"))
    yield fact("health_seconds", health.get("seconds") if health.get("reach") == "ok" else None, "s")
    yield fact("version", _text(_field(answers, "/version", "version")))
    models = _field(answers, "/v1/models", "data")
    entries = [entry for entry in models if isinstance(entry, dict)] if isinstance(models, list) else []
    yield fact("models", ",".join(str(entry.get("id")) for entry in entries) or None)
    lengths = [entry["max_model_len"] for entry in entries if isinstance(entry.get("max_model_len"), int)]
    yield fact("max_model_len", max(lengths, default=None), "tokens")
    load = _field(answers, "/load", "server_load")
    tracked = record.get("load_tracking") or (isinstance(load, int) and load > 0)
    yield fact("load", load if tracked and isinstance(load, int) else None, "requests", says=_load_words(bool(tracked)))
    yield fact("profiler_mounted", None if mounted is None else "/start_profile" in mounted)
    sleeping, paused = answers.get("/is_sleeping", {}), answers.get("/is_paused", {})
    listed = any(path in mounted for path in DEVELOPMENT) if mounted is not None else None
    # Without a list, an answer of one of its endpoints shows development mode, and a 404 that it is off.
    shown = {200: True, 404: False}.get(sleeping.get("status") or 0)
    yield fact("dev_mode", listed if listed is not None else shown)
    yield fact("paused", _flag(_field(answers, "/is_paused", "is_paused")), says=_why_not(paused))
    yield fact("sleeping", _flag(_field(answers, "/is_sleeping", "is_sleeping")), says=_why_not(sleeping))


def _field(answers: Mapping[str, dict[str, Any]], path: str, name: str) -> object:
    answer = answers.get(path, {})
    if answer.get("status") != 200:
        return None
    try:
        value: object = json.loads(answer["body"])[name]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _why_not(answer: Mapping[str, Any]) -> str:
    return "the server tells only in development mode" if answer.get("status") == 404 else ""


def _load_words(tracked: bool) -> str:
    return "" if tracked else f"the server counts its requests only with {LOAD_TRACKING}"


STEP = Step(
    name="endpoints",
    rung=0,
    says="asks /health, /version, /v1/models, /load, /is_paused, /is_sleeping; changes nothing",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("endpoints.reachable", "", "ok, refused, timeout, reset or error, of /health"),
        FactSpec("endpoints.new_connection", "", "the same over a connection of its own, as a new client asks"),
        FactSpec("endpoints.health_status", "", "HTTP status of /health; a hung engine says 200 too"),
        FactSpec("endpoints.health_seconds", "s", "how long /health took"),
        FactSpec("endpoints.version", "", "vLLM's version as it says"),
        FactSpec("endpoints.models", "", "served models"),
        FactSpec("endpoints.max_model_len", "tokens", "longest context served"),
        FactSpec("endpoints.load", "requests", "requests inside the server; unknown unless it tracks them"),
        FactSpec("endpoints.profiler_mounted", "", "whether the server was started so that it can be profiled"),
        FactSpec("endpoints.dev_mode", "", "whether development endpoints are mounted"),
        FactSpec("endpoints.paused", "", "whether generation is paused (development mode only)"),
        FactSpec("endpoints.sleeping", "", "whether the engine sleeps (development mode only)"),
    ),
    timeout_s=2 * TIMEOUT_S + SCHEMA_TIMEOUT_S + 2,
    max_bytes=1 << 20,
    params=EndpointsParams,
)
