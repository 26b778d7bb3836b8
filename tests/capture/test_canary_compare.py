"""Four ways of asking, and the replicas: each kind of defect leaves its own mark."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from responder.canaries.pins import Pinned
from responder.capture.canary_compare import STEP, fetch, read
from responder.capture.step import NoParams
from responder.model import Outcome, Target
from responder.redact import scrub
from tests.canaries.fakes import fake_vllm, record
from tests.doubles import BRIEF, scene


@asynccontextmanager
async def looked_at(
    *replicas: Target, pinned: Pinned | None = None, **faults: Any
) -> AsyncIterator[tuple[dict[str, Any], Outcome]]:
    """Facts about a fake server with these faults, and how the step ended."""
    async with fake_vllm() as (weights, double):
        for name, value in faults.items():
            setattr(weights, name, value)
        known = Pinned(records=(record(),), warm=True) if pinned is None else pinned
        async with scene(double.url, siblings=replicas) as here:
            got = await fetch(replace(here, pinned=lambda _: known), NoParams())
        kept = {name: scrub(data, ())[0] for name, data in got.files.items()}  # as the daemon writes it
        facts = {fact.name.removeprefix("canaries."): fact.value for fact in read(kept, BRIEF)}
        assert {f"canaries.{name}" for name in facts} <= {spec.name for spec in STEP.facts}
        yield facts, got.outcome


async def test_a_healthy_server() -> None:
    """Right in every way."""
    async with looked_at() as (facts, outcome):
        assert outcome is Outcome.OK
        assert (facts["drifted"], facts["nan"], facts["match"], facts["changed"]) == (False, False, 1.0, False)
        assert (facts["batch_only"], facts["cache_only"], facts["every_way_wrong"]) == (False, False, False)


async def test_other_weights_are_wrong_in_every_way_and_are_numbers() -> None:
    """What a wrong checkpoint looks like."""
    async with looked_at(other=True) as (facts, _):
        assert (facts["every_way_wrong"], facts["nan"], facts["batch_only"]) == (True, False, False)
        assert facts["shift"] > 1


async def test_nan() -> None:
    """Told from wrong weights."""
    async with looked_at(nan=True) as (facts, _):
        assert (facts["nan"], facts["drifted"]) == (True, True)


async def test_nan_without_log_probabilities_is_token_zero() -> None:
    """A server that is not warm is not made to compile; NaN then shows as token 0, and `nan` stays unknown."""
    async with looked_at(nan=True, pinned=Pinned(records=(record(),), warm=False)) as (facts, _):
        assert (facts["nan"], facts["token_zero"], facts["drifted"]) == (None, True, True)


async def test_a_defect_of_batches() -> None:
    """Right alone, wrong together."""
    async with looked_at(wrong_together=True) as (facts, _):
        assert (facts["alone_wrong"], facts["batch_only"], facts["every_way_wrong"]) == (False, True, False)


async def test_a_defect_of_cached_prefixes() -> None:
    """Wrong where a long prompt is shared, right when salted."""
    async with looked_at(wrong_cached=True) as (facts, _):
        assert (facts["cache_only"], facts["long_only"], facts["batch_only"]) == (True, True, False)


async def test_a_changed_server_is_said() -> None:
    """Another version than recorded."""
    async with looked_at(version="2") as (facts, _):
        assert (facts["changed"], facts["drifted"]) == (True, False)


async def test_without_a_record_only_replicas_are_compared() -> None:
    """Nothing is called wrong that was never called right."""
    async with looked_at(pinned=Pinned()) as (facts, outcome):
        assert outcome is Outcome.PARTIAL
        assert facts["recorded"] is False
        assert "drifted" not in facts


@pytest.mark.parametrize(("here", "there", "odd"), [("other", None, "t"), (None, "other", "b"), (None, None, "none")])
async def test_the_odd_replica_stands_out(here: str | None, there: str | None, odd: str) -> None:
    """Three replicas, one sick."""
    async with fake_vllm() as (_, a), fake_vllm() as (weights, b):
        if there:
            setattr(weights, there, True)
        replicas = (Target(name="a", url=a.url), Target(name="b", url=b.url))
        async with looked_at(*replicas, **({here: True} if here else {})) as (facts, _outcome):
            assert (facts["odd_one_out"], facts["odd_here"], facts["replicas"]) == (odd, odd == "t", 2)
            assert facts["replicas_agree"] is (odd == "none")


async def test_a_replica_of_another_model_or_out_of_reach_is_left_out() -> None:
    """Only servers of the same model count."""
    async with looked_at(Target(name="gone", url="http://127.0.0.1:9")) as (facts, _):
        assert facts["replicas"] == 0
        assert "odd_here" not in facts


async def test_a_target_without_canaries_is_not_asked() -> None:
    """`canary: false`."""
    async with scene(canary=False) as here:
        assert (await fetch(here, NoParams())).outcome is Outcome.SKIPPED


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"record": 1, "ways": {}, "replicas": {}, "target": "t"}'])
def test_broken_bytes_give_no_facts(raw: bytes) -> None:
    """A stored folder may be cut."""
    assert list(read({"canaries.json": raw}, BRIEF)) == []
