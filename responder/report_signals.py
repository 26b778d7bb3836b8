"""What do people call a signal? The names of recording rules in the words of the field."""

from __future__ import annotations

from responder.report_words import plain

SIGNAL_WORDS = {
    "up": "Target reachable by Prometheus",
    "running": "Requests running",
    "waiting": "Requests waiting",
    "waiting_deferred": "Requests waiting, deferred",
    "in_flight": "Requests in flight",
    "kv_usage": "KV cache in use",
    "preemption_rate": "Preemptions",
    "prompt_token_rate": "Prompt tokens",
    "prompt_computed_rate": "Prompt tokens computed",
    "generation_rate": "Tokens generated",
    "iteration_rate": "Engine steps",
    "tokens_per_iteration": "Tokens per engine step",
    "finish_rate": "Requests finished",
    "arrival_rate": "Requests arriving",
    "queue_time_p99": "Queue time p99",
    "queue_time_mean": "Queue time, mean",
    "prefill_time_mean": "Prefill time, mean",
    "prefill_time_p99": "Prefill time p99",
    "decode_time_mean": "Decode time, mean",
    "prompt_tokens_mean": "Prompt length, mean",
    "prompt_tokens_p99": "Prompt length p99",
    "generation_tokens_mean": "Answer length, mean",
    "prefix_hit_rate": "Prefix-cache hit rate",
    "error_rate": "Requests failed",
    "abort_rate": "Requests aborted",
    "http_4xx_rate": "HTTP 4xx answers",
    "http_5xx_rate": "HTTP 5xx answers",
    "http_done_rate": "HTTP 2xx answers",
    "unfinished_rate": "Clients that went away",
    "corrupted_rate": "Corrupted requests",
    "rejection_rate": "Requests rejected",
    "repetition_rate": "Requests ended for repetition",
    "spec_acceptance": "Draft tokens accepted",
    "open_fds": "Open files",
    "api_server_cpu": "API server CPU",
    "memory_rss": "Memory of the server",
    "kv_blocks": "KV cache blocks",
    "dcgm_gpu_util": "GPU utilisation",
    "dcgm_gpu_power": "GPU power",
    "dcgm_mem_util": "GPU memory activity",
}
FAMILIES = {"ttft": "TTFT", "itl": "Inter-token latency", "e2e": "End-to-end latency"}
ASPECTS = {"mean": ", mean", "samples": ", samples"}


def signal_words(signal: str) -> str:
    """'ttft_p99' as 'TTFT p99'; a signal nobody named is its own name with spaces."""
    if signal in SIGNAL_WORDS:
        return SIGNAL_WORDS[signal]
    family, _, aspect = signal.partition("_")
    if family in FAMILIES and aspect:
        return FAMILIES[family] + ASPECTS.get(aspect, f" {plain(aspect, 20)}")
    return plain(signal, 60).replace("_", " ")
