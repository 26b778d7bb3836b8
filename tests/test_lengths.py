"""Did all requests get longer, did a few, or did more of them come? A recorded giant first, then windows made for one
point each."""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from pathlib import Path

import pytest

from responder.lengths import (
    batch_by_arrivals,
    length_peak,
    long_prompt_reads,
    long_share,
    longest_prompts,
    prefill_between,
)
from responder.window import Window, decode

Row = Sequence[float | None]
INCIDENTS = Path(__file__).resolve().parent / "incidents"


def made(**signals: Row) -> Window:
    """A window on a 5-s grid from 0, thirty points long, with its onset at the twentieth."""
    rows = {name: tuple(row) for name, row in signals.items()}
    return Window(0.0, 5.0, 30, 100.0, 5.0, rows, asked=tuple(sorted(rows)))


def recorded(name: str) -> Window:
    found = decode(lzma.decompress((INCIDENTS / name / "raw" / "metrics_window" / "series.json.xz").read_bytes()))
    assert found is not None
    return found


def test_a_recorded_giant_now_and_then() -> None:
    """A real server, one request in twenty sixteen times as long as the longest of before, and moments without."""
    window = recorded("giant_prompt_rare")
    assert longest_prompts(window) == pytest.approx(16.8, abs=0.1)
    assert long_share(window) == pytest.approx(0.05, abs=0.02)
    assert prefill_between(window) == pytest.approx(1.7, abs=0.1)


def test_recorded_chats_that_grow() -> None:
    """Requests come 2.6 times as often, and would by themselves run in a third of the batch."""
    window = recorded("h200_growing_chats_over_prefill")
    assert batch_by_arrivals(window) == pytest.approx(0.3, abs=0.01)
    assert prefill_between(window) == pytest.approx(27.5, abs=0.2)
    truth = json.loads((INCIDENTS / "h200_growing_chats_over_prefill" / "truth.json").read_text())
    assert truth["cause"] == "long_prompt_blocking"


def test_a_giant_that_the_last_half_minute_does_not_hold() -> None:
    """It came in the first points since the onset, and was gone when somebody looked."""
    window = made(
        prompt_tokens_p99=[900.0] * 20 + [9000.0] * 3 + [900.0] * 7,
        prompt_tokens_mean=[200.0] * 20 + [600.0] * 3 + [200.0] * 7,
        prompt_computed_rate=[100.0] * 20 + [900.0] * 3 + [110.0] * 7,
    )
    assert longest_prompts(window) == pytest.approx(10.0)
    assert length_peak(window) == pytest.approx(3.0)
    assert prefill_between(window) == pytest.approx(1.1)


def test_one_giant_of_hundreds_is_in_no_percentile() -> None:
    """The last bucket that is not empty knows of it."""
    window = made(prompt_tokens_p99=[480.0] * 30, prompt_tokens_longest=[500.0] * 20 + [50_000.0] + [500.0] * 9)
    assert longest_prompts(window) == pytest.approx(100.0)


def test_between_two_giants_the_counter_moves_as_before() -> None:
    """A rate over a minute always holds one; the counter, in slices of ten seconds, stands between them."""
    usual = [5.0 * 100.0 * n for n in range(20)]
    giants = [usual[-1] + 500.0 * (n + 1) + 40_000.0 * (n // 4) for n in range(10)]
    window = made(prompt_computed_total=usual + giants, prompt_computed_rate=[100.0] * 20 + [2000.0] * 10)
    assert prefill_between(window) == pytest.approx(1.0)
    documents = [usual[-1] + 8000.0 * (n + 1) for n in range(10)]
    assert prefill_between(made(prompt_computed_total=usual + documents)) == pytest.approx(16.0)


def test_some_of_the_usual_time_may_hold_the_first_of_them() -> None:
    """Rates look back: the last points before an onset already show it, and do not count as usual."""
    assert longest_prompts(made(prompt_tokens_p99=[100.0] * 16 + [1000.0] * 14)) == pytest.approx(10.0)


def test_the_share_of_long_ones_is_in_the_mean() -> None:
    """Sixty requests a minute of which six have 10,000 tokens and the others 100."""
    window = made(
        prompt_tokens_p99=[200.0] * 20 + [10_000.0] * 10,
        prompt_tokens_mean=[100.0] * 30,
        prompt_token_rate=[100.0] * 20 + [1090.0] * 10,
        ttft_slow_samples=[60.0] * 30,
    )
    assert long_share(window) == pytest.approx(0.1)


def test_what_a_giant_takes_is_read_at_the_moments_that_know_one() -> None:
    """Of three moments with far longer prompts, and not of usual ones, nor of a single one at which two met."""
    lengths = [500.0] * 20 + [50_000.0, 500.0, 50_000.0, 500.0, 50_000.0] + [500.0] * 5
    took = [0.3] * 20 + [4.0, 0.3, 4.0, 0.3, 10.0] + [0.3] * 5
    assert long_prompt_reads(made(prompt_tokens_longest=lengths, prefill_time_p99=took)) == pytest.approx(4.0)
    dense = made(prompt_tokens_longest=lengths, prefill_time_p99=[0.3] * 30, prefill_time_longest=took)
    assert long_prompt_reads(dense) == pytest.approx(4.0)


def test_without_a_histogram_of_lengths_the_mean_says_when_a_giant_was_read() -> None:
    """A site may drop one of the two histograms."""
    window = made(prompt_tokens_mean=[100.0] * 20 + [900.0, 100.0] * 5, prefill_time_p99=[0.3] * 20 + [4.8, 0.3] * 5)
    assert long_prompt_reads(window) == pytest.approx(4.8)


def test_nothing_is_said_of_what_nobody_counts() -> None:
    """A site may drop the histogram of prompt lengths, and an idle server has no usual length."""
    window = made(prompt_tokens_mean=[None] * 20 + [100.0] * 10, prompt_computed_rate=[0.0] * 30, running=[0.0] * 30)
    counted = (longest_prompts, long_share, long_prompt_reads)
    asked = (*counted, length_peak, prefill_between, batch_by_arrivals)
    assert [said(window) for said in asked] == [None] * 6


def test_what_more_arrivals_alone_would_run() -> None:
    """Twice as many requests of the usual length make twice the batch; ten times the batch is something else."""
    window = made(running=[3.0] * 20 + [30.0] * 10, arrival_rate=[4.0] * 20 + [8.0] * 10)
    assert batch_by_arrivals(window) == pytest.approx(0.2)
