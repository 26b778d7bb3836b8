"""Does a request more cost a step what it did, or as many times more? Windows made by a step's physics."""

from __future__ import annotations

import pytest

from responder.batchslope import growth_with_batch
from responder.slowing import growth_with_work
from responder.window import Window
from tests.test_windowfacts import made

BEFORE, SINCE = 30, 16
GUARD_S = 10.0
USUAL = [4.0 + at * 7 % 5 for at in range(BEFORE)]
FILLED = [10.0 + at for at in range(SINCE)]


def served(times: float, late_s: float, batches: list[float] | None = None, usual: list[float] | None = None) -> Window:
    """A step takes 10 ms and one more for each request in it, stretched and delayed; as many prompts as ever."""
    was, now = usual or USUAL, batches or FILLED
    steps = [0.01 + 0.001 * batch for batch in was] + [(0.01 + 0.001 * batch) * times + late_s for batch in now]
    rates = [batch / took for batch, took in zip([*was, *now], steps, strict=True)]
    return made(
        BEFORE, itl_mean=steps, generation_rate=rates, prompt_computed_rate=[rate / 2 for rate in rates],
        generation_tokens_mean=[150.0] * len(rates),
    )  # fmt: skip


def growth(window: Window) -> float | None:
    """Slow from the onset on."""
    return growth_with_batch(window, window.onset_at, GUARD_S)


@pytest.mark.parametrize(("times", "late_s", "expected"), [(4.0, 0.0, 1.0), (1.0, 0.05, 0.0)], ids=["slow", "late"])
def test_a_request_more_costs_as_much_as_before_or_as_many_times_more(
    times: float, late_s: float, expected: float
) -> None:
    """The batch filled while tokens were slow: on a slow device each of them costs four times as much."""
    window = served(times, late_s)
    assert growth(window) == pytest.approx(expected, abs=0.01)
    assert growth_with_work(window) == pytest.approx(expected, abs=0.01), "it needs no prompt that makes steps heavier"


def test_a_batch_that_hardly_differs_or_was_never_seen_tells_nothing() -> None:
    """Full slots give no line, as many as ever neither; a batch ten times as large is beyond it."""
    assert growth(served(4.0, 0.0, batches=[16.0] * SINCE)) is None
    assert growth(served(4.0, 0.0, usual=[8.0] * BEFORE)) is None
    assert growth(served(1.0, 0.05, batches=[80.0 + at for at in range(SINCE)])) is None
    assert growth(served(1.1, 0.0)) is None, "hardly slower"


def test_what_became_slower_while_the_batch_grew_is_not_put_on_the_batch() -> None:
    """A delay that grows makes the line as steep as no device would, one that shrinks turns it over."""
    for late_s in (0.01, -0.01):
        window = served(1.0, 0.0)
        rates = list(window.signals["generation_rate"])
        steps = list(window.signals["itl_mean"])
        for at in range(BEFORE, BEFORE + SINCE):
            batch = float(rates[at] or 0) * float(steps[at] or 0)
            steps[at] = float(steps[at] or 0) + (0.2 if late_s < 0 else 0.0) + late_s * (at - BEFORE)
            rates[at] = batch / float(steps[at] or 1)
        assert growth(made(BEFORE, itl_mean=steps, generation_rate=rates)) is None


def test_what_comes_after_it_ended_is_left_out() -> None:
    """On the line between both times a request more would cost more than on any device."""
    window = served(1.0, 0.05)
    rows = {name: [*row, *row[BEFORE - 2 : BEFORE]] for name, row in window.signals.items()}
    assert growth(made(BEFORE, **rows)) == pytest.approx(0.0, abs=0.01)


def test_longer_reading_is_not_the_batch() -> None:
    """Three times as many prompt tokens for each that is generated make steps longer by themselves."""
    window = served(1.0, 0.05)
    rows = {name: list(row) for name, row in window.signals.items()}
    rows["prompt_computed_rate"][BEFORE:] = [float(value or 0) * 3 for value in rows["prompt_computed_rate"][BEFORE:]]
    assert growth_with_work(window) == 0.0
    assert growth_with_work(made(BEFORE, **rows)) is None


def test_a_batch_that_varies_by_the_steps_that_were_counted_is_not_called_late() -> None:
    """Slots are full and steps take most of a second: ten seconds hold one more or less, which is all that varies."""
    steps = [0.01 + 0.001 * batch for batch in USUAL] + [0.8 + 0.001 * (at % 3) for at in range(SINCE)]
    batches = [*USUAL, *(14.0 * (1 + 0.08 * (at * 5 % 7 - 3) / 3) for at in range(SINCE))]
    rates = [batch / took for batch, took in zip(batches, steps, strict=True)]
    assert growth(made(BEFORE, itl_mean=steps, generation_rate=rates)) is None
