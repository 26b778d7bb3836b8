"""How fast was it? One line for each live experiment, printed at the end of the test run."""

from __future__ import annotations

from tests.live.harness.scenarios import Scenario
from tests.live.harness.watched import Told

LINES: list[str] = []


def note(scenario: Scenario, told: Told) -> None:
    """Keep the figures of one experiment."""
    report = told.final.body
    lead = report["hypotheses"][0]
    named = "never" if told.cause_named_after_s is None else f"{told.cause_named_after_s:.1f}"
    LINES.append(
        f"{scenario.name:20} opened {told.opened_after_s:5.1f}  message {told.reported_after_s:5.1f}  "
        f"cause {named:>5}  report {report['timings']['report_s']:5.1f}  "
        f"{report['incident']['class']}/{lead['cause']} {lead['status']} {lead['probability']:.2f}"
    )
