"""When did the engine stand still, and when did nobody answer? Recorded windows, then windows made for one point."""

from __future__ import annotations

from dataclasses import replace

import pytest

from responder.stops import down, ended_at_work, prefill_at_stops, reset, scrape_gap, silence, standing
from responder.window import SCRAPED_AT, Window
from tests.test_windowfacts import made, recorded


def test_a_recorded_hang_stands_still() -> None:
    """17 s after the rank was stopped: flat, with 19 requests in flight."""
    found = standing(recorded("hang_worker"))
    assert found["flat_s"] == pytest.approx(17.5, abs=1.0)
    assert (found["flat_with_in_flight"], found["catch_up"], found["stalls"]) == (True, False, 1)


@pytest.mark.parametrize(("name", "seconds"), [("hang_after", 31.0), ("profile_after", 42.0)])
def test_the_burst_after_a_freeze_is_called_so(name: str, seconds: float) -> None:
    """What follows a freeze is its queue, not a traffic spike."""
    found = standing(recorded(name))
    assert (found["catch_up"], found["flat_with_in_flight"]) == (True, False)
    assert found["longest_stall_s"] == pytest.approx(seconds, abs=1.0)


def silent(*waits: float) -> Window:
    """Two requests a second, then 20 s in which the engine counts nobody, then these mean waits in the queue."""
    rates = [2.0] * 20 + [0.0] * 4 + [6.0] * len(waits)
    total = [float(n) for n in range(20)] + [19.0] * 4 + [20.0 + n for n in range(len(waits))]
    return made(
        onset=20, progress_total=total, in_flight=[0.0] * 24 + [30.0] * len(waits), arrival_rate=rates,
        queue_time_mean=[0.0] * 24 + list(waits),
    )  # fmt: skip


def test_who_waits_since_before_a_silence_ended_had_come_in_it() -> None:
    """An engine hung while nobody was in it: 9 s after the end the first ones have waited 11 s and more."""
    assert standing(silent(0.0, 11.0, 9.0))["catch_up"] is True


def test_a_rush_after_a_silence_is_no_engine_that_hung_however_long_it_waits_later() -> None:
    """A gateway was away: nobody has waited for longer than since its end, and then its queue grows to 20 s."""
    window = silent(0.0, 4.0, 9.0, 14.0, 18.0, 20.0)
    assert standing(window)["catch_up"] is None

    def answered(*first_tokens: float) -> Window:
        return replace(window, signals={**window.signals, "ttft_mean": [0.05] * 20 + [None] * 4 + [*first_tokens]})

    assert standing(answered(0.1, 5.0, 9.0, 14.0, 18.0, 20.0))["catch_up"] is False  # served first, and hardly waited
    assert standing(answered(9.0, 9.0, 9.0, 14.0, 18.0, 20.0))["catch_up"] is None


@pytest.mark.parametrize("name", ["spike", "kv_starve"])
def test_an_overloaded_server_does_not_stand_still(name: str) -> None:
    """Queues are no stalls."""
    found = standing(recorded(name))
    assert (found["flat_s"], found["stalls"], found["catch_up"]) == (0.0, 0, False)


def test_an_idle_server_is_flat_but_not_stuck() -> None:
    """Counters stand still every quiet night."""
    found = standing(made(progress_total=[7.0] * 30, in_flight=[0.0] * 30))
    assert found == {
        "flat_s": 145.0, "flat_with_in_flight": False, "catch_up": False, "stalls": 0, "longest_stall_s": 0.0,
    }  # fmt: skip


