"""What does the end of the server's log say? The last stats lines, and which troubles are named in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.logsigns import SIGNS, Signs, signs_of
from responder.model import Fact, Inventory, Outcome, Scalar
from responder.statsline import combined, offset_of, record_of

LOG = "log.txt"
META = "log.json"
MAX_BYTES = 1 << 20
JOURNAL_LINES = 4000
COMMAND_TIMEOUT_S = 5.0
HOW_TO = (
    "no log file known: set `log_file:` for this target, or run vLLM so that its output goes to a file or the journal"
)


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """The file's tail with its modification time, else the journal of the server's processes."""
    path = scene.target.log_file or (scene.inventory.log_file if scene.inventory else None)
    if path is not None:
        return await _from_file(scene, path)
    if scene.inventory and scene.inventory.local and scene.inventory.processes:
        return await _from_journal(scene, scene.inventory)
    return skipped(HOW_TO)


async def _from_file(scene: Scene, path: str) -> Fetched:
    try:
        raw = await scene.runner.read(path, max_bytes=MAX_BYTES, tail=True)
    except OSError as error:
        return Fetched(outcome=Outcome.FAILED, reason=f"cannot read the log {path}: {error.strerror or error}")
    meta = {"source": "file", "path": path, "cut": len(raw) >= MAX_BYTES}
    for name, argv in (("modified", ["stat", "-L", "-c", "%Y", path]), ("zone", ["date", "+%z"])):
        meta[name] = await _said(scene, argv)
    return Fetched({LOG: raw, META: json.dumps(meta, indent=1, sort_keys=True).encode()})


async def _from_journal(scene: Scene, inventory: Inventory) -> Fetched:
    """`short-unix` puts exact times on every line, also on those vLLM prints without one."""
    pids = [f"_PID={process.pid}" for process in inventory.processes]
    argv = ["journalctl", *pids, "-n", str(JOURNAL_LINES), "-o", "short-unix", "--no-pager", "-q"]
    try:
        said = await scene.runner.run(argv, timeout=COMMAND_TIMEOUT_S, max_bytes=MAX_BYTES)
    except OSError:
        return skipped(HOW_TO + " (journalctl is not there)")
    if said.code != 0 or not said.stdout.strip():
        return skipped(HOW_TO + " (the journal has no line of these processes)")
    meta = {"source": "journal", "path": "", "cut": said.truncated, "modified": None, "zone": None}
    return Fetched({LOG: said.stdout, META: json.dumps(meta, indent=1, sort_keys=True).encode()})


async def _said(scene: Scene, argv: list[str]) -> str | None:
    try:
        said = await scene.runner.run(argv, timeout=COMMAND_TIMEOUT_S, max_bytes=200)
    except OSError:
        return None
    return said.stdout.decode("ascii", "replace").strip() if said.code == 0 else None


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the tail. Troubles count only when their line is not older than the incident: a log keeps last week's
    traceback too."""
    if LOG not in files:
        return
    lines = files[LOG].decode("utf-8", "replace").split("\n")
    meta = _meta(files.get(META, b""))
    modified = _float(meta.get("modified"))
    offset = _offset(lines, modified, _zone(meta.get("zone")), brief.now)
    signs = signs_of(lines, brief.now, brief.onset_at, offset)

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", at: float | None = None) -> Fact:
        when = brief.now if at is None else at
        return Fact(name=f"log.{name}", value=value, unit=unit, step="log_tail", file=LOG, at=when, says=says)

    yield fact("found", any(line.strip() for line in lines), says=str(meta.get("path", "")))
    written_at = max((at for at in (modified, signs.last_at) if at is not None), default=None)
    yield fact("last_line_age_s", None if written_at is None else max(0.0, brief.now - written_at), "s")
    yield from _stats(fact, signs, brief)
    # Without a dated line nothing can be said to belong to this incident, or not to; and a tail that was cut after the
    # onset may have lost the line: then its absence proves nothing.
    since = signs.first_at
    reaches = since is not None and (not meta.get("cut") or since <= brief.onset_at)
    for name in SIGNS:
        hit = signs.hits.get(name)
        value = True if hit else (False if reaches else None)
        yield fact(name, value, says=hit.words if hit else "", at=hit.at if hit else None)
    yield fact("exception", signs.exception or None, at=signs.exception_at)
    yield fact("root_exception", signs.root or (False if reaches else None), at=signs.exception_at)
    yield fact("stream_errors", signs.stream_errors if signs.dated else None, "requests")
    # A tail that was cut may have lost the line that opened a session.
    seen = signs.profiler_open if signs.profiler_open is not None or meta.get("cut") or not signs.dated else False
    yield fact("profiler_open", seen, says=signs.profiler_words if seen else "", at=signs.profiler_at if seen else None)


