"""A profile that was captured is in the report: real traces, seen by the trace engine, in every form of it."""

from __future__ import annotations

import json
import re
from functools import cache

import msgspec
import pytest

from responder.folder import IncidentFolder
from responder.model import Evidence, Outcome, TraceView
from responder.replay import stored_traces
from responder.report import to_html, to_json, to_markdown
from responder.traces.drawing import MAX_BARS
from responder.traces.engine import run
from responder.traces.shown import ANALYSIS, MOST_RANKS, views
from responder.words import language
from tests.sample_report import OPENED, sample
from tests.traces import real


@cache
def analysis(*names: str) -> bytes:
    """What a capture stores beside its traces."""
    return msgspec.json.encode(run([real.DATA / name for name in names]))


@cache
def seen(*names: str) -> tuple[TraceView, ...]:
    """What a report keeps of it."""
    return views(analysis(*names), "torch_profiler")


def test_a_trace_of_a_gpu_is_told_by_step_kind_and_kernel() -> None:
    """vLLM on an H200: eight steps, most of the time in matrix products; shares add up to no more than the span."""
    [view] = seen(real.LLAMA)
    assert (view.label, view.about, view.step_count, view.on_gpu) == ("rank 0", "NVIDIA H200", 8, True)
    assert [(row.name, row.count) for row in view.kinds] == [("mixed", 1), ("decode", 6)]
    assert (view.work[0].name, round(view.work[0].share or 0, 2)) == ("gemm", 0.67)
    assert sum(row.share or 0 for row in view.work) <= 1
    assert [row.ms for row in view.kernels] == sorted((row.ms for row in view.kernels), reverse=True)


def test_what_stands_out_is_said_once_whichever_ranks_show_it() -> None:
    """Both ranks copied 268 MB in step 12: one sentence, naming both; the step is marked in each one's picture."""
    first, second = seen(real.GRAPH, real.GRAPH_1)
    said = [says for says in (*first.findings, *second.findings) if "268.4 MB" in says]
    assert len(said) == 1
    assert said[0].startswith("rank 0, rank 1: step 12 (decode) took 148.3 ms")
    for view in (first, second):
        assert {8, 12, 16} <= {step.index for step in view.steps if step.slow}


def test_a_trace_without_a_gpu_tells_operators() -> None:
    """A server on a CPU has no kernels."""
    [view] = seen(real.CPU)
    assert not view.on_gpu
    assert view.idle_share is None
    assert view.kernels
    assert "CPU time by kind of work" in to_html(sample(traces=(view,)))


def test_page_text_and_contract_carry_it() -> None:
    """Steps as a picture, kinds as bars, kernels as a table; Markdown has the table, machines the numbers."""
    report = sample(traces=seen(real.GRAPH, real.GRAPH_1))
    html, markdown, told = to_html(report), to_markdown(report), json.loads(to_json(report))
    assert html.count('class="step ') == 2 * 61
    assert html.count(" slow") >= 6
    assert html.index("Inside the engine") < html.index("Timeline (UTC)")
    assert "| Matrix multiplication | 7,454 |" in markdown
    assert "step 12 (decode) took 148.3 ms" in markdown
    assert [(one["label"], one["step_count"]) for one in told["traces"]] == [("rank 0", 61), ("rank 1", 61)]
    assert "引擎" in to_markdown(report, language("zh"))


def test_what_a_trace_calls_itself_is_text_and_nothing_else() -> None:
    """Names of kernels and ranks come from files: no markup of theirs gets into the page or the ticket."""
    bad = '"><script>alert(1)</script>|`<!channel>'
    (view,) = seen(real.GRAPH)
    rows = tuple(row.model_copy(update={"name": bad}) for row in view.kernels)
    view = view.model_copy(
        update={"label": bad, "about": bad, "file": bad, "kernels": rows, "findings": (bad,), "partial": (bad,)}
    )
    report = sample(traces=(view,))
    assert "<script>alert" not in to_html(report)
    text = re.sub(r"`[^`]*`", "", to_markdown(report)).replace("\\<", "")  # code spans and escapes are text
    assert "<script>" not in text
    assert "<!channel>" not in text


def test_a_report_without_a_profile_says_nothing_of_one() -> None:
    """No heading without a body, no style for what is not there."""
    assert "Inside the engine" not in to_html(sample())
    assert ".trace" not in to_html(sample())
    assert "Inside the engine" not in to_markdown(sample())


def test_a_folder_gives_the_same_views_again(tmp_path) -> None:
    """Replay reads what the capture stored; the newest profile counts."""
    folder = IncidentFolder(tmp_path)
    items = []
    for name, raw in (("torch_profiler", analysis(real.CPU)), ("torch_profiler-2", analysis(real.LLAMA))):
        folder.write_raw(name, {ANALYSIS: raw})
        items.append(Evidence(id=name, step="torch_profiler", rung=2, outcome=Outcome.OK, started_at=OPENED,
                              seconds=2.0, files=(ANALYSIS,)))  # fmt: skip
    assert stored_traces(folder, items) == views(analysis(real.LLAMA), "torch_profiler-2")
    assert stored_traces(folder, items[:1]) == seen(real.CPU)
    assert stored_traces(folder, ()) == ()


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b"null", b'{"ranks": [{}], "findings": []}', b"\xff", b'{"ranks": 1}']
)
def test_an_unusable_analysis_costs_no_report(raw: bytes) -> None:
    """It is a profile that is not shown."""
    assert views(raw, "torch_profiler") == ()


def test_many_ranks_and_many_steps_do_not_make_a_page_of_megabytes() -> None:
    """Ranks beyond four are left to the trace page, steps beyond the bars are those far from the slowest."""
    told = json.loads(analysis(real.LLAMA))
    [rank] = told["ranks"]
    row = rank["steps"]["rows"][0]
    rank["steps"]["rows"] = [{**row, "index": n, "ms": 900.0 if n == 4000 else 5.0} for n in range(5000)]
    told["ranks"] = [{**rank, "label": f"rank {n}"} for n in range(64)]
    found = views(json.dumps(told).encode(), "torch_profiler")
    assert len(found) == MOST_RANKS
    assert all(len(view.steps) == MAX_BARS and any(step.ms == 900.0 for step in view.steps) for view in found)
    assert len(to_html(sample(traces=found))) < 1 << 20
