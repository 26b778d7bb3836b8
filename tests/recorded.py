"""What did real servers say? Recordings under tests/data, unpacked."""

from __future__ import annotations

import calendar
import gzip
import time
from pathlib import Path

DATA = Path(__file__).parent / "data"


def log(name: str) -> bytes:
    """A server log: `cpu_*` of vLLM 0.32 on CPU, `h200_*` of vLLM 0.26 on H200s. Its clock is UTC."""
    return gzip.decompress((DATA / "logs" / f"{name}.log.gz").read_bytes())


def window(name: str) -> bytes:
    """A metrics window (series.json) that `rules/signals.yaml` gave on a recording in a real Prometheus."""
    return gzip.decompress((DATA / "windows" / f"{name}.json.gz").read_bytes())


def exposition() -> bytes:
    """One whole /metrics page of a busy vLLM 0.32."""
    return gzip.decompress((DATA / "metrics_0.32.txt.gz").read_bytes())


def on_the_day(clock: str) -> float:
    """Unix seconds of a time of day in the recordings, all made on 20 November 2026 (UTC)."""
    return float(calendar.timegm(time.strptime(f"2026-11-20 {clock}", "%Y-%m-%d %H:%M:%S")))
