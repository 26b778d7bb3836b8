"""Expectations learned from load: right on the line, unknown beyond it, not moved by outliers."""

from __future__ import annotations

import random

import pytest

from responder.expected import ENOUGH, Model, Observation, expect, itl_load, learn, ttft_load


def observation(running: float, *, computed: float = 0.0, itl: float | None = None, noise: float = 0.0) -> Observation:
    """A server whose latencies follow its load, as measured servers do."""
    true = 0.008 + 0.0002 * running + computed * 1e-6
    ttft = 0.02 + 200 * 1e-4 + 0.001 * running
    return Observation(running, computed, running / 100, 200.0, 0.0, (itl if itl is not None else true) + noise, ttft)


def taught(samples: int = 200, seed: int = 1, outliers: int = 0) -> Model:
    dice, model = random.Random(seed), Model()
    for number in range(samples):
        load = dice.uniform(1, 40)
        seen = observation(load, computed=dice.uniform(0, 4000), noise=dice.gauss(0, 0.0003))
        if outliers and number > 50 and number % outliers == 0:
            seen = seen._replace(itl=5.0)
        model = learn(model, seen)
    return model


@pytest.mark.parametrize("running", [4.0, 16.0, 32.0])
def test_a_healthy_server_is_as_expected(running: float) -> None:
    """Within a few per cent, and the uncertainty is about that of the samples."""
    seen = observation(running, computed=2000)
    found = expect(taught().itl, itl_load(seen))
    assert found is not None
    assert seen.itl is not None
    assert found.value == pytest.approx(seen.itl, rel=0.05)
    assert 0.0002 < found.sigma < 0.001


def test_a_larger_batch_is_no_fault_and_a_slow_device_is() -> None:
    """At 32 requests tokens are slower than at 4, and expected to be; twice as slow is not."""
    model = taught()
    small, large = expect(model.itl, itl_load(observation(4))), expect(model.itl, itl_load(observation(32)))
    assert small is not None
    assert large is not None
    assert large.value > 1.3 * small.value
    slow = 2 * large.value
    assert (slow - large.value) / large.sigma > 8


def test_too_little_learned_is_unknown() -> None:
    """One sample short of enough."""
    assert expect(taught(ENOUGH - 1).itl, itl_load(observation(16))) is None
    assert expect(taught(ENOUGH).itl, itl_load(observation(16))) is not None


def test_load_unlike_anything_learned_is_unknown() -> None:
    """Four times the largest batch ever seen: no guess."""
    assert expect(taught().itl, itl_load(observation(160))) is None


def test_what_cannot_be_seen_teaches_nothing() -> None:
    """No requests running, or no latency: the model stays as it is."""
    model = taught(60)
    idle = Observation(0.0, 0.0, 0.0, None, None, 0.01, None)
    blind = Observation(None, None, None, None, None, None, None)
    assert learn(learn(model, idle), blind) == model
    assert itl_load(idle) is None
    assert ttft_load(blind) is None


def test_outliers_pull_no_harder_than_a_few_sigmas() -> None:
    """One stall in twenty samples, five hundred times the usual latency."""
    seen = observation(16, computed=2000)
    found = expect(taught(400, outliers=20).itl, itl_load(seen))
    assert found is not None
    assert seen.itl is not None
    assert found.value == pytest.approx(seen.itl, rel=0.15)


def test_a_constant_load_teaches_that_load_only() -> None:
    """Always sixteen requests: known there, unknown elsewhere, and no number runs away over days."""
    model = Model()
    for number in range(5_000):
        model = learn(model, observation(16, computed=1000, noise=0.0002 * (-1) ** number))
    found = expect(model.itl, itl_load(observation(16, computed=1000)))
    assert found is not None
    assert found.value == pytest.approx(observation(16, computed=1000).itl or 0, rel=0.03)
    assert expect(model.itl, itl_load(observation(40, computed=1000))) is None


def test_what_is_stored_is_what_is_learned() -> None:
    """A restart of the daemon changes no digit."""
    model = taught(80)
    assert Model.model_validate_json(model.model_dump_json()) == model
