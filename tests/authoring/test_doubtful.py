"""One mistake in a playbook is one message; what works and cannot be meant is said, and no daemon stands still."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.authoring import scaffold
from responder.capture import STEPS
from responder.config import Config
from responder.content import check, load
from responder.model import Problem


def found(folder: Path, before: str = "", after: str = "", **config: object) -> list[Problem]:
    """What is wrong with the scaffolded playbook and its test once one text in it is another."""
    text = scaffold.playbook("disk_full", "high_ttft", "VLLMTTFTHigh")
    assert before in text
    (folder / "p.yaml").write_text(text.replace(before, after, 1))
    (folder / "p_test.yaml").write_text(scaffold.test("disk_full", "VLLMTTFTHigh", "capacity_exceeded/disk_full"))
    site = Config.model_validate({"playbooks": [folder], **config})
    problems = check(site, STEPS)[1]
    if all(problem.doubt for problem in problems):
        load(site, STEPS)
    return list(problems)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("yes: +10 dB", "yes: 10"),
        ("    prior: 0.05", "    prior: 5"),
        ("rung: 1", "rung: 7"),
        ("    says: One", "    say: One"),
        ("    evidence:\n", "   evidence:\n"),
        ("alerts: [VLLMTTFTHigh]", "alerts: [VLLMTTFTHigh"),
        ("  capacity_exceeded/disk_full:", "  capacity_exceded/disk_full:"),
    ],
)
def test_one_mistake_is_one_message(tmp_path: Path, before: str, after: str) -> None:
    """Its test is not also told to name facts and causes that nobody defines."""
    (problem,) = found(tmp_path, before, after)
    assert problem.file == str(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("before", "after", "line", "says"),
    [
        ("no: -12 dB", "no: +12 dB", 34, "did you mean `no: -12 dB`?"),
        ("            - fact: disk_used_percent\n", "            - fact: disk_used_percent\n              kind: text\n",
         33, "`>=` of it is never known"),
        ("[df, --output=pcent, /]", '[sh, -c, "df / | grep x"]', 18, "`sh` runs other commands"),
    ],
)  # fmt: skip
def test_what_cannot_have_been_meant_is_a_doubt(
    tmp_path: Path, before: str, after: str, line: int, says: str
) -> None:  # fmt: skip
    """At its line; a daemon that has such a playbook starts all the same."""
    problems = [problem for problem in found(tmp_path, before, after) if not problem.in_test]
    assert all(problem.doubt for problem in problems)
    assert (problems[0].line, says in f"{problems[0].what} {problems[0].instead}") == (line, True)


def test_a_shell_that_is_allowed_is_no_doubt(tmp_path: Path) -> None:
    """Nor is the scaffold as it stands."""
    assert found(tmp_path) == []
    assert found(tmp_path, "[df, --output=pcent, /]", "[sh, -c, df]", capture={"shell": True}) == []
