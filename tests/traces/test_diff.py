"""Two traces compared: what grew, per step, by kind and kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.traces.diff import diff
from tests.traces import real
from tests.traces.scene import ATTENTION, GEMM, Scene, transformer
from tests.traces.test_reference import view


def test_what_grew_is_named_per_step(tmp_path: Path) -> None:
    """Twice as many steps are not twice the time."""
    before = view(transformer(4, 8), tmp_path, name="a.json")
    after = view(transformer(8, 8, slow_layer=3), tmp_path, name="b.json")
    change = diff(before, after)
    assert change.per_step
    assert (change.categories[0].what, change.kernels[0].what) == ("gemm", GEMM)
    assert change.categories[0].delta == pytest.approx(0.018, abs=1e-9)
    attention = next(row for row in change.categories if row.what == "attention")
    assert attention.delta == pytest.approx(0.0, abs=1e-9)
    assert "Matrix multiplication grew most" in change.says


def test_without_steps_time_is_per_second(tmp_path: Path) -> None:
    """Of the GPU's span."""
    one, two = Scene(), Scene()
    for number in range(10):
        one.gpu(GEMM, number * 100_000, 10_000)
        two.gpu(GEMM, number * 100_000, 20_000)
    two.gpu(ATTENTION, 950_000, 50_000)
    change = diff(view(one, tmp_path, name="a.json"), view(two, tmp_path, name="b.json"))
    assert (change.per_step, change.unit) == (False, "ms per second")
    (new,) = [row for row in change.kernels if row.what == ATTENTION]
    assert (new.before, new.ratio) == (0.0, None)


def test_the_same_trace_twice_changes_nothing() -> None:
    """Every difference is zero."""
    change = diff(real.rank(real.GRAPH), real.rank(real.GRAPH))
    assert all(row.delta == 0 for row in change.measures + change.categories + change.kernels)
    assert "grew" not in change.says


def test_two_real_ranks_differ_by_their_waiting() -> None:
    """Same work on both; what differs is time in collectives."""
    change = diff(real.rank(real.LLAMA_0), real.rank(real.LLAMA_1))
    assert change.categories[0].what == "collective"
    rest = sum(abs(row.delta) for row in change.categories[1:])
    assert abs(change.categories[0].delta) > 10 * rest
