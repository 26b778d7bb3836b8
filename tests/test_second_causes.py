"""What of two faults at once is named beside the first, and what is a mere consequence of it?"""

from __future__ import annotations

import pytest

from tests.scenarios import Episode, Facts
from tests.test_playbooks import metrics_only, verdict

CROWD = {
    **metrics_only(
        arrival_rate__ratio=3.0, arrivals_rush_ratio=2.5, catch_up=False, running__pinned=True, running__ratio=4.0,
        waiting__max=60.0, kv_usage__max=0.1, preemption_rate__max=0.0, prompt_tokens_mean__ratio=1.0,
        generation_tokens_mean__ratio=1.0, prefill_mix_ratio=1.0, prompt_computed_rate__ratio=2.2,
        generation_rate__ratio=1.6, finish_rate__ratio=1.6, itl_mean__ratio=4.0, itl_p50__ratio=4.0, slowed_alike=1.0,
        prefix_hit_rate__change=0.0, queue_time_mean__last=4.0, prompt_tokens_mean__last=200.0,
        prompt_computed_rate__last=900.0,
    ),
    "siblings.count": 0,
}  # fmt: skip
"""More traffic than there is room for, and slow tokens."""
COLD = {
    **metrics_only(
        prefix_hit_rate__ratio=0.0, prefix_hit_rate__change=-0.8, prefix_hit_rate__baseline=0.8,
        prompt_tokens_mean__last=800.0,
        cached_tokens_ratio=0.0, prompt_computed_rate__ratio=4.0, prompt_tokens_mean__ratio=1.0,
        kv_usage__max=0.2, preemption_rate__max=0.0, waiting__max=60.0, catch_up=False, first_mover="prefix_hit_rate",
    ),
    "siblings.count": 0,
}  # fmt: skip
"""A lost prefix cache, and a queue."""


def named(facts: Facts, **alerts: str) -> tuple[str, ...]:
    return verdict(Episode(alerts, ""), facts).together


@pytest.mark.parametrize(
    ("besides", "second"),
    [
        ({"metrics.itl_beyond_work_ratio": 2.5}, True),
        ({"metrics.itl_beyond_work_ratio": 2.5, "metrics.generation_rate.ratio": 6.0}, False),
        ({"expected.itl_ratio": 2.1, "expected.itl_residual_sigmas": 30.0}, True),
        ({"expected.itl_ratio": 1.1, "expected.itl_residual_sigmas": 1.0}, False),
    ],
)  # fmt: skip
def test_a_slow_device_is_named_beside_a_crowd_that_does_not_explain_it(besides: Facts, second: bool) -> None:
    """Also where the crowd brings more prefill; not where the engine gives many times the tokens."""
    got = named({**CROWD, **besides}, VLLMQueueGrowing="high_ttft", VLLMITLHigh="slow_decode")
    assert got == (("capacity_exceeded", "slow_accelerator") if second else ())


@pytest.mark.parametrize(
    ("came", "second"),
    [
        ({"arrival_rate__ratio": 3.0, "arrivals_rush_ratio": 2.0, "running__pinned": False}, True),
        ({"arrival_rate__ratio": 1.6, "arrivals_rush_ratio": 1.12, "running__pinned": True}, True),
        ({"arrival_rate__ratio": 1.4, "arrivals_rush_ratio": 1.12, "running__pinned": True,
          "computed_beyond_cache_ratio": 1.35, "finish_rate__ratio": 1.3, "generation_rate__ratio": 1.3}, True),
        ({"arrival_rate__ratio": 1.08, "arrivals_rush_ratio": 1.28, "running__pinned": True}, False),
        ({"arrival_rate__ratio": 1.9, "arrivals_rush_ratio": 1.06, "running__pinned": False}, False),
        ({"arrival_rate__ratio": 1.8, "arrivals_rush_ratio": 0.97, "running__pinned": True}, False),
    ],
)  # fmt: skip
def test_more_traffic_is_named_beside_a_lost_cache_where_more_came(came: dict[str, float], second: bool) -> None:
    """More and faster than ever, or more is read than the lost cache explains; a busy moment or a wave is neither."""
    got = named({**COLD, **metrics_only(**came)}, VLLMPrefixCacheCollapse="high_ttft", VLLMQueueGrowing="high_ttft")
    assert set(got) == ({"prefix_cache_collapse", "capacity_exceeded"} if second else set())


