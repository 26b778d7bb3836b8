"""What does vLLM hand to a stat logger? Its statistics in the shapes of several versions, as far as we read them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def scheduler(version: str = "0.32", **values: Any) -> SimpleNamespace:
    """SchedulerStats."""
    cache = SimpleNamespace(hits=values.pop("hits", 0), queries=values.pop("queries", 0))
    made: dict[str, Any] = {
        "num_running_reqs": 0,
        "num_waiting_reqs": 0,
        "kv_cache_usage": 0.0,
        "prefix_cache_stats": cache,
    }
    if version >= "0.20":
        made["num_skipped_waiting_reqs"] = 0
    return SimpleNamespace(**(made | values))


def iteration(version: str = "0.32", **values: Any) -> SimpleNamespace:
    """IterationStats."""
    made: dict[str, Any] = {
        "iteration_timestamp": 1_800_000_000.0,
        "num_generation_tokens": 0,
        "num_prompt_tokens": 0,
        "num_preempted_reqs": 0,
        "finished_requests": [],
        "time_to_first_tokens_iter": [],
        "inter_token_latencies_iter": [],
    }
    if version >= "0.16":
        made["prompt_token_stats"] = SimpleNamespace(total=0)
    return SimpleNamespace(**(made | values))


def finished(version: str = "0.32", **values: Any) -> SimpleNamespace:
    """FinishedRequestStats."""
    made: dict[str, Any] = {
        "e2e_latency": 1.0,
        "num_prompt_tokens": 10,
        "num_generation_tokens": 20,
        "queued_time": 0.1,
        "prefill_time": 0.2,
        "decode_time": 0.7,
    }
    if version >= "0.32":
        made |= {"request_id": "cmpl-1", "num_preemptions": 0}
    return SimpleNamespace(**(made | values))
