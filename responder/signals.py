"""Which metric says it, in which vLLM version, and how precisely? The one alias table (vLLM 0.6 to 0.33).

A *family* is one quantity a server exposes, under whatever names the versions gave it (newest first). A *signal* is
what rules and playbooks speak of; `rules/signals.yaml` computes it from families. Pure data and look-ups.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter", "histogram", "info"]
Aggregate = Literal["sum", "max", "avg"]
Version = tuple[int, ...]


class Alias(NamedTuple):
    """One name a family has had; versions are inclusive, empty means 'as far as the table reaches'."""

    metric: str
    since: str = ""
    until: str = ""


class Family(NamedTuple):
    """One quantity: its names by version, newest first, and how to read it."""

    kind: Kind
    unit: str
    says: str
    names: tuple[Alias, ...]
    aggregate: Aggregate = "sum"
    """How values of several engines (or GPUs) become one of the server."""
    edges: tuple[float, ...] = ()
    """Upper bucket edges of a histogram without +Inf, as stock servers have them."""


def _one_two_five(top: int) -> tuple[float, ...]:
    """vLLM's 1-2-5 series for token counts; it is cut at max_model_len, which the table cannot know."""
    return tuple(float(m * 10**e) for e in range(9) for m in (1, 2, 5) if m * 10**e <= top)


TTFT_EDGES = (.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1., 2.5, 5., 7.5, 10., 20., 40., 80., 160., 640.,
              2560.)  # fmt: skip
ITL_EDGES = (.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1., 2.5, 5., 7.5, 10., 20., 40., 80.)  # fmt: skip
REQUEST_EDGES = (.3, .5, .8, 1., 1.5, 2., 2.5, 5., 10., 15., 20., 30., 40., 50., 60., 120., 240., 480., 960., 1920.,
                 7680.)  # fmt: skip
STEP_EDGES = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)
TOKEN_EDGES = _one_two_five(1_000_000)
HTTP_EDGES = (.01, .025, .05, .075, .1, .25, .5, .75, 1., 1.5, 2., 2.5, 3., 3.5, 4., 4.5, 5., 7.5, 10., 30.,
              60.)  # fmt: skip


def _gauge(unit: str, says: str, *names: Alias, aggregate: Aggregate = "sum") -> Family:
    return Family("gauge", unit, says, names, aggregate)


def _counter(unit: str, says: str, *names: Alias) -> Family:
    return Family("counter", unit, says, names)


def _histogram(unit: str, says: str, edges: tuple[float, ...], *names: Alias) -> Family:
    return Family("histogram", unit, says, names, "sum", edges)


