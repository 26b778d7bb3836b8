"""One round of detection as a value: what it rests on goes in, what it comes to comes out."""

from __future__ import annotations

import gc

from responder.correlate import Memory, Policy
from responder.holding import States
from responder.judge import Round, absent, judge
from responder.model import Change, Comparison, Content, Rule, Sample, Severity, Target

RULE = Rule(alert="A", expr="queue > 5", incident_class="high_ttft", severity=Severity.WARNING,
            terms=(Comparison(signal="queue", op=">", number=5.0),))  # fmt: skip


def target(name: str) -> Target:
    return Target(name=name, url=f"http://{name}:1", match={"instance": name})


def sample(signal: str, name: str, value: float) -> Sample:
    return Sample(signal=signal, labels={"instance": name}, value=value, at=1.0)


def a_round(**update: object) -> Round:
    targets = {name: target(name) for name in ("a", "b")}
    values: dict[str, object] = {
        "now": 10.0, "content": Content(rules=(RULE,)), "targets": targets, "everywhere": targets,
        "answers": {"queue": (sample("queue", "a", 9.0), sample("queue", "b", 1.0)), "up": ()},
        "responsive": frozenset(), "sound": frozenset(), "muted": frozenset(), "stopping": frozenset(),
        "silences": (), "told": (), "incidents": (), "states": States(), "memory": Memory(), "policy": Policy(),
    }  # fmt: skip
    return Round(**{**values, **update})  # type: ignore[arg-type]


def test_what_holds_opens_an_incident() -> None:
    """From samples to a decision in one step."""
    (decision,) = judge(a_round()).decisions
    assert (decision.change, decision.incident.target) == (Change.OPENED, "a")


def test_a_limit_that_is_passed_as_ever_is_not_lost() -> None:
    """No incident, but whoever asks why can be told."""
    rule = RULE.model_copy(update={"terms": (*RULE.terms, Comparison(signal="queue_grown", op=">=", number=2.0))})
    answers = {"queue": (sample("queue", "a", 9.0), sample("queue", "b", 1.0)), "up": (),
               "queue_grown": (sample("queue_grown", "a", 1.0), sample("queue_grown", "b", 1.0))}  # fmt: skip
    judged = judge(a_round(content=Content(rules=(rule,)), answers=answers))
    assert judged.decisions == ()
    assert [(seen.alert, seen.target) for seen in judged.over] == [("A", "a")]


def test_only_our_targets_are_looked_at() -> None:
    """With other replicas a server of theirs opens nothing here."""
    assert judge(a_round(targets={"b": target("b")})).decisions == ()


def test_a_server_our_own_capture_disturbs_opens_nothing() -> None:
    """Its numbers show the capture."""
    assert judge(a_round(muted=frozenset({"a"}))).decisions == ()


def test_what_nobody_answered_is_not_absent() -> None:
    """Absent is only what Prometheus, when asked, does not have."""
    answers = {"queue": (sample("queue", "a", 9.0),), "silent": None}
    missing = absent(["queue", "silent"], answers, [target("a"), target("b")])
    assert missing == {"queue": frozenset({"b"})}


def test_a_round_leaves_nothing_for_the_collector() -> None:
    """Samples that hang in a circle would wait for a look through everything, which holds up the loop."""
    targets = {name: target(name) for name in (f"t{n}" for n in range(300))}
    one = a_round(targets=targets, answers={"queue": tuple(sample("queue", name, 1.0) for name in targets), "up": ()})
    judge(one)
    gc.collect()
    gc.disable()
    try:
        judge(one)
        absent(["queue"], one.answers, list(one.targets.values()))
        assert gc.collect() < 100
    finally:
        gc.enable()
