"""A real Prometheus with what real servers did: the backtest says of each recording what is true, and nothing more.

vLLM 0.26 with a 7B Llama shape on H200s, scraped every 5 s.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.backtest.times import moment
from responder.capture import STEPS
from responder.replay import replay
from responder.report import to_json
from tests.test_detection import prometheus

__all__ = ["prometheus"]
pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(300)]
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "contract.schema.json").read_text())
runner = CliRunner()


@pytest.fixture(scope="module")
def told(prometheus: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The whole history, all recordings; the object and the folders."""
    folders = tmp_path_factory.mktemp("folders")
    done = runner.invoke(app, ["backtest", "--prometheus", prometheus, "--from", "2026-11-20T09:50:00Z",
                               "--to", "1795170600", "--format", "json", "--folders", str(folders)])  # fmt: skip
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), folders


def test_what_it_says_is_the_contract(told: tuple[dict[str, Any], Path]) -> None:
    """Every report is the same object as a webhook body."""
    body, _ = told
    assert (body["apiVersion"], body["kind"]) == ("responder/v1", "Backtest")
    assert body["scrape_interval_s"] == 5.0
    assert body["unanswered"] == {}
    for report in body["reports"]:
        jsonschema.validate(report, SCHEMA)


def test_faults_are_found_and_health_is_left_alone(told: tuple[dict[str, Any], Path]) -> None:
    """One incident for each fault, none for the others, with the right cause where metrics can tell."""
    body, _ = told
    lead = {r["incident"]["target"].partition(":")[0]: r for r in body["reports"]}
    assert set(lead) == {"spike", "kv_starve", "hang_worker", "profile_free"}
    assert len(body["reports"]) == 4
    tops = {name: report["hypotheses"][0] for name, report in lead.items()}
    assert tops["spike"]["cause"] == "capacity_exceeded"
    assert tops["kv_starve"]["cause"] == "kv_pressure_preemption"
    assert {name: r["incident"]["class"] for name, r in lead.items()} == {
        "spike": "high_ttft", "kv_starve": "high_ttft", "hang_worker": "hang_or_crash", "profile_free": "hang_or_crash",
    }  # fmt: skip
    assert "worker_hang" in [h["cause"] for h in lead["hang_worker"]["hypotheses"][:3]]
    assert all(tops[name]["status"] != "confirmed" for name in ("hang_worker", "profile_free"))


def test_nothing_of_the_future_is_in_a_verdict(told: tuple[dict[str, Any], Path]) -> None:
    """Every cited value is of the time of the last look or earlier."""
    body, _ = told
    cited = 0
    for report in body["reports"]:
        last = moment(report["incident"]["opened_at"], 0.0) + report["timings"]["report_s"]
        assert last < moment(report["incident"]["resolved_at"], 0.0)
        for hypothesis in report["hypotheses"]:
            for entry in (*hypothesis["for"], *hypothesis["against"]):
                assert moment(entry["at"], 0.0) <= last + 0.001
                cited += 1
    assert cited > 20


def test_captures_that_would_have_run_are_priced_and_not_pretended(told: tuple[dict[str, Any], Path]) -> None:
    """They are evidence that is missing, with the reason."""
    body, _ = told
    (hang,) = [r for r in body["reports"] if r["incident"]["target"].startswith("hang_worker")]
    assert {"processes", "stacks", "canary"} <= {c["step"] for c in hang["would_capture"]}
    assert {c["status"] for c in hang["captures"] if c["step"] == "stacks"} == {"skipped"}
    assert body["summary"]["captures"]["runs"] >= 4 * 5


def test_folders_replay_to_the_same_bytes(told: tuple[dict[str, Any], Path]) -> None:
    """What a backtest writes is an incident folder like any other."""
    _, folders = told
    paths = sorted((folders / "incidents").iterdir())
    assert len(paths) == 4
    for path in paths:
        assert to_json(replay(path, STEPS)) == (path / "report.json").read_bytes()


def test_one_server_and_a_stretch_without_any(prometheus: str) -> None:
    """A target by URL, as text; and an empty history is said to be one."""
    done = runner.invoke(app, ["backtest", "--prometheus", prometheus, "--from", "1795168300", "--to", "1795168600",
                               "--target", "http://healthy:8000"])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "0 incidents" in done.stdout
    assert "per server and day" not in done.stdout  # five minutes are no day
    nothing = runner.invoke(app, ["backtest", "--prometheus", prometheus, "--from", "1700000000", "--to", "1700000600"])
    assert nothing.exit_code == 2
    assert "no vLLM metrics" in nothing.output


def test_a_prometheus_that_is_not_there_is_a_runtime_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few attempts, in words."""
    monkeypatch.setattr("responder.backtest.past.PAUSES_S", ())
    done = runner.invoke(app, ["backtest", "--prometheus", "http://127.0.0.1:9", "--from", "1h"])
    assert done.exit_code == 1
    assert "cannot be reached" in done.output
