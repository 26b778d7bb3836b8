"""Observations over time: `for`, `keep_firing_for`, unknown, restarts, clocks that jump."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responder.evaluate import Observation
from responder.holding import HOLD_S, OUTAGE_S, States, advance
from responder.model import Comparison, Rule, Severity, Symptom, Truth

RULE = Rule(
    alert="X", incident_class="high_ttft", severity=Severity.WARNING, expr="signal:ttft_p99 > 2", unit="s",
    terms=(Comparison(signal="ttft_p99", op=">", number=2),), for_s=10, keep_firing_for_s=5,
    summary="p99 is {{ $value }}",
)  # fmt: skip
TRUTH = {"y": Truth.YES, "n": Truth.NO, "?": Truth.UNKNOWN, "s": Truth.UNKNOWN, "l": Truth.NO}
"""s: unknown because nobody answered; l: no news any more, but true of what has begun."""


def observation(letter: str, engine: str = "0", vanished: bool = False) -> Observation:
    return Observation(
        alert="X", target="a", labels={"engine": engine}, truth=TRUTH[letter], value=2.2, threshold=2,
        for_s=RULE.for_s, answered=letter != "s", vanished=vanished, lasting=letter in "yl",
    )  # fmt: skip


def step(states: States, now: float, *seen: Observation, quiet: bool = False) -> tuple[States, tuple[Symptom, ...]]:
    return advance(states, seen, now, [RULE], targets={"a"}, present={"a"}, quiet={"a"} if quiet else ())


def play(script: str, every: float = 1.0, start: float = 1000.0) -> str:
    """One letter a round in, F (firing) or . (not) a round out."""
    states, out = States(), ""
    for i, letter in enumerate(script):
        states, symptoms = step(states, start + i * every, observation(letter))
        out += "F" if symptoms else "."
    return out


@pytest.mark.parametrize(
    ("script", "fires"),
    [
        ("yyyyyyyyyyyyy", "..........FFF"),
        ("yyyynyyyyyyyyyyyy", "...............FF"),
        ("yyyy?yyyyyyyyy", "..........FFFF"),
        ("yyyysssyyyyyyy", "..........FFFF"),
        ("yyyyyyyyyyy" + "nnnnnnn", "..........F" + "FFFF..."),
        ("yyyyyyyyyyy" + "nnnynnnnnnn", "..........F" + "FFFFFFFF..."),
        ("yyyyyyyyyyy" + "??????????n", "..........F" + "FFFFFFFFFF."),
        ("nnn???sss", "........."),
        ("y" + "?" * 12 + "y", "." * 13 + "F"),
        ("l" * 12 + "yyyyyyyyyyy" + "l" * 9 + "nnnnnn", "." * 22 + "F" + "F" * 9 + "FFFF.."),
    ],
)
def test_for_and_keep_firing_for(script: str, fires: str) -> None:
    """*No* starts the wait anew; unknown neither counts against nor fires by itself; keep_firing_for bridges gaps."""
    assert play(script) == fires


def test_a_fault_that_has_become_usual_goes_on() -> None:
    """An hour later it is what the last hour was like; it ends when it is nearer to what was usual when it began."""
    states = States()
    for now in range(11):
        states, symptoms = step(states, now, observation("y")._replace(value=9.0, passed=True, half_way=3.0))
    assert symptoms
    for now, value in ((3600, 9.0), (3601, 3.5)):
        states, symptoms = step(states, now, observation("n")._replace(value=value, passed=True, half_way=8.0))
        assert symptoms
        assert states.held[0].half_way == 3.0
    for now in range(3602, 3608):
        states, symptoms = step(states, now, observation("n")._replace(value=2.9, passed=True, half_way=8.0))
    assert not symptoms


def test_what_was_told_and_comes_back_is_news_again() -> None:
    """A fault of minutes is part of the hour that its return is compared with; as bad as what was news at first, it is
    told. An hour after its end it is as usual as anything else, and never what was not told before."""
    rule = RULE.model_copy(update={"terms": (*RULE.terms, Comparison(signal="ttft_grown", op=">=", number=4))})
    news = observation("y")._replace(value=9.0, passed=True, half_way=4.0)
    good, usual = (observation("n")._replace(value=value, passed=value > 2, half_way=30.0) for value in (1.0, 9.0))
    milder = usual._replace(value=7.9)

    def rounds(states: States, begin: int, seen: Observation, count: int = 12) -> tuple[States, bool]:
        symptoms: tuple[Symptom, ...] = ()
        for now in range(begin, begin + count):
            states, symptoms = advance(states, [seen], now, [rule], targets={"a"}, present={"a"})
        return states, bool(symptoms)

    assert not rounds(States(), 0, usual)[1]
    fired, _ = rounds(States(), 0, news)
    over, still = rounds(fired, 12, good)
    assert (still, over.told[0].half_way) == (False, 4.0)
    over = States.model_validate_json(over.model_dump_json())
    back, told = rounds(over, 40, usual)
    assert (told, back.held[0].half_way) == (True, 4.0)
    assert not rounds(over, 40, milder)[1]
    later = over.model_copy(update={"at": 3700.0})
    assert not rounds(later, 3701, usual)[1]
    assert rounds(later, 3701, usual)[0].told == ()


def test_unknown_alone_never_fires() -> None:
    """The wait may be over while nothing is known: the next *yes* fires, not the silence."""
    assert "F" not in play("y" + "?" * 29)


def test_a_long_silence_starts_a_pending_rule_anew() -> None:
    """True last night and true this morning is not true all night."""
    assert play("yyy" + "?" * 40 + "yyyyyyyyyyyyy") == "." * 53 + "FFF"


def test_a_firing_rule_outlives_its_data_for_a_while() -> None:
    """Data that stays away is unknown for five minutes, then the rule lets go."""
    out = play("y" * 11 + "?" * 310)
    assert out == "." * 10 + "F" * (1 + int(HOLD_S)) + "." * 10


def test_a_silent_prometheus_never_resolves() -> None:
    """Hours of no answer change nothing, and the patience of five minutes starts only when it talks again."""
    out = play("y" * 11 + "s" * 4000 + "?" * 290 + "?" * 20)
    assert out.count("F") == 1 + 4000 + int(HOLD_S)
    assert out.endswith("." * 10)


def test_a_server_known_to_be_idle_and_well_lets_go_at_once() -> None:
    """No requests, no p99: only with proof that the engine answers is that a recovery."""
    states = States()
    for i in range(12):
        states, symptoms = step(states, 1000.0 + i, observation("y"))
    assert symptoms
    assert step(states, 1012, observation("?"), quiet=False)[1]
    assert not step(states, 1012, observation("?"), quiet=True)[1]


def test_a_series_that_is_gone_is_unknown() -> None:
    """No observation at all is treated like one that does not know."""
    states = States()
    for i in range(11):
        states, symptoms = step(states, 1000.0 + i, observation("y"))
    states, symptoms = step(states, 1011)
    assert symptoms
    assert not step(states, 1012, quiet=True)[1]


def test_series_are_independent() -> None:
    """One engine recovers, the other does not."""
    states = States()
    for i in range(11):
        states, symptoms = step(states, 1000.0 + i, observation("y", "0"), observation("y", "1"))
    assert len(symptoms) == 2
    for i in range(6):
        states, symptoms = step(states, 1011.0 + i, observation("n", "0"), observation("y", "1"))
    assert [s.labels for s in symptoms] == [{"engine": "1"}]


def test_what_a_symptom_says() -> None:
    """Since when, value and limit, in words that claim no more than the buckets."""
    states = States()
    for i in range(11):
        states, symptoms = step(states, 1000.0 + i, observation("y"))
    (symptom,) = symptoms
    assert (symptom.since, symptom.fired_at, symptom.value, symptom.threshold) == (1000, 1010, 2.2, 2)
    assert symptom.summary == "p99 is between 1 s and 2.5 s (limit 2 s)"
    assert symptom.unit == "s"


def test_a_restart_goes_on_where_it_was() -> None:
    """States survive JSON; the time of the outage counts for no `for`, and a firing rule fires on, same since."""
    states = States()
    for i in range(5):
        states, _ = step(states, 1000.0 + i, observation("y"))
    states = States.model_validate_json(states.model_dump_json())
    states, symptoms = step(states, 1604.0, observation("y"))
    assert not symptoms
    states, symptoms = step(states, 1609.0, observation("y"))
    assert not symptoms
    states, symptoms = step(states, 1610.0, observation("y"))
    assert symptoms
    states = States.model_validate_json(states.model_dump_json())
    after, symptoms = step(states, 1610 + 3 * OUTAGE_S, observation("n"))
    assert symptoms, "keep_firing_for is not used up by an outage"
    assert step(states, 1610 + 3 * OUTAGE_S, observation("y"))[1][0].fired_at == 1610


def test_after_a_long_outage_pending_rules_start_anew() -> None:
    states = States()
    for i in range(9):
        states, _ = step(states, 1000.0 + i, observation("y"))
    states, symptoms = step(states, 1009 + OUTAGE_S, observation("y"))
    assert not symptoms
    assert states.held[0].since == 1009 + OUTAGE_S


@pytest.mark.parametrize("jump", [-3600.0, -5.0, 3000.0])
def test_a_clock_that_is_set_neither_fires_nor_resolves(jump: float) -> None:
    """Set back an hour, the `for` goes on where it was; set forward, the leap counts for nothing."""
    states = States()
    for i in range(6):
        states, symptoms = step(states, 10_000.0 + i, observation("y"))
    for i in range(4):
        states, symptoms = step(states, 10_006.0 + jump + i, observation("y"))
        assert not symptoms
    for i in range(4, 8):
        states, symptoms = step(states, 10_006.0 + jump + i, observation("y"))
    assert symptoms
    assert symptoms[0].since <= symptoms[0].fired_at <= 10_006.0 + jump + 8
    states, symptoms = step(states, 10_014.0, observation("?"))
    assert symptoms


def test_a_vanished_target_waits_longer() -> None:
    """Service discovery may blink; then it is a symptom with words of its own."""
    states = States()
    for i in range(30):
        states, symptoms = step(states, 1000.0 + i, observation("y", vanished=True))
        assert not symptoms
    states, symptoms = step(states, 1030.0, observation("y", vanished=True))
    assert "service discovery" in symptoms[0].summary


def test_rules_and_targets_that_are_gone_take_their_states_along() -> None:
    """After a reload nothing fires for what nobody configured."""
    states = States()
    for i in range(11):
        states, _ = step(states, 1000.0 + i, observation("y"))
    assert states.seen == ("a",)
    assert advance(states, [], 1011, [], targets={"a"})[1] == ()
    after, symptoms = advance(states, [], 1011, [RULE], targets={"b"})
    assert (symptoms, after.held, after.seen) == ((), (), ())


SCRIPTS = st.text(alphabet="yn?s", min_size=1, max_size=80)


@given(SCRIPTS, st.sampled_from([0.5, 1.0, 2.0, 5.0]))
@settings(max_examples=150)
def test_whatever_happens(script: str, every: float) -> None:
    """It fires only on a *yes* after ten seconds without *no*; it ends only on a *no*; storing changes nothing."""
    states, stored, before = States(), States(), False
    trues = 0.0
    for i, letter in enumerate(script):
        now = 1000.0 + i * every
        states, symptoms = step(states, now, observation(letter))
        stored, again = step(States.model_validate_json(stored.model_dump_json()), now, observation(letter))
        assert again == symptoms
        if bool(symptoms) and not before:
            assert letter == "y"
            since = symptoms[0].since
            assert now - since >= RULE.for_s
            first = round((since - 1000.0) / every)
            assert "n" not in script[first : i + 1]
        if before and not symptoms:
            assert letter == "n"
            trues = max((1000.0 + j * every for j, seen in enumerate(script[:i]) if seen == "y"), default=0.0)
            assert now - trues >= RULE.keep_firing_for_s
        before = bool(symptoms)
