"""How is this server configured? Its command line, its start-up log, its version and its metrics, merged.

Order of trust: an explicit flag, then what the log says it resolved to, then metric labels, then a documented default
where that does not depend on the hardware. What none of them says stays unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from responder.ask import credentials, get
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step
from responder.exposition import parse
from responder.model import Fact, Outcome
from responder.serverconfig import CONFIG_UNITS, LOG_MARKS, Sources, merge

LAUNCH = "launch.json"
STARTUP = "startup.txt"
VERSION = "version.json"
CACHE = "cache_config.txt"
HEAD_BYTES = 1 << 20
TAIL_BYTES = 4 << 20
TIMEOUT_S = 3.0
MAX_METRICS = 8 << 20
MAX_LINE = 32 << 10


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Gather all sources; each may be missing, and a dead server still has its command line and its log."""
    files: dict[str, bytes] = {}
    missing: list[str] = []
    inventory = scene.inventory
    if inventory is not None and (inventory.command or inventory.version):
        api_servers = [p.pid for p in inventory.processes if p.role in ("api_server", "launcher")]
        launch = {
            "command": list(inventory.command),
            "environment": dict(inventory.environment),
            "version": inventory.version,
            "pids": api_servers,
        }
        files[LAUNCH] = json.dumps(launch, indent=1, sort_keys=True).encode()
    if not (inventory and inventory.command):
        missing.append("command line" + (f" ({inventory.why_not})" if inventory and inventory.why_not else ""))
    startup = await _startup_lines(scene)
    if startup:
        files[STARTUP] = startup
    else:
        missing.append("start-up log (set `log_file:` for this target)")
    answers = {path: await _ask(scene, path) for path in ("/version", "/metrics")}
    if answers["/version"]:
        files[VERSION] = answers["/version"]
    labels = b"".join(
        line + b"\n" for line in answers["/metrics"].split(b"\n") if line.startswith(b"vllm:cache_config_info{")
    )
    if labels:
        files[CACHE] = labels
    else:
        missing.append("/metrics")
    if not files:
        return Fetched(outcome=Outcome.FAILED, reason="no source answered: " + ", ".join(missing))
    return Fetched(
        files, Outcome.PARTIAL if missing else Outcome.OK, "without " + ", ".join(missing) if missing else ""
    )


async def _ask(scene: Scene, path: str) -> bytes:
    url, headers = scene.target.url + path, credentials(scene.target)
    answer = await get(scene.http, url, timeout=TIMEOUT_S, max_bytes=MAX_METRICS, headers=headers)
    return answer.body if answer.status == 200 else b""


async def _startup_lines(scene: Scene) -> bytes:
    """The lines of the latest start: a log that is appended to holds several, and only the last one is this server."""
    path = scene.target.log_file or (scene.inventory.log_file if scene.inventory else None)
    if path is None:
        return b""
    kept: list[bytes] = []
    for tail, max_bytes in ((False, HEAD_BYTES), (True, TAIL_BYTES)):
        try:
            raw = await scene.runner.read(path, max_bytes=max_bytes, tail=tail)
        except OSError:
            return b""
        kept = latest_start(raw) or kept
        if len(raw) < max_bytes:
            break
    return b"\n".join(line[:MAX_LINE] for line in kept)


def latest_start(raw: bytes) -> list[bytes]:
    """Configuration lines of the last start in a log, its version banner included; [] when there is none."""
    lines = [line for line in raw.split(b"\n") if any(mark in line for mark in LOG_MARKS)]
    starts = [at for at, line in enumerate(lines) if LOG_MARKS[0] in line or LOG_MARKS[1] in line]
    if not starts:
        return lines
    first = starts[-1]
    while first > 0 and b"version " in lines[first - 1] and b" LLM engine (v" not in lines[first - 1]:
        first -= 1
    return lines[first:]


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Every `config.*` fact, with the source in its words; unknown ones are given as unknown."""
    sources = Sources.of(
        launch=_json(files.get(LAUNCH)),
        startup=files.get(STARTUP, b"").decode("utf-8", "replace").split("\n"),
        version=_json(files.get(VERSION)),
        cache=next((reading.labels for reading in parse(files.get(CACHE, b"")).readings), {}),
    )
    origin = {"command line": LAUNCH, "start-up log": STARTUP, "/version": VERSION, "metrics": CACHE}
    for name, value, source in merge(sources):
        yield Fact(
            name=f"config.{name}",
            value=value,
            unit=CONFIG_UNITS[name][0],
            step="server_config",
            file=origin.get(source, ""),
            at=brief.now,
            says=f"from the {source}" if source else "",
        )


def _json(raw: bytes | None) -> dict[str, object]:
    try:
        value = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


STEP = Step(
    name="server_config",
    rung=0,
    says="learns the launch options from the process, the start-up log and the metrics; the engine is not touched",
    fetch=fetch,
    read=read,
    facts=tuple(FactSpec(f"config.{name}", unit, says) for name, (unit, says) in CONFIG_UNITS.items()),
    timeout_s=12.0,
    max_bytes=1 << 20,
    needs=("same host or `log_file:` for launch options",),
)
