"""How does vLLM find the recorder? A stat-logger entry point (vLLM 0.12 and later), loaded in the API server.

`RESPONDER_RECORDER=1` (or a folder) switches it on. Without it vLLM gets a logger whose methods do nothing. vLLM turns
statistics on again when any stat logger is installed, so beside `--disable-log-stats` an unwanted recorder refuses to
load instead.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from responder.recorder import layout
from responder.recorder.steps import Steps
from responder.recorder.writer import RingWriter

try:
    from vllm.v1.metrics.loggers import AggregateStatLoggerBase
except ImportError as error:  # vLLM logs it and serves on
    raise ImportError(
        f"the step recorder does not know this vLLM's stat loggers ({error}); it needs 0.12 or later"
    ) from error

log = logging.getLogger("vllm.responder_recorder")
DEFAULT_FOLDER = "/dev/shm/responder-recorder"
"""Memory, so that no disk can ever hold up a step; it outlives the server, not the machine."""
OFF = ("", "0", "false", "no", "off")


def folder() -> str | None:
    """Where ring files go; None: not asked for."""
    value = os.environ.get("RESPONDER_RECORDER", "").strip()
    if value.lower() in OFF:
        return None
    return value if value.startswith("/") else DEFAULT_FOLDER


def capacity() -> int:
    """Records per ring; `RESPONDER_RECORDER_STEPS` for engines much faster than 100 steps a second."""
    try:
        return min(max(int(os.environ.get("RESPONDER_RECORDER_STEPS", layout.CAPACITY)), 1024), 1 << 22)
    except ValueError:
        return layout.CAPACITY


class StepRecorder(AggregateStatLoggerBase):  # type: ignore[misc, unused-ignore]
    """vLLM makes one for all engines of this API server; only the aggregate kind is told about sleep. Records when
    asked for; nothing it does can fail the server."""

    def __init__(self, vllm_config: Any, engine_indexes: Any = (0,)) -> None:
        self.engines: dict[int, Steps] = {}
        where = folder()
        if where is None:
            return
        for engine in [engine_indexes] if isinstance(engine_indexes, int) else list(engine_indexes):
            try:
                writer = RingWriter(
                    where, engine, capacity=capacity(), tick_s=tick_seconds(), vllm=version(),
                    model=served_name(vllm_config),
                )  # fmt: skip
            except (OSError, ValueError) as error:
                log.warning("step recorder: engine %s off, no ring file in %s: %s", engine, where, error)
                continue
            self.engines[engine] = Steps(writer)
            log.info("step recorder: engine %d writes %s", engine, writer.path)

    def record(
        self, scheduler_stats: Any = None, iteration_stats: Any = None, mm_cache_stats: Any = None,
        engine_idx: int = 0, **_: Any,
    ) -> None:  # fmt: skip
        """One step of one engine."""
        steps = self.engines.get(engine_idx)
        if steps is not None:
            steps.record(scheduler_stats, iteration_stats)

    def log(self) -> None:
        """Every VLLM_LOG_STATS_INTERVAL seconds, also while nothing moves."""
        for steps in self.engines.values():
            steps.tick()

    def log_engine_initialized(self) -> None:
        """The engines are up."""
        self.log()

    def record_sleep_state(self, sleep: int = 0, level: int = 0) -> None:
        """1: put to sleep, 0: woken."""
        for steps in self.engines.values():
            steps.sleep(sleep, level)


def tick_seconds() -> float:
    """How often vLLM calls `log`; a fixed 10 s before 0.10.1."""
    try:
        return float(os.environ.get("VLLM_LOG_STATS_INTERVAL", "10"))
    except ValueError:
        return 10.0


def version() -> str:
    """vLLM's."""
    try:
        import vllm

        return str(vllm.__version__)
    except (ImportError, AttributeError):
        return ""


def served_name(config: Any) -> str:
    """The model's served name, '' when this version keeps it elsewhere."""
    model = getattr(config, "model_config", None)
    name = getattr(model, "served_model_name", None) or getattr(model, "model", "")
    return str(name[0] if isinstance(name, list | tuple) and name else name)


if folder() is None and "--disable-log-stats" in sys.argv:
    raise ImportError("the step recorder is installed but off, and --disable-log-stats wants no statistics: not loaded")
