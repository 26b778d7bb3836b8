"""What of vLLM's statistics goes into a record? Made for speed and for never disturbing: it runs on vLLM's event loop.

An exception there ends the engine's output handler, so everything is caught, and three failures end the recording.
vLLM calls its statistics unstable: what a version does not have is looked up once, not once per step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from responder.recorder import layout
from responder.recorder.writer import RingWriter

log = logging.getLogger("vllm.responder_recorder")
GIVE_UP_AFTER = 3
QUEUE = ("num_running_reqs", "num_waiting_reqs", "num_skipped_waiting_reqs", "kv_cache_usage")
MAY_LACK = {"num_skipped_waiting_reqs": 0, "kv_cache_usage": 0.0}
"""What not every version has (skipped ones: 0.20 and later), and what is written then."""
OUTPUTS = attrgetter(
    "iteration_timestamp", "num_preempted_reqs", "num_prompt_tokens", "num_generation_tokens", "finished_requests",
    "time_to_first_tokens_iter", "inter_token_latencies_iter",
)  # fmt: skip
MOST = 0xFFFFFFFF


class Steps:
    """The recorder of one engine. `record`, `tick` and `sleep` never raise."""

    def __init__(self, writer: RingWriter) -> None:
        self.writer = writer
        self.failures = 0
        self._in_flight: tuple[Any, Any, Any, Any] = (0, 0, 0, 0.0)
        self._queue: Callable[[Any], Any] | None = None
        """Reads QUEUE of this version's scheduler statistics: chosen at the first step."""

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
                            0.0)  # fmt: skip
        except Exception as error:  # as in record
            self._failed(error)

    def sleep(self, asleep: int, level: int) -> None:
        """vLLM was put to sleep (1) or woken (0): no hang."""
        try:
            self.writer.put(layout.SLEEP, 0, time.time(), int(asleep), int(level), 0, 0.0, 0, 0, 0, 0, 0, 0, 0.0, 0.0)
        except Exception as error:  # as in record
            self._failed(error)

    def _record(self, scheduler: Any, iteration: Any) -> None:
        flags = hits = queries = 0
        if scheduler is not None:
            flags = layout.SCHEDULER_KNOWN
            if self._queue is None:
                self._queue = reader(scheduler)
            self._in_flight = self._queue(scheduler)
            cache = scheduler.prefix_cache_stats
            if cache is not None:
                hits, queries = cache.hits, cache.queries
        running, waiting, deferred, kv = self._in_flight
        if iteration is None:
            self.writer.put(layout.STEP, flags, time.time(), running, waiting, deferred, kv, 0, 0, 0, 0, hits, queries,
                            0.0, 0.0)  # fmt: skip
            return
        at, preempted, prompt, generated, finished, first, between = OUTPUTS(iteration)
        self.writer.put(
            layout.STEP, flags | layout.OUTPUTS_KNOWN, at, running, waiting, deferred, kv, preempted, prompt, generated,
            len(finished), hits, queries, max(first) if first else 0.0, max(between) if between else 0.0,
            suffered_most(finished) if finished else None,
        )  # fmt: skip

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == GIVE_UP_AFTER:
            log.warning("step recorder: given up after %d failures (%r); vLLM is not affected", self.failures, error)


def reader(scheduler: Any) -> Callable[[Any], Any]:
    """What reads QUEUE of statistics like these: one C call where the version has all of them."""
    if all(hasattr(scheduler, name) for name in QUEUE):
        return attrgetter(*QUEUE)
    lacks = {name: value for name, value in MAY_LACK.items() if not hasattr(scheduler, name)}
    return lambda stats: tuple(lacks[name] if name in lacks else getattr(stats, name) for name in QUEUE)


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
