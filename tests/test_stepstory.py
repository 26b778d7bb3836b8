"""Are stalls, freezes, prefills and preemptions told from the steps of a ring?"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from responder.recorder import layout
from responder.ringfile import Head, Record, Ring, restore
from responder.stepstory import Story, period, series, tell
from tests.requests.otlp import stored

HEAD = Head(1, 0, 100, 0.0, 1.0, "", "0.32.0", "m")
SOUND = layout.SCHEDULER_KNOWN | layout.OUTPUTS_KNOWN


def step(seq: int, at: float, **values: object) -> Record:
    """A step of eight decoding requests, unless said otherwise."""
    made = {
        "kind": layout.STEP,
        "flags": SOUND,
        "seq": seq,
        "at": at,
        "mono": at,
        "running": 8,
        "waiting": 0,
        "deferred": 0,
        "kv": 0.5,
        "preempted": 0,
        "prompt": 0,
        "generated": 8,
        "finished": 0,
        "hits": 0,
        "queries": 0,
        "ttft": 0.0,
        "itl": 0.0,
        "worst_e2e": 0.0,
        "worst_queue": 0.0,
        "worst_prefill": 0.0,
        "worst_decode": 0.0,
        "worst_prompt": 0,
        "worst_generated": 0,
        "worst_preemptions": 0,
        "worst_id": "",
    }
    return Record(**(made | values))  # type: ignore[arg-type]


def ring(records: Iterable[Record]) -> Ring:
    """A ring of these."""
    return Ring(HEAD, tuple(records))


def steady(count: int, *, every: float = 0.02, start: float = 1000.0, seq: int = 0) -> list[Record]:
    """So many steps at the same distance."""
    return [step(seq + k, start + k * every, itl=every) for k in range(count)]


def later(records: list[Record], **values: object) -> Record:
    """A further step after some seconds."""
    gap = float(values.pop("after", 0.02))  # type: ignore[arg-type]
    last = records[-1]
    return step(last.seq + 1, last.at + gap, **values)


def recorded(name: str) -> Story:
    """What a real server's ring tells."""
    return tell(restore(stored(name)))


def test_steady_steps_have_no_stalls() -> None:
    """And their usual latency is known."""
    story = tell(ring(steady(300)))
    assert story.stalls == ()
    assert story.typical_s == pytest.approx(0.02)


def test_a_stall_of_the_engine() -> None:
    """300 ms that no five-second scrape can see; the engine's clock saw it, too."""
    records = steady(100)
    records.append(later(records, after=0.3, itl=0.3))
    records += steady(100, start=records[-1].at + 0.02, seq=len(records))
    (stall,) = tell(ring(records)).stalls
    assert (stall.seconds, stall.kind, stall.place) == (pytest.approx(0.3), "unexplained", "engine")


def test_a_stall_of_the_front_end() -> None:
    """The engine went on; its outputs came all at once, each with a small time of its own."""
    records = steady(100)
    records.append(later(records, after=1.0, itl=0.02))
    records += [step(records[-1].seq + 1 + k, records[-1].at + 0.001 * (k + 1), itl=0.02) for k in range(20)]
    (stall,) = tell(ring(records)).stalls
    assert stall.place == "front_end"


def test_idle_is_no_stall() -> None:
    """Nothing in flight for ten seconds."""
    records = steady(100)
    records.append(later(records, running=0, generated=8, finished=8))
    records += [step(101 + k, records[-1].at + 10 + k * 0.02, itl=0.02) for k in range(100)]
    assert tell(ring(records)).stalls == ()


def test_sleep_is_no_stall_and_no_freeze() -> None:
    """vLLM was put to sleep with a request in flight."""
    records = steady(100)
    records.append(later(records, kind=layout.SLEEP, running=1))
    for _ in range(10):
        records.append(later(records, after=1.0, kind=layout.TICK, running=8))
    story = tell(ring(records))
    assert story.asleep
    assert story.silent_in_flight_s == 0.0
    records.append(later(records, kind=layout.SLEEP, running=0))
    records += steady(50, start=records[-1].at + 1, seq=200)
    assert not tell(ring(records)).asleep
    assert tell(ring(records)).stalls == ()


