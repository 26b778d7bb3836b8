"""Do values, times and foreign text read right at 3 a.m.?"""

import math
import re

import pytest

from responder.model import Fact, Incident, Symptom
from responder.report_signals import signal_words
from responder.report_words import (
    clean,
    code,
    duration,
    honest,
    limit,
    measured,
    number,
    one_of,
    percent,
    rfc3339,
    trouble,
)
from responder.words import language, speaking
from tests.hostile import HOSTILE


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (0.0000021, "2.1 µs"), (0.0004, "400 µs"), (0.34, "340 ms"), (0.9997, "1 s"), (1.31, "1.3 s"),
        (9.97, "10 s"), (42.4, "42 s"), (59.7, "1 min"), (61, "1 min 1 s"), (250, "4 min 10 s"), (3600, "1 h"),
        (7500, "2 h 5 min"), (3599.7, "1 h"), (100_000, "1 d 3 h"), (-3, "-3 s"), (math.nan, "unknown"),
    ],
)  # fmt: skip
def test_durations(seconds, words):
    """Two units at most, rounded the way people say it, never '60 s'."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.87, "share", "87 %"), (0.997, "share", "over 99 %"), (1.0, "share", "100 %"), (0.0, "share", "0 %"),
        (0.0004, "share", "under 1 %"), (0.004, "share", "0.4 %"), (12.0, "/s", "12/s"), (3.421, "/s", "3.42/s"),
        (15234, "", "15,234"), (910.4, "tokens/s", "910 tokens/s"), (2.9, "x", "2.9×"),
        (1610612736, "bytes", "1.5 GiB"), (67.2, "celsius", "67.2 °C"), (None, "s", "unknown"),
        (0.3, "share of usual", "30 % of usual"), (503, "HTTP status", "HTTP 503"), (0.0, "state", "0"),
        (True, "", "yes"), (False, "", "no"), (math.inf, "s",
        "unknown"), ("stopped", "", "stopped"), (1795144360.0, "unix", "2026-11-20 03:12:40 UTC"),
    ],
)  # fmt: skip
def test_values_with_units(value, unit, words):
    """What a fact's value and unit become; None is unknown, not zero."""
    assert measured(value, unit) == words


def test_a_ratio_is_said_as_one():
    """Ratios carry no unit of their own."""
    assert honest(Fact(name="metrics.waiting.ratio", value=2.9, step="metrics_window"), {}) == "2.9×"
    assert honest(Fact(name="siblings.waiting_ratio", value=4, step="siblings"), {}) == "4×"


def test_signals_have_names():
    """The field's words; an unknown signal keeps its own."""
    assert [signal_words(s) for s in ("kv_usage", "ttft_p99", "itl_mean", "my_signal")] == [
        "KV cache in use", "TTFT p99", "Inter-token latency, mean", "my signal"
    ]  # fmt: skip


def test_a_share_is_not_rounded_into_certainty():
    """99.6 % is not 100 %, and 0.05 % is not nothing."""
    assert percent(0.996) == "over 99 %"
    assert percent(0.0005) == "under 1 %"


def test_small_and_large_numbers():
    """Three digits that matter."""
    assert [number(v) for v in (0.000123, 0.0421, 1.3, 87.0, 123.4, 1e6, 1e18)] == [
        "0.000123", "0.0421", "1.3", "87", "123", "1,000,000", "1e+18"
    ]  # fmt: skip


def test_a_limit_is_not_rounded():
    """People compare it with what they configured."""
    assert limit(1.25, "s") == "1.25 s"
    assert limit(0.95, "share") == "95 %"


def test_times_round_to_the_millisecond():
    """Never 59.9999."""
    assert rfc3339(1795144359.9999) == "2026-11-20T03:12:40.000Z"
    assert rfc3339(None) is None


def test_a_quantile_is_said_as_its_bucket():
    """A histogram knows between which edges, not where."""
    now = Fact(name="metrics.ttft_p99.now", value=7.2, unit="s", step="metrics_window")
    bucket = Fact(name="metrics.ttft_p99.bucket", value="between 5 s and 7.5 s", step="metrics_window")
    assert honest(now, {bucket.name: bucket}) == "between 5 s and 7.5 s"
    assert honest(now, {}) == "about 7.2 s"
    mean = now.model_copy(update={"name": "metrics.ttft_mean.now"})
    assert honest(mean, {bucket.name: bucket}) == "7.2 s"


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_is_one_printable_line(text):
    """No control, no escape code, no direction change, no invisible character; code spans cannot be left."""
    line = clean(text, 300)
    assert len(line) <= 300
    assert line.isprintable()
    assert not set(line) & set("\u202e\u202c\u200b\ufeff")
    assert code(text).count("`") == 2


def test_surrogates_cannot_break_an_encoding():
    """Log bytes decoded with surrogateescape."""
    clean("a\udcffb").encode("utf-8")


def test_one_thing_is_said_as_one():
    """Also as a rate; a word that only ends in s stays."""
    assert [measured(1, unit) for unit in ("requests", "processes", "tokens/s", "GPUs")] == [
        "1 request", "1 process", "1 token/s", "1 GPU"
    ]  # fmt: skip
    assert measured(2, "tokens/s") == "2 tokens/s"
    assert measured(1, "times") == "1×"
    assert one_of("times") == "times"


def test_a_share_that_fell_is_said_in_points():
    """From 63 % to 61 % is two points; hardly any is no minus zero."""
    told = [
        honest(Fact(name="metrics.kv_usage.change", value=value, unit="share", step="a"), {})
        for value in (-0.02, 0.3, -0.9)
    ]
    assert told == ["-2 points", "+30 points", "-90 points"]
    assert percent(-0.001) == "0 %"


@pytest.mark.parametrize(
    ("alerts", "now", "was"),
    [
        (["VLLMClientAborts", "VLLMClientAbortsLowTraffic"], "clients leave before their answers are done",
         "clients left before their answers were done"),
        (["VLLMClientErrors"], "many requests refused as wrong (4xx)", "many requests refused as wrong (4xx)"),
        (["VLLMThroughputLow", "VLLMClientAborts"], "far less work is done than expected",
         "far less work was done than expected"),
        (["VLLMSleeping"], "far less work is done than expected", "far less work was done than expected"),
    ],
)  # fmt: skip
def test_what_was_seen_is_the_heading_where_the_class_is_no_word_for_it(alerts, now, was):
    """Alerts of another class besides do not matter."""
    symptoms = [
        Symptom(alert=alert, incident_class=kind, severity="warning", target="t", since=1.0, fired_at=2.0)
        for alert, kind in [*((alert, "low_throughput") for alert in alerts), ("VLLMITLHigh", "slow_decode")]
    ]
    incident = Incident(
        id="i", target="t", incident_class="low_throughput", severity="warning", onset_at=1.0, opened_at=2.0,
        symptoms=tuple(symptoms),
    )  # fmt: skip
    assert (trouble(incident), trouble(incident, over=True)) == (now, was)
    with speaking(language("zh")):
        assert not re.search("[a-z]{4}", trouble(incident))
