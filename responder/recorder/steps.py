"""What of vLLM's statistics goes into a record? Made for speed and for never disturbing: it runs on vLLM's event loop.

An exception there ends the engine's output handler, so everything is caught, and three failures end the recording.
vLLM calls its statistics unstable: what a version does not have is looked up once, not once per step.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from responder.recorder import layout
from responder.recorder.writer import RingWriter

log = logging.getLogger("vllm.responder_recorder")
GIVE_UP_AFTER = 3
NOBODY = (0.0, 0.0, 0.0, 0.0, 0, 0, 0, b"")
MOST = 0xFFFFFFFF


class Steps:
    """The recorder of one engine. `record`, `tick` and `sleep` never raise."""

    def __init__(self, writer: RingWriter) -> None:
        self.writer = writer
        self.failures = 0
        self._in_flight = (0, 0, 0, 0.0)

    def record(self, scheduler: Any, iteration: Any) -> None:
        """One engine step."""
        if self.failures >= GIVE_UP_AFTER:
            return
        try:
            self._record(scheduler, iteration)
        except Exception as error:  # whatever vLLM changed, the server must not notice
            self._failed(error)

    def tick(self) -> None:
        """vLLM's statistics interval: it goes on while the engine hangs, and so dates the hang."""
        if self.failures >= GIVE_UP_AFTER:
            return
        try:
            self.writer.put(layout.TICK, layout.SCHEDULER_KNOWN, time.time(), *self._in_flight, 0, 0, 0, 0, 0, 0, 0.0,
                            0.0, *NOBODY)  # fmt: skip
        except Exception as error:  # as in record
            self._failed(error)

    def sleep(self, asleep: int, level: int) -> None:
        """vLLM was put to sleep (1) or woken (0): no hang."""
        try:
            self.writer.put(layout.SLEEP, 0, time.time(), int(asleep), int(level), 0, 0.0, 0, 0, 0, 0, 0, 0, 0.0, 0.0,
                            *NOBODY)  # fmt: skip
        except Exception as error:  # as in record
            self._failed(error)

    def _record(self, scheduler: Any, iteration: Any) -> None:
        flags = hits = queries = 0
        if scheduler is not None:
            flags = layout.SCHEDULER_KNOWN
            self._in_flight = (
                scheduler.num_running_reqs,
                scheduler.num_waiting_reqs,
                getattr(scheduler, "num_skipped_waiting_reqs", 0),  # 0.20 and later
                getattr(scheduler, "kv_cache_usage", 0.0),
            )
            cache = scheduler.prefix_cache_stats
            if cache is not None:
                hits, queries = cache.hits, cache.queries
        if iteration is None:
            self.writer.put(layout.STEP, flags, time.time(), *self._in_flight, 0, 0, 0, 0, hits, queries, 0.0, 0.0,
                            *NOBODY)  # fmt: skip
            return
        finished = iteration.finished_requests
        first, between = iteration.time_to_first_tokens_iter, iteration.inter_token_latencies_iter
        self.writer.put(
            layout.STEP, flags | layout.OUTPUTS_KNOWN, iteration.iteration_timestamp, *self._in_flight,
            iteration.num_preempted_reqs, iteration.num_prompt_tokens, iteration.num_generation_tokens, len(finished),
            hits, queries, max(first) if first else 0.0, max(between) if between else 0.0,
            *(suffered_most(finished) if finished else NOBODY),
        )  # fmt: skip

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == GIVE_UP_AFTER:
            log.warning("step recorder: given up after %d failures (%r); vLLM is not affected", self.failures, error)


def suffered_most(finished: Any) -> tuple[float, float, float, float, int, int, int, bytes]:
    """The finished request that was preempted most often, or took longest."""
    worst = max(finished, key=lambda r: (getattr(r, "num_preemptions", 0), r.e2e_latency))
    return (
        worst.e2e_latency,
        worst.queued_time,
        worst.prefill_time,
        worst.decode_time,
        min(worst.num_prompt_tokens, MOST),
        min(worst.num_generation_tokens, MOST),
        getattr(worst, "num_preemptions", 0),
        (getattr(worst, "request_id", None) or "").encode()[: layout.ID_BYTES],
    )
