"""`responder test`: what a case expects is judged, what it names must exist, and the shipped tests pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app

CASE = """\
apiVersion: responder/v1
kind: PlaybookTest
cases:
  - name: a queue
    alerts: [VLLMTTFTHigh]
    facts: {{{facts}}}
    expect: {{{expect}}}
"""
FULL = (
    "metrics.arrival_rate.ratio: 6.0, metrics.catch_up: false, metrics.running.pinned: true, "
    "metrics.waiting.max: 300, metrics.kv_usage.max: 0.2, metrics.preemption_rate.max: 0.0, "
    "metrics.prefix_hit_rate.change: 0.0, metrics.prompt_tokens_mean.ratio: 1.0, "
    "metrics.prompt_tokens_mean.last: 300.0, metrics.prompt_computed_rate.last: 900.0, "
    "metrics.queue_time_mean.last: 4.0, siblings.count: 0"
)


def run(*argv: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["test", *argv])
    return done.exit_code, done.output


def written(folder: Path, facts: str, expect: str) -> Path:
    file = folder / "case.yaml"
    file.write_text(CASE.format(facts=facts, expect=expect))
    return file


@pytest.mark.timeout(300)
@pytest.mark.prometheus
def test_the_shipped_playbooks_pass_their_tests() -> None:
    """Every class has tests; series run through the real rules in a real Prometheus."""
    code, said = run("--format", "json")
    told = json.loads(said)
    assert code == 0, [case for case in told["cases"] if case["failures"]]
    assert told["passed"] >= 12


def test_a_right_expectation_passes(tmp_path: Path) -> None:
    """Class, playbook, first cause, status, and steps."""
    expect = "class: high_ttft, playbooks: high_ttft, first: capacity_exceeded, status: confirmed, runs: metrics_window"
    assert run(str(written(tmp_path, FULL, expect)))[0] == 0


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        ("class: slow_decode", "class: expected slow_decode, got high_ttft"),
        ("first: giant_prompt", "first: expected giant_prompt, got capacity_exceeded"),
        ("status: unknown", "status: expected unknown, capacity_exceeded is confirmed"),
        ("not_confirmed: capacity_exceeded", "not_confirmed: capacity_exceeded is confirmed"),
        ("silent: true", "expected silence, but an incident of class high_ttft opened"),
        ("playbooks: wrong_output", "playbooks: wrong_output does not match"),
        ("runs: gcore", "runs: gcore would not run: no playbook of this incident asks for it"),
        ("refuses: metrics_window", "refuses: metrics_window is not refused: it would run"),
        ("against: others_idle", "against: others_idle does not speak against capacity_exceeded"),
    ],
)
def test_a_wrong_expectation_fails_in_words(tmp_path: Path, expect: str, says: str) -> None:
    """Each is told with what came instead, and the exit status is 2."""
    code, said = run(str(written(tmp_path, FULL, expect)))
    assert code == 2
    assert says in said
    assert "0 passed, 1 failed" in said


@pytest.mark.parametrize(
    ("facts", "expect", "says"),
    [
        ("metrics.waiting.mxa: 3", "first: unknown", "did you mean `metrics.waiting.max`?"),
        ("metrics.waiting.max: 3", "first: capacity_exeeded", "did you mean `capacity_exceeded`?"),
        ("metrics.waiting.max: 3", "runs: stack", "did you mean `stacks`?"),
        ("metrics.waiting.max: 3", "silent: false", "expects nothing"),
        ("metrics.waiting.max: 3", "frist: unknown", "did you mean `first`?"),
    ],
)
def test_names_that_nobody_defines_are_problems(tmp_path: Path, facts: str, expect: str, says: str) -> None:
    """A case that can never be right is told with its place, before anything runs."""
    code, said = run(str(written(tmp_path, facts, expect)))
    assert code == 2
    assert says in said
    assert "case.yaml:" in said


def test_a_file_that_is_no_test_is_said_to_be_none(tmp_path: Path) -> None:
    """Naming a playbook by mistake does not pass silently."""
    file = tmp_path / "x.yaml"
    file.write_text("apiVersion: responder/v1\nkind: Cause\n")
    code, said = run(str(file))
    assert code == 2
    assert "is no playbook test" in said