def test_an_engine_that_hung_while_idle_is_known_by_who_waited_inside() -> None:
    """No gauge moves in a hang; a gateway that was away looks the same until the first of its herd has waited."""
    progress = [float(min(n, 8)) for n in range(24)] + [20.0, 30.0, 40.0, 50.0, 60.0, 70.0]
    flying = [2.0] * 8 + [0.0] * 16 + [40.0] * 6
    came = [0.5] * 8 + [0.0] * 16 + [5.0] + [0.5] * 5
    made_of = {"progress_total": progress, "in_flight": flying, "arrival_rate": came}

    def told(waited: float, usual: float = 0.5) -> object:
        waits = [0.03] * 8 + [None] * 17 + [waited] * 5
        calls = [usual] * 8 + came[8:]
        return standing(made(onset=24, queue_time_mean=waits, **{**made_of, "arrival_rate": calls}))["catch_up"]

    assert told(waited=50.0) is True
    assert told(waited=4.0) is None
    assert told(waited=50.0, usual=0.05) is False, "a quiet night: four calls fewer are chance"


def test_one_engine_that_stands_still_beside_another_is_seen() -> None:
    """Of two in a process; one that has nothing to do is none that hangs."""
    moving, stuck = tuple(float(n) for n in range(30)), (7.0,) * 30
    both = made(progress_total=[n + 7.0 for n in range(30)], in_flight=[5.0] * 30)
    engines = {"progress_total": {"0": stuck, "1": moving}, "in_flight": {"0": (3.0,) * 30, "1": (2.0,) * 30}}
    found = standing(replace(both, engines=engines))
    assert (found["flat_s"], found["flat_with_in_flight"]) == (145.0, True)
    idle = {**engines, "in_flight": {"0": (0.0,) * 30, "1": (5.0,) * 30}}
    assert standing(replace(both, engines=idle))["flat_s"] == 0.0


def test_one_scrape_shown_twice_is_no_stall() -> None:
    """A grid point may repeat the scrape before it; the scrape's own time tells."""
    progress = [float(n) for n in range(30)]
    progress[10] = progress[9]
    times = [5.0 * n for n in range(30)]
    times[10] = times[9]
    busy = [3.0] * 30
    assert standing(made(progress_total=progress, in_flight=busy, **{SCRAPED_AT: times}))["stalls"] == 0
    assert standing(made(onset=8, progress_total=progress, in_flight=busy))["stalls"] == 1


def test_silence_after_the_last_scrape_is_not_counted_as_flat() -> None:
    """A target that is down since 50 s has not been seen standing still for 50 s."""
    progress: list[float | None] = [float(n) for n in range(10)] + [9.0] + [None] * 10
    assert standing(made(onset=5, progress_total=progress, in_flight=[2.0] * 11))["flat_s"] == 5.0


def test_without_progress_counters_nothing_is_said() -> None:
    """All unknown, none zero."""
    assert set(standing(made(running=[1.0] * 30)).values()) == {None}


def test_unknown_gauges_leave_a_flat_server_undecided() -> None:
    """Flat for long, but whether requests are in flight is not known."""
    assert standing(made(progress_total=[1.0] * 30))["flat_with_in_flight"] is None


def test_a_restart_inside_the_window() -> None:
    """Another start time, or counters that fell where there is no start time; else unknown."""
    assert reset(made(process_start_time=[100.0] * 10 + [500.0] * 10)) is True
    assert reset(made(process_start_time=[100.0] * 20)) is False
    assert reset(made(progress_total=[5.0, 6.0, 1.0])) is True
    assert reset(made(running=[1.0] * 5)) is None


def test_failed_scrapes_since_the_onset() -> None:
    """Down and missing both count; without `up` nothing is known."""
    assert scrape_gap(made(onset=4, up=[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, None, 0.0, 1.0])) == 15.0
    assert scrape_gap(made(running=[1.0] * 5)) is None


def test_a_silence_that_was_over_just_before_the_onset_counts_in_full() -> None:
    """What came in it is noticed afterwards. One that was over for more than a minute is another story."""
    up = [1.0] * 4 + [0.0] * 20 + [1.0] * 30
    assert silence(made(onset=26, up=up)) == 100.0
    assert silence(made(onset=40, up=up)) == 0.0
    assert scrape_gap(made(onset=26, up=up)) == 0.0


