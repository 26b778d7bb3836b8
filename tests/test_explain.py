"""Every cited value is read again from its file; a changed file and a changed value are told."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.capture import STEPS
from responder.datadir import made_ours
from responder.explain import explained

FOLDER = Path(__file__).parent / "incidents"
runner = CliRunner()


@pytest.mark.parametrize("name", ["cpu_worker_stopped", "cpu_kv_starvation"])
def test_every_cited_value_of_a_recorded_incident_reads_back(name: str) -> None:
    """Same value, intact file; and each cause says which of its claims were shown, not shown and unknown."""
    found = explained(FOLDER / name, STEPS)
    assert len(found["facts"]) > 5
    assert all(row["same"] and row["intact"] and row["cited_by"] for row in found["facts"])
    lead = found["hypotheses"][0]
    assert lead["proof"] == "yes"
    assert {claim["truth"] for claim in lead["claims"]} >= {"yes", "no"}
    assert all(claim["clauses"] for claim in lead["claims"])


def test_one_fact_and_the_claims_that_speak_of_it() -> None:
    """`--fact NAME`."""
    found = explained(FOLDER / "cpu_kv_starvation", STEPS, "metrics.kv_usage.max")
    assert {row["fact"] for row in found["facts"]} == {"metrics.kv_usage.max"}
    clauses = [c for h in found["hypotheses"] for claim in h["claims"] for c in claim["clauses"]]
    assert any(c["clause"].startswith("metrics.kv_usage.max >=") and c["truth"] == "yes" for c in clauses)


def test_a_changed_file_is_told(tmp_path: Path) -> None:
    """Exit 1, and in words."""
    folder = tmp_path / "incident"
    shutil.copytree(FOLDER / "cpu_worker_stopped", folder)
    for path in (folder / "raw" / "processes").iterdir():
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()) + b" ")
        path.unlink()
    done = runner.invoke(app, ["explain", str(folder)])
    assert done.exit_code == 1, done.output
    assert "FILE CHANGED" in done.output


def test_another_value_than_the_report_gave_is_told(tmp_path: Path) -> None:
    """What the stored report says against what its raw file says."""
    folder = tmp_path / "incident"
    shutil.copytree(FOLDER / "cpu_kv_starvation", folder)
    entry = {"fact": "metrics.kv_usage.max", "evidence": "metrics_window", "value": 0.5}
    (folder / "report.json").write_text(json.dumps({"hypotheses": [{"for": [entry], "against": []}]}))
    done = runner.invoke(app, ["explain", str(folder), "--fact", "metrics.kv_usage.max"])
    assert done.exit_code == 1, done.output
    assert "ANOTHER VALUE than the report gave (0.5)" in done.output


def test_what_is_no_incident_or_not_cited_is_exit_2(tmp_path: Path) -> None:
    """The reason is told."""
    assert runner.invoke(app, ["explain", str(tmp_path)]).exit_code == 2
    assert runner.invoke(app, ["explain", str(FOLDER / "cpu_spike"), "--fact", "gpu.moon"]).exit_code == 2


def test_a_word_without_an_incident_is_exit_2(tmp_path: Path) -> None:
    """`responder verdict` on an id nobody knows; one of --right and --wrong is needed."""
    made_ours(tmp_path)
    done = runner.invoke(app, ["verdict", "nowhere", "--right", "--data-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert "incidents list" in done.output
    assert runner.invoke(app, ["verdict", "nowhere", "--data-dir", str(tmp_path)]).exit_code == 2


def test_a_word_from_the_command_line(tmp_path: Path) -> None:
    """A file for the daemon, and a line for the person."""
    folder = tmp_path / "incidents" / "i1"
    folder.mkdir(parents=True)
    report = {"incident": {"target": "t"}, "hypotheses": [{"cause": "worker_hang", "status": "confirmed"}]}
    (folder / "report.json").write_text(json.dumps(report))
    done = runner.invoke(app, ["verdict", "i1", "--wrong", "--cause", "gpu_fault", "--data-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "`worker_hang` was wrong, it was `gpu_fault`" in done.output
    kept = json.loads((tmp_path / "opinions" / "i1.json").read_text())
    assert (kept["named"], kept["right"], kept["cause"]) == ("worker_hang", False, "gpu_fault")