def test_a_giant_prefill_is_the_reason_of_its_stall() -> None:
    """In one step, or in chunks whose tokens are counted when the last one ends."""
    records = steady(100)
    records.append(later(records, after=0.5, itl=0.5, prompt=9000, running=9, generated=9))
    records += steady(50, start=records[-1].at + 0.02, seq=101)
    assert [s.kind for s in tell(ring(records)).stalls] == ["prefill"]

    records = steady(100)
    for _ in range(4):
        records.append(later(records, after=0.4, itl=0.4, running=9, generated=8))
    records.append(later(records, after=0.4, itl=0.4, running=9, generated=9, prompt=9000))
    records += steady(50, start=records[-1].at + 0.02, seq=105)
    assert [s.kind for s in tell(ring(records)).stalls] == ["prefill"] * 5


def test_preemptions_come_in_order_with_their_reason() -> None:
    """A full cache, three preemptions in two steps, the queue grows."""
    records = steady(100)
    records.append(later(records, kv=1.0))
    records.append(later(records, kv=0.9, preempted=1, waiting=1, running=7, generated=7))
    records.append(later(records, kv=0.8, preempted=2, waiting=3, running=5, generated=5))
    records += steady(50, start=records[-1].at + 0.02, seq=103)
    (cascade,) = tell(ring(records)).cascades
    assert (cascade.preempted, cascade.steps, cascade.kv_before, cascade.waiting_before, cascade.waiting_after) == (
        3,
        2,
        1.0,
        0,
        3,
    )


def test_a_freeze_is_dated_by_the_tick() -> None:
    """Ticks go on without steps while requests are in flight; not when nothing is."""
    records = steady(100)
    for _ in range(7):
        records.append(later(records, after=1.0, kind=layout.TICK, running=8))
    assert tell(ring(records)).silent_in_flight_s == pytest.approx(7.0)
    records = [*steady(99), step(99, 1002.0, running=0)]
    records.append(later(records, after=5.0, kind=layout.TICK, running=0))
    assert tell(ring(records)).silent_in_flight_s == 0.0


def test_regular_stalls_have_a_period() -> None:
    """Every three seconds."""
    records = steady(50)
    for _ in range(5):
        records.append(later(records, after=1.0, itl=1.0))
        records += steady(100, start=records[-1].at + 0.02, seq=records[-1].seq + 1)
    assert period(tell(ring(records)).stalls) == pytest.approx(3.0, abs=0.1)


def test_an_empty_ring_tells_nothing() -> None:
    """A server that has just started."""
    story = tell(ring([]))
    assert (story.stalls, story.cascades, story.last_step, story.typical_s) == ((), (), None, None)


def test_series_have_every_step_until_there_are_too_many() -> None:
    """Then a point is the worst of its stretch: no stall is averaged away."""
    records = steady(1000)
    records.append(later(records, after=0.7, itl=0.7))
    latency = series(ring(records), 0, 1e10)[0]
    assert len(latency.points) == 1001
    few = series(ring(records), 0, 1e10, most=50)
    assert len(few[0].points) <= 51
    assert max(v for _, v in few[0].points if v is not None) == pytest.approx(0.7)


def test_a_real_server_whose_worker_stopped_for_two_seconds_every_eight() -> None:
    """Recorded: vLLM 0.32. Two-second scrapes could not count these; their distance is known to a tenth of a second."""
    story = recorded("stall_steps_0.32")
    long = [s for s in story.stalls if s.seconds > 1.5]
    assert len(long) == 4
    assert all(s.place == "engine" and s.kind == "unexplained" for s in long)
    assert period(long) == pytest.approx(8.0, abs=0.1)


def test_a_real_server_with_giant_prompts() -> None:
    """Recorded: prompts of 3,000 tokens among short ones."""
    story = recorded("giant_steps_0.32")
    assert story.stalls
    assert {s.kind for s in story.stalls} == {"prefill"}


def test_a_real_server_that_preempts() -> None:
    """Recorded: 14 KV blocks, four long requests every six seconds."""
    story = recorded("preempt_steps_0.32")
    assert [c.preempted for c in story.cascades] == [8, 8, 9, 1]
    assert all(c.kv_before > 0.99 for c in story.cascades)
    assert max(p.record.worst_preemptions for p in story.paces) >= 1


def test_a_real_server_frozen_and_killed() -> None:
    """Recorded: its worker stopped under load, seven seconds later kill -9 of every process."""
    story = recorded("frozen_steps_0.32")
    assert story.silent_in_flight_s == pytest.approx(6.8, abs=0.2)
    assert story.last_step is not None
    assert story.last_step.running == 2
