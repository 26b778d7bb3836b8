"""Local overrides by id: what a site may change without copying a file, and what it is told when an id is wrong."""

from __future__ import annotations

from pathlib import Path

from responder.capture import STEPS
from responder.cli import configured
from responder.content import check
from responder.model import Content, Problem, Severity


def with_overrides(folder: Path, text: str) -> tuple[Content, tuple[Problem, ...]]:
    file = folder / "responder.yaml"
    file.write_text(f"apiVersion: responder/v1\noverrides:\n{text}")
    return check(configured(file, {}), STEPS)


def test_alerts_causes_and_playbooks_change_by_id(tmp_path: Path) -> None:
    """Threshold, for, severity, prior; a switched-off cause competes nowhere."""
    content, problems = with_overrides(
        tmp_path,
        "  alerts:\n    VLLMTTFTHigh: {threshold: 7.5, for: 2m, severity: info}\n"
        "    VLLMQueueGrowing: {disabled: true}\n"
        "  causes:\n    capacity_exceeded: {prior: 0.5}\n    giant_prompt: {disabled: true}\n"
        "  playbooks:\n    sporadic_slow: {disabled: true}\n",
    )
    assert problems == ()
    rules = {rule.alert: rule for rule in content.rules}
    late = rules["VLLMTTFTHigh"]
    assert (late.terms[0].number, late.for_s, late.severity) == (7.5, 120.0, Severity.INFO)
    assert not [term for term in late.terms if term.signal.endswith("_grown")]  # over its own limit, news or not
    assert "VLLMQueueGrowing" not in rules
    causes = {cause.id: cause for cause in content.causes}
    assert causes["capacity_exceeded"].prior == 0.5
    assert "giant_prompt" not in causes
    assert {book.id for book in content.playbooks} == {
        "hang_or_crash", "high_ttft", "low_throughput", "slow_decode", "unwatched", "wrong_output"
    }  # fmt: skip
    book = next(book for book in content.playbooks if book.id == "high_ttft")
    assert "giant_prompt" not in book.causes
    assert "capacity_exceeded" not in book.priors


def test_an_unknown_id_is_a_problem_with_a_suggestion(tmp_path: Path) -> None:
    """It would change nothing, silently."""
    _, problems = with_overrides(
        tmp_path, "  alerts: {VLLMTTFTHihg: {threshold: 1}}\n  causes: {capacity_exeeded: {prior: 0.1}}\n"
    )
    assert [problem.instead for problem in problems] == [
        "did you mean `VLLMTTFTHigh`?", "did you mean `capacity_exceeded`?"
    ]  # fmt: skip
