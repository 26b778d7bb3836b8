"""Does the metrics window of a real server, read by the real step, lead to the cause that was planted?

Windows are what the shipped recording rules gave on recordings of an H200 server in a real Prometheus.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.capture import STEPS
from responder.capture.step import Brief
from responder.diagnose import diagnose
from responder.load import load_content
from responder.model import Content, Evidence, Outcome, Status, Verdict
from responder.problems import render
from responder.window import decode
from tests.facts import evidence
from tests.recorded import window
from tests.scenarios import HANG, KV, TTFT, WORKER_STOPPED, Episode

ROOT = Path(__file__).resolve().parent.parent
LATE = {**HANG, **TTFT}


@pytest.fixture(scope="module")
def content() -> Content:
    facts = [spec.name for step in STEPS.values() for spec in step.facts]
    params = {name: step.params for name, step in STEPS.items()}
    loaded, problems = load_content([ROOT / "rules"], [ROOT / "playbooks"], params, facts)
    assert not problems, render(problems)
    return loaded


def look(name: str, at: float = 100.0) -> Evidence:
    """The metrics window of a recording as evidence."""
    raw = window(name)
    found = decode(raw)
    assert found is not None
    brief = Brief(target="a", now=found.end, onset_at=found.onset_at, opened_at=found.onset_at + 10)
    facts = tuple(STEPS["metrics_window"].read({"series.json": raw}, brief))
    return Evidence(
        id=f"metrics_window-{at:g}", step="metrics_window", rung=0, outcome=Outcome.OK, started_at=at, seconds=1.0,
        facts=facts,
    )  # fmt: skip


def verdict(content: Content, alerts: dict[str, str], *items: Evidence) -> Verdict:
    return diagnose(Episode(alerts, "").incident(), content.playbooks, content.causes, items)


@pytest.mark.parametrize(
    ("name", "alerts", "cause"),
    [("spike", TTFT, "capacity_exceeded"), ("kv_starve", {**KV, **TTFT}, "kv_pressure_preemption")],
)
def test_metrics_alone_confirm_what_only_metrics_can_show(
    content: Content, name: str, alerts: dict[str, str], cause: str
) -> None:
    """A traffic spike and KV starvation of a server that serves its model alone need no other capture."""
    first = verdict(content, alerts, look(name), *evidence({"siblings.count": 0})).hypotheses[0]
    assert (first.cause, first.status) == (cause, Status.CONFIRMED)


def test_metrics_alone_do_not_confirm_a_hang(content: Content) -> None:
    """A stopped rank looks like a stopped engine, a collective or a profile: named, but not as certain."""
    ranked = verdict(content, HANG, look("hang_worker")).hypotheses
    assert ranked[0].cause in ("worker_hang", "engine_hang", "collective_hang", "capture_in_progress")
    assert ranked[0].status is Status.POSSIBLE
    assert "engine_stalls" not in {hypothesis.cause for hypothesis in ranked[:2]}


def test_with_the_other_captures_the_hang_is_confirmed(content: Content) -> None:
    """Process states, GPUs and stacks as recorded during the same hang tell which process it was."""
    others = {name: value for name, value in WORKER_STOPPED.items() if not name.startswith("metrics.")}
    first = verdict(content, HANG, look("hang_worker"), *evidence(others)).hypotheses[0]
    assert (first.cause, first.status) == ("worker_hang", Status.CONFIRMED)


@pytest.mark.parametrize("name", ["hang_after", "profile_after"])
def test_the_burst_after_a_freeze_is_not_capacity(content: Content, name: str) -> None:
    """Seen for the first time after it ended: something stopped the engine; more traffic it was not."""
    ranked = verdict(content, TTFT, look(name)).hypotheses
    assert ranked[0].cause == "engine_stalls"
    assert "capacity_exceeded" not in {hypothesis.cause for hypothesis in ranked if hypothesis.probability > 0.2}


def test_a_second_look_after_the_freeze_keeps_the_hang(content: Content) -> None:
    """The same incident, looked at again in the burst that followed."""
    others = {name: value for name, value in WORKER_STOPPED.items() if not name.startswith("metrics.")}
    items = (look("hang_worker"), *evidence(others), look("hang_after", at=160.0))
    first = verdict(content, LATE, *items).hypotheses[0]
    assert (first.cause, first.status) == ("worker_hang", Status.CONFIRMED)
