"""What a case gives goes the way of a live capture: outputs are read by the step, and what would not run is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app

PLAYBOOK = """\
apiVersion: responder/v1
kind: Playbook
id: power_cap
class: slow_decode
title: A power limit
alerts: [VLLMITLHigh]
ladder:
  - rung: 1
    steps:
      - step: command
        with:
          argv: [cat, /etc/power]
          facts:
            - {fact: power_limit, regex: '(\\d+\\.\\d+) W', unit: W}
            - {fact: state, regex: ', (\\w+)$', kind: text}
causes:
  slow_accelerator/power_cap:
    title: A power limit holds the accelerator back
    says: Somebody has limited its power.
    explains: [VLLMITLHigh]
    evidence:
      - {id: low, group: power, when: command.power_limit < 300, yes: +15 dB, no: -15 dB, says: a low limit}
      - {id: active, group: power, when: command.state == Active, yes: +3 dB, says: the limit is active}
    confirm: [low]
    would_disprove: {says: A limit of 400 W.}
    remedies: [{says: Raise it., tradeoff: heat}]
"""
CASE = """\
apiVersion: responder/v1
kind: PlaybookTest
cases:
  - name: one
    alerts: [VLLMITLHigh]
    {given}
    expect: {{{expect}}}
"""


def tried(folder: Path, given: str, expect: str, playbook: str = PLAYBOOK) -> tuple[int, str]:
    (folder / "power_cap.yaml").write_text(playbook)
    (folder / "power_cap_test.yaml").write_text(CASE.format(given=given, expect=expect))
    done = CliRunner().invoke(app, ["test", "--playbooks", str(folder), str(folder)])
    return done.exit_code, done.output


def test_an_output_is_read_as_on_a_live_server(tmp_path: Path) -> None:
    """Text in; through the pattern to a fact, and to the verdict."""
    expect = (
        "first: slow_accelerator/power_cap, status: probable, runs: command, "
        "facts: {command.power_limit: 250, command.state: Active}"
    )
    assert tried(tmp_path, 'outputs: {command: "250.00 W, Active"}', expect) == (0, "1 passed, 0 failed\n")


@pytest.mark.parametrize(
    ("given", "expect", "says"),
    [
        ('outputs: {command: "250 watts, Active"}', "not_confirmed: slow_accelerator/power_cap",
         r"outputs: command.power_limit gets no value: no line matches `(\d+\.\d+) W`; the output begins `250 watts, "
         "Active`"),
        ('outputs: {command: "250.00 W, Active"}', "facts: {command.power_limit: 400}",
         "facts: command.power_limit expected 400, got 250.0"),
        ('outputs: {command.state: "250.00 W, Idle"}', "against: low", "against: low does not speak against"),
        ('outputs: {command.stat: "250.00 W"}', "class: slow_decode", "did you mean `command.state`?"),
        ('outputs: {gpu: "250.00 W"}', "class: slow_decode", "gpu reads several files; write `gpu: {FILE: text}`"),
        ('outputs: {command: "9.0 W, On"}\n    facts: {command.power_limit: 9}', "class: slow_decode",
         "comes out of `outputs` already, as 9"),
        ('facts: {command.power_limit: "250 W"}', "class: slow_decode", "`command.power_limit` is a number, and"),
    ],
)  # fmt: skip
def test_what_does_not_fit_fails_in_words(tmp_path: Path, given: str, expect: str, says: str) -> None:
    """A pattern that never matches cannot pass, whatever is expected of the verdict."""
    code, said = tried(tmp_path, given, expect)
    assert code == 2
    assert says in said


def test_an_unknown_value_may_be_meant(tmp_path: Path) -> None:
    """`null` says that the output must give no value."""
    given = 'outputs: {command: "no limit, Idle"}\n    facts: {command.power_limit: null}'
    code, said = tried(tmp_path, given, "not_confirmed: slow_accelerator/power_cap")
    assert code == 0, said


def test_a_step_that_is_not_needed_live_does_not_run_in_a_test(tmp_path: Path) -> None:
    """Another cause is certain from the metrics alone: nobody would have run the command any more."""
    facts = (
        "metrics.arrival_rate.ratio: 6.0, metrics.catch_up: false, metrics.running.pinned: true, "
        "metrics.waiting.max: 300, metrics.kv_usage.max: 0.2, metrics.preemption_rate.max: 0.0, "
        "metrics.prefix_hit_rate.change: 0.0, metrics.prompt_tokens_mean.ratio: 1.0, "
        "metrics.prompt_tokens_mean.last: 300.0, metrics.prompt_computed_rate.last: 900.0, "
        "metrics.queue_time_mean.last: 4.0, siblings.count: 0"
    )
    given = f"facts: {{{facts}}}"
    book = PLAYBOOK.replace("slow_decode", "high_ttft").replace("VLLMITLHigh", "VLLMTTFTHigh")
    (tmp_path / "x.yaml").write_text(book)
    (tmp_path / "t.yaml").write_text(
        CASE.format(given=given, expect="runs: command").replace("VLLMITLHigh", "VLLMTTFTHigh")
    )
    said = CliRunner().invoke(app, ["test", "--playbooks", str(tmp_path), str(tmp_path)]).output
    assert "runs: command would not run: not needed: `capacity_exceeded` is confirmed" in said
