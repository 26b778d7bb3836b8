"""Which troubles does a piece of vLLM's log name, and since when?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from responder.statsline import Record, Stats, hit_rate_of, record_of, stats_of

BEFORE_ONSET_S = 120.0
"""The line that explains an incident may be older than the first metric that shows it."""
RESTART_BEFORE_ONSET_S = 30.0
MAX_WORDS = 240

SIGNS: Mapping[str, str] = {
    "traceback": r"Traceback \(most recent call last\)",
    "engine_dead": r"EngineDeadError|EngineCore encountered (?:a fatal error|an issue)|engine core exited unexpectedly"
    r"|Engine core process \S+ died|Background loop (?:has errored|is stopped)|Engine (?:process|loop) (?:died|is dead)"
    r"|AsyncLLM output_handler failed",
    "execute_timeout": r"RPC call to \w+ timed out|execute_model timed out",
    "out_of_memory": r"OutOfMemoryError|(?:CUDA|HIP|XPU|GPU|device) out of memory|Cannot allocate memory|^MemoryError"
    r"|No available memory for the cache blocks|[Oo]ut [Oo]f [Mm]emory: [Kk]illed|OOM[- ]?[Kk]illed",
    "worker_died": r"[Ww]orker(?:Proc| proc(?:ess)?)? .{0,80}died|VllmWorker\S* .{0,40}exited unexpectedly"
    r"|Executor failed\.",
    "nccl_error": r"NCCL error|nccl\w*Error\b|NCCL WARN .*(?:error|fail|timeout)|collective operation timeout"
    r"|ProcessGroupNCCL.*(?:exception|timed out)|DistBackendError",
    "cuda_error": r"CUDA error|cudaError\w+|CUDA driver error|HIP error|illegal memory access|device-side assert"
    r"|CUBLAS_STATUS_(?!SUCCESS)\w+|CUDNN_STATUS_(?!SUCCESS)\w+|AcceleratorError",
    "graceful_shutdown": r"API server: shutdown triggered|Shutting down FastAPI HTTP server|^INFO: +Shutting down",
    "shm_wait": r"No available (?:shared memory broadcast )?block found in \d+ second",
    "restarting": r"non-default args: |args: Namespace\(|API server version ",
    "nan": r"Out of range float|NaNs? detected in logits|probability tensor contains either|NaN or Inf found",
}
_PATTERNS = {name: re.compile(pattern) for name, pattern in SIGNS.items()}
_ANY = re.compile("|".join(f"(?:{pattern})" for pattern in SIGNS.values()))
QUIET_IS_FINE = frozenset({"graceful_shutdown", "shm_wait", "restarting"})
"""Signs that vLLM prints as INFO; the others count as ERROR, or on lines without a level: a
warning may carry the traceback of an optional import that was not there."""
QUIET = ("INFO", "DEBUG", "WARNING")
DEATHS = ("engine_dead", "worker_died", "execute_timeout", "traceback")

_NOT_ABOUT_US = ("dump_input.py", "logger.py", "request_logger.py")
"""Dumps of requests and configuration: what they contain is customers' text, not a statement of vLLM."""
_SPEAKS_FOR_CLIENTS = re.compile(
    r"(?:Received request|Generated response|Added request|Aborted request"
    r"|Request \S{1,200} (?:details|JSON body|aborted))\b"
)
"""Lines that repeat what a client sent (ids, parameters, prompts, answers), whoever prints them."""
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Timeout)\b(?::.*)?$")
_ECHO = re.compile(
    r"EngineDeadError|^RuntimeError: cancelled$|ConnectionResetError|BrokenPipeError|CancelledError|EOFError"
    r"|[Ww]orker.{0,80}died|Executor failed|Engine core .*(?:failed|died)"
)
"""What a process says of the death of another; nothing in it tells what that one died of."""
_STREAM_ERROR = re.compile(r"Error in .{0,40}stream(?:ing)? generator")
_PROFILER = re.compile(r"Profiler stopped|(?:Starting|Stopping|Failed to stop) profiler|Torch profiling enabled")


@dataclass(frozen=True)
class Hit:
    """The first line that shows a sign."""

    at: float | None
    words: str


@dataclass
class Signs:
    """What was found; filled line by line."""

    dated: bool = False
    first_at: float | None = None
    """Of the oldest dated line: a cut tail says nothing of what came before it."""
    last_at: float | None = None
    hits: dict[str, Hit] = field(default_factory=dict)
    stats: tuple[Stats, ...] = ()
    """The newest stats line of each engine."""
    stats_at: float | None = None
    stream_errors: int = 0
    exception: str = ""
    exception_at: float | None = None
    root: bool = False
    """Whether the exception is more than an echo of another process's death."""
    profiler_open: bool | None = None
    """None: no line about profiling at all."""
    profiler_at: float | None = None
    profiler_words: str = ""


