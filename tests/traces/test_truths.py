"""What was planted in the real recordings is named, by step, cause and size, in words and in facts."""

from __future__ import annotations

import pytest

from responder.traces.facts import facts_of
from responder.traces.findings import findings
from responder.traces.ranks import across
from responder.traces.verdicts import TraceReport
from tests.traces import real


def report(*names: str) -> TraceReport:
    analysed = [real.analysed(name) for name in names]
    ranks, together = [one.view for one in analysed], across(analysed)
    return TraceReport(ranks=ranks, across=together, findings=findings(ranks, together, None))


@pytest.mark.parametrize("name", [real.GRAPH, real.GRAPH_1, real.STACK])
def test_the_three_planted_steps_are_the_slow_ones_and_each_has_its_cause(name: str) -> None:
    """30 ms of sleep, a copy of 268 MB, one giant matrix product; nothing else."""
    steps = real.rank(name).steps
    assert steps is not None
    assert [slow.step.index for slow in steps.slow] == [12, 8, 16]
    copy, sleep, product = steps.slow
    assert next(iter(copy.because)) == "memcpy_d2h"
    assert next(iter(sleep.because)).startswith("idle: ")
    assert sleep.because[next(iter(sleep.because))] == pytest.approx(30.2, abs=0.3)
    assert next(iter(product.because)) == "gemm"


@pytest.mark.parametrize("name", [real.GRAPH, real.GRAPH_1])
def test_the_findings_name_them(name: str) -> None:
    """With size, kernel and gap, as an engineer would say it."""
    says = " | ".join(one.says for one in report(name).findings)
    assert "of 268.4 MB" in says
    assert "nvjet_sm90_tst_192x192_64x3_2x1_v_bz_coopB_NNN of 11.2" in says
    assert "one gap of 30.3 ms" in says
    assert "blocking copies" in says


def test_with_stacks_the_sleeping_frame_is_named() -> None:
    """The innermost frame that covers the gap."""
    gaps = real.rank(real.STACK).gaps
    assert gaps is not None
    assert gaps.longest[0].frame == "<built-in function sleep>"
    assert "<built-in function sleep>" in " ".join(one.says for one in report(real.STACK).findings)


def test_steps_take_as_long_as_the_recorders_clock_says() -> None:
    """Start to start, against time.perf_counter around each step on the host, within 0.15 ms and 2 %."""
    steps = real.rank(real.GRAPH).steps
    assert steps is not None
    measured = real.host_ms()["graph"]["step_ms"]  # type: ignore[index]
    mine = [row.ms for row in steps.rows if row.kind == "decode" and not row.last]
    assert len(mine) == len(measured) - 1
    for got, want in zip(mine, measured, strict=False):
        assert got == pytest.approx(want, rel=0.02, abs=0.15)


@pytest.mark.parametrize("name", real.ON_GPU)
def test_no_kernel_of_the_real_traces_is_of_unknown_kind(name: str) -> None:
    """The table covers what vLLM 0.26 and bare torch run on an H200."""
    rank = real.rank(name)
    assert rank.unknown_share == 0.0
    assert not rank.unknown


@pytest.mark.parametrize(
    ("name", "layers", "steps"), [(real.LLAMA, 32, 7), (real.LLAMA_0, 32, 8), (real.GRAPH, 24, 60)]
)
def test_layers_are_found_without_any_annotation(name: str, layers: int, steps: int) -> None:
    """A 7B Llama has 32, the bare loop 24; CUDA graphs and compiled kernels do not hide them."""
    found = real.rank(name).layers
    assert found is not None
    assert (found.source, len(found.layers), found.steps) == ("repetition", layers, steps)
    assert found.unlike == []


def test_two_ranks_tell_transfer_from_waiting() -> None:
    """All 528 collectives of the eager run match; waiting is ten times the transfer; the later rank is named."""
    (run,) = across([real.analysed(real.LLAMA_0), real.analysed(real.LLAMA_1)])
    assert (run.matched, run.unmatched, run.missing) == (528, 0, [])
    assert run.wait_ms > 8 * run.transfer_ms
    assert run.straggler == "rank 1"
    assert run.clock_error_us < 5


def test_a_file_whose_name_and_content_disagree_about_the_rank_says_so() -> None:
    """The content counts."""
    rank = real.rank(real.LLAMA_0)
    assert rank.rank == 1
    assert any("the file's name says rank 0, its content rank 1" in note for note in rank.notes)


def test_facts_of_the_whole_and_of_each_rank() -> None:
    """The worst rank's value for the server, each rank's own under its name."""
    facts = list(facts_of(report(real.GRAPH, real.GRAPH_1)))
    whole = {fact.name: fact.value for fact in facts if not fact.subject}
    each = {(fact.name, fact.subject): fact.value for fact in facts if fact.subject}
    assert whole["trace.slow_step_why"] == "memcpy_d2h"
    assert whole["trace.blocking_copy_share"] == max(
        each["trace.blocking_copy_share", "rank 0"], each["trace.blocking_copy_share", "rank 1"]
    )
    assert whole["trace.ranks"] == 2
    assert whole["trace.missing_ranks"] == 0
    assert whole["trace.steps"] == 61
    assert whole["trace.longest_gap_ms"] == pytest.approx(30.25, abs=0.1)
    assert whole["trace.single_kernel"] == "Memcpy DtoH (Device -> Pageable)"
