"""How is a server set up at this moment? Its command line, what it says of itself, and the GPUs it runs on."""

from __future__ import annotations

import asyncio
import hashlib
import json

import aiohttp

from responder.ask import credentials, get
from responder.capture.step import Runner
from responder.changes import Snapshot
from responder.exposition import parse
from responder.launchargs import options_of
from responder.model import Inventory, Target

TIMEOUT_S = 3.0
SMI_TIMEOUT_S = 4.0
MAX_BODY = 8 << 20
CACHE_LABELS = ("block_size", "cache_dtype", "enable_prefix_caching", "gpu_memory_utilization")
SMI = ("nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm,power.limit", "--format=csv,noheader")
START = b"process_start_time_seconds "
CACHE = b"vllm:cache_config_info{"


async def take(
    target: Target, inventory: Inventory | None, http: aiohttp.ClientSession, runner: Runner, now: float
) -> Snapshot:
    """What can be seen within a few seconds; what cannot is None."""
    paths = ("/version", "/v1/models", "/metrics")
    (version, models, metrics), gpus = await asyncio.gather(
        asyncio.gather(*(_ask(target, http, path) for path in paths)), _gpus(inventory, runner)
    )
    here = inventory if inventory is not None and inventory.command else None
    main = next((p for p in inventory.processes if p.role == "api_server"), None) if inventory else None
    lines = b"\n".join(line for line in metrics.split(b"\n") if line.startswith((START, CACHE))) + b"\n"
    found = parse(lines)
    cache = next((r.labels for r in found.readings if r.name == "vllm:cache_config_info"), None)
    workers = [p for p in inventory.processes if p.role == "worker"] if inventory else []
    return Snapshot(
        at=now,
        started_at=found.highest("process_start_time_seconds") or (main.started_at if main else None),
        options=options_of(here.command) if here else None,
        environment={name: _digest(target, value) for name, value in here.environment.items()} if here else None,
        version=_text(version, "version") or (inventory.version if inventory else None),
        models=_models(models),
        ranks=len(workers) or None,
        cache={name: cache[name] for name in CACHE_LABELS if name in cache} if cache else None,
        gpus=gpus,
    )


async def _ask(target: Target, http: aiohttp.ClientSession, path: str) -> bytes:
    if not target.url:
        return b""
    answer = await get(http, target.url + path, timeout=TIMEOUT_S, max_bytes=MAX_BODY, headers=credentials(target))
    return answer.body if answer.status == 200 else b""


async def _gpus(inventory: Inventory | None, runner: Runner) -> tuple[str, ...] | None:
    if inventory is None or not inventory.reachable:
        return None
    try:
        said = await runner.run(SMI, timeout=SMI_TIMEOUT_S, max_bytes=1 << 16)
    except OSError:
        return None
    lines = [line.strip() for line in said.stdout.decode("utf-8", "replace").split("\n") if line.strip()]
    return tuple(lines) if said.code == 0 and lines else None


def _digest(target: Target, value: str) -> str:
    """Enough to see that a value changed, too little to see what it is."""
    return hashlib.sha256(f"{target.name}\0{value}".encode()).hexdigest()[:8]


def _text(raw: bytes, name: str) -> str | None:
    value = _object(raw).get(name)
    return value if isinstance(value, str) else None


def _models(raw: bytes) -> tuple[str, ...] | None:
    rows = _object(raw).get("data")
    if not isinstance(rows, list):
        return None
    return tuple(sorted(str(row["id"])[:200] for row in rows if isinstance(row, dict) and "id" in row)) or None


def _object(raw: bytes) -> dict[str, object]:
    try:
        value = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
