"""A slip on the command line is answered in words, with what to write instead; never with a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from responder.__main__ import app

STORED = Path(__file__).parent / "incidents"


def said(*args: str) -> Any:
    done = CliRunner().invoke(app, list(args))
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["rules", "--scrape-interval", "15"], "write for example 30s"),
        (["replay", "nosuch"], "nosuch: no such folder; an incident's is DATA_DIR/incidents/ID"),
        (["replay", str(STORED)], f"holds {len(list(STORED.iterdir()))} incidents; give one of them, for example"),
        (["replay", str(STORED / "cpu_spike"), "--today", "--format", "xml"], "'xml' is not one of"),
        (["explain", "nosuch"], "no incident 'nosuch' in"),
        (["schema"], "write cause, config, playbook, test, or --dir FOLDER"),
    ],
)
def test_it_is_exit_2_and_says_what_to_write(args: list[str], says: str) -> None:
    """Durations, folders, formats."""
    done = said(*args)
    assert done.exit_code == 2
    assert says in " ".join(done.output.split())
    assert "Errno" not in done.output
    assert "None" not in done.output


def test_a_language_there_are_no_words_for(tmp_path: Path) -> None:
    """Those there are are named."""
    done = said("replay", str(STORED / "cpu_spike"), "--today", "--language", "de")
    assert (done.exit_code, done.output) == (2, "no language 'de'; there are en, zh\n")


def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    """Where it was looked for, and the option that says otherwise."""
    done = said("acknowledge", "i", "--url", "http://127.0.0.1:1")
    assert (done.exit_code, "http://127.0.0.1:1 (Connection refused); say where with --url" in done.output) == (1, True)
    assert "--token-file /nosuch: No such file" in said("acknowledge", "i", "--token-file", "/nosuch").output


def verdict(root: Path, *args: str) -> Any:
    return said("verdict", "i1", *args, "--who", "ann", "--data-dir", str(root))


def test_a_word_about_a_report_is_about_a_cause_there_is(tmp_path: Path) -> None:
    """Canonical, or one of the content in force then; a second word says that it takes the first one's place."""
    folder = tmp_path / "incidents" / "i1"
    folder.mkdir(parents=True)
    report = {
        "incident": {"target": "t", "state": "open"},
        "hypotheses": [{"cause": "engine_hang", "status": "possible"}],
        "playbooks": [],
    }
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "content.json").write_text(json.dumps({"causes": [{"id": "capacity_exceeded/one_tenant"}]}))
    wrong = verdict(tmp_path, "--wrong", "--cause", "worker_hung")
    assert wrong.exit_code == 2
    assert "there is no cause `worker_hung`: did you mean `worker_hang`?" in wrong.output
    assert not (tmp_path / "opinions").exists()
    first = verdict(tmp_path, "--right")
    assert first.exit_code == 0
    assert "still goes on" in first.output
    second = verdict(tmp_path, "--wrong", "--cause", "capacity_exceeded/one_tenant")
    assert second.exit_code == 0
    assert "in place of ann's word, which was right: the newest counts" in second.output
