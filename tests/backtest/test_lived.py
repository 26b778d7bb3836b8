"""Scrapes that get lost on the way to a server that works on are no incident; a door that was shut is one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from responder.backtest.lived import Gap, gaps, lived, lulled, went_on
from responder.backtest.scan import Stretch
from responder.backtest.walk import Answers, Walk
from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.correlate import Policy
from responder.model import Sample, Target

ONE = Target(name="gpu-1:8000", url="http://gpu-1:8000", match={"instance": "gpu-1:8000"})
GAP = Gap(0.0, 300.0, 360.0)
BEFORE = {"tokens": 1000.0, "requests": 100.0, "steps": 500.0, "waited": 5.0, "running": 4.0, "waiting": 0.0,
          "started": 7.0, "took": 0.01}  # fmt: skip
LAST = BEFORE | {"tokens": 31_000.0, "requests": 400.0, "steps": 15_500.0, "waited": 20.0}
WELL = LAST | {"tokens": 37_000.0, "requests": 460.0, "steps": 18_500.0, "waited": 23.0}


def test_a_server_whose_counters_went_on_as_ever_was_there() -> None:
    """The same process, with tokens, requests and steps for the whole gap; metrics a site drops are not missed."""
    assert went_on(GAP, BEFORE, LAST, WELL)
    few = ("tokens", "requests", "running")
    assert went_on(GAP, *({name: shown[name] for name in few} for shown in (BEFORE, LAST, WELL)))


@pytest.mark.parametrize(
    "then",
    [
        {"tokens": 500.0, "requests": 5.0, "steps": 250.0, "waited": 0.3},
        {"started": 330.0},
        {"tokens": 33_000.0},
        {"steps": 16_500.0},
        {"running": 60.0},
        {"waiting": 60.0},
        {"waited": 80.0},
        {"took": 3.0},
        {"requests": 405.0},
        LAST,
    ],
    ids=["anew", "other_process", "few_tokens", "few_steps", "all_at_once", "queue", "late", "slow_scrape", "nobody",
         "stood"],
)  # fmt: skip
def test_who_stood_still_was_shut_or_began_anew_was_not(then: dict[str, float]) -> None:
    """Whatever it caught up with afterwards."""
    assert not went_on(GAP, BEFORE, LAST, WELL | then)


def test_one_scrape_that_showed_hardly_anybody_makes_no_crowd_of_as_many_as_ever() -> None:
    """Steps gave ten tokens each, one request was in flight at the last scrape, now it is twelve; forty are a crowd."""
    last, then = LAST | {"running": 1.0, "steps": 3500.0}, WELL | {"running": 12.0, "steps": 4100.0}
    assert went_on(GAP, BEFORE, last, then)
    assert not went_on(GAP, BEFORE, last, then | {"running": 40.0})


LULL = Gap(0.0, 300.0, 360.0, 240.0)
LATELY = LAST | {"tokens": 30_000.0, "requests": 390.0, "steps": 14_700.0, "waited": 19.5}
QUIET = LAST | {"tokens": 31_700.0, "requests": 407.0, "steps": 15_450.0 + 600.0, "waited": 20.4}


def test_a_server_with_little_to_do_before_a_gap_may_have_had_as_little_in_it() -> None:
    """A sixth of the usual requests in the minute before it and in the gap, one by one, and nobody waited."""
    assert not went_on(LULL, BEFORE, LAST, QUIET)
    assert lulled(LULL, LATELY, BEFORE, LAST, QUIET)


@pytest.mark.parametrize(
    ("gap", "lately", "then"),
    [
        (LULL, LATELY, {"steps": 15_700.0}),
        (LULL, LATELY, {"waited": 40.0}),
        (LULL, LATELY, {"started": 330.0}),
        (LULL, LATELY, {"running": 30.0}),
        (LULL, BEFORE | {"tokens": 25_000.0, "requests": 340.0, "steps": 12_500.0}, {}),
        (LULL._replace(lately=None), {}, {}),
    ],
    ids=["few_steps", "late", "other_process", "all_at_once", "busy_until_then", "not_seen"],
)
def test_who_was_shut_out_in_a_lull_is_told(gap: Gap, lately: dict[str, float], then: dict[str, float]) -> None:
    """All of it in one batch after the gap, waits, another process, or a gap that follows usual work."""
    assert not lulled(gap, lately, BEFORE, LAST, QUIET | then)


def test_a_process_that_has_only_just_begun_has_no_usual_time() -> None:
    """A crash loop whose metrics do not say when processes began."""
    shown = [{k: v for k, v in one.items() if k != "started"} for one in (BEFORE | {"tokens": 40_000.0}, LAST, WELL)]
    assert not went_on(GAP, *shown)


def test_a_gap_is_bounded_and_has_something_before_it() -> None:
    """Late scrapes are none, a silence of many minutes is one that somebody wants to know of."""
    assert gaps([0, 15, 30, 45, 90, 105], 15.0) == [Gap(0, 45, 90)], "nothing is known of a minute before"
    assert gaps([0, 15, 30, 45, 60, 75, 120, 135], 15.0) == [Gap(0, 75, 120, 15)]
    assert gaps([0, 45, 60, 75, 400], 15.0) == []


async def test_gaps_are_asked_for_where_scrapes_failed() -> None:
    """By what the scrapes around them show, summed over models."""

    async def ask(_: str, expr: str, start: float, end: float, step: float) -> Any:
        times = [start + n * step for n in range(int((end - start) / step + 1e-6) + 1)]
        stamp = lambda at: at // 15 * 15 if at < 300 or at >= 360 else 300.0  # noqa: E731
        if expr.startswith("timestamp"):
            return [({}, [(at, stamp(at)) for at in times if at >= 0])]
        name = re.sub(r"\{.*", "", expr)
        rate = {"vllm:generation_tokens_total": 50.0, "vllm:time_to_first_token_seconds_count": 1.0}.get(name)
        if rate is not None:
            return [({"model_name": model}, [(at, rate * stamp(at)) for at in times]) for model in ("a", "b")]
        return [({}, [(at, 2.0) for at in times])] if name == "vllm:num_requests_running" else []

    assert await lived(ask, ONE, [Stretch(ONE.name, 310.0, 355.0)], 15.0) == [Stretch(ONE.name, 300.0, 360.0)]
    assert await lived(ask, ONE, [Stretch(ONE.name, 500.0, 530.0)], 15.0) == []


@pytest.mark.parametrize(("worked", "told"), [([Stretch(ONE.name, 0.0, 60.0)], False), ([], True)])
def test_a_gap_that_a_server_worked_through_opens_nothing(worked: list[Stretch], told: bool) -> None:
    """What fails after it does."""
    here = {"instance": "gpu-1:8000"}
    walk = Walk(load(Config(), STEPS), [ONE], Policy(), lived=worked)
    down: Answers = {"up": (Sample(signal="up", labels=here, value=0.0, at=0.0),)}
    opened = [now for now in range(0, 60, 2) if walk.step(down, float(now), {ONE.name})]
    assert bool(opened) is told
    assert any(walk.step(down, float(now), {ONE.name}) for now in range(60, 90, 2)) is not told
    assert walk.lived == [], "a month has thousands of them, and each round asks"
