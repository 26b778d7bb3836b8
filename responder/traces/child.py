"""How is a trace analysed so that the daemon keeps nothing of it? In this process: niced, limited, gone afterwards.

`python -m responder.traces.child [--memory BYTES] [--seconds S] [--compare PATH] PATH…` writes the result as JSON to
stdout and progress as JSON lines to stderr. numpy is imported only here.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path

NICENESS = 10
READING_SHARE = 0.7
"""Of the time allowed; what then has been read is analysed, and the report says that it is partial."""


def main() -> int:
    """0 with a result, 1 when no file could be read."""
    parser = argparse.ArgumentParser()
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--compare", action="append", default=[], type=Path)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    asked = parser.parse_args()
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    if asked.memory:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (asked.memory, asked.memory))
    # one BLAS thread reserves tens of MB of address space, and we use no BLAS
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()
    try:
        import msgspec

        from responder.traces.engine import run

        stop_at = time.monotonic() + asked.seconds * READING_SHARE if asked.seconds else None
        report = run(asked.paths, asked.compare, stop_at=stop_at, progress=_Progress())
        sys.stdout.buffer.write(msgspec.json.encode(report))
    except MemoryError:
        limit = f" of {asked.memory / 1e6:.0f} MB" if asked.memory else ""
        sys.stdout.write(json.dumps({"ranks": [], "problems": [f"the memory limit{limit} was reached"]}))
        return 1
    sys.stdout.flush()
    return 0 if report.ranks else 1


class _Progress:
    """At most ten lines a second."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, name: str, share: float) -> None:
        now = time.monotonic()
        if now - self._last < 0.1 and share < 1.0:
            return
        self._last = now
        sys.stderr.write(json.dumps({"file": name, "share": round(share, 4)}) + "\n")
        sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
