"""The tutorial, followed literally: every file written as printed there, every command run as printed there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app

TUTORIAL = Path(__file__).resolve().parent.parent.parent / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


@pytest.mark.timeout(240)
@pytest.mark.prometheus
def test_every_command_of_the_tutorial_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page; `plan` looks for a server that need not be there."""
    monkeypatch.chdir(tmp_path)
    said = []
    blocks = BLOCK.findall(TUTORIAL.read_text())
    files = {text.splitlines()[0].removeprefix("# "): text for kind, text in blocks if kind == "yaml"}
    (tmp_path / "responder.yaml").write_text(files.pop("responder.yaml"))
    for kind, text in blocks:
        name = text.splitlines()[0].removeprefix("# ")
        if kind == "yaml" and name in files:
            (tmp_path / name).write_text(text)
        for line in text.splitlines() if kind == "sh" else ():
            done = CliRunner().invoke(app, shlex.split(line)[1:])
            assert done.exit_code == 0, f"{line}\n{done.output}"
            said.append(done.output)
    assert "3 passed, 0 failed\n" in said
    assert "command" in said[-1]


def test_a_misspelt_key_is_shown_as_the_tutorial_says(tmp_path: Path) -> None:
    """File, line, caret, and what was meant."""
    CliRunner().invoke(app, ["new", "playbook", "disk_full", "--dir", str(tmp_path)])
    file = tmp_path / "disk_full.yaml"
    file.write_text(file.read_text().replace("title:", "titel:", 1))
    said = CliRunner().invoke(app, ["check", "--playbooks", str(tmp_path)])
    assert said.exit_code == 2
    assert "disk_full.yaml:6:1: unknown key `titel` (did you mean `title`?)" in said.output
    assert "^" in said.output
