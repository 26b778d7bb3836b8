"""Whoever sends alerts hears what came of them, not only that they arrived."""

from __future__ import annotations

from typing import Any

from responder.alertmanager import from_alertmanager
from responder.model import Rule, Severity, Target
from responder.receipts import KNOWN_AT_MOST, Receipts
from responder.told import Told, hear

NOW = 1_800_000_000.0
TARGETS = {"t": Target(name="t", url="http://t:1", match={"instance": "t:1"})}
RULE = Rule(alert="A", incident_class="high_ttft", severity=Severity.WARNING, expr="")


def alert(status: str = "firing", instance: str = "t:1", at: str = "2026-11-26T11:00:00Z") -> dict[str, Any]:
    return {"status": status, "labels": {"alertname": "A", "instance": instance}, "startsAt": at}


def payload(*alerts: dict[str, Any]) -> dict[str, Any]:
    return {"version": "4", "alerts": list(alerts)}


def test_what_was_taken_what_is_known_and_what_is_of_no_use() -> None:
    """A newcomer's first alert is often one without the labels we need: the answer says so, not only our log."""
    told = [Told()]
    receipts = Receipts(lambda: (TARGETS, (RULE,)), lambda: told[0], lambda: NOW)
    assert receipts.words(payload(alert())) == "ok: 1 alert taken"
    told[0] = hear(Told(), [from_alertmanager(payload(alert()), TARGETS.values(), NOW, (RULE,))], NOW)
    fresh, over, foreign = alert(at="2026-11-26T11:30:00Z"), alert("resolved"), alert(instance="other:1")
    assert receipts.words(payload(alert(), fresh, over, foreign, foreign)) == (
        "ok: 3 alerts taken (1 known already, 1 over); 2 of no use: A: its labels match no configured target"
    )
    assert receipts.words(payload()) == "ok: 0 alerts taken"
    assert receipts.words(["nonsense"]).startswith("ok: 0 alerts taken; 1 of no use")


def test_a_reload_counts_and_a_storm_is_not_told_apart() -> None:
    """Who sends a thousand a second waits for no book-keeping."""
    targets, (known,) = [TARGETS], from_alertmanager(payload(alert()), TARGETS.values(), NOW, (RULE,)).firing
    receipts = Receipts(
        lambda: (targets[0], (RULE,)), lambda: Told(symptoms=(known,) * (KNOWN_AT_MOST + 1)), lambda: NOW
    )
    assert receipts.words(payload(alert())) == "ok: 1 alert taken"
    targets[0] = {}
    assert "1 of no use" in receipts.words(payload(alert()))
