"""In which way did a server become slower? Windows made by a step's physics, of a device and of a scheduler."""

from __future__ import annotations

from dataclasses import replace

import pytest

from responder.slowing import (
    growth_with_work,
    itl_at_equal_batch,
    itl_beyond_reading,
    late_in_short_stops,
    late_in_stops,
    light_steps_ratio,
    outside_engine,
    outside_engine_share,
    prefill_beyond_tokens,
    prompts_being_read,
    reading_share_of_wait,
    slowed_alike,
)
from tests.test_windowfacts import made, recorded

BEFORE, SINCE = 20, 20
"""Points of 5 s before the onset and since."""


def change(was: float, now: float) -> list[float]:
    """One value before the onset, another since."""
    return [was] * BEFORE + [now] * SINCE


def test_latency_at_the_same_batch() -> None:
    """Twice the latency at the same load is the machine; at four times the load there is nothing to compare."""
    load, slow = [8.0] * 30, [0.01] * 20 + [0.02] * 10
    assert itl_at_equal_batch(made(running=load, itl_mean=slow)) == pytest.approx(2.0)
    assert itl_at_equal_batch(made(running=[8.0] * 20 + [32.0] * 10, itl_mean=slow)) is None
    assert itl_at_equal_batch(made(running=load, itl_mean=[None] * 20 + [0.02] * 10)) is None


def test_an_onset_that_was_put_too_early_hides_no_slow_step() -> None:
    """Fifty seconds of health after it are no part of what is compared, but of what it is compared with."""
    load, itl = [8.0] * BEFORE + [12.0] * SINCE, [0.02] * (BEFORE + 10) + [0.06] * (SINCE - 10)
    assert itl_at_equal_batch(made(running=load, itl_mean=itl)) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("times", "late", "expected"),
    [(4.0, 0.0, 1.0), (1.0, 0.12, 0.0), (2.0, 0.08, 0.33)],
    ids=["a slow device", "a late scheduler", "both"],
)
def test_steps_grow_with_their_work_or_all_alike(times: float, late: float, expected: float) -> None:
    """A step that decodes takes 40 ms, one that reads a prompt 120: a factor stretches both, a delay adds to both."""
    decode, prefill = 0.04, 0.12
    window = made(
        itl_mean=change(decode, decode * times + late), prefill_time_mean=change(prefill, prefill * times + late),
        itl_p50=change(decode, decode * times + late), itl_p99=change(prefill, prefill * times + late),
        arrival_rate=change(2.0, 2.0), running=change(4.0, 8.0),
    )  # fmt: skip
    assert growth_with_work(window) == pytest.approx(expected, abs=0.01)
    assert slowed_alike(window) == pytest.approx(1.0)


def test_what_is_too_soon_or_inside_one_bucket_tells_no_way() -> None:
    """Half a minute after it began those who finish began before; and two percentiles in one bucket are one guess."""
    rows = {
        "itl_mean": change(0.04, 0.16),
        "prefill_time_mean": change(0.12, 0.24),
        "arrival_rate": change(2.0, 2.0),
        "running": change(4.0, 8.0),
    }
    assert growth_with_work(made(**rows)) is not None
    assert growth_with_work(made(**{name: row[: BEFORE + 7] for name, row in rows.items()})) is None
    assert growth_with_work(made(itl_p50=change(0.026, 0.1), itl_p99=change(0.049, 0.2))) is None


def test_where_light_steps_have_more_work_all_look_alike() -> None:
    """Each step reads a prompt, or has five times as many requests: then a slow device looks like a late scheduler."""
    alike = {"itl_mean": change(0.04, 0.24), "prefill_time_mean": change(0.12, 0.34)}
    usual = {"arrival_rate": change(0.5, 0.5), "running": change(4.0, 8.0)}
    assert growth_with_work(made(**alike, **usual)) == pytest.approx(0.05)
    assert growth_with_work(made(**alike, **usual | {"arrival_rate": change(3.0, 3.0)})) is None
    assert growth_with_work(made(**alike, **usual | {"running": change(4.0, 24.0)})) is None
    assert growth_with_work(made(**alike)) is None
    stretched = {"itl_mean": change(0.04, 0.24), "prefill_time_mean": change(0.12, 0.72)}
    assert growth_with_work(made(**stretched)) == pytest.approx(1.0)


