"""What do machines read? The contract object: webhook body, report.json, replay and backtest."""

from __future__ import annotations

import json
import math
from typing import Any

from responder.model import Fact, Finding, Hypothesis, Report, Scalar, Symptom
from responder.report_answers import answers, leading, remedies, remedy_line, title
from responder.report_changed import since_told
from responder.report_commands import runnable
from responder.report_facts import fact_line, facts_by_name, raw_path, source, when
from responder.report_rows import captures, status_rules
from responder.report_trace import contract as traces
from responder.report_unknown import why_unknown_line
from responder.report_words import authored, phrase, rfc3339
from responder.words import ENGLISH, Language, speaking

API_VERSION = "responder/v1"
KIND = "IncidentReport"


def to_json(report: Report, language: Language = ENGLISH) -> bytes:
    """The contract as bytes; the same report always gives the same bytes. Pure ASCII, ends with a newline."""
    return (json.dumps(contract(report, language), indent=1, allow_nan=False) + "\n").encode("ascii")


def contract(report: Report, language: Language = ENGLISH) -> dict[str, Any]:
    """The machine-readable object; fields may be added, never renamed. What is said is said in `language`."""
    with speaking(language):
        return {**_contract(report), "language": language.code}


def _contract(report: Report) -> dict[str, Any]:
    incident = report.incident
    lead, taken = leading(report), incident.acknowledged
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "revision": report.revision,
        "stage": report.stage,
        "generated_at": rfc3339(report.generated_at),
        "title": title(report),
        "changed": since_told(report),
        "says": {a.key: {"question": a.question, "lead": a.lead, "items": list(a.items)} for a in answers(report)},
        "incident": {
            "id": incident.id,
            "state": incident.state,
            "class": incident.incident_class,
            "severity": incident.severity.value,
            "target": incident.target,
            "target_url": report.target_url,
            "onset_at": rfc3339(incident.onset_at),
            "opened_at": rfc3339(incident.opened_at),
            "resolved_at": rfc3339(incident.resolved_at),
            "acknowledged": {"who": taken.who, "at": rfc3339(taken.at)} if taken else None,
        },
        "symptoms": [_symptom(symptom) for symptom in incident.symptoms],
        "hypotheses": [_hypothesis(report, hypothesis) for hypothesis in report.verdict.hypotheses],
        "together": list(report.verdict.together),
        "unexplained": list(lead.unexplained) if lead else [],
        "do_now": [remedy_line(report, remedy) for remedy in remedies(report)],
        "captures": [
            {
                "step": capture.step,
                "rung": capture.rung,
                "status": capture.status,
                "seconds": _finite(capture.seconds),
                "pause_seconds": _finite(capture.pause_seconds),
                "cost": capture.felt,
                "bytes": capture.bytes,
                "reason": capture.reason,
                "why": capture.why,
            }
            for capture in captures(report)
        ],
        "timeline": [
            {"at": rfc3339(entry.at), "kind": entry.kind, "says": phrase(entry.says)}
            for entry in sorted(incident.timeline, key=lambda entry: entry.at)
        ],
        "timings": {
            "detected_s": _finite(report.timings.detected_s),
            "first_cause_s": _finite(report.timings.first_cause_s),
            "report_s": _finite(report.timings.report_s),
        },
        "traces": traces(report),
        "owed": list(report.owed),
        "experience": report.experience.model_dump(mode="json"),
        "playbooks": list(report.verdict.playbooks),
        "notes": list(report.verdict.notes),
        "status_rules": status_rules(),
    }


def _symptom(symptom: Symptom) -> dict[str, Any]:
    return {
        "alert": symptom.alert,
        "since": rfc3339(symptom.since),
        "fired_at": rfc3339(symptom.fired_at),
        "value": _finite(symptom.value),
        "threshold": _finite(symptom.threshold),
        "unit": symptom.unit,
        "class": symptom.incident_class,
        "severity": symptom.severity.value,
        "labels": dict(sorted(symptom.labels.items())),
        "summary": phrase(symptom.summary),
        "source": symptom.source,
    }


def _hypothesis(report: Report, hypothesis: Hypothesis) -> dict[str, Any]:
    disproof = hypothesis.would_disprove
    ordered = sorted(hypothesis.remedies, key=lambda remedy: not remedy.safe_now)
    return {
        "cause": hypothesis.cause,
        "title": authored(hypothesis.title),
        "says": authored(hypothesis.says),
        "status": hypothesis.status.value,
        "probability": _finite(hypothesis.probability),
        "decibans": _finite(hypothesis.decibans),
        "for": [entry for finding in hypothesis.supports for entry in _entries(report, finding)],
        "against": [entry for finding in hypothesis.contradicts for entry in _entries(report, finding)],
        "missing": [
            {"step": m.step, "why": phrase(m.why), "would_tell": phrase(m.would_tell)} for m in hypothesis.missing
        ],
        "unexplained": list(hypothesis.unexplained),
        "why_unknown": why_unknown_line(hypothesis.why_unknown) if hypothesis.why_unknown else "",
        "would_confirm": [authored(says) for says in hypothesis.would_confirm],
        "would_disprove": authored(disproof.says),
        "would_disprove_command": runnable(report, disproof.command),
        "remedy": remedy_line(report, ordered[0]) if ordered else "",
        "remedies": [
            {
                "says": authored(r.says),
                "option": runnable(report, r.option),
                "now": _finite(r.found),
                "tradeoff": authored(r.tradeoff),
                "safe_now": r.safe_now,
            }
            for r in ordered
        ],
    }


def _entries(report: Report, finding: Finding) -> list[dict[str, Any]]:
    """One entry for each fact behind a finding."""
    return [_entry(report, finding, fact) for fact in finding.facts]


def _entry(report: Report, finding: Finding, fact: Fact) -> dict[str, Any]:
    evidence = source(report, fact)
    return {
        "evidence": evidence.id if evidence else fact.step,
        "fact": fact.name,
        "value": _finite(fact.value),
        "unit": fact.unit,
        "at": rfc3339(when(report, fact)),
        "file": raw_path(report, fact),
        "subject": fact.subject,
        "words": f"{authored(finding.says)} — {fact_line(fact, facts_by_name(report))}",
        "weight": finding.weight,
        "group": finding.group,
        "decibans": _finite(finding.decibans),
        "counted": finding.counted,
    }


def _finite(value: Scalar) -> Scalar:
    """JSON has no NaN and no infinity; both mean that we do not know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
