"""Which captures are chosen, in which order, and what is refused with which words."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from responder.model import Incident, Playbook, Severity, StepCall, Symptom
from responder.plan import Budget, plan, playbooks_for


@dataclass(frozen=True)
class Step:
    """As much of a capture step as the plan reads."""

    rung: int
    worst_pause_s: float = 0.0


STEPS = {
    "metrics_window": Step(0),
    "gpu": Step(0),
    "stacks": Step(1),
    "canary": Step(1),
    "native_stacks": Step(2, 0.6),
    "profile": Step(2, 0.5),
    "core_dump": Step(3, 30.0),
}


def book(name: str, *calls: StepCall, alerts: tuple[str, ...] = ()) -> Playbook:
    return Playbook(id=name, incident_class=name, title=name, alerts=alerts, ladder=calls, causes=())


def incident(*symptoms: tuple[str, str]) -> Incident:
    made = tuple(
        Symptom(alert=alert, incident_class=name, severity=Severity.WARNING, target="t", since=1.0, fired_at=1.0)
        for alert, name in symptoms
    )
    return Incident(
        id="i", target="t", incident_class=made[0].incident_class, severity=Severity.WARNING, onset_at=0.0,
        opened_at=1.0, symptoms=made,
    )  # fmt: skip


def call(step: str, rung: int = 0, **more: object) -> StepCall:
    return StepCall.model_validate({"step": step, "rung": rung, **more})


HIGH = incident(("VLLMTTFTHigh", "high_ttft"))


def test_rung_0_sends_requests_only_where_the_owner_said_so() -> None:
    """`canary: true` beside `max_rung: 0` allows the requests and nothing else of rung 1."""
    books = [book("high_ttft", call("stacks", 1), call("canary", 1))]
    silent = plan(HIGH, books, STEPS, Budget(max_rung=0, canary=False))
    assert silent.chosen == ()
    assert any("not sent where `max_rung` is 0" in refusal.why for refusal in silent.refused)
    asking = plan(HIGH, books, STEPS, Budget(max_rung=0, canary=True, only_rung=1))
    assert [call.step for call in asking.chosen] == ["canary"]
    assert [refusal.call.step for refusal in asking.refused] == ["stacks"]


def test_playbooks_match_by_class_or_alert_of_any_symptom() -> None:
    """An incident of two classes climbs both ladders; a playbook may also claim a single alert."""
    books = [book("slow_decode"), book("high_ttft"), book("mine", alerts=("VLLMTTFTHigh",)), book("wrong_output")]
    both = incident(("VLLMTTFTHigh", "high_ttft"), ("VLLMITLHigh", "slow_decode"))
    assert [b.id for b in playbooks_for(both, books)] == ["high_ttft", "mine", "slow_decode"]


def test_the_union_is_ordered_by_rung_then_harm() -> None:
    """Whatever order playbooks are written in."""
    books = [
        book("high_ttft", call("native_stacks", 2), call("stacks", 1), call("metrics_window")),
        book("mine", call("profile", 2), call("gpu"), alerts=("VLLMTTFTHigh",)),
    ]
    got = plan(HIGH, books, STEPS, Budget(max_rung=2, pause_s=5))
    assert [c.step for c in got.chosen] == ["metrics_window", "gpu", "stacks", "profile", "native_stacks"]


def test_the_same_call_of_two_playbooks_runs_once_with_both_reasons() -> None:
    """With other parameters it is another call."""
    books = [
        book("high_ttft", call("gpu", why="who is busy"), call("stacks", 1, params={"twice": True})),
        book("mine", call("gpu", why="who idles"), call("stacks", 1), alerts=("VLLMTTFTHigh",)),
    ]
    got = plan(HIGH, books, STEPS, Budget())
    assert [c.step for c in got.chosen] == ["gpu", "stacks", "stacks"]
    assert got.chosen[0].why == "who is busy; who idles"


def test_a_step_never_runs_below_its_own_rung() -> None:
    """A playbook cannot declare a harmful step harmless."""
    got = plan(HIGH, [book("high_ttft", call("profile", 0))], STEPS, Budget(max_rung=1))
    assert got.chosen == ()
    assert got.refused[0].call.rung == 2


@pytest.mark.parametrize(
    ("step", "budget", "why"),
    [
        ("profile", Budget(max_rung=1), "rung 2 is above rung 1, which is as far as this target allows"),
        ("core_dump", Budget(max_rung=2),
         "rung 3 stops the server for seconds or longer: it needs a person's approval"),
        ("native_stacks", Budget(max_rung=2, pause_s=0.5),
         "may pause the server for 0.6 s; 0.5 s are left of the 0.5 s this target allows"),
        ("canary", Budget(canary=False), "requests of our own are switched off for this target (`canary: false`)"),
        ("no_such", Budget(), "this responder has no such capture"),
        ("profile", Budget(max_rung=2, not_now="gdb is running on this server"),
         "not now: gdb is running on this server"),
        ("profile", Budget(max_rung=2, not_now="x", approved=frozenset({"profile"})), "not now: x"),
        ("profile", Budget(max_rung=1, not_now="x"), "rung 2 is above rung 1, which is as far as this target allows"),
        ("profile", Budget(max_rung=2, heavy_left=0),
         "this hour's captures of rung 2 and up, of this server and its host, are used up"),
        ("profile", Budget(max_rung=2, learned={"profile": 1.5}),
         "may pause the server for 1.5 s; 1 s are left of the 1 s this target allows"),
        ("stacks", Budget(must_ask=frozenset({"stacks"})), "this target wants a person's approval for it"),
    ],
)  # fmt: skip
def test_refusals_say_why(step: str, budget: Budget, why: str) -> None:
    """Nobody has to guess why a capture is missing from the report."""
    got = plan(HIGH, [book("high_ttft", call(step))], STEPS, budget)
    assert got.chosen == ()
    assert [refusal.why for refusal in got.refused] == [why]


def test_pauses_add_up() -> None:
    """Each fits alone, both together do not: the less harmful one runs."""
    books = [book("high_ttft", call("native_stacks", 2), call("profile", 2))]
    got = plan(HIGH, books, STEPS, Budget(max_rung=2, pause_s=1.0))
    assert [c.step for c in got.chosen] == ["profile"]
    assert [r.call.step for r in got.refused] == ["native_stacks"]


def test_what_was_measured_here_counts_instead_of_what_was_feared() -> None:
    """A step that proved harmless on this server fits where its declaration would not."""
    books = [book("high_ttft", call("native_stacks", 2), call("profile", 2))]
    budget = Budget(max_rung=2, pause_s=1.0, learned={"profile": 0.05, "native_stacks": 0.1})
    assert len(plan(HIGH, books, STEPS, budget).chosen) == 2


def test_heavy_captures_of_one_plan_share_the_hour() -> None:
    """Two would fit the pause, but only one is left of the hour."""
    books = [book("high_ttft", call("native_stacks", 2), call("profile", 2))]
    got = plan(HIGH, books, STEPS, Budget(max_rung=2, pause_s=5.0, heavy_left=1))
    assert ([c.step for c in got.chosen], [r.call.step for r in got.refused]) == (["profile"], ["native_stacks"])


def test_a_person_s_approval_lifts_rung_and_pause() -> None:
    """But not the ban on requests of our own."""
    books = [book("high_ttft", call("core_dump", 3), call("canary", 1))]
    budget = Budget(max_rung=0, pause_s=0, canary=False, approved=frozenset({"core_dump", "canary"}))
    got = plan(HIGH, books, STEPS, budget)
    assert [c.step for c in got.chosen] == ["core_dump"]
    assert [r.call.step for r in got.refused] == ["canary"]


def test_climbing_rung_by_rung_runs_every_step_once() -> None:
    """A flow that passes what is done gets each call exactly once, and the refusals every time."""
    books = [book("high_ttft", call("metrics_window"), call("stacks", 1), call("profile", 2))]
    done: set[str] = set()
    seen = []
    for rung in (0, 1):
        got = plan(HIGH, books, STEPS, Budget(max_rung=1, only_rung=rung), done=done)
        seen += [c.step for c in got.chosen]
        done |= {c.step for c in got.chosen}
        assert [r.call.step for r in got.refused] == ["profile"]
    assert seen == ["metrics_window", "stacks"]


def test_no_matching_playbook_means_no_captures() -> None:
    """An empty plan, not an error."""
    assert plan(HIGH, [book("wrong_output", call("gpu"))], STEPS, Budget()).chosen == ()
