"""Is the contract object what docs/contract.schema.json promises, at every stage, whatever the words in it are?"""

import json
import math
from pathlib import Path

import jsonschema
import pytest

from responder.model import Fact, Symptom
from responder.report import contract, to_json
from tests.hostile import HOSTILE
from tests.sample_report import CAPACITY, KV, OPENED, finding, hostile, sample

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "contract.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)


@pytest.mark.parametrize("stage", ["first", "update", "final", "resolved"])
def test_every_stage_keeps_the_contract(stage):
    """What is sent validates, and the bytes are that object."""
    report = sample(stage)
    VALID.validate(contract(report))
    assert json.loads(to_json(report)) == contract(report)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_are_only_values(text):
    """Foreign text changes values, never the shape; bytes stay ASCII."""
    body = to_json(hostile(text))
    VALID.validate(json.loads(body))
    assert json.loads(body)["incident"]["target"] == text
    body.decode("ascii")


def test_the_schema_notices_what_is_missing():
    """The check can fail: a renamed field, a wrong status and a time without zone are refused."""
    good = contract(sample())
    for path, value in (("revision", "3"), ("apiVersion", "responder/v2"), ("timings", {})):
        assert not VALID.is_valid(good | {path: value})
    assert not VALID.is_valid(good | {"incident": good["incident"] | {"onset_at": "2026-11-20 03:12:40"}})
    assert not VALID.is_valid({k: v for k, v in good.items() if k != "captures"})


def test_times_are_utc_with_milliseconds():
    """RFC 3339, zone Z, resolved only when it is."""
    assert contract(sample())["incident"]["onset_at"] == "2026-11-20T03:12:40.000Z"
    assert contract(sample())["incident"]["resolved_at"] is None
    assert contract(sample("resolved"))["incident"]["resolved_at"] == "2026-11-20T03:23:46.000Z"


def test_every_piece_of_evidence_says_where_it_comes_from():
    """Evidence id, fact, value, unit, time, file below raw/ and words."""
    first = contract(sample())["hypotheses"][0]["for"][0]
    assert first["evidence"] == "metrics_window"
    assert (first["fact"], first["value"], first["unit"]) == ("metrics.kv_usage.now", 0.991, "share")
    assert first["at"] == "2026-11-20T03:13:04.000Z"
    assert first["file"] == "raw/metrics_window/series.json"
    assert first["words"] == "the KV cache is full — `metrics.kv_usage.now` 99 % (usual 52 %)"


def test_a_fact_of_a_second_run_names_that_run():
    """Evidence ids are unique in an incident, step names are not."""
    report = sample()
    later = Fact(name="metrics.kv_usage.now", value=0.4, unit="share", step="metrics_window", file="series.json")
    window = report.evidence[0]
    again = window.model_copy(update={"id": "metrics_window-2", "facts": (later,), "started_at": OPENED + 30})
    cause = KV.model_copy(update={"supports": (finding("kv", "kv", 3, "full", later),)})
    verdict = report.verdict.model_copy(update={"hypotheses": (cause,)})
    report = report.model_copy(update={"evidence": (*report.evidence, again), "verdict": verdict})
    entry = contract(report)["hypotheses"][0]["for"][0]
    assert (entry["evidence"], entry["file"]) == ("metrics_window-2", "raw/metrics_window-2/series.json")
    assert entry["at"] == "2026-11-20T03:13:34.000Z"


def test_nan_is_unknown_and_not_a_number():
    """NaN and infinity leave as null; the bytes stay valid JSON."""
    bad = Symptom(**(sample().incident.symptoms[0].model_dump() | {"value": math.nan, "threshold": math.inf}))
    incident = sample().incident.model_copy(update={"symptoms": (bad,)})
    symptom = json.loads(to_json(sample(incident=incident)))["symptoms"][0]
    assert (symptom["value"], symptom["threshold"]) == (None, None)


def test_captures_are_told_apart():
    """Run, skipped, timed out, refused; and still to run while it is under way."""
    status = {c["step"]: c["status"] for c in contract(sample())["captures"]}
    assert status["metrics_window"] == "ok"
    assert status["gpu"] == "skipped"
    assert status["endpoints"] == "timed_out"
    assert status["torch_profile"] == "denied"
    first = {c["step"]: c["status"] for c in contract(sample("first"))["captures"]}
    assert first["metrics_window"] == "pending"
    never = {c["step"]: c for c in contract(sample("resolved", evidence=()))["captures"]}
    assert never["metrics_window"]["status"] == "skipped"
    assert "had not run" in never["metrics_window"]["reason"]


def test_the_safe_action_is_the_remedy():
    """Whatever order a playbook lists them in, what can be done at night comes first."""
    cause = contract(sample())["hypotheses"][0]
    assert [r["safe_now"] for r in cause["remedies"]] == [True, False, False]
    assert cause["remedy"].startswith("Safe now — Send part of this model's traffic")


def test_equal_reports_give_equal_bytes():
    """Replay compares bytes."""
    assert to_json(sample()) == to_json(sample())
    assert to_json(sample()) != to_json(sample(revision=9))


def test_the_leading_causes_gaps_stand_on_top():
    """Alerts the leading cause does not account for."""
    verdict = sample().verdict.model_copy(update={"hypotheses": (CAPACITY,)})
    assert contract(sample(verdict=verdict))["unexplained"] == ["VLLMKVCacheCritical"]