def test_where_nobody_scraped_nothing_is_known_of_a_silence() -> None:
    """A hole in the history; a scrape that is lost between failed ones ends none."""
    assert silence(made(onset=26, up=[1.0] * 4 + [None] * 20 + [1.0] * 30)) == 0.0
    assert silence(made(onset=26, up=[1.0] * 4 + [0.0] * 9 + [None] + [0.0] * 10 + [1.0] * 30)) == 100.0


def test_a_server_that_is_gone_is_told_from_one_that_answers_now_and_then() -> None:
    """Refused at once and for good; given up on after a second, and answered twice in between."""
    gone = down(made(onset=2, up=[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], scrape_seconds=[0.01] * 3 + [0.0004] * 3))
    assert gone == {
        "down_s": 15.0, "unasked": False, "answers_between_gaps": 0, "failed_scrape_s": 0.0004,
        "answered_scrape_s": 0.01, "late_scrapes": 0,
    }  # fmt: skip
    slow = down(
        made(onset=1, up=[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0], scrape_seconds=[0.1, 1.0, 0.9, 1.0, 0.8, 1.1, 0.9])
    )
    assert slow == {
        "down_s": 0.0, "unasked": False, "answers_between_gaps": 2, "failed_scrape_s": 1.0, "answered_scrape_s": 0.9,
        "late_scrapes": 0,
    }  # fmt: skip


def test_an_answer_just_before_the_onset_is_one_in_between() -> None:
    """The onset lies where the longest run of failures began; one failed and one was answered before. An old one is
    another episode."""
    up = [1.0] * 4 + [0.0, 1.0, 0.0, 0.0, 0.0]
    assert down(made(onset=6, up=up))["answers_between_gaps"] == 1
    assert down(made(onset=26, up=[0.0] + [1.0] * 25 + [0.0] * 4))["answers_between_gaps"] == 0


