"""Does the ring keep what it is given, within its bounds?"""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responder.requests.record import Replica, Request, dump, pseudonym, replace, restore
from responder.requests.ring import RequestRing
from responder.requests.spans import Around
from tests.requests.otlp import T0, stored

ONE = Request(
    id="cmpl-1",
    start=T0,
    e2e=2.0,
    ttft=0.5,
    queue=0.25,
    prefill=None,
    decode=1.5,
    prompt_tokens=10,
    completion_tokens=0,
    max_tokens=None,
    n=1,
    temperature=0.0,
    top_p=None,
    error=True,
    model="m",
    tenant="blue",
    trace="ab" * 16,
    span="cd" * 8,
    parent="",
    replica=Replica("svc", "i", "7", "h"),
)


def test_what_goes_in_comes_out() -> None:
    """Unknown stays unknown and zero stays zero."""
    ring = RequestRing(10)
    ring.add([ONE], now=T0)
    (got,) = ring.between(T0, T0, now=T0)
    assert got == ONE


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 500), max_size=60), st.integers(1, 12))
def test_it_holds_the_newest_and_never_more_than_its_size(lengths: list[int], size: int) -> None:
    """Whatever comes, in any sizes of batches."""
    ring = RequestRing(size, max_age_s=1e9)
    made = [replace(ONE, id=str(k), start=T0 + k, prompt_tokens=v) for k, v in enumerate(lengths)]
    for k in range(0, len(made), 7):
        ring.add(made[k : k + 7], now=T0)
    assert [r.id for r in ring.between(0, T0 + 1e6, now=T0)] == [r.id for r in made][-size:]


def test_the_old_go() -> None:
    """Also when nothing new comes."""
    ring = RequestRing(10, max_age_s=60)
    ring.add([ONE, replace(ONE, id="b", start=T0 + 50)], now=T0 + 50)
    assert len(ring) == 2
    ring.expire(T0 + 63)
    assert [r.id for r in ring.between(0, T0 + 100, now=T0 + 63)] == ["b"]
    ring.expire(T0 + 200)
    assert len(ring) == 0


def test_a_window_holds_what_was_alive_in_it() -> None:
    """A request that began before and ended in it counts."""
    ring = RequestRing(10)
    ring.add([ONE], now=T0)
    assert ring.between(T0 + 1.9, T0 + 5, now=T0)
    assert not ring.between(T0 + 2.1, T0 + 5, now=T0)
    assert not ring.between(T0 - 5, T0 - 0.1, now=T0)


def test_a_full_ring_takes_less_than_it_may() -> None:
    """100,000 requests with ids of 40 characters, 20,000 spans around: 100 MB are promised."""
    tracemalloc.start()
    try:
        ring = RequestRing(100_000, max_age_s=1e9)
        for k in range(0, 120_000, 1000):
            batch = [replace(ONE, id=f"chatcmpl-{k + n:032x}", trace=f"{k + n:032x}") for n in range(1000)]
            around = [
                Around(f"{k + n:032x}", f"{k + n:016x}", "", "POST /v1/completions", 2, T0, T0, "", 0, "blue", "up")
                for n in range(1000)
            ]
            ring.add(batch, around, now=T0)
            del batch, around
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ring) == 100_000
    assert taken < 60e6


def test_endless_different_names_are_bounded() -> None:
    """A tenant per request: the rest share the empty name."""
    ring = RequestRing(30_000, max_age_s=1e9)
    ring.add([replace(ONE, tenant=f"t{k}") for k in range(25_000)], now=T0)
    got = ring.between(0, T0 + 9, now=T0)
    assert {got[0].tenant, got[-1].tenant} == {"t0", ""}


def test_gateways_are_joined_when_read() -> None:
    """Their span may come after the request's."""
    ring = RequestRing(10)
    ring.add([replace(ONE, parent="ee" * 8)], now=T0)
    ring.add([], [Around(ONE.trace, "ee" * 8, "", "gate", 2, T0 - 1, T0 + 3, "", 0, "", "")], now=T0)
    (got,) = ring.between(0, T0 + 9, now=T0)
    assert got.gateway == pytest.approx(4.0)


def test_stored_rows_come_back_without_the_tenants_name() -> None:
    """Ids stay, a tenant becomes a short hash."""
    raw = dump([ONE], source="otlp", notes={"a": 1})
    (got,), head = restore(raw)
    assert b"blue" not in raw
    assert got == replace(ONE, tenant=pseudonym("blue"), span="", parent="")
    assert head["notes"] == {"a": 1}


def test_rows_cut_in_the_middle_are_left_out() -> None:
    """A file cut at its size limit still tells the rest."""
    raw = stored("stall_0.32")
    whole, _ = restore(raw)
    some, _ = restore(raw[: len(raw) // 2])
    assert 0 < len(some) < len(whole)
    with pytest.raises(ValueError, match="not stored requests"):
        restore(b"garbage")
