"""The smallest explaining set: greedy, deterministic, and shy of naming a second fault."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from responder.cover import Cover, signal_of, smallest
from responder.model import Disproof, Fact, Finding, Hypothesis, Status, Truth


def finding(weight: str, *facts: str, decibans: float = 12.0, group: str = "") -> Finding:
    cited = tuple(Fact(name=name, value=1, step="x") for name in facts)
    return Finding(
        weight=weight, group=group or weight, truth=Truth.YES, decibans=decibans, counted=True, says="", facts=cited
    )  # fmt: skip


def hypothesis(cause: str, *supports: Finding, decibans: float = 10.0, **more: object) -> Hypothesis:
    fields: dict[str, object] = {
        "cause": cause,
        "title": cause,
        "says": "",
        "status": Status.PROBABLE,
        "probability": 0.5,
        "decibans": decibans,
        "supports": supports,
        "proof": Truth.YES if supports else Truth.UNKNOWN,
        "confirm": tuple(f.weight for f in supports[:1]),
        "would_disprove": Disproof(says=""),
    }
    return Hypothesis.model_validate({**fields, **more})


NONE_FITS = hypothesis("unknown", decibans=-11.0)


def test_one_cause_that_accounts_for_all_is_the_whole_set() -> None:
    """A second that adds nothing is not named."""
    one = hypothesis("one", finding("w", "metrics.kv_usage.now"))
    other = hypothesis("other", finding("w", "metrics.kv_usage.max"), decibans=5.0)
    assert smallest([one, other, NONE_FITS], ["A"]) == Cover(causes=("one",))


def test_two_proofs_on_different_signals_are_two_faults() -> None:
    """Aspects of one signal are one signal; another signal is another."""
    one = hypothesis("one", finding("w", "metrics.kv_usage.now"))
    other = hypothesis("other", finding("w", "processes.stopped"), decibans=8.0)
    assert smallest([one, other, NONE_FITS], ["A"]).causes == ("one", "other")


def test_kin_of_a_cause_never_joins_it() -> None:
    """`a/b` is a refinement of `a`."""
    one = hypothesis("a", finding("w", "metrics.kv_usage.now"))
    other = hypothesis("a/b", finding("w", "processes.stopped"))
    assert smallest([one, other, NONE_FITS], ["A"]).causes == ("a",)


def test_what_nobody_explains_is_left() -> None:
    """And without any supported cause everything is."""
    one = hypothesis("one", finding("w", "x.a"), unexplained=("B",))
    assert smallest([one, NONE_FITS], ["A", "B"]) == Cover(causes=("one",), left=("B",))
    assert smallest([NONE_FITS], ["A"]) == Cover(left=("A",))


def test_a_disproved_cause_accounts_for_nothing() -> None:
    """However much speaks for it."""
    out = hypothesis("out", finding("w", "x.a"), contradicts=(finding("d", "x.b", decibans=-30.0, group="disproof"),))
    assert smallest([out, NONE_FITS], ["A"]).causes == ()


def test_signals_are_told_apart_by_their_name() -> None:
    """Only metrics have aspects."""
    assert signal_of("metrics.waiting.now") == signal_of("metrics.waiting.max") == "metrics.waiting"
    assert signal_of("processes.stopped") == "processes.stopped"
    assert signal_of("siblings.running_ratio") == signal_of("metrics.running.ratio") == "metrics.running"
    assert signal_of("siblings.idle") == "siblings.idle"


@given(st.permutations(["one", "two", "three"]))
def test_the_order_of_hypotheses_does_not_matter(names: list[str]) -> None:
    """Ties are broken by weight, then by name."""
    made = [hypothesis(name, finding("w", f"{name}.a")) for name in names]
    assert smallest([*made, NONE_FITS], ["A"]).causes == ("one", "three", "two")


def test_nothing_joins_a_cause_that_is_not_proven() -> None:
    """That one may be wrong itself: then the second is no second."""
    first = hypothesis("one", finding("w", "metrics.kv_usage.now"), proof=Truth.UNKNOWN)
    other = hypothesis("other", finding("w", "processes.stopped"), decibans=8.0, unexplained=("A",))
    assert smallest([first, other, NONE_FITS], ["A"]).causes == ("one",)


def test_the_larger_batch_of_a_replica_that_gets_more_than_its_share_is_no_second_fault() -> None:
    """It runs more than the others, which is why it runs more than before."""
    share = finding("share", "siblings.running_ratio", decibans=4.0)
    first = hypothesis("share", finding("moved", "siblings.others_load_ratio"), share)
    other = hypothesis("batch", finding("w", "metrics.running.ratio"), decibans=8.0)
    assert smallest([first, other, NONE_FITS], ["A"]).causes == ("share",)
