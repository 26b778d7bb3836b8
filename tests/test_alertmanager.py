"""What Alertmanager posts: folded with what we see ourselves, and never able to raise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.alertmanager import Names, fold, from_alertmanager
from responder.holding import key_of
from responder.model import Rule, Severity, Symptom, Target

A = Target(name="a", url="http://a:8000", match={"instance": "a:8000"})
POD = Target(name="pod", url="http://10.0.0.7:8000", match={"namespace": "llm", "pod": "vllm-0"})
NOW = 1_795_168_600.0


def payload(*alerts: dict[str, Any], version: object = "4") -> dict[str, Any]:
    return {"version": version, "groupKey": "{}", "status": "firing", "receiver": "r", "alerts": list(alerts)}


def alert(status: str = "firing", **labels: str) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": "VLLMTTFTHigh", "class": "high_ttft", "severity": "critical", "instance": "a:8000",
                   "job": "v", "model_name": "m", "engine": "0", **labels},
        "annotations": {"summary": "p99 is 3s", "unit": "s"},
        "startsAt": "2026-11-20T09:56:05.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": "c0ffee",
    }  # fmt: skip


def own(since: float = NOW - 60, **more: Any) -> Symptom:
    values = {"alert": "VLLMTTFTHigh", "incident_class": "high_ttft", "severity": Severity.CRITICAL, "target": "a",
              "labels": {"model_name": "m", "engine": "0"}, "since": since, "fired_at": NOW - 20, "value": 2.2,
              **more}  # fmt: skip
    return Symptom(**values)


def test_a_firing_alert_is_a_symptom_with_the_identity_of_our_own() -> None:
    intake = from_alertmanager(payload(alert()), [A], NOW)
    (symptom,) = intake.firing
    assert key_of(symptom.alert, symptom.target, symptom.labels) == key_of("VLLMTTFTHigh", "a", own().labels)
    assert symptom.since == pytest.approx(1_795_168_565.123456)
    assert (symptom.fired_at, symptom.severity, symptom.source) == (NOW, Severity.CRITICAL, "alertmanager")
    assert (symptom.summary, symptom.unit) == ("p99 is 3s", "s")


def test_both_fold_into_one() -> None:
    """Our own value and words count, the earlier beginning counts, and what only others saw is added."""
    told = from_alertmanager(payload(alert(), alert(alertname="VLLMErrors", engine="")), [A], NOW).firing
    folded = fold([own(since=NOW - 10)], told)
    assert [(s.alert, s.source) for s in folded] == [("VLLMErrors", "alertmanager"), ("VLLMTTFTHigh", "rules")]
    assert folded[1].value == 2.2
    assert folded[1].since == told[0].since


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        ({"instance": "a:8000"}, "a"),
        ({"instance": "x", "namespace": "llm", "pod": "vllm-0"}, "pod"),
        ({"instance": "x", "target": "pod"}, "pod"),
        ({"instance": "10.0.0.7:8000"}, "pod"),
        ({"instance": "somebody:9100"}, None),
    ],
)
def test_whose_alert_it_is(labels: dict[str, str], target: str | None) -> None:
    """By the target's own labels first, else by its name or address; nobody's alert is refused with a reason."""
    intake = from_alertmanager(payload(alert(**labels)), [A, POD], NOW)
    assert [s.target for s in intake.firing] == ([target] if target else [])
    assert bool(intake.refused) is (target is None)


@pytest.mark.parametrize(
    ("severity", "known"),
    [("critical", "critical"), ("page", "critical"), ("info", "info"), ("Warning", "warning"), ("sev3", "warning")],
)
def test_severities_of_others(severity: str, known: str) -> None:
    (symptom,) = from_alertmanager(payload(alert(severity=severity)), [A], NOW).firing
    assert symptom.severity.value == known


def test_class_and_severity_come_from_our_rule_where_the_alert_has_none() -> None:
    bare = alert()
    del bare["labels"]["class"], bare["labels"]["severity"]
    rule = Rule(alert="VLLMTTFTHigh", incident_class="slow_decode", severity=Severity.INFO, expr="x")
    assert from_alertmanager(payload(bare), [A], NOW).firing == ()
    (symptom,) = from_alertmanager(payload(bare), [A], NOW, [rule]).firing
    assert (symptom.incident_class, symptom.severity) == ("slow_decode", Severity.INFO)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (None, "expected"),
        ([], "expected"),
        ({"version": "4"}, "expected"),
        ({"version": "3", "alerts": []}, "version"),
        (payload("text"), "without labels"),  # type: ignore[arg-type]
        (payload({"labels": {}}), "without alertname"),
        (payload(alert("perhaps")), "neither firing nor resolved"),
        (payload(alert(**{"class": "sad"})), "must be one of"),
    ],
)
def test_what_cannot_be_used_says_why(body: object, why: str) -> None:
    intake = from_alertmanager(body, [A], NOW)
    assert intake.firing == ()
    assert any(why in reason for reason in intake.refused)


def test_times_nobody_can_read_are_now() -> None:
    """Never in the future, never a crash."""
    for text in ("tomorrow", 7, None, "0001-01-01T00:00:00Z", "2026-11-20T09:56:05", "2099-01-01T00:00:00Z"):
        (symptom,) = from_alertmanager(payload({**alert(), "startsAt": text}), [A], NOW).firing
        assert symptom.since == NOW


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(["4", "firing", "a:8000"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["version", "alerts", "labels", "alertname", "status", "class", "instance",
                                       "annotations", "startsAt"]), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@given(JSON, JSON)
def test_no_payload_raises(body: object, inner: object) -> None:
    """Whoever reaches the port may post anything."""
    from_alertmanager(body, [A], NOW)
    from_alertmanager({"version": "4", "alerts": [inner, {"labels": inner}]}, [A], NOW)


def test_of_several_targets_that_an_alert_may_mean_the_first_is_meant() -> None:
    """Their own labels say more than a name or an address; among equals the order of the configuration decides."""
    wide = Target(name="wide", url="http://w:1", match={"job": "v"})
    names = Names([wide, A, POD])
    assert names.find({"job": "v", "instance": "a:8000"}) is wide
    assert names.find({"instance": "a:8000"}) is A
    assert names.find({"namespace": "llm", "pod": "vllm-0", "instance": "a:8000"}) is A
    assert Names([POD, A]).find({"namespace": "llm", "pod": "vllm-0", "instance": "a:8000"}) is POD
    assert names.find({"target": "pod", "instance": "10.0.0.7:8000"}) is POD
    assert names.find({"target": "nobody"}) is None