def _stats(fact: Callable[..., Fact], signs: Signs, brief: Brief) -> Iterator[Fact]:
    last = combined(signs.stats)
    if last is None:
        return
    at = signs.stats_at
    for name, value, unit in (
        ("stats_running", last.running, "requests"),
        ("stats_waiting", last.waiting, "requests"),
        ("stats_kv_usage", last.kv_usage, "share"),
        ("stats_generation_rate", last.generation_rate, "tokens/s"),
        ("stats_prompt_rate", last.prompt_rate, "tokens/s"),
        ("stats_hit_rate", last.hit_rate, "share"),
    ):
        yield fact(name, value, unit, at=at)
    silent = None if at is None else max(0.0, brief.now - at)
    yield fact("stats_silent_s", silent, "s", "since the last stats line; an idle server prints none either")


def _meta(raw: bytes) -> dict[str, object]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _float(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _zone(text: object) -> float:
    """Seconds of a `+hhmm` offset; 0 when it is not known."""
    match = re.fullmatch(r"([+-])(\d\d)(\d\d)", str(text))
    if match is None:
        return 0.0
    return (-1 if match[1] == "-" else 1) * (int(match[2]) * 3600 + int(match[3]) * 60)


def _offset(lines: Sequence[str], modified: float | None, host_offset_s: float, now: float) -> float:
    """The UTC offset of the log's clock, from its last dated line."""
    for line in reversed(lines):
        stamped = record_of(line, now, 0.0).at
        if stamped is not None:
            return offset_of(stamped, modified if modified is not None else now, host_offset_s)
    return 0.0


_SIGN_WORDS = {
    "traceback": "whether a Python traceback was printed",
    "engine_dead": "whether the engine was declared dead",
    "execute_timeout": "whether a worker missed the engine's own deadline",
    "out_of_memory": "whether memory ran out",
    "worker_died": "whether a worker process died",
    "nccl_error": "whether NCCL reported an error",
    "cuda_error": "whether the accelerator's driver or libraries reported an error",
    "graceful_shutdown": "whether the server was asked to stop before anything broke",
    "shm_wait": "whether the engine complained that a worker does not take messages",
    "restarting": "whether the server was started at or after the onset",
    "nan": "whether the model's output was reported not to be a number",
}

STEP = Step(
    name="log_tail",
    rung=0,
    says="reads the last MiB of the server's log (or journal) for stats lines, tracebacks and named troubles",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("log.found", "", "whether a log could be read"),
        FactSpec("log.last_line_age_s", "s", "since the last line was written"),
        FactSpec("log.stats_running", "requests", "running, of the last stats line"),
        FactSpec("log.stats_waiting", "requests", "waiting, of the last stats line"),
        FactSpec("log.stats_kv_usage", "share", "KV cache usage, of the last stats line"),
        FactSpec("log.stats_generation_rate", "tokens/s", "generated tokens, of the last stats line"),
        FactSpec("log.stats_prompt_rate", "tokens/s", "prompt tokens, of the last stats line"),
        FactSpec("log.stats_hit_rate", "share", "prefix cache hit rate, of the last stats line"),
        FactSpec("log.stats_silent_s", "s", "since the last stats line"),
        *(FactSpec(f"log.{name}", "", words) for name, words in _SIGN_WORDS.items()),
        FactSpec("log.exception", "", "the exception nearest to the root"),
        FactSpec("log.root_exception", "", "whether that is more than an echo of another process's death"),
        FactSpec("log.stream_errors", "requests", "streams that died with an error since the onset"),
        FactSpec("log.profiler_open", "", "whether a profiler session was started and not ended"),
    ),
    timeout_s=15.0,
    max_bytes=MAX_BYTES + (64 << 10),
    needs=("`log_file:`, or the server on this host",),
)
