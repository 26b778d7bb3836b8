"""aftermath: who waited through a time in which no scrape was answered, and whose fault was it?"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from responder.capture import aftermath
from responder.capture.step import NoParams
from responder.model import Outcome, Scalar
from tests.doubles import BRIEF, NOW, ONSET, scene

EDGES = ("0.5", "1.0", "1.5", "2.5", "5.0", "10.0", "15.0", "20.0", "30.0", "40.0", "+Inf")


def grown(counts: dict[str, float]) -> dict[str, float]:
    """What a histogram grew by, cumulative, from how many finished up to each edge."""
    below, out = 0.0, {}
    for edge in EDGES:
        below += counts.get(edge, 0.0)
        out[edge] = below
    return out


def record(
    counts: dict[str, float], engine: float, inside: float = 16.0, started: float = 0.0, cpu: float = 1.1
) -> bytes:
    """Silent for 24 s between two answers 31 s apart; `engine`: seconds that all who finished took in it."""
    grew = {
        "e2e": grown(counts), "queue": {"": 0.0}, "prefill": {"": 0.0}, "decode": {"": engine},
        "cpu": {"": cpu}, "started": {"": started},
    }  # fmt: skip
    return json.dumps({"since": 100.0, "until": 131.0, "failed_s": 24.0, "inside": inside, "grew": grew}).encode()


def facts(raw: bytes) -> dict[str, Scalar]:
    return {fact.name.split(".")[1]: fact.value for fact in aftermath.STEP.read({"aftermath.json": raw}, BRIEF)}


def test_those_inside_a_frozen_one_waited_for_all_of_it() -> None:
    """As recorded: 16 inside, 15 finished after as long as the silence, the others as fast as ever."""
    found = facts(record({"1.0": 12, "1.5": 19, "2.5": 2, "30.0": 15}, engine=51.0))
    assert (found["held"], found["held_for_each_inside"], found["part_s"]) == (15, 0.9375, 0.0)
    assert found["cpu_share"] == pytest.approx(1.1 / 31, abs=1e-4)


def test_of_one_that_is_let_run_at_moments_all_waited_for_a_part() -> None:
    """As recorded: who came meanwhile was taken in, and nobody waited for all of it."""
    found = facts(record({"2.5": 14, "5.0": 11, "10.0": 35, "15.0": 23}, engine=60.0, inside=0.0))
    assert found["held"] == 0
    assert found["part_s"] == pytest.approx((14 * 1.5 + 11 * 2.5 + 35 * 5 + 23 * 10 - 60) / 83, abs=1e-4)
    assert found["engine_share"] == pytest.approx(60 / 83 / 24, abs=1e-4)


def test_one_that_nobody_reached_made_nobody_wait() -> None:
    """A network that is cut: all finished as fast as ever."""
    found = facts(record({"1.0": 40, "1.5": 40}, engine=75.0))
    assert (found["held"], found["part_s"]) == (0, 0.0)


def test_an_engine_that_stood_still_held_them_itself() -> None:
    """What it knows of is not the front end's."""
    assert facts(record({"1.0": 12, "30.0": 15}, engine=360.0))["held"] == 0


@pytest.mark.parametrize(
    "raw",
    [record({"1.0": 3}, 3.0, started=900.0), record({}, 0.0), record({"1.0": -3}, 3.0)],
    ids=["another process", "nobody finished", "counters that fell"],
)
def test_nothing_is_said_of_who_waited(raw: bytes) -> None:
    """Only how long it was silent, and what CPU it used."""
    assert set(facts(raw)) == {"silent_s", "cpu_share"}


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[]", b"{}", b'{"grew": 1}'])
def test_damaged_files_give_no_facts(raw: bytes) -> None:
    """A stored folder may be damaged."""
    assert facts(raw) == {}


class Prometheus:
    """Answers scrapes but between two times; counters grow by one a second."""

    def __init__(self, since: float, until: float) -> None:
        self.since, self.until = since, until
        self.asked: list[tuple[float, float]] = []

    async def __call__(self, expr: str, start: float, end: float, step: float) -> list[tuple[dict[str, str], Any]]:
        times = [start + n * step for n in range(int((end - start) / step + 1e-6) + 1)]
        if "up{" in expr:
            return [({}, [(at, float(not self.since <= at < self.until)) for at in times])]
        self.asked.append((start, end))
        return [({"le": "1.0"} if "bucket" in expr else {}, [(at, at) for at in times])]


async def test_it_reads_counters_from_the_last_answer_to_the_next() -> None:
    """Also where the next one is the last sample there is."""
    prometheus = Prometheus(ONSET, NOW)
    async with scene(range_query=prometheus) as where:
        fetched = await aftermath.STEP.fetch(where, NoParams())
    assert fetched.outcome is Outcome.OK
    told = json.loads(fetched.files["aftermath.json"])
    assert (told["since"], told["until"], told["failed_s"]) == (ONSET - 5, NOW, NOW - ONSET - 5)
    assert set(prometheus.asked) == {(ONSET - 5, NOW), (ONSET - 5, ONSET - 5)}
    assert told["grew"]["e2e"] == {"1.0": 65.0}


@pytest.mark.parametrize(
    "gap", [(ONSET, NOW + 5), (ONSET, ONSET + 5), (0.0, 1.0)], ids=["goes on", "one scrape", "none"]
)
async def test_it_says_why_there_is_nothing(gap: tuple[float, float]) -> None:
    """No silence, one lost scrape, or one that goes on."""
    async with scene(range_query=Prometheus(*gap)) as where:
        fetched = await aftermath.STEP.fetch(where, NoParams())
    assert (fetched.outcome, fetched.reason) == (
        Outcome.SKIPPED,
        "no scrapes failed in a row, or none has been answered since",
    )


async def test_a_prometheus_that_never_answers_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the step's own time limit, and said so."""
    monkeypatch.setattr(aftermath, "QUERY_TIMEOUT_S", 0.01)

    async def silent(*_: object) -> list[tuple[dict[str, str], Any]]:
        await asyncio.Event().wait()
        return []

    async with scene(range_query=silent) as where:
        fetched = await aftermath.STEP.fetch(where, NoParams())
    assert fetched.outcome is Outcome.FAILED
    assert fetched.reason.startswith("Prometheus did not answer: TimeoutError")


@pytest.mark.parametrize("edge", ["evil", "NaN", "", "-Inf"])
def test_a_hostile_edge_of_a_histogram_confirms_nobodys_wait(edge: str) -> None:
    """What is no length of time is nobody who waited through the silence."""
    told = json.loads(record({"1.0": 3}, 3.0))
    told["grew"]["e2e"][edge] = 5.0
    assert facts(json.dumps(told).encode()).get("held", 0.0) == 0.0
