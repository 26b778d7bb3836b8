"""Weights of evidence: votes per group, three truth values, statuses, and what is missing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.authored import parse_clause
from responder.claims import evaluate_clause, evaluate_test, looks_of
from responder.diagnose import diagnose
from responder.model import (
    Cause,
    Disproof,
    Evidence,
    Fact,
    Incident,
    Outcome,
    Plan,
    Playbook,
    Reason,
    Refusal,
    Remedy,
    Scalar,
    Severity,
    Status,
    StepCall,
    Symptom,
    Test,
    Truth,
    Verdict,
    Weight,
)
from tests.facts import evidence

Test.__test__ = False  # type: ignore[attr-defined]  # a noun, not a test class


def when(*clauses: str) -> Test:
    return Test(all=tuple(parse_clause(text) for text in clauses))


def weigh(name: str, clause: str, yes: float, no: float = 0.0, group: str = "") -> Weight:
    return Weight(id=name, group=group or name, test=when(clause), yes=yes, no=no, says=f"{name} holds")


def make_cause(name: str, *weights: Weight, prior: float = 0.1, **more: object) -> Cause:
    fields: dict[str, object] = {
        "id": name,
        "title": name,
        "says": name,
        "prior": prior,
        "evidence": weights,
        "confirm": (weights[0].id,) if weights else (),
        "explains": ("*",),
        "would_disprove": Disproof(says="look"),
        "remedies": (Remedy(says="do", tradeoff="cost"),),
    }
    return Cause.model_validate({**fields, **more})


def incident(*alerts: str) -> Incident:
    symptoms = tuple(
        Symptom(alert=a, incident_class="c", severity=Severity.WARNING, target="t", since=1.0, fired_at=2.0)
        for a in alerts or ("A",)
    )
    return Incident(
        id="i",
        target="t",
        incident_class="c",
        severity=Severity.WARNING,
        onset_at=1.0,
        opened_at=2.0,
        symptoms=symptoms,
    )


def judge(causes: tuple[Cause, ...], facts: dict[str, Scalar], *alerts: str) -> Verdict:
    book = Playbook(
        id="b", incident_class="c", title="b", alerts=("A",), ladder=(), causes=tuple(cause.id for cause in causes)
    )  # fmt: skip
    return diagnose(incident(*alerts), [book], causes, evidence(facts))


def of(verdict: Verdict, cause: str):  # type: ignore[no-untyped-def]
    return next(hypothesis for hypothesis in verdict.hypotheses if hypothesis.cause == cause)


# ---------------------------------------------------------------------------------------------------- claims


@pytest.mark.parametrize(
    ("value", "clause", "truth"),
    [
        (0.95, "x.a >= 0.9", Truth.YES),
        (0.85, "x.a >= 0.9", Truth.NO),
        (None, "x.a >= 0.9", Truth.UNKNOWN),
        (math.nan, "x.a >= 0.9", Truth.UNKNOWN),
        ("T", "x.a == T", Truth.YES),
        ("S", "x.a == T", Truth.NO),
        ("S", "x.a != T", Truth.YES),
        (3, "x.a == T", Truth.UNKNOWN),
        ("79", "x.a == 79", Truth.YES),
        ("many", "x.a > 3", Truth.UNKNOWN),
        (True, "x.a == true", Truth.YES),
        (2, "x.a == true", Truth.YES),
        (0, "x.a == true", Truth.NO),
        ("", "x.a == false", Truth.YES),
        (True, "x.a >= 0.5", Truth.YES),
    ],
)
def test_a_clause_is_yes_no_or_unknown(value: Scalar, clause: str, truth: Truth) -> None:
    """A missing fact, NaN, and what cannot be compared are unknown, never no."""
    facts = {"x.a": Fact(name="x.a", value=value, step="x")}
    assert evaluate_clause(parse_clause(clause), facts) is truth


Y, N, U = Truth.YES, Truth.NO, Truth.UNKNOWN
VALUE = {Y: 1, N: 0, U: None}


@pytest.mark.parametrize(
    ("all_of", "any_of", "truth"),
    [
        ([Y, Y], [], Y),
        ([Y, U], [], U),
        ([N, U], [], N),
        ([], [N, Y], Y),
        ([], [U, Y], Y),
        ([], [N, U], U),
        ([], [N, N], N),
        ([Y], [N], N),
        ([U], [N], N),
        ([U], [Y], U),
        ([], [], U),
    ],
)
def test_kleene(all_of: list[Truth], any_of: list[Truth], truth: Truth) -> None:
    """Every `all` and one `any`; no beats unknown, unknown beats yes; nothing claimed is unknown."""
    facts = {f"f.{n}": Fact(name=f"f.{n}", value=VALUE[t], step="f") for n, t in enumerate([*all_of, *any_of])}
    clauses = [parse_clause(f"{name} == 1") for name in facts]
    assert evaluate_test(Test(all=tuple(clauses[: len(all_of)]), any=tuple(clauses[len(all_of) :])), facts) is truth


def test_facts_of_one_rank_are_not_facts_of_the_server() -> None:
    """Clauses read only facts without a subject."""
    fact = Fact(name="gpu.util", value=1, step="gpu", subject="GPU 0")
    item = Evidence(id="gpu", step="gpu", rung=0, outcome=Outcome.OK, started_at=0, seconds=0, facts=(fact,))
    assert looks_of([item]) == [{}]


# ----------------------------------------------------------------------------------------------------- votes


def test_one_vote_per_group() -> None:
    """Of a group only the loudest finding counts; the others are shown but add nothing."""
    cause = make_cause("a", weigh("w1", "x.a > 0", 6, group="g"), weigh("w2", "x.b > 0", 9, group="g"))
    got = of(judge((cause,), {"x.a": 1, "x.b": 1}), "a")
    assert got.decibans == pytest.approx(10 * math.log10(0.1) + 9)
    assert [(f.weight, f.counted) for f in got.supports] == [("w2", True), ("w1", False)]


def test_equally_loud_the_one_against_counts() -> None:
    """A tie within a group goes against the cause."""
    cause = make_cause("a", weigh("w1", "x.a > 0", 6, group="g"), weigh("w2", "x.b > 0", 3, -6, group="g"))
    assert of(judge((cause,), {"x.a": 1, "x.b": 0}), "a").decibans < 10 * math.log10(0.1)


def test_no_group_says_more_than_fifteen() -> None:
    """A vote is clipped, however sure its author was."""
    cause = make_cause("a", weigh("w", "x.a > 0", 40))
    assert of(judge((cause,), {"x.a": 1}), "a").decibans == pytest.approx(-10 + 15)


def test_unknown_is_neutral_and_listed() -> None:
    """What could not be captured neither supports nor contradicts; the report says what it would have told."""
    cause = make_cause("a", weigh("w", "x.a > 0", 6), weigh("v", "gpu.idle >= 1", 9, -9))
    known = of(judge((cause,), {"x.a": 1}), "a")
    assert known.decibans == pytest.approx(-10 + 6)
    assert [(m.step, m.would_tell) for m in known.missing] == [("gpu", "v holds")]


def test_an_unexplained_symptom_costs_three_decibans() -> None:
    """Once for each alert, however many series fire it."""
    cause = make_cause("a", weigh("w", "x.a > 0", 6), explains=("A",))
    both = of(judge((cause,), {"x.a": 1}, "A", "B", "B"), "a")
    assert both.decibans == pytest.approx(-10 + 6 - 3)
    assert both.unexplained == ("B",)


def test_findings_cite_the_facts_that_decided() -> None:
    """A no cites the clause that failed, not the one that held."""
    test = Test(all=(parse_clause("x.a > 0"), parse_clause("x.b > 0")))
    weight = Weight(id="w", group="g", test=test, yes=3, no=-5, says="both", says_not="not both")
    found = of(judge((make_cause("a", weight),), {"x.a": 1, "x.b": 0}), "a").contradicts[0]
    assert [fact.name for fact in found.facts] == ["x.b"]
    assert found.says == "not both"


# -------------------------------------------------------------------------------------------------- statuses


def test_confirmed_needs_its_own_proof() -> None:
    """However probable: without every `confirm` weight it is only probable."""
    strong = make_cause("a", weigh("w", "x.a > 0", 15), weigh("v", "x.b > 0", 15), confirm=("w", "proof"))
    strong = strong.model_copy(update={"evidence": (*strong.evidence, weigh("proof", "gpu.idle > 0", 1))})
    assert judge((strong,), {"x.a": 1, "x.b": 1}).hypotheses[0].status is Status.PROBABLE
    assert judge((strong,), {"x.a": 1, "x.b": 1, "gpu.idle": 1}).hypotheses[0].status is Status.CONFIRMED


def test_of_several_ways_to_prove_it_one_is_enough() -> None:
    """An inner group of `confirm`: any of it; what is wanted names the first that was not found to be closed."""
    weights = (weigh("w", "x.a > 0", 15), weigh("v", "x.a > 0", 15), weigh("one", "x.b > 0", 1))
    cause = make_cause("a", *weights, weigh("other", "gpu.idle > 0", 1), confirm=("w", ("one", "other")))
    for facts, status, wanted in (
        ({"x.a": 1, "x.b": 1}, Status.CONFIRMED, ()),
        ({"x.a": 1, "x.b": 0, "gpu.idle": 1}, Status.CONFIRMED, ()),
        ({"x.a": 1, "x.b": 0, "gpu.idle": 0}, Status.PROBABLE, ("one holds",)),
        ({"x.a": 1, "x.b": 0}, Status.PROBABLE, ("other holds",)),
        ({"x.a": 1}, Status.PROBABLE, ("one holds",)),
    ):
        found = of(judge((cause,), facts), "a")
        assert (found.status, found.would_confirm) == (status, wanted), facts


def test_what_a_look_alike_would_leave_as_well_is_not_confirmed_for_want_of_a_look() -> None:
    """What tells it apart must have been seen, whatever it said; the weight stays, and what is wanted is named."""
    apart = (Reason(test=when("gpu.idle >= 0"), says="whether the device idles"),)
    strong = make_cause("a", weigh("w", "x.a > 0", 15), weigh("v", "x.b > 0", 15))
    careful = strong.model_copy(update={"told_apart": apart})
    facts: dict[str, Scalar] = {"x.a": 1, "x.b": 1}
    before, unseen = of(judge((strong,), facts), "a"), of(judge((careful,), facts), "a")
    assert (before.status, before.proof) == (Status.CONFIRMED, Truth.YES)
    assert (unseen.status, unseen.proof) == (Status.PROBABLE, Truth.UNKNOWN)
    assert unseen.probability == before.probability
    assert unseen.would_confirm == ("whether the device idles",)
    for idle in (0, 1):
        seen = of(judge((careful,), {**facts, "gpu.idle": idle}), "a")
        assert (seen.status, seen.would_confirm) == (Status.CONFIRMED, ())


def test_a_cause_is_called_by_what_was_seen_of_it() -> None:
    """The first title whose test holds at any look; its own where none does, or nobody looked. It weighs nothing."""
    titles = tuple(Reason(test=when(f"x.{name} > 0"), says=f"{name} holds it") for name in "bc")
    plain = make_cause("a", weigh("w", "x.a > 0", 15))
    named = plain.model_copy(update={"titles": titles})
    seen: list[tuple[dict[str, Scalar], str]] = [
        ({}, plain.title),
        ({"x.b": 0}, plain.title),
        ({"x.c": 1}, "c holds it"),
        ({"x.b": 1, "x.c": 1}, "b holds it"),
    ]
    for more, title in seen:
        facts: dict[str, Scalar] = {"x.a": 1, **more}
        found = of(judge((named,), facts), "a")
        assert found.title == title
        assert found.probability == of(judge((plain,), facts), "a").probability


def test_what_tells_it_apart_is_no_proof_by_itself() -> None:
    """Proof that was looked for in vain stays so, and `unknown` gains by it as ever."""
    apart = (Reason(test=when("gpu.idle >= 0"), says="whether the device idles"),)
    cause = make_cause("a", weigh("w", "x.a > 0", 15), weigh("v", "x.b > 0", 15), confirm=("v",))
    facts: dict[str, Scalar] = {"x.a": 1, "x.b": 0}
    plain, careful = (judge((one,), facts) for one in (cause, cause.model_copy(update={"told_apart": apart})))
    assert of(careful, "a").proof is of(plain, "a").proof is Truth.NO
    assert of(careful, "unknown").probability == of(plain, "unknown").probability
    assert of(careful, "a").would_confirm == ("v holds", "whether the device idles")


def test_what_something_serious_speaks_against_is_not_confirmed() -> None:
    """However much else speaks for it; a little against it does no harm."""
    for against, expected in ((-12.0, Status.PROBABLE), (-11.0, Status.CONFIRMED)):
        weights = [weigh(f"w{n}", "x.a > 0", 15) for n in range(4)]
        cause = make_cause("a", *weights, weigh("no", "x.b > 0", against), confirm=("w0",))
        assert judge((cause,), {"x.a": 1, "x.b": 1}).hypotheses[0].status is expected


def test_a_disproved_cause_is_never_more_than_possible() -> None:
    """Even if it is the best there is."""
    cause = make_cause("a", *(weigh(f"w{n}", "x.a > 0", 15) for n in range(5)), disproved_by=(when("x.b == true"),))
    got = judge((cause,), {"x.a": 1, "x.b": True})
    assert of(got, "a").status is Status.POSSIBLE
    assert of(got, "a").contradicts[0].says == "ruled out by `x.b` = true"
    assert judge((cause,), {"x.a": 1, "x.b": None}).hypotheses[0].status is Status.CONFIRMED


def test_a_cause_without_support_does_not_outrank_unknown() -> None:
    """A high prior is no evidence."""
    likely = make_cause("a", weigh("w", "x.a > 0", 6), prior=0.9)
    first = judge((likely,), {}).hypotheses[0]
    assert (first.cause, first.status) == ("unknown", Status.UNKNOWN)


def test_unknown_always_competes_and_unlikely_causes_are_left_out() -> None:
    """Three are always listed; beyond that only what has at least 5 %."""
    causes = (
        make_cause("a", weigh("w", "x.a > 0", 15), weigh("w2", "x.a > 0", 15)),
        *(make_cause(f"b{n}", weigh("w", "x.a > 0", 1, -9)) for n in range(8)),
    )
    listed = [h.cause for h in judge(causes, {"x.a": 1}).hypotheses]
    assert listed[0] == "a"
    assert "unknown" in listed
    assert len(listed) <= 4


def test_priors_of_the_class_replace_the_cause_s_own() -> None:
    """Among several matching playbooks the highest counts."""
    cause = make_cause("a", weigh("w", "x.a > 0", 6))
    books = [
        Playbook(id=f"b{n}", incident_class="c", title="", alerts=("A",), ladder=(), causes=("a",), priors={"a": prior})
        for n, prior in enumerate((0.2, 0.4))
    ]
    got = diagnose(incident(), books, [cause], evidence({"x.a": 1}))
    assert of(got, "a").decibans == pytest.approx(10 * math.log10(0.4) + 6)


def test_a_cause_no_matching_playbook_lists_does_not_compete() -> None:
    """And with no playbook at all the verdict is unknown, with a note."""
    got = diagnose(incident(), [], [make_cause("a", weigh("w", "x.a > 0", 6))], evidence({"x.a": 1}))
    assert [h.cause for h in got.hypotheses] == ["unknown"]
    assert got.notes == ("no playbook covers these symptoms",)


def test_two_faults_are_noted() -> None:
    """If the best cause leaves a symptom that another supported one explains, people are told."""
    causes = (
        make_cause("a", weigh("w", "x.a > 0", 15), weigh("v", "x.a > 0", 6), explains=("A",)),
        make_cause("b", weigh("w", "x.a > 0", 15), explains=("B",)),
    )
    assert judge(causes, {"x.a": 1}, "A", "B").notes == (
        "`a` does not explain B; `b` would, so there may be two faults",
    )


def test_a_claim_its_own_group_speaks_against_is_no_proof() -> None:
    """Progress that stood still by one probe and went on by a louder one confirms nothing."""
    weights = (weigh("proof", "x.a > 0", 6, group="g"), weigh("louder", "x.b > 0", 1, -11, group="g"))
    strong = make_cause("a", *weights, *(weigh(f"w{n}", "x.c > 0", 15) for n in range(3)), prior=0.9)
    assert judge((strong,), {"x.a": 1, "x.b": 1, "x.c": 1}).hypotheses[0].status is Status.CONFIRMED
    found = of(judge((strong,), {"x.a": 1, "x.b": 0, "x.c": 1}), "a")
    assert (found.status, found.proof) == (Status.PROBABLE, Truth.NO), "and not for how loud that is"


def test_what_is_still_wanted_is_named() -> None:
    """Proof that was not found, and proof nobody could look for."""
    cause = make_cause("a", weigh("w", "x.a > 0", 9), weigh("v", "gpu.idle > 0", 9), confirm=("w", "v"))
    assert of(judge((cause,), {"x.a": 1}), "a").would_confirm == ("v holds",)


def test_a_certain_cause_says_that_its_own_reason_is_not_known() -> None:
    """What was looked for in vain and what could not be seen are two things; one reason found ends the question."""
    reasons = (
        Reason(test=when("kernel.oom_killed == true"), says="a kill for memory"),
        Reason(test=when("log.root_exception == true"), says="an exception"),
    )
    died = make_cause("died", weigh("gone", "x.a > 1", yes=9), why=reasons, why_otherwise="See the exit code.")
    seen: dict[str, Scalar] = {"x.a": 2, "kernel.oom_killed": False}
    open_ = of(judge((died,), seen), "died").why_unknown
    assert open_ is not None
    assert (open_.not_found, open_.not_seen) == (("a kill for memory",), ("an exception",))
    assert of(judge((died,), {**seen, "log.root_exception": True}), "died").why_unknown is None


def test_unknown_gains_when_nothing_explains_a_symptom() -> None:
    """Three decibans for each symptom that none of the best three explains."""
    cause = make_cause("a", weigh("w", "x.a > 0", 6), explains=("A",))
    assert of(judge((cause,), {"x.a": 1}, "A"), "unknown").decibans == pytest.approx(10 * math.log10(0.08))
    assert of(judge((cause,), {"x.a": 1}, "A", "B"), "unknown").decibans == pytest.approx(10 * math.log10(0.08) + 3)


def test_unknown_gains_when_all_proof_was_looked_for_in_vain() -> None:
    """Five decibans; not when the proof could not be looked for."""
    cause = make_cause("a", weigh("hint", "x.a > 0", 6), weigh("proof", "x.b > 0", 9), confirm=("proof",))
    base = 10 * math.log10(0.08)
    assert of(judge((cause,), {"x.a": 1}), "unknown").decibans == pytest.approx(base)
    assert of(judge((cause,), {"x.a": 1, "x.b": 0}), "unknown").decibans == pytest.approx(base + 5)


def test_no_cause_is_ever_certain() -> None:
    """A playbook may be wrong whatever it says."""
    cause = make_cause("a", *(weigh(f"w{n}", "x.a > 0", 15) for n in range(6)))
    top = judge((cause,), {"x.a": 1}).hypotheses[0]
    assert top.status is Status.CONFIRMED
    assert 0.985 < top.probability <= 0.995


def faults(*shared: Weight) -> tuple[Cause, ...]:
    """Two causes with a proof each, on different signals."""
    return (
        make_cause("kv", weigh("full", "x.kv > 0", 15), weigh("pre", "x.pre > 0", 9), *shared, confirm=("full", "pre")),
        make_cause("stuck", weigh("stop", "y.stopped > 0", 15), weigh("flat", "y.flat > 0", 9), confirm=("stop",)),
    )


def test_two_faults_at_once_are_named_as_two() -> None:
    """Each with its own proof on signals the other does not speak of: both are named. They share the weight, so the
    first is confirmed by its own proof and what is left for the two; the second stays probable."""
    got = judge(faults(), {"x.kv": 1, "x.pre": 1, "y.stopped": 1, "y.flat": 1})
    assert set(got.together) == {"kv", "stuck"}
    assert [h.status for h in got.hypotheses if h.cause in got.together] == [Status.CONFIRMED, Status.PROBABLE]
    assert any("2 faults at once" in note for note in got.notes)


def test_another_face_of_one_fault_is_no_second_fault() -> None:
    """Proof on a signal the first cause speaks of as well, or with something serious against it, names nobody."""
    everything = {"x.kv": 1, "x.pre": 1, "y.stopped": 1, "y.flat": 1}
    assert judge(faults(weigh("also", "y.stopped > 0", 3)), everything).together == ()
    one, two = faults()
    against = two.model_copy(update={"evidence": (*two.evidence, weigh("no", "x.kv > 0", -9))})
    assert judge((one, against), everything).together == ()


def test_disagreement_with_the_smallest_set_caps_the_status() -> None:
    """The first cause leaves a symptom that another one explains together with everything else."""
    causes = (
        make_cause("a", weigh("w", "x.a > 0", 15), weigh("v", "x.b > 0", 12), explains=("A",)),
        make_cause("b", weigh("w", "x.a > 0", 9), weigh("v", "x.c > 0", 5), explains=("A", "B", "C"), prior=0.01),
    )
    got = judge(causes, {"x.a": 1, "x.b": 1, "x.c": 1}, "A", "B", "C")
    assert (got.hypotheses[0].cause, got.hypotheses[0].status) == ("a", Status.PROBABLE)
    assert any("second opinion" in note for note in got.notes)


# ----------------------------------------------------------------------------------------------- several looks


def look(values: dict[str, Scalar], number: int) -> tuple[Evidence, ...]:
    made = evidence(values, at=100.0 * number)
    return tuple(item.model_copy(update={"id": f"{item.id}-{number}"}) for item in made)


def test_a_claim_counts_when_it_held_at_any_look() -> None:
    """What was seen once happened; the finding cites the look that saw it."""
    cause = make_cause("a", weigh("w", "x.stuck == true", 9, -9))
    book = Playbook(id="b", incident_class="c", title="", alerts=("A",), ladder=(), causes=("a",))
    runs = (*look({"x.stuck": False}, 1), *look({"x.stuck": True}, 2), *look({"x.stuck": False}, 3))
    got = of(diagnose(incident(), [book], [cause], runs), "a")
    assert got.supports[0].facts[0].at == 200.0


def test_what_trouble_itself_changes_is_judged_by_the_first_look() -> None:
    """Arrivals fall because clients give up: that says nothing about why it began."""
    first = weigh("w", "x.arrivals < 1.3", 4, -5).model_copy(update={"first_look": True})
    cause = make_cause("a", first, weigh("other", "x.there == true", 9), confirm=("other",))
    book = Playbook(id="b", incident_class="c", title="", alerts=("A",), ladder=(), causes=("a",))
    known = {"x.there": True}
    runs = (*look(known, 1), *look({**known, "x.arrivals": 65.0}, 2), *look({**known, "x.arrivals": 0.1}, 3))
    got = of(diagnose(incident(), [book], [cause], runs), "a")
    assert [(f.weight, f.decibans, f.facts[0].value) for f in got.contradicts] == [("w", -5.0, 65.0)]


def test_a_disproof_counts_only_if_no_look_refutes_it() -> None:
    """An answer after recovery does not disprove the hang before it."""
    cause = make_cause("a", weigh("w", "x.stuck == true", 9), disproved_by=(when("canary.ok == true"),))
    book = Playbook(id="b", incident_class="c", title="", alerts=("A",), ladder=(), causes=("a",))
    before, after = {"x.stuck": True, "canary.ok": False}, {"canary.ok": True}
    kept = diagnose(incident(), [book], [cause], (*look(before, 1), *look(after, 2)))
    out = diagnose(incident(), [book], [cause], (*look({"x.stuck": True, "canary.ok": True}, 1), *look(after, 2)))
    assert of(kept, "a").contradicts == ()
    assert of(out, "a").contradicts


# ------------------------------------------------------------------------------------------------- what is missing


def why_missing(item: Evidence | None, plan: Plan | None = None) -> str:
    cause = make_cause("a", weigh("w", "stacks.profiler == true", 9))
    book = Playbook(id="b", incident_class="c", title="", alerts=("A",), ladder=(), causes=("a",))
    got = diagnose(incident(), [book], [cause], (item,) if item else (), plan)
    missing = of(got, "a").missing
    assert [m.step for m in missing] == ["stacks"]
    return missing[0].why


def run(outcome: Outcome, reason: str = "") -> Evidence:
    return Evidence(id="stacks", step="stacks", rung=1, outcome=outcome, reason=reason, started_at=1, seconds=1)


def test_missing_evidence_says_why() -> None:
    """Failed, skipped, refused, still running and never asked for are different reasons."""
    call = StepCall(step="stacks", rung=1)
    assert why_missing(run(Outcome.TIMED_OUT, "8 s were over")) == "timed_out: 8 s were over"
    assert why_missing(run(Outcome.SKIPPED, "py-spy is missing")) == "skipped: py-spy is missing"
    assert why_missing(run(Outcome.OK)) == "it ran, and what it brought does not say"
    assert (
        why_missing(None, Plan(refused=(Refusal(call=call, why="rung 1 is above 0"),))) == "refused: rung 1 is above 0"
    )
    assert why_missing(None, Plan(chosen=(call,))) == "has not come back yet"
    assert why_missing(None) == "it is not run for this kind of incident"


# ---------------------------------------------------------------------------------------------------- properties

values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=True, width=32), st.text(max_size=3)
)
decibans = st.integers(-15, 15).map(float)


@st.composite
def some_causes(draw: st.DrawFn) -> tuple[Cause, ...]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        weights = tuple(
            weigh(f"w{n}", draw(st.sampled_from(["x.a > 0", "x.b == true", "x.c == T", "x.d <= 1"])), draw(decibans),
                  draw(decibans), group=draw(st.sampled_from("gh")))
            for n in range(draw(st.integers(1, 5)))
        )  # fmt: skip
        made.append(make_cause(f"cause{number}", *weights, prior=draw(st.sampled_from([0.01, 0.1, 0.5]))))
    return tuple(made)


some_facts = st.dictionaries(st.sampled_from(["x.a", "x.b", "x.c", "x.d"]), values)


@given(some_causes(), some_facts)
def test_the_same_evidence_gives_the_same_verdict_in_any_order(
    causes: tuple[Cause, ...], facts: dict[str, Scalar]
) -> None:
    """Determinism: neither the order of causes nor of evidence matters."""
    one = judge(causes, facts)
    other = judge(tuple(reversed(causes)), dict(reversed(list(facts.items()))))
    assert one.model_dump_json() == other.model_dump_json()


@given(some_causes(), some_facts)
def test_neutral_evidence_changes_nothing(causes: tuple[Cause, ...], facts: dict[str, Scalar]) -> None:
    """A step that brings facts no clause reads, or failed, moves no probability."""
    one = judge(causes, facts)
    other = judge(causes, {**facts, "canary.ok": True, "gpu.idle": None})
    assert [(h.cause, h.probability, h.status) for h in one.hypotheses] == [
        (h.cause, h.probability, h.status) for h in other.hypotheses
    ]


@given(some_causes(), some_facts)
def test_every_group_votes_once_and_within_its_limit(causes: tuple[Cause, ...], facts: dict[str, Scalar]) -> None:
    """Correlated probes never multiply."""
    for hypothesis in judge(causes, facts).hypotheses:
        counted = [f for f in (*hypothesis.supports, *hypothesis.contradicts) if f.counted]
        assert len({f.group for f in counted}) == len(counted)
        assert all(abs(f.decibans) <= 15 for f in counted)
        assert all(f.facts for f in counted)


@given(some_causes(), some_facts)
def test_probabilities_are_shares_with_unknown_among_them(causes: tuple[Cause, ...], facts: dict[str, Scalar]) -> None:
    """Sorted, each between 0 and 1, and no more than 1 together but where two are named together: both may be so."""
    verdict = judge(causes, facts)
    got = verdict.hypotheses
    shares = [h.probability for h in got]
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= share <= 1 for share in shares)
    assert verdict.together or sum(shares) <= 1 + 1e-5
    assert sum(h.cause == "unknown" for h in got) == 1
    assert all(h.probability >= 0.9 for h in got if h.status is Status.CONFIRMED)
