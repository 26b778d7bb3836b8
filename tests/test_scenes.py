"""Does a hang show who waits for whom, and a trace where its time went?"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from responder import charts
from responder.model import Evidence, Fact, Outcome, Report
from responder.report_html import drawing
from responder.scenes import MOST_WORKERS, ranks, scenes, trace
from responder.words import language, speaking
from tests.replayed import replayed
from tests.sample_report import sample


def hang() -> Report:
    """A rank stopped on two H200s; later looks saw it recovered."""
    return replayed("h200_tp2_rank_stopped")


def test_the_stopped_rank_is_whom_the_others_wait_for() -> None:
    """Clients, API server, engine, both workers; the look that saw it stopped is drawn, not the last one."""
    found = ranks(hang())
    assert found is not None
    names = [box["name"] for box in found["boxes"]]
    assert names == ["APIServer", "EngineCore", "Worker_TP0", "Worker_TP1"]
    assert [box["tone"] for box in found["boxes"]] == ["fine", "fine", "fine", "stopped"]
    assert found["boxes"][3]["lines"] == ["stopped", "GPU 1: idle"]
    assert "waits for work on the GPU to end" in found["boxes"][2]["lines"]
    loud = [(start, end) for start, end, is_loud in found["edges"] if is_loud]
    assert loud == [(1, 3), (2, 3)]


def test_no_hang_no_diagram() -> None:
    """Where all goes on, nobody waits for anybody in particular."""
    assert ranks(sample()) is None
    assert scenes(sample()) == []


def test_of_many_workers_those_that_stand_out_are_shown() -> None:
    """Sixteen ranks, the last of them stopped."""
    report = hang()
    (look,) = [item for item in report.evidence if item.id == "processes"]
    states = [
        Fact(name="processes.state", value="T" if n == 15 else "R", step="processes", says="running",
             subject=f"VLLM::Worker_TP{n} (pid {n + 100})")
        for n in range(16)
    ]  # fmt: skip
    many = report.model_copy(update={"evidence": (look.model_copy(update={"facts": tuple(states)}),)})
    found = ranks(many)
    assert found is not None
    assert len(found["boxes"]) == MOST_WORKERS
    assert (found["boxes"][-1]["name"], found["more"]) == ("Worker_TP15", "and 8 more workers")


def test_a_trace_shows_kinds_of_work_largest_first() -> None:
    """Shares of GPU work only; idle time stands below."""
    facts = {"gemm": 0.5, "attention": 0.3, "gpu_idle": 0.25, "idle_host_sync": 0.9, "memset": 0.001}
    item = Evidence(
        id="torch_profiler", step="torch_profiler", rung=2, outcome=Outcome.OK, started_at=0, seconds=1,
        facts=tuple(Fact(name=f"trace.{k}_share", value=v, unit="share", step="torch_profiler")
                    for k, v in facts.items()),
    )  # fmt: skip
    found = trace(sample(evidence=(item,)))
    assert found is not None
    assert [row[0] for row in found["rows"]] == ["gemm", "attention"]
    assert found["under"] == "GPU idle for 25 % of the time"


@pytest.mark.parametrize("code", ["en", "zh"])
def test_it_is_drawn_as_a_plain_drawing(tmp_path: Path, code: str) -> None:
    """SVG for the page and PNG for Slack; without a font for the language it is English, and the report says so."""
    report = hang().model_copy(update={"series": ()})
    drawn = asyncio.run(charts.draw(report, tmp_path, 60.0, None, language(code)))
    assert list(drawn) == ["0-ranks"]
    assert drawing(drawn["0-ranks"])
    assert (tmp_path / "0-ranks.png").stat().st_size > 5000
    with speaking(language("en" if charts.in_english(tmp_path) else code)):
        words = ranks(report)
    assert words is not None
    assert words["title"] in drawn["0-ranks"]
