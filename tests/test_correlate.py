"""One incident per episode of a target: opening, growing, flapping, silences, wanted restarts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responder.correlate import MORE, MOST_SYMPTOMS, Decision, Memory, Policy, correlate, incident_id, is_silenced
from responder.model import Change, Incident, Severity, Silence, Symptom, Target

A = Target(name="a:8000", url="http://a:8000", model="m", labels={"team": "blue"})
B = Target(name="b:8000", url="http://b:8000", model="m")
OTHER = Target(name="c:8000", url="http://c:8000", model="another")
T0 = 1_795_168_600.0


def symptom(alert: str = "VLLMTTFTHigh", cls: str = "high_ttft", severity: str = "warning", target: str = "a:8000",
            since: float = T0 - 30, fired_at: float = T0, **labels: str) -> Symptom:  # fmt: skip
    return Symptom(alert=alert, incident_class=cls, severity=Severity(severity), target=target, since=since,
                   fired_at=fired_at, labels=labels, summary=f"{alert} is bad")  # fmt: skip


def down(target: str = "a:8000", at: float = T0) -> Symptom:
    return symptom("VLLMTargetDown", "hang_or_crash", "critical", target, at - 6, at)


class Story:
    """Rounds of correlation with everything carried over, through JSON, as in the daemon."""

    def __init__(self, targets: Iterable[Target] = (A,), **fixed: Any) -> None:
        self.targets = tuple(targets)
        self.fixed = fixed
        self.incidents: dict[str, Incident] = {}
        self.memory = Memory()

    def at(self, now: float, *symptoms: Symptom, **more: Any) -> list[Decision]:
        decisions, memory = correlate(
            symptoms, self.incidents.values(), self.memory, now, targets=self.targets, **{**self.fixed, **more}
        )
        self.memory = Memory.model_validate_json(memory.model_dump_json())
        for decision in decisions:
            stored = Incident.model_validate_json(decision.incident.model_dump_json())
            assert stored == decision.incident
            self.incidents[stored.id] = stored
        return list(decisions)


def changes(decisions: list[Decision]) -> list[str]:
    return [d.change.value for d in decisions]


def test_a_symptom_opens_an_incident() -> None:
    """Its id, class, severity, beginning and history."""
    (decision,) = Story().at(T0, symptom(engine="0"))
    incident = decision.incident
    assert decision.change is Change.OPENED
    assert incident.id == "20261120-095640-a-8000"
    assert (incident.incident_class, incident.severity.value) == ("high_ttft", "warning")
    assert (incident.onset_at, incident.opened_at) == (T0 - 30, T0)
    assert [entry.kind for entry in incident.timeline] == ["symptom", "opened"]


def test_a_server_that_goes_down_again_is_told_until_it_is_proven() -> None:
    """It answers for a while, too shortly for the incident to be over, and is gone: grown, the first two times more."""
    story, restarted = Story(), symptom("VLLMRestarted", "hang_or_crash")
    story.at(T0, down())
    told = []
    for times in range(1, 5):
        back, gone = T0 + 60 * times - 20, T0 + 60 * times
        story.at(back, restarted)
        told += [d.reason for d in story.at(gone, restarted, down(at=gone)) if d.change is Change.GREW]
        assert changes(story.at(gone + 1, restarted, down(at=gone))) == ["unchanged"], "once for each time"
    assert told == ["down again", "down again"]
    (incident,) = story.incidents.values()
    assert [e.kind for e in incident.timeline if e.says == "down again"] == ["grew", "grew"]


def test_more_of_the_same_is_no_change_and_worse_is() -> None:
    """A new alert, a graver class, a louder severity; another engine with the same alert is none."""
    story = Story()
    story.at(T0, symptom(engine="0"))
    assert changes(story.at(T0 + 1, symptom(engine="0"), symptom(engine="1"))) == ["unchanged"]
    (grew,) = story.at(T0 + 2, symptom(engine="0"), symptom("VLLMITLHigh", "slow_decode"))
    assert (grew.change, grew.incident.incident_class, grew.reason) == (Change.GREW, "high_ttft", "also VLLMITLHigh")
    (grew,) = story.at(T0 + 3, symptom("VLLMNoProgress", "hang_or_crash", "critical"))
    assert grew.incident.incident_class == "hang_or_crash"
    assert "high_ttft → hang_or_crash" in grew.reason
    assert "warning → critical" in grew.reason
    assert len(grew.incident.symptoms) == 4
    assert changes(story.at(T0 + 4, symptom())) == ["unchanged"]
    assert len(story.incidents) == 1


def test_resolved_only_after_the_hold_down() -> None:
    """Thirty seconds without any symptom, counted anew by every symptom."""
    story = Story()
    story.at(T0, symptom())
    assert changes(story.at(T0 + 10)) == ["unchanged"]
    assert changes(story.at(T0 + 35, symptom())) == ["unchanged"]
    assert changes(story.at(T0 + 40)) == ["unchanged"]
    assert changes(story.at(T0 + 69)) == ["unchanged"]
    (over,) = story.at(T0 + 70)
    assert (over.change, over.incident.state, over.incident.resolved_at) == (Change.RESOLVED, "resolved", T0 + 70)
    assert over.incident.timeline[-1].kind == "resolved"
    assert story.at(T0 + 71) == []


def test_flapping_is_one_incident() -> None:
    """Ten times bad and good again within ten minutes each: one incident that came back."""
    story = Story()
    now = T0
    for _ in range(10):
        story.at(now, symptom(fired_at=now))
        for wait in (10, 50, 120):
            story.at(now + wait)
        now += 300
    assert len(story.incidents) == 1
    (incident,) = story.incidents.values()
    assert [e.says for e in incident.timeline if e.says.startswith("came back")] == ["came back: VLLMTTFTHigh"] * 9


def test_later_than_that_it_is_another() -> None:
    story = Story()
    story.at(T0, symptom())
    story.at(T0 + 1)
    story.at(T0 + 40)
    assert changes(story.at(T0 + 40 + 601, symptom(fired_at=T0 + 641))) == ["opened"]
    assert len(story.incidents) == 2


def test_information_opens_nothing_keeps_nothing_open_and_is_noted() -> None:
    asleep = symptom("VLLMSleeping", "low_throughput", "info")
    story = Story()
    assert story.at(T0, asleep) == []
    story.at(T0 + 1, asleep, symptom())
    (incident,) = story.incidents.values()
    assert {s.alert for s in incident.symptoms} == {"VLLMSleeping", "VLLMTTFTHigh"}
    assert incident.incident_class == "high_ttft"
    story.at(T0 + 2, asleep)
    assert changes(story.at(T0 + 33, asleep)) == ["resolved"]


def test_a_sleeping_engine_is_not_a_hung_one() -> None:
    """It looks exactly the same, except that it says so; anything else wrong with it counts."""
    asleep = symptom("VLLMSleeping", "low_throughput", "info")
    stuck = symptom("VLLMNoProgressCanary", "hang_or_crash", "critical")
    assert Story().at(T0, asleep, stuck) == []
    assert changes(Story().at(T0, stuck)) == ["opened"]
    assert changes(Story().at(T0, asleep, stuck, symptom("VLLMUnhealthy", "hang_or_crash"))) == ["opened"]


def silence(**match: str) -> Silence:
    return Silence(id="s", match=match, starts_at=T0, ends_at=T0 + 3600)


@pytest.mark.parametrize(
    ("match", "silenced"),
    [
        ({"target": "a:8000"}, True),
        ({"target": "a:.*"}, True),
        ({"target": "a"}, False),
        ({"target": "b.*"}, False),
        ({"team": "blue|red"}, True),
        ({"team": ""}, False),
        ({"no_such_label": ""}, True),
        ({"alert": "VLLMTTFT.*", "severity": "warning", "class": "high_.*", "model": "m", "engine": "0"}, True),
        ({"alert": "VLLMTTFT.*", "severity": "critical"}, False),
        ({"target": "("}, False),
        ({}, False),
    ],
)
def test_what_a_silence_matches(match: dict[str, str], silenced: bool) -> None:
    """Regular expressions anchored at both ends, all of them; a broken one, or none, silences nothing."""
    assert is_silenced(symptom(engine="0"), silence(**match), A) is silenced


def test_a_silence_holds_for_its_time() -> None:
    """It opens nothing and grows nothing; what is open is not called resolved while its symptoms go on."""
    muted = {"silences": [silence(target="a:8000")]}
    story = Story()
    assert changes(story.at(T0 - 1, symptom())) == ["opened"]
    worse = symptom("VLLMErrors", "hang_or_crash", "critical")
    assert changes(story.at(T0, symptom(), worse, **muted)) == ["unchanged"]
    assert changes(story.at(T0 + 60, symptom(), **muted)) == ["unchanged"]
    assert changes(Story().at(T0 - 1, symptom(), **muted)) == ["opened"], "it has not begun"
    fresh = Story()
    assert fresh.at(T0, symptom(), **muted) == []
    assert changes(fresh.at(T0 + 3600, symptom(), **muted)) == ["opened"]


def test_a_rolling_restart_is_no_incident() -> None:
    """One replica at a time goes and comes back while its siblings serve."""
    story = Story([A, B, OTHER], healthy=["b:8000", "c:8000"])
    for second in range(0, 90, 5):
        assert story.at(T0 + second, down()) == []
    restarted = symptom("VLLMRestarted", "hang_or_crash", fired_at=T0 + 90)
    for second in range(90, 160, 5):
        assert story.at(T0 + second, restarted) == []
    assert story.at(T0 + 200) == []


@pytest.mark.parametrize(
    ("targets", "healthy", "stopping", "symptoms", "opens"),
    [
        ([A, B], ["b:8000"], [], [down()], False),
        ([A], [], ["a:8000"], [down()], False),
        ([A], [], [], [down()], True),
        ([A, B], [], [], [down()], True),
        ([A, OTHER], ["c:8000"], [], [down()], True),
        ([A, B], ["b:8000"], [], [down(), symptom("VLLMFrontendFrozen", "hang_or_crash")], True),
        ([A, B], ["b:8000"], [], [symptom("VLLMNoProgress", "hang_or_crash")], True),
        ([A], [], ["a:8000"], [down(), symptom("VLLMLogSilent", "hang_or_crash")], False),
        ([A], [], ["a:8000"], [symptom("VLLMLogSilent", "hang_or_crash")], True),
        ([A, B], ["b:8000"], [], [down(), symptom("VLLMLogSilent", "hang_or_crash")], True),
        ([A, B], ["b:8000"], [], [down(at=T0 - 181)], True),
    ],
)
def test_which_restarts_are_wanted(
    targets: list[Target], healthy: list[str], stopping: list[str], symptoms: list[Symptom], opens: bool
) -> None:
    """The log said so, or all siblings of the same model serve; down and restarted only, and not for long."""
    got = Story(targets).at(T0, *symptoms, healthy=healthy, stopping=stopping)
    assert changes(got) == (["opened"] if opens else [])


def test_two_replicas_at_once_are_an_outage() -> None:
    story = Story([A, B], healthy=["a:8000", "b:8000"])
    assert changes(story.at(T0, down(), down("b:8000"))) == ["opened", "opened"]


def test_a_stop_on_request_is_remembered_while_the_server_is_away() -> None:
    """Its log is gone with it; the next start writes a new one."""
    story = Story()
    assert story.at(T0, stopping=["a:8000"]) == []
    assert story.at(T0 + 20, down(at=T0 + 20)) == []
    assert story.at(T0 + 170, down(at=T0 + 20)) == []
    assert changes(story.at(T0 + 185, down(at=T0 + 20))) == ["opened"]


def test_a_crash_loop_is_not_excused_for_ever() -> None:
    """The third restart within an hour opens, however well the siblings do."""
    story = Story([A, B], healthy=["b:8000"])
    for n, opened in ((0, []), (1, []), (2, ["opened"])):
        at = T0 + n * 400
        assert changes(story.at(at, down(at=at))) == opened
        restarted = symptom("VLLMRestarted", "hang_or_crash", fired_at=at + 60)
        assert len(story.at(at + 60, restarted)) == len(opened)
        story.at(at + 130)


def test_restarts_of_long_ago_make_no_crash_loop() -> None:
    """A rolling update twice a day is what people want, every day anew."""
    story = Story([A, B], healthy=["b:8000"])
    for n in range(6):
        at = T0 + n * 2000
        assert story.at(at, down(at=at)) == []
        story.at(at + 130)


def test_ids() -> None:
    """Deterministic, sortable by time, safe as a folder name, never twice."""
    assert incident_id("GPU Node/7:8000", T0) == "20261120-095640-gpu-node-7-8000"
    assert incident_id("a:8000", T0, {"20261120-095640-a-8000"}) == "20261120-095640-a-8000-2"
    assert incident_id("模型", T0) == "20261120-095640-target"
    assert len(incident_id("x" * 300, T0)) < 80
    story = Story([A, Target(name="a-8000", url="http://x")])
    assert len({d.incident.id for d in story.at(T0, symptom(), symptom(target="a-8000"))}) == 2


ALERTS = [("VLLMTTFTHigh", "high_ttft", "warning"), ("VLLMITLHigh", "slow_decode", "critical"),
          ("VLLMSleeping", "low_throughput", "info"), ("VLLMTargetDown", "hang_or_crash", "critical")]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([1.0, 5.0, 31.0, 700.0]), st.sets(st.sampled_from(ALERTS))), max_size=30))
@settings(max_examples=150)
def test_whatever_happens(rounds: list[tuple[float, set[tuple[str, str, str]]]]) -> None:
    """At most one open incident per target; opened once, resolved only without symptoms; beginnings come first."""
    story = Story([A], policy=Policy(hold_down_s=30))
    now, opened = T0, set[str]()
    for wait, alerts in rounds:
        now += wait
        symptoms = [symptom(*a, since=now - 10, fired_at=now) for a in sorted(alerts)]
        for change, incident, reason in story.at(now, *symptoms):
            assert reason
            assert (change is Change.OPENED) is (incident.id not in opened)
            opened.add(incident.id)
            if change is Change.RESOLVED:
                assert all(s.severity is Severity.INFO for s in symptoms)
            assert incident.onset_at <= incident.opened_at <= now
            assert [e.at for e in incident.timeline] == sorted(e.at for e in incident.timeline)
        assert sum(i.state == "open" for i in story.incidents.values()) <= 1


def test_an_incident_lists_no_more_symptoms_than_anybody_can_read() -> None:
    """Only what is louder than all of them is added; that there is more is said once."""
    story, many = Story(), [symptom(f"A{n}") for n in range(MOST_SYMPTOMS + 5)]
    (opened,) = story.at(T0, *many)
    assert len(opened.incident.symptoms) == MOST_SYMPTOMS
    (grown,) = story.at(T0 + 5, *many, symptom("Loud", severity="critical"))
    assert grown.incident.severity is Severity.CRITICAL
    assert sum(entry.says == MORE for entry in grown.incident.timeline) == 1


def test_a_clock_set_back_keeps_no_incident_open() -> None:
    """Calm since a moment that is to come: the hold-down begins now, not when the clock has caught up."""
    story = Story()
    story.at(T0, symptom())
    story.at(T0 + 10)
    assert changes(story.at(T0 - 3600)) == ["unchanged"]
    assert changes(story.at(T0 - 3600 + 31)) == ["resolved"]


def test_a_clock_set_back_excuses_no_later_crash() -> None:
    """A stop on request an hour ahead of now is no reason to keep quiet about what happens within this hour."""
    story = Story((A, OTHER))
    story.at(T0, stopping={"a:8000"})
    story.at(T0 - 3600)
    late = T0 - 3600 + 200
    assert changes(story.at(late, down(at=late))) == ["opened"]
