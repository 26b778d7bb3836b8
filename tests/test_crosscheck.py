"""Mistakes across files are told to their author once, in his file and words, without what only follows from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.authoring import scaffold
from responder.capture import STEPS
from responder.config import Config
from responder.content import ContentRefused, load

BOOK = scaffold.playbook("disk_full", "high_ttft", "VLLMTTFTHigh")
TEST = scaffold.test("disk_full", "VLLMTTFTHigh", "capacity_exceeded/disk_full")


def checked(folder: Path, book: str = BOOK, test: str = TEST) -> list[str]:
    """Lines of `responder check` that name a problem, without the folder."""
    (folder / "disk_full.yaml").write_text(book)
    (folder / "disk_full_test.yaml").write_text(test)
    said = CliRunner().invoke(app, ["check", "--playbooks", str(folder)]).output
    return [line.replace(f"{folder}/", "") for line in said.splitlines() if str(folder) in line or line[:1] == "/"]


def test_what_the_scaffold_writes_has_no_problem(tmp_path: Path) -> None:
    """Else the tests below would prove nothing."""
    assert checked(tmp_path) == []


def test_a_shipped_playbook_replaced_by_accident_is_told_to_its_author(tmp_path: Path) -> None:
    """One problem, in the new file; none in shipped ones."""
    (said,) = checked(
        tmp_path, BOOK.replace("id: disk_full\n", "id: slow_decode\n", 1), TEST.replace("[disk_full]", "[slow_decode]")
    )
    assert said.startswith("disk_full.yaml:4:5: this playbook replaces the one of the same id in ")
    assert "nobody would consider batch_saturation, " in said
    assert "give yours another `id`" in said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("step: command", "step: comand"), "there is no step `comand` (did you mean `command`?)"),
        (("[df, --output=pcent, /]", "[df, '|', wc]"), "`argv`: `|` is for a shell, and none is started"),
        (("[df, --output=pcent, /]", "df -h"), "`argv`: must be a list such as [a, b]"),
        (("fact: disk_used_percent", "fact: Disk used"), "`fact`: small letters, digits and `_`, a letter first"),
        (("'(\\d+)%'", "'([0-9'"), "`regex`: `([0-9` is no regular expression: unterminated character set"),
        (("'(\\d+)%'", "'(\\d+)(%)'"), "`regex`: `(\\d+)(%)` has 2 groups, and needs one"),
        (('unit: "%"', "unit: Watts"), "`unit`: `Watts` is no unit here; write W"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_one_problem(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    """Facts it would have brought are no further mistakes."""
    assert change[0] in BOOK
    (said,) = checked(tmp_path, BOOK.replace(*change))
    assert says in said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("alerts: [VLLMTTFTHigh]", "alerts: [VLLMTTFTHihg]"), "no rule defines the alert `VLLMTTFTHihg`"),
        (("playbooks: [disk_full]", "playbooks: [disk_ful]"), "no playbook `disk_ful` (did you mean `disk_full`?)"),
        (("runs: [command]", "runs: [comand]"), "there is no step `comand` (did you mean `command`?)"),
        (("first: [unknown]", "first: [unknwon]"), "no playbook knows the cause `unknwon` (did you mean `unknown`?)"),
        (("runs: [command]", "against: [unknown]"), "`against:` takes ids of evidence of the first cause"),
        (("{command.disk_used_percent: 40}", "{command.disk_used: 40}"), "did you mean `command.disk_used_percent`?"),
        (("{command.disk_used_percent: 40}", '{command.disk_used_percent: "40 %"}'), "is a number, and this is text"),
    ],
)  # fmt: skip
def test_check_looks_into_tests_too(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    """Names that nobody defines, before anything runs."""
    assert change[0] in TEST
    said = checked(tmp_path, test=TEST.replace(*change))
    assert all(line.startswith("disk_full_test.yaml:") for line in said)
    assert any(says in line for line in said), said


def test_a_series_no_rule_reads_makes_nothing_happen(tmp_path: Path) -> None:
    """A misspelt metric is silent for the wrong reason."""
    series = '{series: \'vllm:num_request_waiting{instance="a"}\', values: "0x9"}'
    case = f"  - name: x\n    series:\n      - {series}\n    expect: {{silent: true}}\n"
    (said,) = checked(tmp_path, test=TEST + case)
    assert "no rule reads a metric `vllm:num_request_waiting`" in said
    assert "did you mean `vllm:num_requests_waiting`?" in said


def test_a_wrong_playbook_test_keeps_no_daemon_from_starting(tmp_path: Path) -> None:
    """Its author is told by `check`; what is in force is as good without it. A wrong playbook is refused."""
    wrong = TEST.replace("VLLMTTFTHigh", "VLLMTTFTHihg")
    assert any("VLLMTTFTHihg" in line for line in checked(tmp_path, test=wrong))
    config = Config(playbooks=[tmp_path])
    assert "disk_full" in {book.id for book in load(config, STEPS).playbooks}
    (tmp_path / "disk_full.yaml").write_text(BOOK.replace("step: command", "step: comand"))
    with pytest.raises(ContentRefused, match="comand"):
        load(config, STEPS)
