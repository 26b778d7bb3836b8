"""Commands about captures: plans that do nothing, answers that count, refusals in words."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.approvals import Approvals
from responder.model import Approval
from tests.profiled import fake_vllm

runner = CliRunner()


def config(folder: Path, **policy: object) -> str:
    file = folder / "c.yaml"
    targets = [{"url": "http://127.0.0.1:9", "name": "t", "capture": policy}]
    file.write_text(json.dumps({"apiVersion": "responder/v1", "data_dir": str(folder / "data"), "targets": targets}))
    return str(file)


def test_a_plan_says_what_would_run_and_what_not(tmp_path: Path) -> None:
    """Steps in order of harm with pause and bytes; `run --dry-run` says the same for every playbook."""
    done = runner.invoke(app, ["plan", "slow_decode", "--config", config(tmp_path)])
    assert done.exit_code == 0, done.output
    head, *rows = done.output.splitlines()
    assert head.startswith("slow_decode on t: ")
    assert "pauses at most" in head
    rungs = [int(row.split()[1]) for row in rows if "not run" not in row]
    assert rungs == sorted(rungs)
    whole = runner.invoke(app, ["run", "--dry-run", "--config", config(tmp_path)])
    assert done.output in whole.output
    assert not (tmp_path / "data").exists()


def test_a_plan_follows_the_target_s_policy(tmp_path: Path) -> None:
    """Rung 0 only: what is above is refused, with the reason."""
    done = runner.invoke(app, ["plan", "slow_decode", "--config", config(tmp_path, max_rung=0)])
    assert "stacks: not run, rung 1 is above rung 0" in done.output


def test_a_plan_for_a_server_elsewhere_lists_nothing_that_needs_its_host(tmp_path: Path) -> None:
    """Unless somebody has said how to get there; the totals are of what would run."""
    argv = ["plan", "hang_or_crash", "--config", config(tmp_path)]
    here = runner.invoke(app, argv).output
    file = Path(argv[-1])
    file.write_text(file.read_text().replace("127.0.0.1", "192.0.2.1"))
    away = runner.invoke(app, argv).output
    for name in ("key", "hosts"):
        (tmp_path / name).touch(mode=0o600)
    ssh = {"host": "192.0.2.1", "user": "u", "key_file": str(tmp_path / "key"), "known_hosts": str(tmp_path / "hosts")}
    file.write_text(file.read_text().replace('"name"', f'"where": {json.dumps({"ssh": ssh})}, "name"'))
    reached = runner.invoke(app, argv).output
    assert "rung 1  stacks: pause" in here
    assert "rung 1  stacks: not run, the server is on another host: give the target `where:`" in away
    assert "rung 0  metrics_window: pause" in away
    assert int(away.split(": ")[1].split()[0]) < int(here.split(": ")[1].split()[0])
    assert "rung 1  stacks: pause" in reached


def test_an_unknown_playbook_is_named(tmp_path: Path) -> None:
    """With those there are."""
    done = runner.invoke(app, ["plan", "slowness", "--config", config(tmp_path)])
    assert done.exit_code == 2
    assert "hang_or_crash" in done.output


def test_approve_and_deny_write_what_the_daemon_reads(tmp_path: Path) -> None:
    """Once; then it is said who was first."""
    now = time.time()
    approvals = Approvals(tmp_path / "approvals")
    approvals.ask(Approval(incident="i1", step="gcore", target="t", rung=3, asked_at=now, expires_at=now + 900))
    done = runner.invoke(app, ["approve", "i1", "gcore", "--who", "ann", "--data-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    again = runner.invoke(app, ["deny", "i1", "gcore", "--data-dir", str(tmp_path)])
    assert again.exit_code == 2
    assert "approved already by ann" in again.output
    found = approvals.of("i1", "gcore")
    assert found is not None
    assert (found.decision, found.who) == ("approved", "ann")


def test_a_capture_of_an_unknown_target_is_refused(tmp_path: Path) -> None:
    """A name must be configured; a URL need not."""
    done = runner.invoke(app, ["capture", "gpu-7", "--step", "scrape", "--config", config(tmp_path)])
    assert done.exit_code == 2
    assert "gpu-7" in done.output


@pytest.mark.timeout(180)
def test_doctor_says_for_every_step_whether_it_can_run_and_what_to_add(tmp_path: Path) -> None:
    """And it profiles nobody to find out."""
    from responder.capture import STEPS

    with fake_vllm(tmp_path / "server") as fake:
        done = runner.invoke(app, ["doctor", "--target", fake.url, "--format", "json"])
        assert done.exit_code == 0, done.output
        rows = {row["step"]: row for row in json.loads(done.output)}
        assert set(rows) == set(STEPS)
        assert rows["scrape"]["can"]
        assert not rows["torch_profiler"]["can"]
        assert all(row["can"] or row["why"] for row in rows.values())
        assert all(row["why"] for row in rows.values() if row["partly"]), "what is missing is said"
        assert rows["command"]["can"]
        assert rows["command"]["why"].startswith("runs when a playbook or `responder capture` gives it `argv`")
        assert rows["metrics_window"]["can"]
        assert "starts one" in rows["metrics_window"]["why"]
        assert fake.asked("start") == []


def test_doctor_says_first_when_nothing_answers(tmp_path: Path) -> None:
    """A table of what could run, without a word that the server is down, would be read as if all were well."""
    done = runner.invoke(app, ["doctor", "--target", "http://127.0.0.1:9"])
    assert done.exit_code == 1
    assert done.output.startswith("nothing answers at http://127.0.0.1:9: is the server up")
    assert "rung 0" in done.output
