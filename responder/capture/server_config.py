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
from responder.serverconfig import CONFIG_UNITS, Sources, merge
from responder.startuplog import latest_start, startup_lines

LAUNCH = "launch.json"
STARTUP = "startup.txt"
VERSION = "version.json"
CACHE = "cache_config.txt"
__all__ = ["STEP", "fetch", "latest_start", "read"]
TIMEOUT_S = 3.0
MAX_METRICS = 8 << 20


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
    startup = await startup_lines(scene)
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
