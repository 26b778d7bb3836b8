"""Others' alerts: however often, late, out of order or at once they are told, an episode is one episode."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from responder.alertmanager import FOREVER_S, Ended, Intake
from responder.correlate import Memory, Policy, correlate
from responder.model import Change, Incident, Severity, Symptom, Target
from responder.told import BEYOND, MOST, Told, hear

NOW = 1_800_000_000.0
TARGETS = tuple(Target(name=name, url="") for name in ("a", "b"))


def symptom(target: str = "a", since: float = NOW - 60, fired_at: float = NOW, **more: Any) -> Symptom:
    return Symptom(alert="A", incident_class="high_ttft", severity=Severity.WARNING, target=target, since=since,
                   fired_at=fired_at, source="alertmanager", **more)  # fmt: skip


def firing(*symptoms: Symptom) -> Intake:
    return Intake(firing=symptoms)


def over(*symptoms: Symptom) -> Intake:
    return Intake(resolved=tuple(Ended(symptom=s, at=s.since + 1) for s in symptoms))


def test_told_symptoms_stay_until_taken_back_or_forgotten() -> None:
    """Alertmanager repeats itself every few hours; a resolved message ends it, half a day of silence as well."""
    first = hear(Told(), [firing(symptom())], NOW).seen()
    again = hear(first, [firing(symptom(fired_at=NOW + 3600))], NOW + 3600)
    assert [s.fired_at for s in again.shown] == [NOW]
    assert hear(again, [over(symptom())], NOW + 3700).shown == ()
    assert hear(again, [], NOW + FOREVER_S + 1).shown == ()


def test_what_began_and_ended_between_two_rounds_is_shown_to_one() -> None:
    """It was acknowledged: it becomes an incident, and is over."""
    told = hear(Told(), [firing(symptom()), over(symptom())], NOW)
    assert len(told.shown) == 1
    assert told.seen().shown == ()


def test_an_end_whose_beginning_we_missed_is_shown_to_one_round() -> None:
    """Our receiver was dead when it began."""
    told = hear(Told(), [over(symptom())], NOW)
    assert len(told.shown) == 1
    assert hear(told.seen(), [over(symptom())], NOW + 5).shown == ()


def test_a_beginning_told_after_its_end_begins_nothing() -> None:
    """Retries overtake each other."""
    told = hear(Told(), [over(symptom())], NOW).seen()
    assert hear(told, [firing(symptom())], NOW + 1).shown == ()


def test_an_old_end_does_not_end_a_newer_episode() -> None:
    """The first episode's end arrives when the second one fires already."""
    told = hear(Told(), [firing(symptom(since=NOW - 60)), firing(symptom(since=NOW - 5))], NOW)
    assert [s.since for s in hear(told, [over(symptom(since=NOW - 60))], NOW).shown] == [NOW - 5]


def test_an_old_beginning_told_late_does_not_make_a_newer_episode_older() -> None:
    """The second episode fires already when the first one's beginning is told once more."""
    told = hear(Told(), [firing(symptom(since=NOW - 5))], NOW)
    assert [s.since for s in hear(told, [firing(symptom(since=NOW - 60))], NOW).shown] == [NOW - 5]


EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([100.0, 200.0]), st.booleans(), st.booleans()),
    min_size=1, max_size=14,
)  # fmt: skip


@settings(max_examples=150)
@given(EVENTS)
def test_one_incident_per_target_and_episode_whatever_the_order(events: list[tuple[str, float, bool, bool]]) -> None:
    """Each event: target, when the episode began, whether it is told as over, whether a round comes next.

    However they are told, every episode somebody told of is in exactly one incident, and never are two open at once.
    """
    told, memory, now = Told(), Memory(), NOW
    policy = Policy(hold_down_s=0.0, reopen_s=0.0)
    incidents: dict[str, Incident] = {}
    opened: dict[str, list[str]] = {"a": [], "b": []}
    for index, (target, began, ended, round_next) in enumerate([*events, ("a", 0.0, True, True)]):
        one = symptom(target, since=NOW - 1000 + began, fired_at=now)
        if began:
            told = hear(told, [over(one) if ended else firing(one)], now)
        if round_next or index == len(events):
            now += 10
            open_ones = tuple(i for i in incidents.values() if i.state == "open")
            decisions, memory = correlate(told.shown, open_ones, memory, now, targets=TARGETS, policy=policy)
            for decision in decisions:
                incidents[decision.incident.id] = decision.incident
                if decision.change is Change.OPENED:
                    opened[decision.incident.target].append(decision.incident.id)
            told = told.seen()
        for name in "ab":
            assert sum(i.state == "open" and i.target == name for i in incidents.values()) <= 1
    for name in "ab":
        episodes = {began for target, began, _, _ in events if target == name}
        assert len(opened[name]) == len(set(opened[name]))
        assert len(opened[name]) <= len(episodes)
        assert bool(opened[name]) is bool(episodes)


def many(number: int, **more: Any) -> list[Symptom]:
    return [symptom(**more).model_copy(update={"alert": f"A{n}"}) for n in range(number)]


def test_more_alerts_of_a_server_than_anybody_can_read_are_counted() -> None:
    """Each is acknowledged; one symptom stands for those beyond the limit, another server and a louder alert have
    room of their own."""
    told = hear(Told(), [firing(*many(MOST + 30)), firing(symptom("b"))], NOW)
    told = hear(told, [firing(symptom().model_copy(update={"alert": "Loud", "severity": Severity.CRITICAL}))], NOW + 1)
    mine = [s for s in told.shown if s.target == "a"]
    assert len(mine) == MOST + 2
    assert [s.value for s in mine if s.alert == BEYOND] == [30.0]
    assert "Loud" in {s.alert for s in mine}
    assert [s.alert for s in told.shown if s.target == "b"] == ["A"]


def test_where_there_is_room_again_nothing_stands_for_others() -> None:
    """What was counted only is told again by whoever sends it, while it fires."""
    told = hear(Told(), [firing(*many(MOST + 30))], NOW).seen()
    told = hear(told, [over(*many(2))], NOW + 1)
    assert BEYOND not in {s.alert for s in told.shown}
    again = hear(told, [firing(*many(MOST + 1)[-1:])], NOW + 2)
    assert f"A{MOST}" in {s.alert for s in again.shown}


def test_what_is_remembered_of_the_past_of_a_server_has_an_end() -> None:
    """A server whose alerts come and go for half a day."""
    told = Told()
    for n in range(3):
        some = [s.model_copy(update={"alert": f"{s.alert}.{n}"}) for s in many(MOST)]
        told = hear(told, [firing(*some), over(*some)], NOW + n)
    assert len(told.over) == MOST
    assert len(told.passing) == MOST
    assert {item.at for item in told.over} == {NOW + 2}


def test_somebodys_own_alert_of_that_name_is_an_alert() -> None:
    """A name that others chose must not make an acknowledged alert disappear."""
    told = hear(Told(), [firing(symptom().model_copy(update={"alert": BEYOND}))], NOW)
    assert [s.alert for s in hear(told.seen(), [], NOW + 1).shown] == [BEYOND]