@pytest.mark.parametrize(("median", "second"), [(1.0, True), (3.3, True), (6.0, False)])
def test_stops_are_named_beside_a_crowd_that_makes_every_token_slower(median: float, second: bool) -> None:
    """A larger batch makes the median token slower; that nobody is late but by a stop, it does not explain."""
    stops = metrics_only(
        itl_p50__ratio=median, itl_mean__ratio=median, late_in_stops=1.0, itl_long_gaps__max=60.0,
        itl_long_gaps__baseline=0.0, stalls=0, flat_s=0.0, prompt_length_peak_ratio=1.0, generation_rate__last=300.0,
    )  # fmt: skip
    got = named({**CROWD, **stops}, VLLMQueueGrowing="high_ttft", VLLMTokenGapsRecur="sporadic_slow")
    assert got == (("capacity_exceeded", "engine_stalls") if second else ())


@pytest.mark.parametrize(("length", "second"), [(1.0, True), (0.62, False)])
def test_a_cache_that_misses_other_prompts_is_not_lost(length: float, second: bool) -> None:
    """A slow engine reads few prompts at a time: shorter ones than usual are others, and hit less."""
    slow = {
        **COLD,
        **metrics_only(
            itl_beyond_work_ratio=2.7, itl_equal_batch_ratio=2.9, itl_mean__ratio=3.1, itl_p50__ratio=3.1,
            slowed_alike=1.0, running__ratio=2.5, generation_rate__ratio=0.74, prompt_computed_rate__ratio=0.52,
            prompt_tokens_mean__ratio=length, generation_tokens_mean__ratio=0.9, arrival_rate__ratio=0.76,
            arrivals_rush_ratio=0.8, waiting__max=0.0, running__pinned=False,
        ),
    }  # fmt: skip
    got = named(slow, VLLMITLHigh="slow_decode")
    assert ("prefix_cache_collapse" in got) == second


@pytest.mark.parametrize(("power", "second"), [(0.6, True), (1.5, False)])
def test_a_clock_that_fell_is_named_beside_long_prompts_unless_the_work_draws_the_power(
    power: float, second: bool
) -> None:
    """More work lowers the clock as well: by the power it takes."""
    read = {
        **metrics_only(
            prompt_computed_rate__ratio=30.0, prefill_mix_ratio=29.0, prompt_tokens_mean__ratio=8.5,
            delay_in_decode=0.9, growth_by_length=0.7, itl_p50__ratio=1.2, itl_p99__ratio=11.0,
            itl_mean__ratio=3.6, kv_usage__max=0.03,
            itl_equal_batch_ratio=3.9, catch_up=False, preemption_rate__max=0.0, prefill_time_mean__last=0.1,
            itl_p50__last=0.006, kv_usage__last=0.03, ttft_mean__last=0.1, arrival_rate__ratio=2.4,
        ),
        "dcgm.sm_clock.ratio": 0.4, "dcgm.gpu_util.now": 90.0, "dcgm.power.ratio": power,
    }  # fmt: skip
    got = named(read, VLLMITLMildlyAboveUsual="slow_decode", VLLMTokenHiccups="slow_decode")
    assert got == (("prefill_interference", "slow_accelerator") if second else ())


@pytest.mark.parametrize(("median", "second"), [(1.04, True), (2.5, False)])
def test_stops_that_let_others_in_late_are_named_beside_a_crowd(median: float, second: bool) -> None:
    """Half of who is late waited for a second, and the median token comes as before: no queue explains that."""
    stops = metrics_only(
        itl_p50__ratio=median, itl_mean__ratio=1.2, late_in_stops=0.6, itl_long_gaps__max=60.0, slowed_alike=0.1,
        itl_long_gaps__baseline=0.0, stalls=0, flat_s=0.0, prompt_length_peak_ratio=1.0, generation_rate__last=300.0,
    )  # fmt: skip
    got = named({**CROWD, **stops}, VLLMQueueGrowing="high_ttft", VLLMTokenGapsRecur="sporadic_slow")
    assert got == (("capacity_exceeded", "engine_stalls") if second else ())