FAMILIES: dict[str, Family] = {
    # scheduler
    "running": _gauge("requests", "requests in the running batch", Alias("vllm:num_requests_running")),
    "waiting": _gauge("requests", "requests waiting for a place", Alias("vllm:num_requests_waiting")),
    "waiting_by_reason": _gauge("requests", "waiting requests by reason",
                                Alias("vllm:num_requests_waiting_by_reason", "0.20")),
    "swapped": _gauge("requests", "requests swapped to CPU memory", Alias("vllm:num_requests_swapped", "", "0.9.0")),
    "kv_usage": _gauge("share", "share of the KV cache in use", Alias("vllm:kv_cache_usage_perc", "0.9.2"),
                       Alias("vllm:gpu_cache_usage_perc", "", "0.11.2"), aggregate="max"),
    "cpu_kv_usage": _gauge("share", "share of the CPU KV cache in use",
                           Alias("vllm:cpu_cache_usage_perc", "", "0.9.0"), aggregate="max"),
    "preemptions": _counter("preemptions", "requests thrown out of the batch for lack of KV blocks",
                            Alias("vllm:num_preemptions_total")),
    "sleep_state": _gauge("state", "engine put to sleep", Alias("vllm:engine_sleep_state", "0.11.1"),
                          aggregate="max"),
    "cache_config": Family("info", "", "KV cache configuration in labels",
                           (Alias("vllm:cache_config_info", "0.6.6"),), "max"),
    "lora": Family("info", "", "LoRA adapters in labels", (Alias("vllm:lora_requests_info"),), "max"),
    # tokens and steps
    "prompt_tokens": _counter("tokens", "prompt tokens, cached ones included", Alias("vllm:prompt_tokens_total")),
    "prompt_tokens_by_source": _counter("tokens", "prompt tokens by where they came from",
                                        Alias("vllm:prompt_tokens_by_source_total", "0.16")),
    "prompt_tokens_cached": _counter("tokens", "prompt tokens found in a cache",
                                     Alias("vllm:prompt_tokens_cached_total", "0.16")),
    "generation_tokens": _counter("tokens", "generated tokens", Alias("vllm:generation_tokens_total")),
    "iteration_tokens": _histogram("tokens", "tokens per engine step", STEP_EDGES,
                                   Alias("vllm:iteration_tokens_total", "0.8.5")),
    "avg_generation_throughput": _gauge("tokens/s", "generated tokens per second, by the server's own reckoning",
                                        Alias("vllm:avg_generation_throughput_toks_per_s", "", "0.7")),
    "avg_prompt_throughput": _gauge("tokens/s", "prompt tokens per second, by the server's own reckoning",
                                    Alias("vllm:avg_prompt_throughput_toks_per_s", "", "0.7")),
    # caches
    "prefix_queries": _counter("tokens", "prompt tokens looked up in the prefix cache",
                               Alias("vllm:prefix_cache_queries_total", "0.9.2"),
                               Alias("vllm:gpu_prefix_cache_queries_total", "", "0.11.2")),
    "prefix_hits": _counter("tokens", "prompt tokens found in the prefix cache",
                            Alias("vllm:prefix_cache_hits_total", "0.9.2"),
                            Alias("vllm:gpu_prefix_cache_hits_total", "", "0.11.2")),
    "prefix_hit_gauge": _gauge("share", "prefix cache hit rate, V0 engine",
                               Alias("vllm:gpu_prefix_cache_hit_rate", "", "0.9.0"), aggregate="avg"),
    "external_prefix_queries": _counter("tokens", "tokens looked up in the KV connector",
                                        Alias("vllm:external_prefix_cache_queries_total", "0.11.1")),
    "external_prefix_hits": _counter("tokens", "tokens found in the KV connector",
                                     Alias("vllm:external_prefix_cache_hits_total", "0.11.1")),
    # latency
    "ttft": _histogram("s", "time to first token", TTFT_EDGES, Alias("vllm:time_to_first_token_seconds")),
    "itl": _histogram("s", "time between two tokens", ITL_EDGES, Alias("vllm:inter_token_latency_seconds", "0.10.2"),
                      Alias("vllm:time_per_output_token_seconds", "", "0.14")),
    "tpot": _histogram("s", "mean time per token of a finished request", ITL_EDGES,
                       Alias("vllm:request_time_per_output_token_seconds", "0.11.0")),
    "e2e": _histogram("s", "time from arrival to the last token", REQUEST_EDGES,
                      Alias("vllm:e2e_request_latency_seconds")),
    "queue_time": _histogram("s", "time a finished request had waited", REQUEST_EDGES,
                             Alias("vllm:request_queue_time_seconds"),
                             Alias("vllm:time_in_queue_requests", "", "0.9.0")),
    "inference_time": _histogram("s", "time a finished request was running", REQUEST_EDGES,
                                 Alias("vllm:request_inference_time_seconds")),
    "prefill_time": _histogram("s", "prefill time of a finished request", REQUEST_EDGES,
                               Alias("vllm:request_prefill_time_seconds")),
    "decode_time": _histogram("s", "decode time of a finished request", REQUEST_EDGES,
                              Alias("vllm:request_decode_time_seconds")),
    # requests
    "request_prompt_tokens": _histogram("tokens", "prompt length of a finished request", TOKEN_EDGES,
                                        Alias("vllm:request_prompt_tokens")),
    "request_generation_tokens": _histogram("tokens", "answer length of a finished request", TOKEN_EDGES,
                                            Alias("vllm:request_generation_tokens")),
    "request_prefill_computed": _histogram("tokens", "prompt tokens computed, without cached ones", TOKEN_EDGES,
                                           Alias("vllm:request_prefill_kv_computed_tokens", "0.13")),
    "request_preemptions": _histogram("preemptions", "how often a finished request was preempted",
                                      (1., 2., 3., 4., 5., 10., 20.),
                                      Alias("vllm:request_num_preemptions", "0.30")),
    "finished": _counter("requests", "requests finished, by reason", Alias("vllm:request_success_total")),
    "corrupted": _counter("requests", "requests with NaN logits", Alias("vllm:corrupted_requests_total", "0.11.1")),
    "rejections": _counter("requests", "requests refused because the queue is full",
                           Alias("vllm:admission_rejections_total", "0.32")),
    # speculation
    "spec_draft_tokens": _counter("tokens", "speculated tokens",
                                  Alias("vllm:spec_decode_num_draft_tokens_total")),
    "spec_accepted_tokens": _counter("tokens", "speculated tokens that were right",
                                     Alias("vllm:spec_decode_num_accepted_tokens_total")),
    "spec_acceptance_gauge": _gauge("share", "share of speculated tokens accepted, V0 engine",
                                    Alias("vllm:spec_decode_draft_acceptance_rate", "", "0.9.2"), aggregate="avg"),
    # the API server
    "http_requests": _counter("requests", "HTTP responses by handler and status", Alias("http_requests_total")),
    "http_duration": _histogram("s", "HTTP response time, all handlers", HTTP_EDGES,
                                Alias("http_request_duration_highr_seconds")),
    "process_start_time": _gauge("unix s", "start of the API server", Alias("process_start_time_seconds"),
                                 aggregate="max"),
    "open_fds": _gauge("files", "open files of the API server", Alias("process_open_fds")),
    "process_cpu": _counter("s", "CPU time of the API server", Alias("process_cpu_seconds_total")),
    "memory_rss": _gauge("bytes", "memory of the API server", Alias("process_resident_memory_bytes")),
    "up": _gauge("", "last scrape worked", Alias("up"), aggregate="max"),
    "scrape_seconds": _gauge("s", "length of the last scrape", Alias("scrape_duration_seconds"), aggregate="max"),
    # the accelerator, from NVIDIA's exporter
    "dcgm_gpu_util": _gauge("%", "GPU utilisation", Alias("DCGM_FI_DEV_GPU_UTIL"), aggregate="avg"),
    "dcgm_gpu_power": _gauge("W", "GPU power", Alias("DCGM_FI_DEV_POWER_USAGE"), aggregate="avg"),
    "dcgm_mem_util": _gauge("%", "GPU memory-controller activity", Alias("DCGM_FI_DEV_MEM_COPY_UTIL"),
                            aggregate="avg"),
}  # fmt: skip


