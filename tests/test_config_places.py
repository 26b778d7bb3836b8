"""A mistake in the configuration is shown where it stands, all of them in one go, and no secret with them."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from responder.__main__ import app

CONFIG = """\
apiVersion: responder/v1
hold_down: soon
rules: [no_such_folder]
overrides:
  alerts:
    VLLMTTFTHihg: {threshold: 3}
    VLLMTTFTHigh: {threshold: 3s}
receivers:
  oncall:
    kind: webhok
  hook:
    kind: webhook
    url: https://hooks.example.com/s3cret
    sercet: whsec_s3cret
  later:
    kind: webhook
    url: https://hooks.example.com/s3cret
    secret_file: no_such_file
"""
SAID = """\
c.yaml:2:12: hold_down: 'soon' is not a duration; write for example 30s, 5m or 1h30m
    2 | hold_down: soon
      |            ^^^^
c.yaml:3:9: rules: no_such_folder cannot be read: No such file or directory
    3 | rules: [no_such_folder]
      |         ^^^^^^^^^^^^^^
c.yaml:6:5: overrides.alerts: no rule defines the alert `VLLMTTFTHihg` (did you mean `VLLMTTFTHigh`?)
    6 |     VLLMTTFTHihg: {threshold: 3}
      |     ^^^^^^^^^^^^
c.yaml:7:31: overrides.alerts.VLLMTTFTHigh.threshold: must be a number: write 3, without unit or quotes
    7 |     VLLMTTFTHigh: {threshold: 3s}
      |                               ^^
c.yaml:10:11: receivers.oncall.kind: no such kind of receiver (one of alertmanager, apprise, pagerduty, slack_bot, \
slack_webhook, webhook)
   10 |     kind: webhok
      |           ^^^^^^
c.yaml:14:5: unknown key `receivers.hook.sercet` (secret)
   14 |     sercet: …
      |     ^^^^^^
"""


def test_every_mistake_of_a_configuration_is_shown_where_it_stands(tmp_path: Path) -> None:
    """Sections, folders, overrides and receivers together; carets under the word; values of receivers are covered."""
    (tmp_path / "c.yaml").write_text(CONFIG)
    done = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "c.yaml")])
    assert done.exit_code == 2
    said = done.output.replace(f"{tmp_path}/", "")
    assert said.startswith(SAID)
    assert "c.yaml:18:18: receivers.later.secret_file: " in said
    assert f"{tmp_path}/no_such_file cannot be read: No such file or directory" in done.output
    assert "s3cret" not in said


def test_a_target_s_password_is_covered(tmp_path: Path) -> None:
    """It stands in the line that is wrong."""
    (tmp_path / "c.yaml").write_text("targets:\n  - url: http://ann:s3cret@h:1\n")
    said = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "c.yaml")]).output
    assert "c.yaml:2:10: targets.0.url: " in said
    assert "s3cret" not in said.splitlines()[1]
