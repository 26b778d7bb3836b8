"""Are slow requests explained rightly: bursts, giants, replicas, tenants, queues?"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from responder.requests.bursts import regular
from responder.requests.explain import explain
from responder.requests.record import Replica, Request, replace, restore
from tests.requests.otlp import T0, stored

R1, R2 = Replica("r1"), Replica("r2")


def traffic(seconds: float = 120.0, rate: float = 4.0, seed: int = 1) -> list[Request]:
    """Ordinary requests on one replica: 200 tokens in, 100 out, 20 ms a token, all with a little noise."""
    rng = random.Random(seed)
    made, at = [], T0
    while at < T0 + seconds:
        at += rng.expovariate(rate)
        output = rng.randint(50, 150)
        queue, prefill = rng.uniform(0, 0.002), rng.uniform(0.04, 0.06)
        decode = (output - 1) * rng.uniform(0.018, 0.022)
        made.append(
            Request(
                id=f"r{len(made)}",
                start=at,
                e2e=queue + prefill + decode + 0.005,
                ttft=queue + prefill + 0.005,
                queue=queue,
                prefill=prefill,
                decode=decode,
                prompt_tokens=rng.randint(100, 300),
                completion_tokens=output,
                max_tokens=200,
                n=1,
                replica=R1,
            )
        )
    return made


def stalled(requests: list[Request], at: float, seconds: float) -> list[Request]:
    """The same with the engine standing still for a while: whatever was alive takes that much longer."""
    out = []
    for r in requests:
        if not r.start < at < r.end:
            out.append(r)
        elif r.ttft is not None and r.start + r.ttft > at:
            out.append(replace(r, e2e=r.e2e + seconds, ttft=r.ttft + seconds, prefill=(r.prefill or 0) + seconds))
        else:
            out.append(replace(r, e2e=r.e2e + seconds, decode=(r.decode or 0) + seconds))
    return out


def test_healthy_traffic_has_no_slow_requests() -> None:
    """Ten kinds of it."""
    for seed in range(10):
        found = explain(traffic(seed=seed))
        assert found is not None
        assert found.slow == ()
        assert found.pattern == "none"


def test_too_few_requests_say_nothing() -> None:
    """Nobody knows what is usual."""
    assert explain(traffic()[:10]) is None


@pytest.mark.parametrize("seed", range(5))
def test_periodic_stalls_are_bursts_with_their_period(seed: int) -> None:
    """Two seconds every twenty: whatever was in flight, and nothing else."""
    requests = traffic(seed=seed)
    for k in range(1, 6):
        requests = stalled(requests, T0 + 20 * k, 2.0)
    found = explain(requests)
    assert found is not None
    assert found.pattern == "bursts"
    assert len(found.bursts) == 5
    assert found.period_s == pytest.approx(20, abs=2)
    assert all(b.seconds == pytest.approx(2.0, abs=0.5) for b in found.bursts)
    assert {s.where for s in found.slow} <= {"decode", "prefill"}


@pytest.mark.parametrize("seed", range(5))
def test_giant_prompts_are_individuals_with_victims(seed: int) -> None:
    """Three prompts of 30,000 tokens; those beside their prefill lose a little more than usual."""
    requests = traffic(seed=seed)
    for k in (1, 2, 3):
        at = T0 + 30 * k
        requests = stalled(requests, at + 0.1, 1.5)
        requests.append(replace(requests[0], id=f"giant{k}", start=at, e2e=3.6, ttft=1.6, queue=0.0, prefill=1.6,
                                decode=2.0, prompt_tokens=30_000))  # fmt: skip
    found = explain(requests)
    assert found is not None
    giants = [s for s in found.slow if s.giant]
    assert {s.request.id for s in giants} == {"giant1", "giant2", "giant3"}
    assert all(s.where == "prefill" and s.match == "any" for s in giants)
    assert found.victims >= len(found.slow) - 3 - 1
    assert found.bursts == ()
    assert found.pattern == "individuals"


def test_queueing_is_told_from_computing() -> None:
    """A few waited for a place."""
    requests = traffic()
    for k in range(20, 400, 60):
        r = requests[k]
        requests[k] = replace(r, queue=3.0, ttft=(r.ttft or 0) + 3.0, e2e=r.e2e + 3.0)
    found = explain(requests)
    assert found is not None
    assert {s.where for s in found.slow} == {"queue"}
    assert all(s.match == "same length, replica and minute" for s in found.slow)


def test_time_in_the_front_end_is_told() -> None:
    """TTFT without queue and prefill: tokenising, parsing, a blocked event loop."""
    requests = traffic()
    for k in range(20, 400, 60):
        r = requests[k]
        requests[k] = replace(r, ttft=(r.ttft or 0) + 3.0, e2e=r.e2e + 3.0)
    found = explain(requests)
    assert found is not None
    assert {s.where for s in found.slow} == {"before_queue"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: replace(r, replica=R2), "replica r2"),
        (lambda r: replace(r, tenant="tenant-0a"), "tenant tenant-0a"),
        (lambda r: replace(r, max_tokens=4000), "max_tokens 2049..4096"),
        (lambda r: replace(r, attempts=2), "attempts more than one"),
    ],
)
def test_what_the_slow_ones_share(change: Callable[[Request], Request], says: str) -> None:
    """Nearly all slow ones have it and few of the fast ones."""
    requests = [replace(r, tenant="tenant-ff") for r in traffic()]
    for k in range(20, 400, 40):
        r = change(requests[k])
        requests[k] = replace(r, decode=(r.decode or 0) + 5, e2e=r.e2e + 5)
    found = explain(requests)
    assert found is not None
    assert any(says in trait for trait in found.shared)
    assert found.pattern == "individuals"


def test_when_most_are_slow_it_is_no_matter_of_a_few() -> None:
    """The median itself is slow then: nothing stands out, and nothing is made up."""
    found = explain([replace(r, decode=(r.decode or 0) * 20, e2e=r.e2e * 20) for r in traffic()])
    assert found is not None
    assert found.pattern in ("none", "most")


def test_spans_without_phases_are_compared_as_wholes() -> None:
    """Only a duration is known."""
    requests = [Request(id=r.id, start=r.start, e2e=r.e2e, replica=R1) for r in traffic()]
    requests[50] = replace(requests[50], e2e=60.0)
    found = explain(requests)
    assert found is not None
    assert [s.request.id for s in found.slow] == ["r50"]
    assert found.slow[0].where == ""


def test_a_real_server_with_stalls() -> None:
    """Recorded: vLLM 0.32, its worker stopped for two seconds every eight; the last burst had other causes, too."""
    requests, _ = restore(stored("stall_0.32"))
    found = explain(requests)
    assert found is not None
    assert found.pattern == "bursts"
    assert all(b.hit == b.in_flight == 4 for b in found.bursts)
    assert [round(b.seconds) for b in found.bursts[:3]] == [2, 2, 2]
    assert found.period_s == pytest.approx(8, abs=1.5)


def test_a_real_server_with_giant_prompts() -> None:
    """Recorded: a prompt of 3,000 tokens every six seconds among short ones."""
    requests, _ = restore(stored("giant_0.32"))
    found = explain(requests)
    assert found is not None
    giants = [s for s in found.slow if s.giant]
    assert len(giants) >= 3
    assert {s.request.prompt_tokens for s in giants} == {3000}
    assert (len(giants) + found.victims) / len(found.slow) > 0.6


def test_the_order_of_requests_does_not_matter() -> None:
    """Same verdict for any order of arrival of their spans."""
    requests, _ = restore(stored("stall_0.32"))
    mixed = list(requests)
    random.Random(3).shuffle(mixed)
    a, b = explain(requests), explain(mixed)
    assert a is not None
    assert b is not None
    assert (a.slow, a.bursts, a.pattern, a.shared) == (b.slow, b.bursts, b.pattern, b.shared)


def test_regular_events() -> None:
    """Three or more at equal distances."""
    assert regular([0, 10, 20.5, 30]) == pytest.approx(10, abs=0.6)
    assert regular([0, 10]) is None
    assert regular([0, 1, 20, 90]) is None
