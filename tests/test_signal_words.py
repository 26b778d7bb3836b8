"""Values in words: no more exact than the histogram they come from."""

from __future__ import annotations

import pytest

from responder.signal_words import summary, words_for


@pytest.mark.parametrize(
    ("signal", "value", "words"),
    [
        ("ttft_p99", 2.2, "between 1 s and 2.5 s"),
        ("ttft_p99", 0.0004, "at most 0.001 s"),
        ("queue_time_p99", 0.02, "at most 0.3 s"),
        ("ttft_p99", 2560.0, "more than 2,560 s"),
        ("ttft_mean", 2.234, "2.23 s"),
        ("kv_usage", 0.978, "97.8 %"),
        ("waiting", 2158.0, "2,158 requests"),
        ("generation_rate", 1172.4, "1,172 tokens/s"),
        ("prompt_tokens_p99", 900.0, "between 500 tokens and 1,000 tokens"),
        ("ttft_p99", None, "not known"),
        ("of_my_own", 3.0, "3"),
    ],
)
def test_words(signal: str, value: float | None, words: str) -> None:
    """A quantile says its bucket, a mean or a gauge its value."""
    assert words_for(signal, value) == words


@pytest.mark.parametrize(
    ("template", "signal", "value", "limit", "says"),
    [
        ("p99 is {{ $value | humanizeDuration }}", "ttft_p99", 2.2, 0.8, "p99 is between 1 s and 2.5 s (limit 0.8 s)"),
        ("{{ $value }} requests wait", "waiting", 12.0, 5.0, "12 requests wait (limit 5 requests)"),
        ("{{ $value | humanizePercentage }} fail", "error_share", 0.5, 0.05, "50 % fail (limit 5 %)"),
        ("{{ $value }} in flight", "in_flight", 4.0, 0.0, "4 in flight"),
        ("engine {{ $labels.engine }} of {{$labels.model_name}}", "up", 0.0, 1.0, "engine 1 of "),
        ("nothing to fill in", "up", None, 1.0, "nothing to fill in"),
        ("is {{ $value }}", "waiting", None, 5.0, "is not known (limit 5 requests)"),
    ],
)
def test_summary(template: str, signal: str, value: float | None, limit: float, says: str) -> None:
    """One annotation serves Prometheus and us; ours says the bucket and the limit of this target."""
    assert summary(template, signal, value, limit, {"engine": "1"}) == says