def signs_of(lines: Sequence[str], now: float, onset_at: float, utc_offset_s: float) -> Signs:
    """Read log lines, oldest first. A line without a time is as old as the dated line before it."""
    signs = Signs()
    newest: dict[str | None, Stats] = {}
    profiler = _Profiler()
    best = 99
    at: float | None = None
    for line in lines:
        if not line:
            continue
        record = record_of(line, now, utc_offset_s)
        if record.at is not None:
            at = signs.last_at = record.at
            signs.first_at = at if signs.first_at is None else signs.first_at
            signs.dated = True
        if record.where.startswith(_NOT_ABOUT_US) or _SPEAKS_FOR_CLIENTS.match(record.message):
            continue
        if record.message.startswith(("Avg prompt", "Engine ")) or "Engines Aggregated" in record.message:
            stats = stats_of(record.message)
            if stats is not None:
                newest[stats.engine] = stats
                signs.stats_at = at
                continue
        elif newest and (hit_rate := hit_rate_of(record.message)) is not None:
            newest = {engine: _with_hit_rate(stats, hit_rate) for engine, stats in newest.items()}
        profiler.take(record, at)
        if at is None or at < onset_at - BEFORE_ONSET_S:
            continue
        _note(signs, record, at, onset_at)
        best = _note_exception(signs, record, at, best)
    signs.stats = tuple(newest.values())
    signs.profiler_open, signs.profiler_at, signs.profiler_words = profiler.open, profiler.at, profiler.words
    return signs


def _with_hit_rate(stats: Stats, hit_rate: float) -> Stats:
    return replace(stats, hit_rate=hit_rate) if stats.hit_rate is None else stats


def _note(signs: Signs, record: Record, at: float, onset_at: float) -> None:
    message = record.message
    if _STREAM_ERROR.match(message):
        signs.stream_errors += 1
    if not _ANY.search(message):
        return
    for name, pattern in _PATTERNS.items():
        if name in signs.hits or not pattern.search(message):
            continue
        if record.level in QUIET and name not in QUIET_IS_FINE:
            continue
        if name == "restarting" and at < onset_at - RESTART_BEFORE_ONSET_S:
            continue
        # After a death the API server shuts down as well; only one that comes first was wished.
        if name == "graceful_shutdown" and any(death in signs.hits for death in DEATHS):
            continue
        words = message.strip()
        # The process that wrote the line, unless the line begins with it.
        words = words if not record.role or words.startswith(record.role) else f"{record.role}: {words}"
        signs.hits[name] = Hit(at, words[:MAX_WORDS])


def _note_exception(signs: Signs, record: Record, at: float, best: int) -> int:
    """Keep the exception nearest to the root: a worker's before the engine's before the API server's, which only
    repeats that the engine is dead; one with words before one without."""
    message = record.message
    if record.level in QUIET or not _EXCEPTION.match(message):
        return best
    rank = 0 if "Worker" in record.role else 2 if record.role.startswith("EngineCore") else 4
    echo = _ECHO.search(message) is not None
    rank += 20 if echo else 0
    rank += 0 if ":" in message else 1
    if rank < best:
        signs.exception, signs.exception_at, signs.root = message[:MAX_WORDS], at, not echo
    return min(best, rank)


class _Profiler:
    """Whether a profiler session is open: the API server says when it starts and stops one, workers when they do."""

    def __init__(self) -> None:
        self.open: bool | None = None
        self.at: float | None = None
        self.words = ""
        self._stopping = False

    def take(self, record: Record, at: float | None) -> None:
        message = record.message
        if _PATTERNS["restarting"].search(message):
            self.open, self._stopping = False, False
        if not _PROFILER.search(message):
            return
        inside = record.role.startswith(("EngineCore", "Worker", "VllmWorker"))
        if "Starting profiler" in message or "Torch profiling enabled" in message:
            if not self.open:
                self.open, self.at, self.words, self._stopping = True, at, message[:MAX_WORDS], False
        elif "Stopping profiler" in message and not inside:
            # The stop itself is what freezes a server: it stays open until it says stopped.
            self.at = self.at if self.open else at
            self.open, self._stopping, self.words = True, True, message[:MAX_WORDS]
        elif not (inside and self._stopping):
            # With max_iterations the worker ends by itself; while the API server is stopping, only its word counts.
            self.open, self._stopping = False, False
