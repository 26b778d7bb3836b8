"""How slow tokens may be for the work in a step: by the line that batch and latency made before."""

from __future__ import annotations

import pytest

from responder.stepwork import itl_beyond_work
from responder.window import Window
from tests.test_windowfacts import made

BEFORE, SINCE = 60, 12
BATCH = [float(2 + i // 8 % 4) for i in range(BEFORE)]
"""Between 2 and 5 requests, for 40 s each."""


def seen(itl: float, running: float, batch: list[float] = BATCH, prompts: float = 1.0) -> Window:
    """10 ms and 0.1 ms for each request before; then this latency at this batch, with so many times the prompts."""
    return made(
        onset=BEFORE,
        running=[*batch, *[running] * SINCE],
        itl_mean=[*(0.01 + 0.0001 * one for one in batch), *[itl] * SINCE],
        prompt_computed_rate=[*[100.0] * BEFORE, *[100.0 * prompts] * SINCE],
        generation_rate=[100.0] * (BEFORE + SINCE),
    )


def test_a_larger_batch_explains_what_the_line_says() -> None:
    """Ten times as many requests: 14 ms, not ten times as long."""
    healthy, slow = itl_beyond_work(seen(0.014, 40)), itl_beyond_work(seen(0.04, 40))
    assert healthy is not None
    assert slow is not None
    assert healthy <= 1.0
    assert 2.0 <= slow <= 4.0


def test_a_batch_that_never_differed_explains_all_in_proportion() -> None:
    """No line: twice as many may take twice as long."""
    assert itl_beyond_work(seen(0.0206, 6, [3.0] * BEFORE)) == pytest.approx(1.0)


def test_prompts_are_work() -> None:
    """Twenty times the prompt tokens per token may do what a batch of twenty times as many does."""
    much, little = itl_beyond_work(seen(0.02, 4, prompts=20)), itl_beyond_work(seen(0.02, 4))
    assert much is not None
    assert little is not None
    assert much < 1.3 < 1.6 < little


def test_without_a_usual_time_nothing_is_known() -> None:
    """Nor without the prompt tokens computed."""
    short = made(onset=3, running=[3.0] * 12, itl_mean=[0.01] * 12, prompt_computed_rate=[1.0] * 12,
                 generation_rate=[1.0] * 12)  # fmt: skip
    assert itl_beyond_work(short) is None
    assert itl_beyond_work(made(onset=60, running=[3.0] * 72, itl_mean=[0.01] * 72)) is None
