"""Which lines of a server's log say how it was started? A log that is appended to holds several starts; only the last
one is this server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from responder.serverconfig import LOG_MARKS

if TYPE_CHECKING:  # capture steps import this module
    from responder.capture.step import Scene

HEAD_BYTES = 1 << 20
TAIL_BYTES = 4 << 20
MAX_LINE = 32 << 10


async def startup_lines(scene: Scene) -> bytes:
    """The configuration lines of the latest start; empty when there is no log."""
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
