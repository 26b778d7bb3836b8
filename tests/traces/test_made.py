"""Traces made for the benchmark: the engine's numbers are the truth, and what was planted is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.kineto_maker import Wish, make
from bench.kineto_repeat import repeat
from responder.traces import kineto
from responder.traces.rank import analyse_trace
from responder.traces.views import Rank
from tests.traces import real

PLANTED = (8, 9, 10)


def made(folder: Path, wish: Wish) -> tuple[Rank, dict[str, object]]:
    path = folder / "made.json.gz"
    truth = make(path, wish)
    return analyse_trace(kineto.read(path), path)[0].view, truth


@pytest.mark.parametrize("layout", ["multi", "single"])
@pytest.mark.parametrize(("stack", "graph"), [(True, False), (False, False), (False, True)])
def test_numbers_are_the_truth_and_planted_steps_are_named(
    layout: str, stack: bool, graph: bool, tmp_path: Path
) -> None:
    """A stall of 45 ms, a blocking copy of 268 MB, an attention kernel fifty times too long."""
    wish = Wish(4.5 if stack else 2.5, layout, stack, graph, layers=8, planted=PLANTED)
    rank, truth = made(tmp_path, wish)
    assert rank.busy is not None
    assert rank.steps is not None
    assert rank.blocked is not None
    assert round(rank.busy.busy_ms * 1e6) == truth["busy_ns"]
    assert round(rank.busy.span_ms * 1e6) == truth["span_ns"]
    assert rank.busy.overlap_share == pytest.approx(truth["overlap_share"])
    assert {row.name: round(row.sum_ms * 1e6) for row in rank.categories} == truth["kind_ns"]
    assert round(rank.blocked.total_ms * 1e6) == truth["blocked_ns"]
    assert rank.events == truth["events"]
    assert rank.steps.count == truth["steps"]
    starts = [round((row.at_ms - rank.steps.rows[0].at_ms) * 1e6) for row in rank.steps.rows]
    assert starts == truth["step_starts"]
    reasons = {slow.step.index: next(iter(slow.because)) for slow in rank.steps.slow}
    stall, copy, kernel = PLANTED
    assert reasons[stall] == "idle: input preparation"
    assert reasons[copy] == "memcpy_d2h"
    assert [one.step for one in rank.outliers if one.category == "attention" and one.ratio and one.ratio > 20] == [
        kernel
    ]


def test_a_cpu_servers_trace_is_mostly_frames_and_says_so(tmp_path: Path) -> None:
    """Nothing of them is kept; the advice is given."""
    rank, truth = made(tmp_path, Wish(1.0, "single", cpu_only=True))
    assert rank.events == truth["events"]
    assert any("Python frames" in note for note in rank.notes)


def test_a_repeated_real_trace_is_that_trace_several_times(tmp_path: Path) -> None:
    """Same work, as often as it was repeated; every launch still finds its kernels."""
    path = repeat(real.DATA / real.LLAMA, tmp_path / "long.json.gz", 3)
    rank, once = analyse_trace(kineto.read(path), path)[0].view, real.rank(real.LLAMA)
    assert rank.launches is not None
    assert once.launches is not None
    assert rank.gpu_events == 3 * once.gpu_events
    assert rank.launches.matched == 3 * once.launches.matched
    assert [row.sum_ms for row in rank.categories] == pytest.approx([3 * row.sum_ms for row in once.categories])
