"""What is valid and cannot have been meant: `check` refuses it with place and proposal, the daemon starts with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.cli import configured
from responder.config_doubts import doubts

TARGETS = "targets: [{url: 'http://h:1', name: chat-a, labels: {team: search}}]\n"
SILENCE = "silences: [{match: {%s}, starts_at: 2026-11-26T03:00:00Z, ends_at: 2026-11-26T0%d:00:00Z}]\n"
HOOK = "receivers: {a: {kind: webhook, url: 'http://a'}}\n"


def said(folder: Path, text: str) -> list[str]:
    (folder / "c.yaml").write_text(text)
    found = doubts(configured(folder / "c.yaml", {}), ["VLLMTTFTHigh"])
    assert all(problem.line > 0 for problem in found)
    return [f"{problem.what} | {problem.instead}" for problem in found]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SILENCE % ("target: 'chat-['", 4), "silences.0.match.target: 'chat-[' is not a regular expression"),
        (SILENCE % ("target: chat-a", 2), "ends before it starts"),
        (SILENCE % ("tarhet: chat-a", 4), "did you mean `target`?"),
        (SILENCE % ("target: chat-zzz", 4), "no target is ever 'chat-zzz'"),
        (HOOK + "routes: [{match: {severity: critcal}, receivers: [a]}]\n", "did you mean `critical`?"),
        (HOOK + "routes: [{match: {sevrity: critical}, receivers: [a]}]\n", "did you mean `severity`?"),
        (HOOK + "routes: [{match: {alert: VLLMTTFTHihg}, receivers: [a]}]\n", "did you mean `VLLMTTFTHigh`?"),
        ("retention: {age: 30}\n", "keeps an incident for 30 seconds only | with a unit: 30d"),
    ],
)
def test_what_cannot_have_been_meant_is_said(tmp_path: Path, text: str, says: str) -> None:
    """One mistake, one problem, at its line; the configuration itself loads, as it did before the update."""
    (one,) = said(tmp_path, TARGETS + text)
    assert says in one


def test_one_server_watched_twice_is_said(tmp_path: Path) -> None:
    """By the same URL, or by the same series."""
    twice = TARGETS.replace("]\n", ", {url: 'http://h:1/', name: b}, {url: 'http://i:1', match: {instance: 'h:1'}}]\n")
    url, match = said(tmp_path, twice)
    assert "targets.1.url: http://h:1 is watched already, by targets.0" in url
    assert "targets.2.match: instance=h:1 matches the series of targets.0, too" in match


def test_what_is_meant_is_let_through(tmp_path: Path) -> None:
    """Labels of targets, patterns that fit something, labels of alerts that nobody can list."""
    routes = "routes: [{match: {severity: 'warning|critical', team: search, target: 'chat-.*'}, receivers: [a]}]\n"
    assert said(tmp_path, TARGETS + HOOK + routes + SILENCE % ("engine: '0', instance: 'h:.*'", 4)) == []


def test_secrets_that_sign_nothing_are_said_without_being_repeated(tmp_path: Path) -> None:
    """A word instead of a secret; a file that holds something else."""
    (tmp_path / "secret").write_text("https://hooks.slack.com/services/T0/B0/hush\n")
    (tmp_path / "slack").write_text("no address, hush\n")
    (tmp_path / "c.yaml").write_text(
        TARGETS + "receivers:\n  a: {kind: webhook, url: 'http://a', secret: hunter2}\n"
        "  b: {kind: webhook, url: 'http://b', secret_file: secret}\n  c: {kind: slack_webhook, url_file: slack}\n"
    )
    done = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "c.yaml")])
    assert done.exit_code == 2
    assert "c.yaml:3:47: receivers.a.secret: the secret is shorter than 24 bytes" in done.output
    assert "secret: the secret is not `whsec_` and base64" in done.output
    assert "slack: this is not a URL" in done.output
    assert "hunter2" not in done.output
    assert "hush" not in done.output


def test_check_says_what_a_daemon_would_do(tmp_path: Path) -> None:
    """Targets with their series and rung, receivers, the web page."""
    (tmp_path / "c.yaml").write_text(TARGETS + HOOK + "prometheus: {url: 'http://p:9090'}\ncapture: {max_rung: 0}\n")
    done = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "c.yaml")])
    assert done.exit_code == 0, done.output
    assert "prometheus: http://p:9090" in done.output
    assert "chat-a: http://h:1, series {instance=h:1}, captures up to rung 0" in done.output
    assert "a: webhook, told of everything" in done.output
