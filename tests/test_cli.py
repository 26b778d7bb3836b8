"""The command line: exit codes say who is at fault, output is for people or machines, never half of each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.datadir import made_ours
from responder.model import Silence
from responder.store_sqlite import SqliteStore

runner = CliRunner()


def test_the_shipped_content_is_without_a_mistake() -> None:
    """`responder check` on nothing but what is shipped."""
    done = runner.invoke(app, ["check"])
    assert done.exit_code == 0, done.output
    assert re.match(r"ok: \d+ alerts, \d+ signals, 7 playbooks, \d+ causes", done.output)


def test_mistakes_are_exit_2_with_file_line_and_proposal(tmp_path: Path) -> None:
    """All of them, as text and as JSON."""
    config = tmp_path / "c.yaml"
    config.write_text("apiVersion: responder/v1\ntargets:\n  - url: http://a:1\n    tresholds: {}\nhold_down: soon\n")
    done = runner.invoke(app, ["check", "--config", str(config)])
    assert done.exit_code == 2
    assert f"{config}:4:" in done.output
    assert "thresholds" in done.output
    assert f"{config}:5:" in done.output
    listed = json.loads(runner.invoke(app, ["check", "--config", str(config), "--format", "json"]).output)
    assert len(listed) == 2


def test_typos_in_a_playbook_are_found(tmp_path: Path) -> None:
    """An alert nobody defines and a step that does not exist, each with what was probably meant."""
    (tmp_path / "p.yaml").write_text(
        "apiVersion: responder/v1\nkind: Playbook\nid: mine\nclass: high_ttft\ntitle: t\nalerts: [VLLMTTFTHihg]\n"
        "ladder:\n  - rung: 0\n    steps:\n      - step: metrics_windwo\n        why: w\n"
        "causes:\n  capacity_exceeded: 0.3\n"
    )
    done = runner.invoke(app, ["check", "--playbooks", str(tmp_path)])
    assert done.exit_code == 2
    assert "VLLMTTFTHigh" in done.output
    assert "metrics_window" in done.output


def test_run_without_a_target_says_what_to_write() -> None:
    """Exit 2: something the operator has to change."""
    done = runner.invoke(app, ["run"])
    assert done.exit_code == 2
    assert "--target" in done.output


def test_run_refuses_a_bad_receiver_before_it_starts(tmp_path: Path) -> None:
    """Nobody should learn at 3 a.m. that the webhook was misspelt."""
    config = tmp_path / "c.yaml"
    config.write_text("targets: [{url: 'http://127.0.0.1:1'}]\nreceivers: {x: {kind: webhok, url: 'http://a'}}\n")
    done = runner.invoke(app, ["run", "--config", str(config)])
    assert done.exit_code == 2
    assert "webhook" in done.output


def test_replaying_what_is_no_incident_is_exit_2(tmp_path: Path) -> None:
    """And the message names the folder."""
    done = runner.invoke(app, ["replay", str(tmp_path)])
    assert done.exit_code == 2
    assert str(tmp_path) in done.output


def test_incidents_of_an_empty_folder(tmp_path: Path) -> None:
    """No daemon needs to run; one that has had nothing to tell is not an error."""
    made_ours(tmp_path)
    done = runner.invoke(app, ["incidents", "list", "--data-dir", str(tmp_path)])
    assert (done.exit_code, done.output.strip()) == (0, "no incidents")
    assert runner.invoke(app, ["incidents", "show", "x", "--data-dir", str(tmp_path)]).exit_code == 1


def test_a_silence_is_a_file_the_daemon_reads(tmp_path: Path) -> None:
    """Two hours for one target."""
    made_ours(tmp_path)
    done = runner.invoke(app, ["silence", "add", "target=a:1", "--for", "2h", "--data-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (file,) = (tmp_path / "silences").iterdir()
    silence = Silence.model_validate_json(file.read_bytes())
    assert silence.match == {"target": "a:1"}
    assert silence.ends_at - silence.starts_at == 7200


@pytest.mark.parametrize(
    "arguments",
    [["silence", "add", "target=a"], ["incidents", "list"], ["incidents", "show", "x"], ["approve", "x", "gcore"],
     ["deny", "x", "gcore"], ["verdict", "x", "--right"]],
)  # fmt: skip
def test_a_directory_no_daemon_has_used_is_told_and_not_made(tmp_path: Path, arguments: list[str]) -> None:
    """A silence in the wrong place silences nothing, and 'no incidents' there is no news."""
    folder = tmp_path / "nowhere"
    done = runner.invoke(app, [*arguments, "--data-dir", str(folder)])
    assert done.exit_code == 1
    assert f"no daemon has ever used {folder}: give the daemon's --data-dir" in done.output
    assert not folder.exists()


def test_a_store_a_capture_by_hand_has_made_is_no_daemon_s(tmp_path: Path) -> None:
    """Nobody would read the silence."""
    store = SqliteStore(tmp_path)
    store.open()
    store.close()
    assert runner.invoke(app, ["silence", "add", "target=a", "--data-dir", str(tmp_path)]).exit_code == 1
    assert not (tmp_path / "silences").exists()


def test_the_help_says_where_things_are_kept() -> None:
    """For every command that has the option."""
    for command in (["silence", "add"], ["incidents", "list"], ["audit"], ["capture"], ["run"], ["verdict"]):
        said = " ".join(runner.invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output.split())
        assert "default: ./responder-data" in said, command


@pytest.mark.parametrize("arguments", [["target"], ["target=["], ["a=b", "--for", "soon"]])
def test_a_silence_that_cannot_mean_anything_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    """No label, no regular expression, no duration."""
    assert runner.invoke(app, ["silence", "add", *arguments, "--data-dir", str(tmp_path)]).exit_code == 2


def test_the_rules_for_ones_own_prometheus_have_fitted_windows() -> None:
    """At a scrape every 30 s no rate looks at less than two scrapes, and one failed scrape is no lost server."""
    done = runner.invoke(app, ["rules", "--scrape-interval", "30s"])
    assert done.exit_code == 0
    assert done.output.startswith("groups:")
    assert "[10s]" not in done.output
    assert "[60s]" in done.output
    down = done.output.partition("- alert: VLLMTargetDown")[2].partition("- alert:")[0]
    assert "for: 36s" in down


def test_a_threshold_for_an_alert_that_does_not_exist_is_a_mistake(tmp_path: Path) -> None:
    """It would change nothing, and nobody would notice."""
    config = tmp_path / "c.yaml"
    config.write_text("targets: [{url: 'http://a:1', thresholds: {VLLMTTFTHigg: 1, VLLMNoProgress.for: 60}}]\n")
    done = runner.invoke(app, ["check", "--config", str(config)])
    assert done.exit_code == 2
    assert "VLLMTTFTHigh" in done.output
    assert "`VLLMNoProgress" not in done.output


def test_a_step_that_waits_for_approval_must_exist(tmp_path: Path) -> None:
    """A misspelt one is no gate, and the one that was meant runs without being asked about."""
    config = tmp_path / "c.yaml"
    config.write_text("targets: [{url: 'http://a:1', capture: {approve: [stacks, xyz]}}]\n"
                      "capture: {approve: [canary, canry]}\n")  # fmt: skip
    done = runner.invoke(app, ["check", "--config", str(config)])
    assert done.exit_code == 2
    assert "no step `canry`" in done.output
    assert "did you mean `canary`?" in done.output
    assert "no step `xyz`" in done.output
    assert f"{config}:2:29" in done.output