def test_prefill_of_those_who_began_before_makes_no_step_look_late_by_the_same_time() -> None:
    """A slow device whose answers take longer than it has been slow: of those who finish some were read in before, or
    all. With shorter answers the same numbers are those of a late scheduler."""
    usual = {"arrival_rate": change(0.5, 0.5), "running": change(4.0, 8.0)}
    slow = {"itl_mean": change(0.04, 0.24), "prefill_time_mean": change(0.12, 0.34)}
    assert growth_with_work(made(**slow, **usual, generation_tokens_mean=change(100.0, 100.0))) == pytest.approx(0.05)
    assert growth_with_work(made(**slow, **usual, generation_tokens_mean=change(500.0, 500.0))) is None
    assert growth_with_work(made(**slow | {"prefill_time_mean": change(0.12, 0.14)}, **usual)) is None


@pytest.mark.parametrize(
    ("times", "late", "expected"),
    [(5.0, 0.0, 1.0), (1.0, 0.04, 0.0), (2.0, 0.02, None)],
    ids=["a slow device", "a late scheduler", "both"],
)
def test_reading_a_short_prompt_is_stretched_or_as_before(times: float, late: float, expected: float | None) -> None:
    """A step takes 10 ms, reading a prompt 2 more: that is hardly a heavier step, but known well, and its own."""
    decode, reading = 0.01, 0.002
    rows = {
        "itl_mean": change(decode, decode * times + late),
        "prefill_time_mean": change(decode + reading, (decode + reading) * times + late),
        "generation_tokens_mean": change(200.0, 200.0),
        "prompt_computed_rate": change(300.0, 300.0),
        "generation_rate": change(400.0, 400.0),
        "arrival_rate": change(2.0, 2.0),
        "running": [3.0, 5.0] * (BEFORE // 2) + [10.0] * SINCE,
    }
    found = growth_with_work(made(**rows))
    assert found == (None if expected is None else pytest.approx(expected, abs=0.01))
    varied = [decode + reading * (0.1 + at % 3 * 0.9) for at in range(BEFORE)]
    assert growth_with_work(made(**rows | {"prefill_time_mean": varied + rows["prefill_time_mean"][BEFORE:]})) is None
    long = change(200.0, 5000.0)
    assert growth_with_work(made(**rows | {"generation_tokens_mean": long})) is None, "who finishes began before"


def test_a_device_slow_at_moments_slows_few_tokens() -> None:
    """The mean grows by half and the median does not; a mean that hardly grew has nothing to be asked about."""
    assert slowed_alike(made(itl_mean=change(0.02, 0.03), itl_p50=change(0.02, 0.02))) == pytest.approx(0.0)
    assert slowed_alike(made(itl_mean=change(0.02, 0.022), itl_p50=change(0.02, 0.02))) is None


@pytest.mark.parametrize(("gaps", "expected"), [(20.0, 1.0), (2.0, 0.1)], ids=["stops", "slow moments"])
def test_late_tokens_of_stops_are_late_by_a_second(gaps: float, expected: float) -> None:
    """Two tokens in a hundred, of a thousand, come late: after a second where the engine stops."""
    window = made(
        itl_late_share=change(0.0, 0.02), itl_recent_samples=change(1000.0, 1000.0), itl_long_gaps=change(0.0, gaps)
    )
    assert late_in_stops(window) == pytest.approx(expected)
    assert late_in_stops(replace(window, signals={"itl_long_gaps": window.signals["itl_long_gaps"]})) is None


@pytest.mark.parametrize(("median_s", "expected"), [(0.03, 1.0), (1.7, None)], ids=["stops", "every step is slow"])
def test_tokens_that_all_take_a_second_tell_nothing_of_stops(median_s: float, expected: float | None) -> None:
    """On a device that is twenty times slower every token comes after a second, and nothing stops."""
    window = made(
        itl_late_share=change(0.0, 0.9), itl_recent_samples=change(100.0, 100.0), itl_long_gaps=change(0.0, 90.0),
        itl_p50=change(0.03, median_s),
    )  # fmt: skip
    assert late_in_stops(window) == expected
    gone = made(
        itl_late_share=change(0.0, 0.9), itl_recent_samples=change(100.0, 100.0), itl_long_gaps=change(0.0, 90.0),
        itl_p50=[0.03] * BEFORE + [median_s] * (SINCE - 8) + [None] * 8,
    )  # fmt: skip
    assert late_in_stops(gone) == expected, "nor after it died"


@pytest.mark.parametrize(
    ("token_s", "gaps", "expected"),
    [(0.008, 20.0, 1.0), (0.008, 3.0, 0.15), (0.02, 20.0, None)],
    ids=["stops", "slow moments", "twenty times as slow is no stop"],
)
def test_stops_below_a_second_are_told_of_tokens_that_take_milliseconds(
    token_s: float, gaps: float, expected: float | None
) -> None:
    """Who is late is late by 0.4 s and more, fifty times a usual token, and nobody by less."""
    window = made(
        itl_late_share=change(0.0, 0.02), itl_recent_samples=change(1000.0, 1000.0), itl_mean=change(token_s, token_s),
        itl_long_gaps=change(0.0, 0.0), itl_short_gaps=change(0.0, gaps),
    )  # fmt: skip
    assert late_in_stops(window) == 0.0
    assert late_in_short_stops(window) == (None if expected is None else pytest.approx(expected))


def test_late_tokens_of_a_server_that_often_has_some_tell_nothing_of_stops() -> None:
    """One token in fifty is late as ever, of prompts that are read; what piled up in a stop makes four of them late."""
    often = made(
        itl_late_share=change(0.02, 0.08), itl_recent_samples=change(1000.0, 1000.0), itl_long_gaps=change(0.0, 3.0)
    )
    assert late_in_stops(often) is None


@pytest.mark.parametrize(
    ("tokens", "prefill", "expected"),
    [(0.03, 0.4, 2.667), (0.2, 1.0, 1.0), (0.02, 0.1, 1.0), (0.01, 0.3, 3.0)],
    ids=["slow moments", "slow all the time", "stops", "faster tokens"],
)
def test_requests_meet_slow_moments_more_often_than_tokens_do(tokens: float, prefill: float, expected: float) -> None:
    """Against 0.02 s a token and 0.1 s of prefill before: a device slow for moments shows in prefill above all."""
    window = made(itl_mean=change(0.02, tokens), prefill_time_mean=change(0.1, prefill))
    assert prefill_beyond_tokens(window) == pytest.approx(expected, abs=0.001)
    assert prefill_beyond_tokens(made(itl_mean=change(0.02, tokens))) is None


def test_prefill_of_those_who_finish_after_it_is_of_the_slow_time() -> None:
    """Tokens come in time again for half a minute, and those who finish now waited for their first one long ago."""
    tokens = change(0.02, 0.1)[:-6] + [0.02] * 6
    assert prefill_beyond_tokens(made(itl_mean=tokens, prefill_time_mean=change(0.1, 0.5))) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("wait", "reading", "expected"),
    [([0.3, 4.3], [0.2, 0.2], 0.0), ([0.3, 2.3], [0.2, 1.6], 0.7), ([0.3, 0.31], [0.2, 0.3], None),
     ([0.3, 0.25], [0.2, 0.1], 0.0)],
    ids=["a stop", "slow moments", "no later", "sooner"],
)  # fmt: skip
def test_how_much_of_the_added_wait_is_reading(wait: list[float], reading: list[float], expected: float | None) -> None:
    """Every fourth point shows a moment: in a stop first tokens wait and are read as fast; a slow step reads slowly."""
    rows = {
        name: [usual] * BEFORE + [usual, usual, usual, then] * (SINCE // 4)
        for name, (usual, then) in (("ttft_mean", wait), ("prefill_time_mean", reading))
    }
    assert reading_share_of_wait(made(**rows)) == (None if expected is None else pytest.approx(expected))


def test_the_wait_outside_of_the_engine() -> None:
    """A second and a half to the first token, of which the engine knows 0.2 s; 0.05 s were outside before."""
    window = made(ttft_mean=change(0.15, 1.5), queue_time_mean=change(0.0, 0.1), prefill_time_mean=change(0.1, 0.1))
    assert outside_engine(window) == pytest.approx(1.25)
    assert outside_engine(made(ttft_mean=change(0.15, 1.5))) is None


def test_which_share_of_the_added_wait_is_outside_of_the_engine() -> None:
    """Of 1.35 s more to the first token the engine knows 0.1 s; where it comes no later nothing is said."""
    window = made(ttft_mean=change(0.15, 1.5), queue_time_mean=change(0.0, 0.1), prefill_time_mean=change(0.1, 0.1))
    assert outside_engine_share(window) == pytest.approx(1.25 / 1.35)
    queued = made(ttft_mean=change(0.15, 1.5), queue_time_mean=change(0.0, 1.3), prefill_time_mean=change(0.1, 0.1))
    assert outside_engine_share(queued) == pytest.approx(0.05 / 1.35)
    usual = made(ttft_mean=change(0.15, 0.15), queue_time_mean=change(0.0, 0.0), prefill_time_mean=change(0.1, 0.1))
    assert outside_engine_share(usual) is None


def test_how_many_prompts_are_read_at_a_time() -> None:
    """Two requests a second, each read for a tenth of one: a fifth of the time somebody's prompt is read."""
    window = made(arrival_rate=change(2.0, 2.0), prefill_time_mean=change(0.05, 0.1))
    assert prompts_being_read(window) == pytest.approx(0.2)
    assert prompts_being_read(made(arrival_rate=change(2.0, 2.0))) is None


@pytest.mark.parametrize(
    ("step", "reading", "expected"),
    [(0.0141, 0.216, 0.99), (0.0141, 0.02, 3.06), (0.0141, 0.5, None)],
    ids=["documents", "a slow device", "reading all the time"],
)
def test_whether_prompts_are_all_that_tokens_take_longer_for(
    step: float, reading: float, expected: float | None
) -> None:
    """A token took 4.6 ms and takes 14 now; three and a half prompts come in a second. Of documents that take 0.2 s
    each, steps between them are as fast as before."""
    window = made(itl_mean=change(0.0046, step), prefill_time_mean=change(0.02, reading), arrival_rate=change(2.5, 3.4))
    found = light_steps_ratio(window)
    assert found == (None if expected is None else pytest.approx(expected, abs=0.1))
    assert light_steps_ratio(made(itl_mean=change(0.0046, step))) is None


@pytest.mark.parametrize(
    ("step", "computed", "running", "expected"),
    [(0.010, 300.0, 4.0, 1.0), (0.011, 600.0, 2.0, 0.97), (0.025, 600.0, 2.0, 2.18), (0.025, 600.0, 10.0, 0.88),
     (0.025, 4500.0, 2.0, None)],
    ids=["as before", "prompts explain it", "a slow device", "the batch explains it", "may be reading all the time"],
)  # fmt: skip
def test_how_much_later_tokens_come_than_the_prompts_between_them_explain(
    step: float, computed: float, running: float, expected: float | None
) -> None:
    """Five prompts in a second, each 23 ms more than a step, make a token of 8.9 ms take 10; twice as much makes it 11.
    How few of those who ask are answered to the end, and how long that reads, does not matter."""
    window = made(
        itl_mean=change(0.010, step), prefill_time_mean=[0.033] * BEFORE, arrival_rate=change(5.0, 0.0),
        running=change(4.0, running), prompt_computed_rate=change(300.0, computed),
    )  # fmt: skip
    found = itl_beyond_reading(window)
    assert found == (None if expected is None else pytest.approx(expected, abs=0.02))
    assert itl_beyond_reading(made(itl_mean=change(0.010, step))) is None


def test_a_recorded_hang_is_no_slowness() -> None:
    """Of a real hang: tokens that stopped coming are not tokens that come slowly."""
    window = recorded("hang_worker")
    assert (growth_with_work(window), slowed_alike(window)) == (None, None)
