"""Which capture is worth running, in which order, and which is not: the reason is told."""

from __future__ import annotations

from dataclasses import dataclass

from responder.model import Cause, Scalar, StepCall, Verdict
from responder.worth import Choice, choose
from tests.facts import evidence
from tests.test_diagnose import incident, judge, make_cause, weigh


@dataclass(frozen=True)
class Step:
    """As much of a capture step as a choice reads."""

    timeout_s: float = 10.0
    worst_pause_s: float = 0.0


STEPS = {"stacks": Step(), "canary": Step(), "flame_graph": Step(), "gdb": Step(worst_pause_s=2.0)}
CALLS = tuple(StepCall(step=name, rung=1, why="look") for name in STEPS)


def causes(*more: str) -> tuple[Cause, ...]:
    """Two rivals that metrics alone do not tell apart; stacks do, as do `more`."""
    return tuple(
        make_cause(
            name,
            weigh("seen", "x.a > 0", 9),
            weigh("stack", f"stacks.{name} == true", 12, -12),
            *(weigh(step, f"{step}.{name} == true", 12, -12) for step in more),
            confirm=("stack",),
        )
        for name in ("one", "two")
    )


def chosen(made: tuple[Cause, ...], facts: dict[str, Scalar], calls: tuple[StepCall, ...] = CALLS) -> Choice:
    verdict: Verdict = judge(made, facts)
    return choose(incident(), calls, verdict, made, STEPS, evidence(facts))


def names(choice: Choice) -> list[str]:
    return [call.step for call in choice.chosen]


def test_what_tells_rivals_apart_is_chosen_and_says_so() -> None:
    """The others are refused with the reason."""
    got = chosen(causes(), {"x.a": 1})
    assert names(got) == ["stacks"]
    assert got.chosen[0].why == "look; tells `one` from `two`"
    assert {r.call.step for r in got.refused} == {"canary", "flame_graph", "gdb"}
    assert all("would not tell" in r.why for r in got.refused)


def test_of_equal_news_the_cheaper_comes_first() -> None:
    """A pause of two seconds costs more than none."""
    assert names(chosen(causes("gdb", "canary"), {"x.a": 1})) == ["stacks", "canary", "gdb"]


def test_a_confirmed_cause_needs_nothing_more() -> None:
    """Nothing is touched for the sake of it."""
    got = chosen(causes("canary"), {"x.a": 1, "stacks.one": True, "stacks.two": False})
    assert names(got) == []
    assert {r.why for r in got.refused} == {"not needed: `one` is confirmed"}


def test_what_is_known_already_is_no_news() -> None:
    """Stacks that were taken are not worth taking again."""
    facts: dict[str, Scalar] = {"x.a": 1, "stacks.one": False, "stacks.two": False}
    disturbing = tuple(call.model_copy(update={"rung": 2}) for call in CALLS)
    assert names(chosen(causes("canary"), facts, disturbing)) == ["canary"]


def test_a_louder_vote_of_the_same_group_leaves_little_to_say() -> None:
    """A capture whose claims could not outvote what their group says already is worth nothing."""
    made = tuple(
        make_cause(name, weigh("w", "x.a > 0", 12, group="g"), weigh("v", f"stacks.{name} == true", 6, group="g"),
                   confirm=("v",))
        for name in ("one", "two")
    )  # fmt: skip
    assert names(chosen(made, {"x.a": 1})) == []


def test_hangs_are_looked_at_at_once() -> None:
    """Their evidence dies with the processes: no order, no pruning."""
    made = causes()
    hang = incident().model_copy(update={"incident_class": "hang_or_crash"})
    verdict = judge(made, {"x.a": 1, "stacks.one": True, "stacks.two": False})
    assert choose(hang, CALLS, verdict, made, STEPS, ()) == Choice(chosen=CALLS)
    assert choose(incident(), CALLS, None, made, STEPS, ()) == Choice(chosen=CALLS)


def test_while_nothing_fits_every_harmless_look_helps() -> None:
    """What disturbs does not run for curiosity."""
    calls = (StepCall(step="canary", rung=1), StepCall(step="gdb", rung=2))
    got = chosen(causes(), {"x.a": 0}, calls)
    assert names(got) == ["canary"]
    assert [r.call.step for r in got.refused] == ["gdb"]


def test_the_choice_does_not_depend_on_the_order_of_causes() -> None:
    """Determinism."""
    made = causes("canary", "gdb")
    assert chosen(made, {"x.a": 1}) == chosen(tuple(reversed(made)), {"x.a": 1})