def _version(text: str) -> Version:
    """'0.9.2' -> (0, 9, 2); what follows the numbers ('rc1', '+cpu') is dropped."""
    return tuple(int(part) for part in re.match(r"[\d.]*", text)[0].split(".") if part)  # type: ignore[index]


def _alive(alias: Alias, version: Version) -> bool:
    """Whether the version has the name: '0.14' as an end includes 0.14.1."""
    if alias.since and version < _version(alias.since):
        return False
    end = _version(alias.until)
    return not end or version[: len(end)] <= end


def names_of(family: str, version: str | None = None) -> tuple[str, ...]:
    """Metric names of a family, newest first; with a version only those it exposes (empty: it has none)."""
    aliases = FAMILIES[family].names
    if version is None:
        return tuple(alias.metric for alias in aliases)
    return tuple(alias.metric for alias in aliases if _alive(alias, _version(version)))


_BY_METRIC = {alias.metric: family for family, row in FAMILIES.items() for alias in row.names}


def family_of(metric: str) -> str | None:
    """The family a sample's name belongs to, histogram suffixes included; None when the table has none."""
    if metric in _BY_METRIC:
        return _BY_METRIC[metric]
    bare = re.sub(r"_(bucket|sum|count)$", "", metric)
    found = _BY_METRIC.get(bare)
    return found if found is not None and FAMILIES[found].kind == "histogram" else None


def present_name(family: str, exposed: Iterable[str]) -> str | None:
    """Which of the family's names this exposition uses (`exposed`: sample names, suffixes allowed), newest first."""
    there = {metric for name in exposed for metric in (name, re.sub(r"_(bucket|sum|count)$", "", name))}
    return next((name for name in names_of(family) if name in there), None)


def bucket_of(family: str, value: float, edges: tuple[float, ...] = ()) -> tuple[float, float] | None:
    """The bucket (lower, upper] a quantile of this family was interpolated in; None for anything not a histogram.

    `edges` replaces the stock ones (`--custom-histogram-buckets`). A quantile at or beyond the last edge lies
    somewhere above it: the upper end is infinity.
    """
    row = FAMILIES.get(family)
    steps = edges or (row.edges if row else ())
    if not steps or value != value or value < 0:
        return None
    if value >= steps[-1]:
        return steps[-1], float("inf")
    at = bisect_left(steps, value)
    return (steps[at - 1] if at else 0.0), steps[at]
