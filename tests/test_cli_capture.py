"""One capture by hand: parameters of a playbook's own step, who does it, and what it says about its output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from tests.profiled import fake_vllm

NOWHERE = "http://127.0.0.1:9"
runner = CliRunner()


@pytest.mark.timeout(120)
def test_a_capture_by_hand_keeps_its_files_and_tells_its_facts(tmp_path: Path) -> None:
    """Without a daemon it runs in this process; exit 1 when the step brought nothing."""
    with fake_vllm(tmp_path / "server") as fake:
        argv = ["capture", fake.url, "--data-dir", str(tmp_path / "data"), "--format", "json", "--step"]
        done = runner.invoke(app, [*argv, "scrape"])
        assert done.exit_code == 0, done.output
        told = json.loads(done.output)
        assert told["evidence"]["outcome"] == "ok"
        assert (Path(told["folder"]) / "evidence.json").is_file()
        profile = runner.invoke(app, [*argv, "torch_profiler"])
        assert profile.exit_code == 1
        assert "launched" in profile.output
        assert fake.asked("start") == []
    unknown = runner.invoke(app, ["capture", fake.url, "--step", "nonsense"])
    assert unknown.exit_code == 2


def by_playbook(folder: Path, *more: str) -> tuple[int, str]:
    site = folder / "site"
    if not site.exists():
        runner.invoke(app, ["new", "playbook", "disk_full", "--dir", str(site)])
        file = site / "disk_full.yaml"
        file.write_text(file.read_text().replace("[df, --output=pcent, /]", "[echo, 'Use% 42%']"))
    argv = ["capture", NOWHERE, "--playbooks", str(site), "--playbook", "disk_full", "--data-dir", str(folder / "d")]
    done = runner.invoke(app, [*argv, *more])
    return done.exit_code, done.output


def test_a_playbook_s_own_command_is_tried_by_hand(tmp_path: Path) -> None:
    """With the playbook's parameters; what it printed and what was read from it."""
    code, said = by_playbook(tmp_path, "--step", "command")
    assert code == 0, said
    assert "it printed:\n  | Use% 42%\n" in said
    assert "command.disk_used_percent = 42.0 %" in said


def test_a_command_that_fails_is_a_failure(tmp_path: Path) -> None:
    """A script that tries one must not read success; what it printed and left is there all the same."""
    code, said = by_playbook(tmp_path, "--step", "command", "--param", "argv=[ls, /nowhere]")
    assert code == 1
    assert "cannot access '/nowhere'" in said
    assert "files: " in said


def test_a_pattern_that_does_not_match_is_said_why(tmp_path: Path) -> None:
    """What was given by hand lies over the playbook's."""
    code, said = by_playbook(tmp_path, "--step", "command", "--param", "argv=[echo, nothing here]")
    assert code == 0, said
    assert (
        r"command.disk_used_percent gets no value: no line matches `(\d+)%`; the output begins `nothing here`" in said
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--step", "canary"], "playbook disk_full has no step 'canary'; it has metrics_window, log_tail, command"),
        (["--step", "command", "--playbook", "disk"], "no playbook 'disk'; there are: disk_full, hang_or_crash"),
        (["--step", "command", "--param", "argv=df"], "`argv`: must be a list such as [a, b]"),
        (["--step", "command", "--param", "argv=[df, '|', wc]"], "`|` is for a shell, and none is started"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(tmp_path: Path, more: list[str], says: str) -> None:
    """Before anything runs."""
    code, said = by_playbook(tmp_path, *more)
    assert code == 2
    assert says in said


def test_without_its_parameters_a_step_says_where_to_take_them_from(tmp_path: Path) -> None:
    """From a playbook, or one by one."""
    done = runner.invoke(app, ["capture", NOWHERE, "--step", "command", "--data-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert "`argv`: is missing" in done.output
    assert "`--playbook ID --step command`" in done.output


def test_without_a_daemon_it_says_that_it_found_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where the files go."""
    monkeypatch.chdir(tmp_path)
    argv = ["capture", NOWHERE, "--step", "command", "--param", "argv=[echo, n=1]", "--url", "http://127.0.0.1:9"]
    done = runner.invoke(app, [*argv, "--param", "facts=[{fact: n, regex: 'n=(.)'}]"])
    assert done.exit_code == 0, done.output
    assert f"no daemon answers at http://127.0.0.1:9 (--url): this process captures; files in {tmp_path}" in done.output
