"""How alike two incidents are: signs both could decide, and what neither showed says nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.fingerprint import Fingerprint, distance, nearest, signs_of
from responder.model import Opinion, Status
from tests.facts import evidence
from tests.test_diagnose import make_cause, weigh


def made(incident: str, at: float = 0.0, **signs: bool) -> Fingerprint:
    return Fingerprint(incident=incident, target="t", at=at, named="kv", status=Status.CONFIRMED, signs=signs)


def opinion(incident: str, *, right: bool, cause: str = "") -> Opinion:
    return Opinion(incident=incident, target="t", named="kv", status=Status.CONFIRMED, playbooks=("b",), right=right,
                   cause=cause, who="me", at=1.0)  # fmt: skip


def test_signs_are_the_decided_claims() -> None:
    """Shown, looked for and not shown; unknown ones are left out."""
    cause = make_cause("a", weigh("yes", "x.a > 0", 6), weigh("no", "x.b > 0", 6), weigh("open", "gpu.idle > 0", 6))
    assert signs_of([cause], evidence({"x.a": 1, "x.b": 0})) == {"a.yes": True, "a.no": False}


def test_distance_counts_what_either_showed() -> None:
    """Of four signs three are shared; what neither showed, and what one could not see, does not count."""
    one = {"a": True, "b": True, "c": True, "d": True, "e": False, "f": True}
    other = {"a": True, "b": True, "c": True, "d": False, "e": False}
    assert distance(one, other) == pytest.approx(0.25)
    assert distance(one, {"a": True, "b": True}) is None


def test_the_nearest_come_first_with_what_they_turned_out_to_be() -> None:
    """Far ones and the incident itself are no company."""
    now = made("now", a=True, b=True, c=True, d=True)
    past = [
        made("now", a=True, b=True, c=True, d=True),
        made("same", 5.0, a=True, b=True, c=True, d=True),
        made("near", 9.0, a=True, b=True, c=True, d=False),
        made("far", 9.0, a=False, b=False, c=False, d=True),
    ]
    got = nearest(now, past, {"near": opinion("near", right=False, cause="worker_hang")})
    assert [(n.incident, n.distance, n.turned_out) for n in got] == [("same", 0.0, ""), ("near", 0.25, "worker_hang")]
    assert got[1].apart == ("d",)


def test_a_wrong_verdict_without_a_cause_is_said_as_such() -> None:
    """And a right one as what it named."""
    now, one = made("now", a=True, b=True, c=True), made("one", a=True, b=True, c=True)
    assert nearest(now, [one], {"one": opinion("one", right=False)})[0].turned_out == "not kv"
    assert nearest(now, [one], {"one": opinion("one", right=True)})[0].turned_out == "kv"


signs = st.dictionaries(st.sampled_from("abcdefgh"), st.booleans())


@given(signs, signs)
def test_distance_is_symmetric_and_between_0_and_1(one: dict[str, bool], other: dict[str, bool]) -> None:
    """And 0 to itself."""
    there = distance(one, other)
    assert there == distance(other, one)
    assert there is None or 0 <= there <= 1
    assert distance(one, one) in (None, 0.0)
