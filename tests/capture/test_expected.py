"""expected: what does it ask Prometheus, and what does it make of the answers?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from responder.capture import expected
from responder.capture.step import Brief, NoParams
from responder.expected import Model
from responder.model import Outcome, Scalar
from tests.doubles import NOW, ONSET, scene

SIGNALS = {name: name for name in (*expected.LOAD, *expected.DAILY)}
MINE, OTHER = {"instance": "a:8000"}, {"instance": "b:8000"}


class Server:
    """A server whose load swings and whose latency follows; since the onset `slower` times slower."""

    def __init__(self, slower: float = 1.0, busier: float = 1.0, lost: int = 0, since: float = 0.0) -> None:
        self.slower, self.busier, self.lost, self.since = slower, busier, lost, since

    def at(self, signal: str, at: float) -> float | None:
        if at < self.since or (self.lost and int(at) % self.lost):
            return None
        load = 12 + 8 * math.sin(at / 97)
        slow = self.slower if at >= ONSET else 1.0
        return {
            "running": load,
            "prompt_computed_rate": 1000 + 500 * math.sin(at / 61),
            "kv_usage": load / 40,
            "prompt_tokens_mean": 256 + 64 * math.cos(at / 41),
            "prefix_hit_rate": 0.25,
            "itl_mean": (0.01 + 0.0004 * load) * slow,
            "ttft_mean": (0.05 + 0.002 * load) * slow,
            "arrival_rate": 4.0 if at < ONSET - 3600 else 4.0 * self.busier,
        }.get(signal, 1.0)

    async def __call__(self, expr: str, start: float, end: float, step: float) -> Any:
        times = [start + n * step for n in range(int((end - start) / step + 1e-6) + 1)]
        return [(MINE, [(at, self.at(expr, at)) for at in times]), (OTHER, [(at, 99.0) for at in times])]


async def facts(server: Any, learned: Model | None = None) -> dict[str, Scalar]:
    kept = {"t": {expected.EXPECTATION: learned.model_dump_json()}} if learned else {}
    async with scene(range_query=server, signals=SIGNALS) as here:
        fetched = await expected.STEP.fetch(replace(here, remembered=kept), NoParams())
    assert fetched.outcome is Outcome.OK, fetched.reason
    found = list(expected.STEP.read(fetched.files, Brief(target="t", now=NOW, onset_at=ONSET, opened_at=NOW)))
    assert {fact.name for fact in found} <= {spec.name for spec in expected.STEP.facts}
    return {fact.name.removeprefix("expected."): fact.value for fact in found}


def near(value: Scalar, wanted: float, share: float = 0.05) -> bool:
    return isinstance(value, float) and abs(value - wanted) <= share * wanted


async def test_latency_that_the_load_explains_is_as_expected() -> None:
    """Learned from the half hour before the onset when nothing else was learned."""
    found = await facts(Server())
    assert near(found["itl_ratio"], 1.0)
    assert near(found["ttft_ratio"], 1.0)
    assert found["source"] == "the half hour before the onset"


async def test_twice_as_slow_at_the_same_load() -> None:
    """The ratio says by how much, the residual how sure."""
    found = await facts(Server(slower=2.0))
    assert near(found["itl_ratio"], 2.0)
    sigmas = found["itl_residual_sigmas"]
    assert isinstance(sigmas, float)
    assert sigmas > 5


async def test_too_short_a_history_is_unknown() -> None:
    """Started five minutes ago, and nothing learned: no expectation."""
    found = await facts(Server(since=ONSET - 200))
    assert (found["itl_ratio"], found["ttft_ratio"]) == (None, None)


async def test_half_the_scrapes_lost_still_tells() -> None:
    """Gaps are gaps, not zeros."""
    found = await facts(Server(slower=2.0, lost=2))
    assert near(found["itl_ratio"], 2.0, 0.1)


async def test_busier_than_yesterday() -> None:
    """The same hour yesterday; unknown where Prometheus does not reach back."""
    assert near((await facts(Server(busier=3.0)))["arrival_rate_vs_yesterday"], 3.0)
    assert (await facts(Server(since=NOW - 40_000)))["arrival_rate_vs_yesterday"] is None


async def test_what_was_learned_before_is_used_and_kept() -> None:
    """Twelve samples an hour ago would not do; what the daemon had learned does, and lies in the folder."""
    first = Model()
    from responder.expected import Observation, learn

    server = Server()
    for number in range(300):
        at = NOW - 90_000 + 15 * number
        first = learn(first, Observation(*(server.at(name, at) for name in expected.LOAD)))
    found = await facts(Server(slower=1.5, since=ONSET - 200), first)
    assert found["source"] == "learned in healthy times"
    assert near(found["itl_ratio"], 1.5)


async def test_a_silent_prometheus_is_said() -> None:
    """And without one at all the step is skipped."""

    async def refused(*_: Any) -> Any:
        raise OSError("refused")

    async with scene(range_query=refused, signals=SIGNALS) as here:
        assert (await expected.STEP.fetch(here, NoParams())).outcome is Outcome.FAILED
    async with scene() as here:
        assert (await expected.STEP.fetch(here, NoParams())).outcome is Outcome.SKIPPED
