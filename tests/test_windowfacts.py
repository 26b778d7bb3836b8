"""What does a window say beyond its numbers? Recorded incidents first, then windows made for one point each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from responder.stops import standing
from responder.window import Window, decode, encode
from responder.windowfacts import (
    cached_tokens_ratio,
    computed_beyond_cache,
    delay_in_decode,
    first_mover,
    first_token_steps,
    growth_by_length,
    itl_beyond_batch,
    itl_with_prefill,
    less_done,
    most_done,
    movers,
    pinned,
    prefill_mix_ratio,
    slowed_before_batch,
    summary,
    unknown_signals,
)
from tests.recorded import window

Row = Sequence[float | None]


def recorded(name: str) -> Window:
    found = decode(window(name))
    assert found is not None
    return found


def made(onset: int = 20, interval: float = 5.0, **signals: Row) -> Window:
    """A window on a 5-s grid from 0; `onset` is a grid index."""
    rows = {name: tuple(row) for name, row in signals.items()}
    length = max(len(row) for row in rows.values())
    rows = {name: row + (None,) * (length - len(row)) for name, row in rows.items()}
    return Window(0.0, 5.0, length, onset * 5.0, interval, rows, asked=tuple(sorted(rows)))


def test_a_rate_of_few_requests_has_a_usual_value() -> None:
    """A prompt in half a minute: most windows hold none, and the mean says how much it is; others keep their median."""
    sparse = [0.0, 0.0, 0.0, 40.0] * 5 + [200.0] * 10
    assert summary(made(prompt_computed_rate=sparse), "prompt_computed_rate").baseline == pytest.approx(160 / 17)
    assert summary(made(preemption_rate=sparse), "preemption_rate").baseline == 0.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [("spike", True), ("kv_starve", False), ("hang_worker", False), ("hang_after", True)],
)
def test_a_full_batch_is_told_from_a_starved_one(name: str, expected: bool) -> None:
    """Capacity pins running at its maximum; KV starvation leaves it at a third; a hang has no queue in its gauges."""
    assert pinned(recorded(name)) is expected


@pytest.mark.parametrize(
    ("before", "since", "expected"),
    [(5.0, [40.0, 45.0, 45.0], None), (60.0, [40.0, 45.0, 45.0], False), (5.0, [40.0, 45.0, 45.0, 45.0, 45.0], True)],
    ids=["as many as ever", "more ran before", "some scrapes later"],
)
def test_a_queue_that_only_just_began_says_nothing_of_free_slots(
    before: float, since: list[float], expected: bool | None
) -> None:
    """One or two scrapes with a queue, beside more than ever ran: the slots may be taken or not."""
    queue = [0.0, *([20.0] * (len(since) - 1))]
    found = made(running=[before] * 20 + since, waiting=[0.0] * 20 + queue)
    assert pinned(found) is expected


def test_before_and_since() -> None:
    """Median before (points next to the onset left out), median of the last 30 s, extremes since."""
    row = [10.0] * 16 + [999.0] * 4 + [20.0] * 2 + [40.0] * 8
    found = summary(made(running=row), "running")
    assert (found.baseline, found.now, found.highest, found.lowest) == (10.0, 40.0, 40.0, 20.0)
    assert (found.last, found.last_at, found.ratio, found.change) == (40.0, 145.0, 4.0, 30.0)


def test_a_fresh_server_has_no_baseline() -> None:
    """Four points are no baseline; ratio and change are unknown, not one and zero."""
    found = summary(made(running=[None] * 12 + [1.0] * 4 + [None] * 4 + [9.0] * 5), "running")
    assert (found.baseline, found.ratio, found.change, found.now) == (None, None, None, 9.0)


@pytest.mark.parametrize(
    ("batch", "itl", "expected"),
    [
        ((4, 16), (0.01, 0.04), 1.0),
        ((4, 16), (0.01, 0.12), 3.0),
        ((0, 4), (0.01, 0.2), 5.0),
        ((4, 1), (0.01, 0.03), 3.0),
    ],
    ids=["as the batch", "more than the batch", "hardly anything ran before", "a smaller batch"],
)
def test_slowness_beyond_what_a_larger_batch_explains(
    batch: tuple[float, float], itl: tuple[float, float], expected: float
) -> None:
    """A step grows in proportion to its batch at most; a token comes out of a batch of one at least."""
    rows = {"running": [batch[0]] * 20 + [batch[1]] * 8, "itl_p50": [itl[0]] * 20 + [itl[1]] * 8}
    assert itl_beyond_batch(made(**rows)) == pytest.approx(expected)
    assert itl_beyond_batch(made(running=rows["running"])) is None


def test_a_zero_baseline_has_no_ratio() -> None:
    """Preemptions usually are zero: the change says what the ratio cannot."""
    found = summary(made(preemption_rate=[0.0] * 20 + [2.0] * 5), "preemption_rate")
    assert (found.baseline, found.ratio, found.change) == (0.0, None, 2.0)


def test_a_signal_that_went_silent_has_no_now() -> None:
    """NaN since the onset (no samples in a hang) is unknown; the last value before is not 'last'."""
    found = summary(made(ttft_p99=[0.1] * 20 + [None] * 10), "ttft_p99")
    assert (found.baseline, found.now, found.last, found.highest) == (0.1, None, None, None)


def test_latency_with_prefill_in_the_step() -> None:
    """Steps that carry prompt tokens against steps that do not; an even load says nothing."""
    busy = [100.0, 5000.0] * 10
    slow = [0.01, 0.05] * 10
    pad: list[float | None] = [None] * 20
    batch = [8.0] * 40
    told = itl_with_prefill(made(prompt_computed_rate=pad + busy, itl_mean=pad + slow, running=batch))
    assert told == pytest.approx(5.0)
    assert itl_with_prefill(made(prompt_computed_rate=pad + [1000.0] * 20, itl_mean=pad + slow, running=batch)) is None


def test_a_batch_that_grows_with_every_prompt_is_no_prefill_in_the_step() -> None:
    """Tokens are slower where more was computed, because more requests run then; at the same batch they are not."""
    pad: list[float | None] = [None] * 20
    prefill = [100.0] * 10 + [5000.0] * 10
    grown, slow = [2.0] * 10 + [9.0] * 10, [0.02] * 10 + [0.09] * 10
    assert itl_with_prefill(made(prompt_computed_rate=pad + prefill, itl_mean=pad + slow, running=pad + grown)) is None


def test_a_lost_cache_explains_so_much_prefill_and_no_more() -> None:
    """With four prompt tokens in ten from the cache, its loss makes two thirds more work; twelve times is more."""
    hits: list[float | None] = [0.4] * 20 + [0.0] * 10
    lost = computed_beyond_cache(made(prompt_computed_rate=[300.0] * 20 + [500.0] * 10, prefix_hit_rate=hits))
    assert lost == pytest.approx(1.0)
    longer = computed_beyond_cache(made(prompt_computed_rate=[300.0] * 20 + [3600.0] * 10, prefix_hit_rate=hits))
    assert longer == pytest.approx(7.2)
    assert computed_beyond_cache(made(prompt_computed_rate=[300.0] * 30)) is None


def test_where_prefill_never_ends_nothing_shows_decoding_without_it() -> None:
    """The third with least prefill is no control when it is many times what was usual before."""
    usual: list[float | None] = [50.0] * 20
    busy, slow = [2000.0, 9000.0] * 10, [0.05, 0.05] * 10
    fast: list[float | None] = [0.01] * 20
    assert itl_with_prefill(made(prompt_computed_rate=usual + busy, itl_mean=fast + slow, running=[8.0] * 40)) is None


@pytest.mark.parametrize(
    ("length", "arrivals", "expected"), [(8.0, 1.0, 1.0), (8.0, 0.5, 1.0), (1.0, 4.0, 0.0), (8.0, 2.0, 0.75)]
)
def test_what_longer_prompts_make_up_of_the_growth(length: float, arrivals: float, expected: float) -> None:
    """Eight times as long and twice as many: three of four doublings are length."""
    before, since = [100.0] * 20, 12
    usual: list[float | None] = [2.0] * 20
    lengths = before + [100.0 * length] * since
    assert growth_by_length(
        made(prompt_tokens_mean=lengths, arrival_rate=usual + [2.0 * arrivals] * since)
    ) == pytest.approx(expected)
    assert growth_by_length(made(prompt_tokens_mean=lengths)) is None
    assert growth_by_length(made(prompt_tokens_mean=before + [100.0] * since, arrival_rate=[2.0] * 32)) is None


@pytest.mark.parametrize(("itl", "ttft", "expected"), [(0.05, 0.1, 1.0), (0.01, 5.1, 0.0), (0.06, 5.1, 0.5)])
def test_where_the_added_waiting_falls(itl: float, ttft: float, expected: float) -> None:
    """Two requests and two hundred tokens a second: 50 ms a token more weigh as much as 5 s to the first token more."""
    before, since = [0.01] * 20, 12
    window = made(
        itl_mean=before + [itl] * since, ttft_mean=[0.1] * 20 + [ttft] * since,
        generation_rate=[200.0] * 32, arrival_rate=[2.0] * 32,
    )  # fmt: skip
    assert delay_in_decode(window) == pytest.approx(expected)
    assert delay_in_decode(made(itl_mean=before + [itl] * since)) is None


def test_who_moved_first() -> None:
    """The earliest signal out of its usual band for two points; one point out is noise."""
    steady = [5.0] * 20
    found = first_mover(
        made(
            waiting=[0.0] * 22 + [30.0] * 8,
            arrival_rate=[*steady, 50.0, 50.0, *[50.0] * 8],
            kv_usage=[0.2] * 17 + [0.9] + [0.2] * 12,
        )
    )
    assert found == ("arrival_rate", 100.0, "up")
    assert first_mover(made(waiting=[0.0] * 30)) is None


def test_signals_without_a_value_are_listed() -> None:
    """Asked for and never seen."""
    assert unknown_signals(made(running=[1.0], waiting=[None]), ("running", "waiting", "itl_p99")) == [
        "waiting",
        "itl_p99",
    ]


def test_what_moved_in_which_order() -> None:
    """Arrivals rose first, then the batch, then the queue; what did not move is not in it."""
    step = [4.0] * 20 + [16.0] * 10
    rows: dict[str, list[float | None]] = {
        "waiting": [0.0] * 24 + [50.0] * 6,
        "arrival_rate": list(step),
        "running": [4.0] * 22 + [16.0] * 8,
        "kv_usage": [0.2] * 30,
    }
    found = movers(made(**rows))
    assert [(signal, way) for signal, _, way in found] == [("arrival_rate", "up"), ("running", "up"), ("waiting", "up")]
    assert found == sorted(found, key=lambda row: row[1])
    assert first_mover(made(**rows)) == found[0]


def steady(before: float, since: float, *, points: int = 20, after: int = 12) -> list[float]:
    return [before] * points + [since] * after


@pytest.mark.parametrize(
    ("running", "generated", "computed", "expected"),
    [
        (16.0, 500.0, 100.0, 2.0),  # more inside, half as much comes out
        (16.0, 4000.0, 400.0, None),  # more prefill: not comparable
        (2.0, 500.0, 50.0, None),  # a smaller batch yields less by nature
    ],
)
def test_a_slower_engine_shows_at_any_batch(
    running: float, generated: float, computed: float, expected: float | None
) -> None:
    """A batch no smaller that yields fewer tokens is a slower engine; of anything else this says nothing."""
    found = made(
        running=steady(4.0, running),
        generation_rate=steady(1000.0, generated),
        prompt_computed_rate=steady(100.0, computed),
    )
    assert less_done(found) == expected


@pytest.mark.parametrize(
    ("generated", "computed", "after", "expected"),
    [
        (500.0, 50.0, 20, 2.0),  # half as much of both
        (500.0, 200.0, 20, 0.5),  # it reads more instead
        (500.0, 50.0, 6, None),  # rates have not risen yet
    ],
)
def test_an_engine_did_more_at_its_best_moment_before(
    generated: float, computed: float, after: int, expected: float | None
) -> None:
    """Waves that were served before and are not any more: of both kinds of work it does less at its best."""
    waves = [100.0, 1000.0] * 10
    found = made(
        generation_rate=waves + [generated] * after,
        prompt_computed_rate=[rate / 10 for rate in waves] + [computed] * after,
    )
    assert most_done(found) == expected


def test_no_less_is_done_where_each_token_comes_as_fast() -> None:
    """Of two requests at a time a gauge saw four lately, and chance gave fewer tokens: no token took longer."""
    rows = {"generation_rate": steady(100.0, 75.0), "prompt_computed_rate": steady(100.0, 90.0)}
    batch = {"running": steady(2.0, 4.0)}
    assert less_done(made(**rows, **batch, itl_mean=steady(0.005, 0.005))) == pytest.approx(1.0)
    assert less_done(made(**rows, **batch, itl_mean=steady(0.005, 0.02))) == pytest.approx(100 / 75)


@pytest.mark.parametrize(("computed", "generated", "expected"), [(300.0, 3000.0, 1.0), (600.0, 1000.0, 6.0)])
def test_more_traffic_of_the_same_kind_keeps_the_mix(computed: float, generated: float, expected: float) -> None:
    """Prompt tokens for each generated one: longer prompts change it, more requests do not."""
    found = made(prompt_computed_rate=steady(100.0, computed), generation_rate=steady(1000.0, generated))
    assert prefill_mix_ratio(found) == pytest.approx(expected)


@pytest.mark.parametrize(("share", "queries", "expected"), [(0.05, 1000.0, 0.1), (0.1, 5000.0, 1.0)])
def test_a_cache_that_gives_as_much_as_before_has_not_collapsed(share: float, queries: float, expected: float) -> None:
    """A share falls as well when prompts that share nothing come on top."""
    found = made(prefix_hit_rate=steady(0.5, share), prefix_query_rate=steady(1000.0, queries))
    assert cached_tokens_ratio(found) == pytest.approx(expected)


def test_half_a_minute_is_a_baseline() -> None:
    """Watched since 35 s before the onset: the guard shrinks before the baseline is given up."""
    assert summary(made(onset=7, arrival_rate=[2.0] * 7 + [20.0] * 8), "arrival_rate").ratio == 10.0


def test_whether_tokens_slowed_before_the_batch_grew() -> None:
    """Slow first, then a larger batch: above 0; the other way round below; unknown unless both moved."""
    early, late = [0.01] * 20 + [0.05] * 10, [0.01] * 24 + [0.05] * 6
    grew: list[float | None] = [4.0] * 22 + [16.0] * 8
    assert slowed_before_batch(made(itl_mean=list(early), running=grew)) == 10.0
    assert slowed_before_batch(made(itl_mean=list(late), running=grew)) == -10.0
    assert slowed_before_batch(made(itl_mean=list(early), running=[4.0] * 30)) is None


def test_what_our_own_captures_did_is_not_held_against_the_server() -> None:
    """A stop of fifteen seconds while a capture of ours held the engine is no stall, and its extremes do not count; the
    same stop without a capture is one. It lies in the file, so a replay knows."""
    progress = [float(n) for n in range(15)] + [14.0] * 3 + [float(n) for n in range(18, 30)]
    rows = {"progress_total": progress, "in_flight": [2.0] * 30, "itl_mean": [0.01] * 15 + [5.0] * 3 + [0.01] * 12}
    plain = made(onset=5, **rows)
    ours = replace(plain, ours=((plain.at(14), plain.at(18)),))
    assert (standing(plain)["stalls"], summary(plain, "itl_mean").highest) == (1, 5.0)
    assert (standing(ours)["stalls"], summary(ours, "itl_mean").highest) == (0, 0.01)
    assert decode(encode(ours)) == ours
    assert b"ours" not in encode(plain)


@pytest.mark.parametrize(("queued", "prefill", "steps"), [
    ([0.0001] * 20 + [0.12] * 10, [0.02] * 30, 0.2),
    ([0.0001] * 20 + [0.12] * 10, [0.02] * 20 + [0.3] * 10, 3.0),
    ([0.0001] * 20 + [0.12] * 10, [0.02] * 29 + [0.25], 2.5),
    ([0.0001] * 30, [0.02] * 30, None),
])  # fmt: skip
def test_whether_the_time_between_tokens_goes_before_a_step_or_in_it(
    queued: Row, prefill: Row, steps: float | None
) -> None:
    """Late: a short first step after a wait. Slow: a first step as long as any. Old: those who finish were there before
    the onset, or are no longer at last. Nobody waited: the histogram may hold none from since the onset."""
    row = made(itl_mean=[0.01] * 20 + [0.1] * 10, queue_time_mean=queued, prefill_time_mean=prefill)
    assert first_token_steps(row) == (None if steps is None else pytest.approx(steps))
