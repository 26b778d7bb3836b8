"""What is a signal's value in words, without claiming more than its histogram knows?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from responder.report_words import one_of
from responder.signals import bucket_of


class About(NamedTuple):
    """A signal as people read it. `family` is set where the value was interpolated inside a bucket of that family."""

    unit: str
    says: str
    family: str = ""


SIGNALS: dict[str, About] = {
    "up": About("", "scrapes work"),
    "scrape_seconds": About("s", "time a scrape took"),
    "scrape_tail_s": About("s", "what one scrape in ten took at least, over a minute"),
    "scrape_tail_ratio": About("times", "that against the middle one"),
    "scrape_answered_ratio": About("times", "mean length of answered scrapes against the middle one"),
    "scrape_grown": About("times", "mean length of scrapes, against the last hour"),
    "scrape_elsewhere": About("share", "of what else Prometheus scrapes, what it waits for as well"),
    "running": About("requests", "requests running"),
    "waiting": About("requests", "requests waiting"),
    "waiting_deferred": About("requests", "requests waiting for something other than capacity"),
    "in_flight": About("requests", "requests in flight"),
    "queue_seconds": About("s", "work in the queue"),
    "queue_joined": About("requests", "requests that joined the queue in 20 s, or gave up"),
    "kv_usage": About("share", "KV cache in use"),
    "kv_blocks": About("", "KV cache configuration"),
    "preemption_rate": About("preemptions/s", "preemptions"),
    "preemptions": About("preemptions", "preemptions in two minutes"),
    "preemptions_lately": About("preemptions", "preemptions in 45 s"),
    "finish_rate": About("requests/s", "requests finished"),
    "finish_minute_rate": About("requests/s", "requests finished, over a minute"),
    "arrival_rate": About("requests/s", "requests arriving"),
    "rejection_rate": About("requests/s", "requests turned away"),
    "prompt_token_rate": About("tokens/s", "prompt tokens"),
    "prompt_computed_rate": About("tokens/s", "prompt tokens computed"),
    "generation_rate": About("tokens/s", "tokens generated"),
    "generation_minute_rate": About("tokens/s", "tokens generated, over a minute"),
    "generation_share": About("share", "throughput against what is expected"),
    "iteration_rate": About("steps/s", "engine steps"),
    "tokens_per_iteration": About("tokens", "tokens per engine step"),
    "engine_busy": About("share", "time spent in decode steps"),
    "occupancy": About("share", "batch and time in steps against the usual"),
    "spec_acceptance": About("share", "speculated tokens accepted"),
    "progress": About("", "movement of the engine"),
    "progress_total": About("", "movement of the engine since it started"),
    "drained": About("", "nothing left to do"),
    "restarts": About("restarts", "restarts in a minute"),
    "recent_resets": About("restarts", "restarts in ten minutes"),
    "fresh_resets": About("restarts", "restarts in three minutes"),
    "process_start_time": About("unix s", "start of the API server"),
    "open_fds": About("files", "open files of the API server"),
    "open_fds_growth": About("files", "growth of open files in 20 s"),
    "api_server_cpu": About("cores", "CPU of the API server"),
    "memory_rss": About("bytes", "memory of the API server"),
    "sleep_state": About("", "engine asleep"),
    "ttft_p50": About("s", "median time to first token", "ttft"),
    "ttft_p99": About("s", "99th percentile of the time to first token", "ttft"),
    "ttft_mean": About("s", "mean time to first token"),
    "ttft_samples": About("requests", "first tokens in 10 s"),
    "came_samples": About("requests", "requests that came in half a minute"),
    "came_slow_samples": About("requests", "requests that came in a minute"),
    "ttft_slow_mean": About("s", "mean time to first token over a minute"),
    "ttft_slow_p50": About("s", "median time to first token over a minute", "ttft"),
    "ttft_slow_samples": About("requests", "first tokens in a minute"),
    "ttft_tail_p99": About("s", "99th percentile of the time to first token over two minutes", "ttft"),
    "ttft_ratio": About("times", "time to first token against the last hour"),
    "ttft_longer_s": About("s", "time to first token beyond that of the last hour"),
    "ttft_slow_grown": About("times", "a minute's time to first token against the last hour"),
    "ttft_grown": About("times", "time to first token, or first tokens after 2.5 s, against the last hour"),
    "ttft_late_grown": About("times", "first tokens after a second against the last hour"),
    "ttft_tail_grown": About("times", "first tokens after a second in two minutes against the last hour"),
    "ttft_recent_p99": About("s", "99th percentile of the time to first token over half a minute", "ttft"),
    "ttft_recent_tail_ratio": About(
        "times", "99th percentile of the time to first token against its median, in half a minute"
    ),
    "ttft_recent_mean": About("s", "mean time to first token over half a minute"),
    "ttft_recent_ratio": About("times", "mean time to first token over half a minute against the last hour"),
    "ttft_more_written": About("times", "tokens against the last hour, while first tokens come in 0.5 s"),
    "ttft_usual_samples": About("requests", "first tokens in the last hour"),
    "ttft_known_samples": About("requests", "first tokens of which it is known what is usual"),
    "ttft_usual_scrape_samples": About("scrapes", "scrapes with first tokens in the last hour"),
    "answered_ratio": About("times", "answers of half a minute, at most, against the last hour"),
    "request_rate_ratio": About("times", "requests of half a minute against the last hour"),
    "prompt_rate_ratio": About("times", "prompt tokens of half a minute against the last hour"),
    "ttft_recent_samples": About("requests", "first tokens in half a minute"),
    "ttft_tail_ratio": About("times", "99th percentile of the time to first token against its median"),
    "ttft_tail_samples": About("requests", "first tokens in two minutes"),
    "itl_p50": About("s", "median time between tokens", "itl"),
    "itl_p99": About("s", "99th percentile of the time between tokens", "itl"),
    "itl_mean": About("s", "mean time between tokens"),
    "itl_samples": About("tokens", "token gaps in 10 s"),
    "itl_recent_p50": About("s", "median time between tokens over half a minute", "itl"),
    "itl_recent_mean": About("s", "mean time between tokens over half a minute"),
    "itl_recent_ratio": About("times", "mean time between tokens over half a minute against the last hour"),
    "itl_longer_s": About("s", "how much longer than at the last hour's pace an answer took in half a minute"),
    "itl_before_ratio": About(
        "times", "mean time between tokens over half a minute against the hour before its last 3 min"
    ),
    "itl_few_prompts_ratio": About("times", "prompts of 2 min against the last hour, while fewer than four write"),
    "itl_recent_samples": About("tokens", "token gaps in half a minute"),
    "itl_long_gaps": About("tokens", "tokens that came over a second after the one before"),
    "itl_late_share": About("share", "tokens over 0.1 s after the one before, in half a minute"),
    "itl_late_growth": About("times", "tokens over 0.1 s after the one before, against the last hour"),
    "ttft_outside_s": About("s", "TTFT less the time in the queue and in prefill, mean of half a minute"),
    "api_server_cpu_recent": About("cores", "CPU of the API server over half a minute"),
    "scrape_mid_s": About("s", "length of the middle scrape of a minute"),
    "itl_late_recur": About("tokens", "tokens over 0.1 s after the one before, in each of two stretches of 45 s"),
    "itl_late_recur_grown": About("times", "tokens over 0.1 s of 90 s against the last hour"),
    "itl_noticed": About("times", "what readers notice of late tokens, the nearest of three limits"),
    "itl_seen_recur": About("tokens", "tokens over 0.2 s after the one before, in each of two stretches of 45 s"),
    "itl_late_beyond": About("times", "wait for tokens over 0.1 s against reading what is beyond 1.3 times as much"),
    "itl_halts_beyond": About("times", "wait for tokens over 0.3 s against reading what is beyond 1.3 times as much"),
    "itl_halted_s": About("s", "how long answers stood still in 90 s, at least"),
    "itl_halts_recur": About("tokens", "tokens over 0.3 s after the one before, in each of two stretches of 45 s"),
    "itl_halts_recur_grown": About("times", "tokens over 0.3 s of 90 s against the last hour"),
    "itl_short_gaps": About("tokens", "tokens over 0.4 s after the one before, in 30 s"),
    "itl_gaps_recur": About("tokens", "tokens over a second after the one before, in each of two stretches of 45 s"),
    "itl_gaps_recur_grown": About("times", "tokens over a second of 90 s against the last hour"),
    "itl_stops_apart": About("turns", "turns between 30 s with and without a token over 2.5 s, in 7 min"),
    "itl_stops_apart_grown": About("times", "the same against the last hour"),
    "asked_ratio": About("times", "requests, prompt or answered tokens of 90 s against the last hour, the largest"),
    "itl_ratio": About("times", "time between tokens against the last hour"),
    "itl_high_grown": About(
        "times", "90 s's time between tokens against the last hour, where its p99 is over 0.2 s as ever"
    ),
    "itl_minutes_grown": About("times", "time between tokens against the slower minutes of the last hour"),
    "itl_grown": About("times", "half a minute's time between tokens against the last hour, more work taken off"),
    "itl_gaps_grown": About("times", "tokens over a second after the one before, against the last hour"),
    "waiting_grown": About("times", "waiting requests against the last hour"),
    "unfinished_grown": About("times", "requests clients gave up, against the last hour"),
    "unfinished_worst_ratio": About("times", "a minute's share of abandoned answers, against the worst of ten before"),
    "itl_usual_samples": About("tokens", "token gaps in the last hour"),
    "itl_recent_streams_samples": About("requests", "answers in half a minute"),
    "token_rate_ratio": About("times", "tokens per second against the last hour"),
    "token_rate_alike_ratio": About("times", "tokens per second of half a minute that more of the same brought"),
    "token_rate_recent_ratio": About("times", "tokens per second of half a minute against the last hour"),
    "queue_time_p99": About("s", "99th percentile of the time in the queue", "queue_time"),
    "queue_time_mean": About("s", "mean time in the queue"),
    "prefill_time_mean": About("s", "mean prefill time"),
    "prefill_time_p99": About("s", "99th percentile of the prefill time", "prefill_time"),
    "prefill_time_longest": About("s", "longest prefill time, by its bucket", "prefill_time"),
    "decode_time_mean": About("s", "mean decode time of a request"),
    "e2e_p50": About("s", "median request time", "e2e"),
    "e2e_p99": About("s", "99th percentile of the request time", "e2e"),
    "e2e_samples": About("requests", "requests finished in 20 s"),
    "prompt_tokens_mean": About("tokens", "mean prompt length"),
    "prompt_tokens_finished": About("tokens", "prompt length of finished requests"),
    "prompt_tokens_p50": About("tokens", "prompt length, median"),
    "prompt_tokens_longest": About("tokens", "longest prompt, by its bucket", "request_prompt_tokens"),
    "prompt_tokens_p99": About("tokens", "99th percentile of the prompt length", "request_prompt_tokens"),
    "generation_tokens_mean": About("tokens", "mean answer length"),
    "prefix_hit_rate": About("share", "prefix cache hit rate"),
    "prefix_query_rate": About("tokens/s", "prompt tokens looked up in the prefix cache"),
    "prefix_query_samples": About("tokens", "prompt tokens looked up in 10 s"),
    "prefix_hit_usual": About("share", "prefix cache hit rate of the last hour"),
    "prefix_usual_samples": About("tokens", "prompt tokens looked up in the last hour"),
    "prefix_hit_flow": About("times usual", "tokens from the prefix cache against the last hour"),
    "prefix_hit_share": About("share", "prefix cache hit rate against the last hour"),
    "error_rate": About("requests/s", "requests the engine gave up"),
    "abort_rate": About("requests/s", "requests aborted"),
    "error_share": About("share", "requests that fail"),
    "error_samples": About("requests", "requests ended in 30 s"),
    "repetition_rate": About("requests/s", "answers cut for repetition"),
    "repetition_share": About("share", "answers cut for repetition"),
    "finish_samples": About("requests", "requests finished in 30 s"),
    "http_4xx_rate": About("requests/s", "4xx answers"),
    "http_4xx_share": About("share", "4xx among the answers"),
    "http_5xx_rate": About("requests/s", "5xx answers"),
    "http_samples": About("requests", "HTTP answers in 30 s"),
    "http_done_rate": About("requests/s", "completed HTTP answers"),
    "http_done_samples": About("requests", "completed HTTP answers in 30 s"),
    "unfinished_rate": About("requests/s", "requests abandoned by clients"),
    "unfinished_slow_share": About("share", "requests abandoned by clients, over a minute"),
    "http_done_slow_samples": About("requests", "completed HTTP answers in a minute"),
    "unfinished_share": About("share", "requests abandoned by clients"),
    "finished_kept": About("times", "what finishes of what did in the last hour, or of 75 % of what is asked"),
    "profile_starts": About("profiles", "profiles begun in ten minutes"),
    "profiles_open": About("profiles", "profiles begun and not ended"),
    "pauses_open": About("calls", "pauses not ended"),
    "corrupted_rate": About("requests/s", "requests with NaN logits"),
    "dcgm_gpu_util": About("%", "GPU utilisation"),
    "dcgm_gpu_power": About("W", "GPU power"),
    "dcgm_mem_util": About("%", "GPU memory-controller activity"),
    "responder_probe_reachable": About("", "/health answers"),
    "responder_probe_refused": About("", "connection refused"),
    "responder_probe_health_status": About("", "HTTP status of /health"),
    "responder_probe_health_seconds": About("s", "time /health took"),
    "responder_probe_canary_stuck_seconds": About("s", "time a one-token request has had no answer"),
    "responder_probe_canary_seconds": About("s", "time the last one-token request took"),
    "responder_probe_connections": About("connections", "open connections"),
    "responder_probe_server_load": About("requests", "requests inside, by /load"),
    "responder_probe_flat_seconds": About("s", "time without an engine step"),
    "responder_probe_unseen": About("", "Prometheus answers and has no vLLM metrics of it"),
    "responder_probe_process_gone": About("", "a process of the server has ended"),
    "responder_expected_generation_rate": About("tokens/s", "generated tokens expected"),
    "responder_canary_token_match": About("share", "tokens of the pinned canaries that are as recorded"),
    "responder_canary_logprob_shift": About("times", "shift of the canaries' log-probabilities against healthy noise"),
    "responder_canary_nan": About("", "NaN in the canaries' log-probabilities"),
    "responder_canary_repeats": About("", "a canary repeats one token"),
    "responder_canary_streak": About("probes", "wrong canary probes in a row"),
    "responder_canary_changed": About("", "the server is another than the canaries were recorded on"),
    "responder_canary_probe_seconds": About("s", "time one canary probe took"),
    "responder_log_waiting": About("requests", "requests waiting, by the log"),
    "responder_log_running": About("requests", "requests running, by the log"),
    "responder_log_kv_usage": About("share", "KV cache in use, by the log"),
    "responder_log_generation_rate": About("tokens/s", "tokens generated, by the log"),
    "responder_log_silent_seconds": About("s", "time without a stats line"),
}
"""Every signal a rule may compare."""

_VALUE = re.compile(r"\{\{-?\s*\$value\s*(?:\|[^}]*)?\}\}")
_LABEL = re.compile(r"\{\{-?\s*\$labels\.(\w+)\s*(?:\|[^}]*)?\}\}")


def number(value: float, unit: str = "") -> str:
    """A value as it is said aloud: '2.5 s', '96 %', '1,234 tokens/s'."""
    if unit.split(" ")[0] == "share":
        return f"{number(value * 100)} %"
    text = f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"
    return f"{text} {one_of(unit) if value == 1 else unit}".rstrip()


def words_for(signal: str, value: float | None, unit: str | None = None) -> str:
    """The value of a signal in words; a quantile says the bucket it lies in: 'between 1 s and 2.5 s'."""
    about = SIGNALS.get(signal, About(unit or "", signal))
    if value is None:
        return "not known"
    bucket = bucket_of(about.family, value) if about.family else None
    if bucket is None:
        return number(value, about.unit if unit is None else unit)
    lower, upper = bucket
    if upper == float("inf"):
        return f"more than {number(lower, about.unit)}"
    if lower == 0:
        return f"at most {number(upper, about.unit)}"
    return f"between {number(lower, about.unit)} and {number(upper, about.unit)}"


def summary(template: str, signal: str, value: float | None, threshold: float | None, labels: Mapping[str, str]) -> str:
    """A rule's `summary` annotation (Prometheus' template) with this value, its bucket and the limit it passed."""
    about = SIGNALS.get(signal, About("", signal))
    counted = about.family or about.unit in ("s", "share")
    said = words_for(signal, value, None if counted else "")
    text = _LABEL.sub(lambda got: labels.get(got[1], ""), template)
    if _VALUE.search(text) is None or not threshold:
        return _VALUE.sub(lambda _: said, text)
    return f"{_VALUE.sub(lambda _: said, text)} (limit {number(threshold, about.unit)})"