@pytest.mark.parametrize(("batch", "second"), [(4.5, True), (0.9, False)])
def test_slow_steps_are_named_beside_clients_that_leave_where_the_batch_does_not_explain_them(
    batch: float, second: bool
) -> None:
    """Also where no line through batch and latency is known from before."""
    gone = metrics_only(
        unfinished_share__now=0.8, prompt_token_rate__ratio=1.0, finish_rate__ratio=0.0, flat_s=0.0, waiting__max=0.0,
        light_steps_ratio=9.9, itl_p50__ratio=9.8, itl_mean__ratio=9.8, slowed_alike=1.0, itl_beyond_batch_ratio=batch,
        itl_equal_batch_ratio=9.0, running__ratio=2.2, generation_rate__ratio=0.2, prompt_computed_rate__ratio=1.0,
        prompt_tokens_mean__ratio=1.0, generation_tokens_mean__ratio=1.0, kv_usage__max=0.05, prefill_mix_ratio=6.0,
    )  # fmt: skip
    got = named(gone, VLLMClientAborts="low_throughput", VLLMITLAboveUsual="slow_decode")
    assert (set(got) == {"client_abort_storm", "slow_accelerator"}) == second


@pytest.mark.parametrize(
    ("beyond", "work", "first", "median", "second"),
    [(1.8, 0.7, 1.7, 0.02, True), (1.8, 0.7, 1.3, 0.005, True), (1.2, 0.7, 1.7, 0.02, False),
     (1.2, 2.2, 1.7, 0.02, False), (1.8, 0.7, 0.9, 0.02, False), (1.8, 0.7, 1.7, 0.011, False)],
    ids=["slow", "slow within the first bucket", "prompts explain it", "all of them at once", "first tokens as before",
         "a few tokens late"],
)  # fmt: skip
def test_a_device_less_than_twice_as_slow_is_named_beside_clients_that_leave(
    beyond: float, work: float, first: float, median: float, second: bool
) -> None:
    """By the prompts that come between tokens: that few tokens come for each of them, few run and the GPU idles is
    the clients' doing."""
    alike = 1.0 if median >= 0.02 else 0.0
    gone = metrics_only(
        unfinished_share__now=0.9, prompt_token_rate__ratio=1.1, finish_rate__ratio=0.0, flat_s=0.0, waiting__max=0.0,
        itl_beyond_reading_ratio=beyond, ttft_mean__ratio=first, itl_p50__now=median, slowed_alike=alike,
        itl_mean__ratio=1.8, itl_beyond_work_ratio=work, running__ratio=0.2, running__max=6.0, prefill_mix_ratio=15.0,
        generation_rate__ratio=0.1, prompt_computed_rate__ratio=2.5, prompt_tokens_mean__ratio=1.0,
        generation_tokens_mean__ratio=1.8, kv_usage__max=0.05, iteration_rate__ratio=0.1, dcgm_gpu_util__ratio=0.5,
    )  # fmt: skip
    got = named(gone, VLLMClientAborts="low_throughput", VLLMITLMildlyAboveUsual="slow_decode")
    assert got == (("client_abort_storm", "slow_accelerator") if second else ())


@pytest.mark.parametrize(("now", "against"), [(6.0, True), (0.0, False)])
def test_tokens_that_come_as_before_when_it_is_over_are_no_stops_at_moments(now: float, against: bool) -> None:
    """Of a slow device whose tokens took more than a second: the median is as before afterwards, and nobody waits."""
    over = metrics_only(
        itl_p50__ratio=1.0, itl_long_gaps__max=22.0, itl_long_gaps__now=now, itl_long_gaps__baseline=0.0,
        itl_equal_batch_ratio=7.6, arrival_rate__ratio=1.0, prompt_tokens_mean__ratio=1.0,
    )  # fmt: skip
    ranked = verdict(Episode({"VLLMITLAboveUsual": "slow_decode"}, ""), over).hypotheses
    slow = next(h for h in ranked if h.cause == "slow_accelerator")
    assert ("long_gaps" in {finding.weight for finding in slow.contradicts}) == against
