"""A relative path is beside the file that gives it, whatever folder the daemon was started in."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.cli import configured
from responder.config_paths import astray

TEXT = (
    "playbooks: [site]\ntargets: [{url: 'http://h:1', api_key_file: key, log_file: vllm.log, labels: {my_file: x}}]\n"
)


def test_paths_lead_to_the_folder_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders and secret files; not the server's own log, nor a label that looks like a file's name."""
    conf, elsewhere = tmp_path / "etc", tmp_path / "elsewhere"
    (conf / "site").mkdir(parents=True)
    (conf / "key").write_text("k3y\n")
    (conf / "c.yaml").write_text(TEXT)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    config = configured(conf / "c.yaml", {})
    assert config.playbooks == (conf / "site",)
    (target,) = config.watched()
    assert target.api_key is not None
    assert (target.log_file, target.labels) == ("vllm.log", {"my_file": "x"})
    assert list(astray(config)) == []


def test_what_is_only_in_the_working_directory_still_works_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was before; started by systemd it would not be found."""
    conf = tmp_path / "etc"
    conf.mkdir()
    (conf / "c.yaml").write_text("rules: [site]\n")
    (tmp_path / "site").mkdir()
    monkeypatch.chdir(tmp_path)
    config = configured(conf / "c.yaml", {})
    assert config.rules == (Path("site"),)
    (problem,) = astray(config)
    assert (problem.line, problem.instead) == (1, f"the whole path: {tmp_path / 'site'}")


def test_what_is_nowhere_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    """So that the message shows the path tried."""
    (tmp_path / "c.yaml").write_text("playbooks: [nowhere]\n")
    assert configured(tmp_path / "c.yaml", {}).playbooks == (tmp_path / "nowhere",)
