"""What do the last lines of a server's log say, while it runs? For servers without metrics, and for stops on request.

Only read when it is needed: when Prometheus has no metrics of a server, or when the server does not answer.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from responder.capture.step import Runner
from responder.logsigns import Signs, signs_of
from responder.statsline import combined

TAIL_BYTES = 64 << 10
STATS_LAST_S = 60.0
"""An older stats line describes another time."""


@dataclass(frozen=True)
class LogState:
    """Signal name -> value, and whether the log tells of a shutdown somebody asked for."""

    values: dict[str, float] = field(default_factory=dict)
    stopping: bool = False


async def look(runner: Runner, path: str, now: float, utc_offset_s: float) -> LogState:
    """Read the log's tail; an unreadable log says nothing."""
    raw = b""
    with contextlib.suppress(OSError, TimeoutError):
        raw = await runner.read(path, max_bytes=TAIL_BYTES, tail=True)
    return said(raw, now, utc_offset_s)


def said(raw: bytes, now: float, utc_offset_s: float) -> LogState:
    """What a tail says at a time."""
    lines = raw.decode("utf-8", "replace").split("\n")
    signs = signs_of(lines, now, now, utc_offset_s)
    return LogState(_values(signs, now), "graceful_shutdown" in signs.hits)


def _values(signs: Signs, now: float) -> dict[str, float]:
    last, at = combined(signs.stats), signs.stats_at
    if last is None or at is None:
        return {}
    silent = max(0.0, now - at)
    found = {
        "responder_log_running": last.running,
        "responder_log_waiting": last.waiting,
        "responder_log_kv_usage": last.kv_usage,
        "responder_log_generation_rate": last.generation_rate,
    }
    # The line stops on an idle server too; what it said last then holds no longer - except that requests were running.
    if silent > STATS_LAST_S:
        found = {"responder_log_running": last.running}
    return {
        "responder_log_silent_seconds": silent,
        **{name: float(value) for name, value in found.items() if value is not None},
    }