def test_scrapes_that_get_lost_as_in_usual_times_are_no_gaps() -> None:
    """One in ten gets lost as ever, before a silence and after it; of a server that answers every other scrape more do
    than ever, and of one whose scrapes never got lost one is enough."""
    usual = ([1.0] * 9 + [0.0]) * 3
    silent = [0.0] * 8
    lost = made(onset=30, up=[*usual, *silent, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    assert down(lost)["answers_between_gaps"] == 0
    slow = made(onset=30, up=[*usual, *silent, *[1.0, 0.0] * 4])
    assert down(slow)["answers_between_gaps"] == 4
    first = made(onset=30, up=[*[1.0] * 30, *silent, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    assert down(first)["answers_between_gaps"] == 3


def test_processes_that_ended_at_work_are_counted() -> None:
    """The first two ended with requests in flight, and so did the third, whose port refuses scrapes; of another server
    the second was drained, and a scrape that is waited for is no end."""
    rows = {
        "up": [1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0],
        "process_start_time": [100.0] * 3 + [115.0] * 3 + [130.0] * 4,
        "in_flight": [3.0, 4.0, 4.0, 1.0, 1.0, 1.0, 0.0, 2.0, 2.0, 2.0],
        "scrape_seconds": [0.01] * 8 + [0.0005] * 2,
    }
    assert ended_at_work(made(onset=2, **rows)) == 3
    assert ended_at_work(made(onset=2, **rows | {"scrape_seconds": [0.01] * 8 + [5.0] * 2})) == 2
    drained = rows["in_flight"][:3] + [0.0] * 3 + rows["in_flight"][6:]
    assert ended_at_work(made(onset=2, **rows | {"in_flight": drained})) == 2
    assert ended_at_work(made(onset=2, up=rows["up"])) is None


def test_scrapes_that_are_answered_late_are_counted_once_for_each_time() -> None:
    """Two in a row are one stop; what is given up on may have been lost; where every scrape takes long none is late;
    and what was before the minute before the onset is another story."""
    took = [0.01, 0.01, 2.0, 3.0, 0.01, 0.01, 0.4, 0.01, 5.0, 0.01, 0.01]
    up = [1.0] * 8 + [0.0] + [1.0] * 2
    assert down(made(onset=2, up=up, scrape_seconds=took))["late_scrapes"] == 2
    assert down(made(onset=2, up=[1.0] * 11, scrape_seconds=[0.2, 0.3, 0.4] * 3 + [0.3, 0.5]))["late_scrapes"] == 0
    assert down(made(onset=25, up=[1.0] * 30, scrape_seconds=[0.01, 2.0] + [0.01] * 28))["late_scrapes"] == 0


def test_a_server_that_left_service_discovery_is_gone_too() -> None:
    """Nothing failed; nobody asks it any more."""
    up: list[float | None] = [1.0] * 6 + [None] * 6
    told = down(made(onset=2, up=up, running=[2.0] * 12))
    assert (told["down_s"], told["unasked"]) == (30.0, True)


def test_without_up_nobody_knows_whether_scrapes_failed() -> None:
    """Unknown, not fine; and a server that always answered has no length of failed scrapes."""
    assert set(down(made(running=[1.0] * 30)).values()) == {None}
    assert down(made(up=[1.0] * 30)) == {
        "down_s": 0.0, "unasked": False, "answers_between_gaps": None, "failed_scrape_s": None,
        "answered_scrape_s": None, "late_scrapes": None,
    }  # fmt: skip


def stopped(after: float, *, onset: int = 20) -> Window:
    """100 prompt tokens a second, a stop of 15 s, and `after` prompt tokens in the step that ended it."""
    progress = [10.0 * n for n in range(50)]
    computed = [500.0 * n for n in range(50)]
    for n in range(31, 34):
        progress[n], computed[n] = progress[30], computed[30]
    for n in range(34, 50):
        computed[n] = computed[30] + after + 500.0 * (n - 34)
    return made(onset=onset, progress_total=progress, in_flight=[3.0] * 50, prompt_computed_total=computed)


@pytest.mark.parametrize(("after", "ratio"), [(2000.0, 1.0), (22000.0, 6.0)])
def test_what_a_stop_was_spent_on(after: float, ratio: float) -> None:
    """An engine that stood still works off what arrived meanwhile; one that read a giant prompt shows its tokens."""
    assert prefill_at_stops(stopped(after), 100.0, 1.0) == pytest.approx(ratio, abs=0.3)


def test_more_arrivals_are_no_giant() -> None:
    """Twice the arrivals make twice the backlog of a stop."""
    assert prefill_at_stops(stopped(6000.0), 100.0, 2.0) == pytest.approx(0.8, abs=0.3)


def test_without_a_counter_or_an_end_nothing_is_said_of_stops() -> None:
    """Unknown, as long as the engine stands still, and where nothing is usual."""
    window = stopped(2000.0)
    assert prefill_at_stops(window, None, 1.0) is None
    assert prefill_at_stops(made(progress_total=[1.0] * 30, in_flight=[3.0] * 30), 100.0, 1.0) is None


def test_one_scrape_that_was_given_up_on_may_have_been_lost() -> None:
    """A second one is not over: who is down is told of after two. One that was refused counts, and so does one where
    scrapes are rare, or the second."""
    ups, took = [1.0] * 20 + [0.0], [0.01] * 20 + [5.0]

    def down_s(interval: float = 5.0, last: float = 5.0, more: int = 0) -> object:
        seconds = [*took[:-1], last, *[5.0] * more]
        return down(made(onset=15, interval=interval, up=ups + [0.0] * more, scrape_seconds=seconds))["down_s"]

    assert down_s() == 0.0
    assert down_s(more=1) == 10.0
    assert down_s(last=0.002) == 5.0
    assert down_s(interval=30.0) == 5.0
