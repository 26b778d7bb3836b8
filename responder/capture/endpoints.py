"""What do the server's own endpoints say, and how fast? Answered by the API server; the engine is asked nothing,
except `/is_paused` and `/is_sleeping` where development mode mounts them.

Which endpoints exist is read from `/openapi.json`, never tried: `/start_profile` can stop a server for minutes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from responder.ask import Answer, credentials, get
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step
from responder.model import Fact, Outcome, Scalar

FILE = "endpoints.json"
TIMEOUT_S = 2.0
SCHEMA_TIMEOUT_S = 4.0
MAX_BODY = 64 << 10
MAX_SCHEMA = 8 << 20
PLAIN = ("/health", "/version", "/v1/models", "/load")
DEVELOPMENT = ("/server_info", "/is_sleeping", "/collective_rpc", "/reset_prefix_cache")
ASKED_IF_MOUNTED = ("/is_sleeping", "/is_paused")
LOAD_TRACKING = "--enable-server-load-tracking"


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """All plain endpoints side by side, each with its own deadline; the schema last, and only from a server that
    answers: building it costs the API server some milliseconds once."""
    headers = credentials(scene.target)

    async def ask(path: str, timeout: float = TIMEOUT_S, max_bytes: int = MAX_BODY) -> Answer:
        return await get(scene.http, scene.target.url + path, timeout=timeout, max_bytes=max_bytes, headers=headers)

    answers = dict(zip(PLAIN, await asyncio.gather(*(ask(path) for path in PLAIN)), strict=True))
    mounted: list[str] | None = None
    if answers["/health"].reach == "ok":
        schema = await ask("/openapi.json", SCHEMA_TIMEOUT_S, MAX_SCHEMA)
        mounted = paths_of(schema)
        wanted = [path for path in ASKED_IF_MOUNTED if path in (mounted or ())]
        answers |= dict(zip(wanted, await asyncio.gather(*(ask(path) for path in wanted)), strict=True))
        answers["/openapi.json"] = Answer(schema.reach, schema.seconds, schema.status, error=schema.error)
    command = scene.inventory.command if scene.inventory else ()
    record = {
        "answers": {path: _record(answer) for path, answer in answers.items()},
        "mounted": mounted,
        "load_tracking": LOAD_TRACKING in (word.replace("_", "-") for word in command) if command else None,
    }
    files = {FILE: json.dumps(record, indent=1, sort_keys=True).encode()}
    bad = [f"{path}: {answer.reach}" for path, answer in answers.items() if answer.reach != "ok"]
    return Fetched(files, Outcome.PARTIAL if bad else Outcome.OK, ", ".join(bad))


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
    except (KeyError, ValueError):
        return
    mounted: list[str] | None = record["mounted"]

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        name = f"endpoints.{name}"
        return Fact(name=name, value=value, unit=unit, step="endpoints", file=FILE, at=brief.now, says=says)

    health = answers.get("/health", {})
    yield fact("reachable", health.get("reach"), says=health.get("error", ""))
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
    yield fact("dev_mode", None if mounted is None else any(path in mounted for path in DEVELOPMENT))
    yield fact("paused", _flag(_field(answers, "/is_paused", "is_paused")))
    yield fact("sleeping", _flag(_field(answers, "/is_sleeping", "is_sleeping")))


def _field(answers: Mapping[str, dict[str, Any]], path: str, name: str) -> object:
    answer = answers.get(path, {})
    if answer.get("status") != 200:
        return None
    try:
        value: object = json.loads(answer["body"])[name]
    except (ValueError, KeyError, TypeError):
        return None
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _load_words(tracked: bool) -> str:
    return "" if tracked else f"the server counts its requests only with {LOAD_TRACKING}"


STEP = Step(
    name="endpoints",
    rung=0,
    says="asks /health, /version, /v1/models, /load and reads which endpoints are mounted; changes nothing",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("endpoints.reachable", "", "ok, refused, timeout, reset or error, of /health"),
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
)
