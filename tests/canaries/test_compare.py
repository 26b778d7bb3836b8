"""Noise is no corruption, a lost tie is no error, NaN and other weights are two different things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.canaries.compare import FLOOR_NATS, MARGIN, agreed, differ, judge, learn, odd_ones
from responder.canaries.pins import Answer, Pin, Prompt
from tests.canaries.fakes import PROMPTS, moved, record, right

SHORT = PROMPTS[0]
PIN = Pin(prompt=SHORT, answer=right(SHORT), tolerance=0.02, stable=8)
OTHER = right(SHORT.model_copy(update={"text": "other weights"})).model_copy(update={"prompt": "short"})


def test_the_same_answer_is_right() -> None:
    """Nothing moved: match 1, shift 0."""
    found = judge(record(), [right(p) for p in PROMPTS])
    assert (found.bad, found.match, found.shift, found.nan, found.wrong) == (False, 1.0, 0.0, False, ())


@given(st.integers(0, 10_000))
def test_noise_within_the_tolerance_alarms_nobody(seed: int) -> None:
    """Any noise below the tolerance, whatever it looks like."""
    assert judge(record(), [moved(right(p), 0.02, seed) for p in PROMPTS]).bad is False


def test_other_weights_with_the_same_tokens_are_seen_in_the_numbers() -> None:
    """Tokens alone would call it right."""
    found = judge(record(), [moved(right(p), 0.3) for p in PROMPTS])
    assert found.match == 1.0
    assert found.bad is True
    assert found.tolerances is not None
    assert found.tolerances > 5


def test_other_weights_are_wrong_and_are_numbers() -> None:
    """Wrong tokens, a large shift, and no NaN."""
    found = judge(record(), [OTHER])
    assert (found.bad, found.nan, found.wrong, found.first_token_right) == (True, False, ("short",), False)


def test_nan_is_told_from_other_weights() -> None:
    """NaN has no shift at all."""
    found = judge(record(), [Answer(prompt="short", nan=True, error="Out of range float values")])
    assert (found.bad, found.nan, found.shift, found.match) == (True, True, None, None)


def tie(gap: float) -> tuple[Pin, Answer]:
    """A pin whose third token nearly lost, and an answer in which it did."""
    top = list(PIN.answer.top)
    (best, high), (second, _), *_ = top[2].items()
    top[2] = {**top[2], second: high - gap}
    pin = PIN.model_copy(update={"answer": PIN.answer.model_copy(update={"top": tuple(top)})})
    lost = (*PIN.answer.tokens[:2], second, *OTHER.tokens[3:])
    assert best == PIN.answer.tokens[2]
    return pin, Answer(prompt="short", tokens=lost, top=(*top[:3], *OTHER.top[3:]), nan=False)


def test_a_lost_tie_ends_the_comparison_and_is_no_error() -> None:
    """What follows another token is another text; it says nothing about the weights."""
    pin, answer = tie(0.01)
    found = differ(pin, answer)
    assert (found.bad, found.matched, found.expected) == (False, 2, 2)


def test_a_clear_winner_that_lost_is_an_error_even_without_numbers() -> None:
    """The recorded gap decides, so a probe without log-probabilities can tell, too."""
    pin, answer = tie(0.5)
    assert differ(pin, answer.model_copy(update={"top": ()})).bad is True
    pin, answer = tie(0.01)
    assert differ(pin, answer.model_copy(update={"top": ()})).bad is False


def test_one_token_over_and_over_is_wrong_only_where_the_record_was_not_like_that() -> None:
    """Tiny models repeat themselves in good health."""
    loop = Answer(prompt="short", tokens=(7,) * 8, nan=None)
    assert differ(PIN, loop).repeats is True
    used = PIN.model_copy(update={"answer": loop})
    assert differ(used, loop).bad is False


def test_no_answer_is_judged_as_nothing() -> None:
    """A timeout is neither right nor wrong."""
    found = judge(record(), [Answer(prompt="short", error="no answer in time")])
    assert (found.bad, found.match, found.errors) == (None, None, ("no answer in time",))


def test_the_tolerance_is_learned_from_the_noise_of_healthy_runs() -> None:
    """Three times the largest healthy shift, never under the floor."""
    calm = learn(PIN, [right(SHORT)] * 3)
    assert (calm.tolerance, calm.noise, calm.stable) == (FLOOR_NATS, 0.0, 8)
    noisy = learn(PIN, [moved(right(SHORT), 0.1, seed) for seed in range(8)])
    assert noisy.tolerance == pytest.approx(MARGIN * noisy.noise)
    assert judge(record().model_copy(update={"pins": (noisy,)}), [moved(right(SHORT), 0.1, 99)]).bad is False


def test_positions_where_healthy_runs_part_are_not_compared_later() -> None:
    """A tie that was lost under load ends what can be compared."""
    pin, lost = tie(0.01)
    assert learn(pin, [pin.answer, lost]).stable == 2


def test_answers_that_depend_on_load_beyond_reason_cannot_be_pinned() -> None:
    """Refused in words instead of a tolerance that would hide everything."""
    with pytest.raises(ValueError, match="cannot be pinned"):
        learn(PIN, [OTHER])
    with pytest.raises(ValueError, match="no answer"):
        learn(PIN, [Answer(prompt="short", error="x")])


def test_agreement_counts_up_to_the_first_difference() -> None:
    """An answer that is too short has lost at its end."""
    assert agreed(PIN.answer, PIN.answer, 0.0, 8) == (8, False)
    assert agreed(PIN.answer, PIN.answer.model_copy(update={"tokens": PIN.answer.tokens[:3]}), 0.0, 8) == (3, False)


def test_the_replica_that_differs_from_a_majority_stands_out() -> None:
    """Two that agree outvote one; two servers that differ accuse nobody."""
    good, near = [right(p) for p in PROMPTS], [moved(right(p), 0.005) for p in PROMPTS]
    bad = [moved(right(p), 0.8) for p in PROMPTS]
    assert odd_ones({"a": good, "b": near, "c": bad}, 0.06) == ("c",)
    assert odd_ones({"a": good, "b": near}, 0.06) == ()
    assert odd_ones({"a": good, "b": bad}, 0.06) is None
    nan = [Answer(prompt=p.id, nan=True, error="x") for p in PROMPTS]
    assert odd_ones({"a": good, "b": near, "c": nan}, 0.06) == ("c",)
    assert odd_ones({"a": good, "b": [Answer(prompt="short", error="x")]}, 0.06) is None


def test_a_prompt_of_another_record_is_ignored() -> None:
    """Answers are matched by prompt."""
    stranger = Prompt(id="stranger", text="x")
    assert judge(record(), [right(stranger)]).judged == 0
