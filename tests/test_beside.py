"""A second fault is named where something proves it beside the first, and only there."""

from __future__ import annotations

import pytest

from responder.diagnose import CONFIRMED_P, POSSIBLE_P, TWO_P
from responder.model import Beside, Cause, Scalar, Status, Verdict
from tests.test_diagnose import judge, make_cause, of, weigh, when


def beside(other: str, clause: str, *despite: str) -> Beside:
    return Beside(id=f"beside_{other}", causes=(other,), test=when(clause), despite=despite, says="it is there, too")


BUSY: dict[str, Scalar] = {"m.queue": 20, "m.beyond": 3.0, "m.gone": 0.0, "m.hits": 0.1}


def traffic(*others: Beside) -> Cause:
    return make_cause("traffic", weigh("queue", "m.queue >= 5", 14, -12), beside=others)


def slow(*others: Beside, against: float = -9.0) -> Cause:
    """Its own evidence is drowned by what the other fault brings."""
    return make_cause(
        "slow", weigh("device", "m.device == true", 9), weigh("step", "m.beyond >= 2", 4),
        weigh("more", "m.queue < 5", 2, against), beside=others,
    )  # fmt: skip


def told(*causes: Cause, **facts: Scalar) -> Verdict:
    return judge(causes, {**BUSY, **{f"m.{name}": value for name, value in facts.items()}})


def test_what_the_first_does_not_explain_is_a_second_fault() -> None:
    """Named, probable, with its proof among what speaks for it: as likely as such pairs are, where its own share of the
    weight, which knows one fault alone, is next to nothing."""
    alone = told(traffic(), slow())
    got = told(traffic(), slow(beside("traffic", "m.beyond >= 2", "more")))
    assert alone.together == ()
    assert got.together == ("traffic", "slow")
    either = of(alone, "traffic").probability + of(alone, "slow").probability
    assert of(alone, "slow").probability < 0.01
    assert of(got, "traffic").probability == pytest.approx(either, abs=1e-5)
    assert of(got, "slow").probability == pytest.approx(TWO_P * either, abs=1e-5)
    assert of(got, "slow").status is Status.PROBABLE
    proof = of(got, "slow").supports[-1]
    assert (proof.group, proof.says, [fact.name for fact in proof.facts]) == (
        "beside", "it is there, too", ["m.beyond"],
    )  # fmt: skip
    assert any("beside" in note and "it is there, too" in note for note in got.notes)


@pytest.mark.parametrize("beyond", [1.2, None])
def test_without_its_proof_there_is_one_fault(beyond: float | None) -> None:
    """Not so, or not known."""
    assert told(traffic(), slow(beside("traffic", "m.beyond >= 2", "more")), beyond=beyond).together == ()


def test_what_speaks_against_the_second_still_does() -> None:
    """Only what the first accounts for is left out."""
    loud = slow(beside("traffic", "m.beyond >= 2"))
    assert told(traffic(), loud).together == ()


@pytest.mark.parametrize(("confirm", "status"), [("queue", Status.CONFIRMED), ("nothing", Status.PROBABLE)])
def test_of_two_that_share_the_weight_the_first_is_confirmed_by_its_own_proof(confirm: str, status: Status) -> None:
    """Nine tenths of the weight for it and most of the rest for the other: that either is there is sure, so the first
    is, and this one is proven."""
    proven = traffic(beside("slow", "m.queue >= 5")).model_copy(update={"confirm": (confirm,)})
    got = told(proven, slow(beside("traffic", "m.beyond >= 2", "more"), against=-1.0), device=True)
    alone = told(proven, slow(against=-1.0), device=True)
    assert got.together == ("traffic", "slow")
    assert of(alone, "traffic").probability < CONFIRMED_P <= of(got, "traffic").probability
    assert POSSIBLE_P < of(alone, "slow").probability < TWO_P / 2 < of(got, "slow").probability < CONFIRMED_P
    assert (of(got, "traffic").status, of(got, "slow").status) == (status, Status.PROBABLE)


def test_a_first_cause_without_proof_has_no_second_beside_it() -> None:
    """It may be wrong itself."""
    unproven = traffic().model_copy(update={"confirm": ("nothing",)})
    assert told(unproven, slow(beside("traffic", "m.beyond >= 2", "more"))).together == ()


def test_two_that_prove_each_other_need_not_lead() -> None:
    """Each lacks what the other one accounts for; beside each other they lead."""
    gone = make_cause(
        "gone", weigh("left", "m.gone >= 0.3", 8), weigh("fast", "m.beyond < 2", 1, -9),
        beside=(beside("slow", "m.gone >= 0.3", "fast"),),
    )  # fmt: skip
    late = slow(beside("gone", "m.beyond >= 2", "more")).model_copy(update={"confirm": ("device",)})
    reading = make_cause("reading", weigh("hits", "m.hits < 0.5", 5), prior=0.1)
    got = told(gone, late, reading, gone=0.9)
    assert told(gone, late.model_copy(update={"beside": ()}), reading, gone=0.9).hypotheses[0].cause == "reading"
    assert got.together == ("gone", "slow")
    assert got.hypotheses[0].cause == "gone"


def test_a_refinement_of_the_other_counts_as_the_other() -> None:
    """`traffic/one_tenant` is traffic."""
    tenant = traffic().model_copy(update={"id": "traffic/one_tenant"})
    assert told(tenant, slow(beside("traffic", "m.beyond >= 2", "more"))).together == ("traffic/one_tenant", "slow")
