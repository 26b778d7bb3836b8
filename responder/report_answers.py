"""What does the first screen say? Five answers in the order a woken person asks.

Lines are one-line strings in which only backticks mean anything (code); `report_words` keeps foreign text inert.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from responder.model import Finding, Hypothesis, Missing, Outcome, Remedy, Report, Status, Symptom
from responder.report_facts import facts_by_name, spoken
from responder.report_words import (
    CLASS_WORDS,
    authored,
    clock,
    code,
    duration,
    limit,
    measured,
    outcome_words,
    percent,
    plain,
)

QUESTIONS = {
    "broken": "What is broken",
    "since": "Since when",
    "cause": "Most likely cause",
    "do": "What to do now",
    "unknown": "What we do not know",
}
RIVAL = 0.15
"""From this probability on, another cause is named on the first screen."""
FAILED = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INTERRUPTED, Outcome.PARTIAL)


@dataclass(frozen=True)
class Answer:
    """One of the five questions: the sentence, then details."""

    key: str
    question: str
    lead: str
    items: tuple[str, ...] = ()


def title(report: Report) -> str:
    """One line: state, severity, server, class in words, cause and how sure."""
    incident = report.incident
    head = f"{incident.state.upper()} · {incident.severity.value} · {plain(incident.target, 80)}: "
    lead = named(report)
    end = f" — {plain(lead.title, 90)} ({sure(lead)})" if lead else ""
    return head + class_words(incident.incident_class) + end


def class_words(incident_class: str) -> str:
    """An incident class in plain words."""
    return CLASS_WORDS.get(incident_class) or plain(incident_class, 60).replace("_", " ")


def leading(report: Report) -> Hypothesis | None:
    """The first hypothesis, `unknown` included; None while nothing has been weighed."""
    return report.verdict.hypotheses[0] if report.verdict.hypotheses else None


def named(report: Report) -> Hypothesis | None:
    """The first hypothesis if it names a cause."""
    lead = leading(report)
    return lead if lead and lead.status is not Status.UNKNOWN and lead.cause != "unknown" else None


def sure(hypothesis: Hypothesis) -> str:
    """How sure: 'probable, 87 %'."""
    if hypothesis.status is Status.UNKNOWN:
        return f"{percent(hypothesis.probability)} of the weight"
    return f"{hypothesis.status.value}, {percent(hypothesis.probability)}"


def answers(report: Report) -> tuple[Answer, ...]:
    """The first screen: five questions in the order a woken person asks them."""
    return (_broken(report), _since(report), _cause(report), _do(report), _unknown(report))


def _broken(report: Report) -> Answer:
    incident = report.incident
    models = sorted({s.labels["model_name"] for s in incident.symptoms if s.labels.get("model_name")})
    who = f"users of {', '.join(code(m, 80) for m in models[:3])} on " if models else ""
    where = code(incident.target, 80)
    if report.target_url and plain(incident.target) not in report.target_url:
        where += f" ({code(report.target_url, 120)})"
    over = "It is over. While it lasted: " if incident.state == "resolved" else ""
    load = [
        f"{measured(facts[name].value)} {word}"
        for facts in (facts_by_name(report),)
        for name, word in (("metrics.running.now", "requests running"), ("metrics.waiting.now", "waiting"))
        if name in facts and isinstance(facts[name].value, int | float)
    ]
    lead = f"{over}{'for' if over else 'For'} {who}{where}, {class_words(incident.incident_class)}."
    if load:
        lead += f" When measured: {', '.join(load)}."
    return Answer("broken", QUESTIONS["broken"], lead, tuple(symptom_line(s) for s in incident.symptoms))


def symptom_line(symptom: Symptom) -> str:
    """A symptom in words; its own summary is bucket-honest already."""
    words = plain(symptom.summary, 240)
    if not words:
        words = f"{plain(symptom.alert, 80)}: {measured(symptom.value, symptom.unit)}"
        if symptom.threshold is not None:
            words += f", limit {limit(symptom.threshold, symptom.unit)}"
    engine = symptom.labels.get("engine")
    return words + (f" (engine {plain(engine, 20)})" if engine not in (None, "", "0") else "")


def _since(report: Report) -> Answer:
    incident = report.incident
    lead = f"{clock(incident.onset_at, day=True)} (estimated from the data)"
    if incident.resolved_at is not None:
        lead += (
            f"; over at {clock(incident.resolved_at)} UTC after {duration(incident.resolved_at - incident.onset_at)}"
        )
    else:
        lead += f", {duration(report.generated_at - incident.onset_at)} before this report"
    noticed = duration(incident.opened_at - incident.onset_at)
    return Answer("since", QUESTIONS["since"], f"{lead}. Noticed {noticed} after it began.")


def _cause(report: Report) -> Answer:
    lead = leading(report)
    if lead is None:
        return Answer("cause", QUESTIONS["cause"], f"No cause is named{_still(report)}.")
    if named(report) is None:
        words = f"Not known ({percent(lead.probability)} of the weight). {authored(lead.says)}"
        return Answer("cause", QUESTIONS["cause"], words)
    items = [f"Found: {authored(f.says)} — {_measured_in(report, f)}" for f in strongest(lead.supports, 3)]
    items += [f"Against it: {authored(f.says)} — {_measured_in(report, f)}"
              for f in strongest(lead.contradicts, 1)]  # fmt: skip
    items.append("It would be wrong if: " + disproof_line(lead))
    return Answer(
        "cause", QUESTIONS["cause"], f"{authored(lead.title)} ({sure(lead)}). {authored(lead.says)}", tuple(items)
    )


def _still(report: Report) -> str:
    return " yet; captures are running" if report.stage in ("first", "update") else ""


def disproof_line(hypothesis: Hypothesis) -> str:
    """What would prove the cause wrong, with the command that tells."""
    command = hypothesis.would_disprove.command
    return authored(hypothesis.would_disprove.says) + (f" Check: {code(command)}" if command else "")


def _measured_in(report: Report, finding: Finding) -> str:
    return "; ".join(spoken(report, fact) for fact in finding.facts[:3]) or "no value recorded"


def strongest(findings: Iterable[Finding], count: int) -> list[Finding]:
    """The findings that counted, loudest first."""
    return list(islice((f for f in sorted(findings, key=lambda f: -abs(f.decibans)) if f.counted), count))


def remedies(report: Report) -> tuple[Remedy, ...]:
    """What can be done about the leading cause, safe first."""
    lead = leading(report)
    return tuple(sorted(lead.remedies, key=lambda r: not r.safe_now)) if lead else ()


def _do(report: Report) -> Answer:
    over = report.incident.state == "resolved"
    actions = tuple(remedy_line(r) for r in remedies(report))
    lead = leading(report)
    if actions:
        first = "Nothing is urgent any more; so that it does not come back:" if over else "In this order:"
        return Answer("do", QUESTIONS["do"], first, actions)
    if lead is None:
        return Answer("do", QUESTIONS["do"], f"No action can be named{_still(report)}.")
    check = disproof_line(lead)
    return Answer("do", QUESTIONS["do"], "No action is known for this. Look first:", (check,) if check else ())


def remedy_line(remedy: Remedy) -> str:
    """One action: whether it is safe, what, the exact option or command, what it costs."""
    how = "Safe now" if remedy.safe_now else "Needs care"
    option = f": {code(remedy.option)}" if remedy.option else ""
    return f"{how} — {authored(remedy.says).rstrip('.')}{option}. Trade-off: {authored(remedy.tradeoff).rstrip('.')}."


def _unknown(report: Report) -> Answer:
    lead = leading(report)
    items: list[str] = []
    for rival in report.verdict.hypotheses[1:]:
        if rival.probability >= RIVAL:
            items.append(f"It could also be: {authored(rival.title)} ({sure(rival)}).")
    if lead:
        items += [missing_line(m) for m in lead.missing]
        items += [f"{code(alert, 80)} is not explained by this cause." for alert in lead.unexplained]
    known = {m.step for m in lead.missing} if lead else set()
    for evidence in report.evidence:
        if evidence.outcome in FAILED and evidence.step not in known:
            items.append(f"{code(evidence.step, 60)} {outcome_words(evidence.outcome)}: {plain(evidence.reason, 160)}")
    absent = facts_by_name(report).get("metrics.signals_unknown")
    if absent is not None and isinstance(absent.value, str) and absent.value:
        items.append(f"Signals this server does not give: {plain(absent.value, 240)}")
    if items:
        return Answer("unknown", QUESTIONS["unknown"], "Not settled by what we have:", tuple(dict.fromkeys(items)))
    words = "Everything: no capture has come back yet." if not report.evidence else "No gap was found in the evidence."
    return Answer("unknown", QUESTIONS["unknown"], words)


def missing_line(missing: Missing) -> str:
    """Evidence we do not have, why, and what it would have told."""
    would = f" It would tell {authored(missing.would_tell, 200).rstrip('.')}." if missing.would_tell else ""
    return f"No answer from {code(missing.step, 60)} ({plain(missing.why, 160).rstrip('.')}).{would}"


def footer(report: Report) -> str:
    """Incident id, revision and how fast we were."""
    timings = report.timings
    speeds = [
        words.format(duration(value))
        for words, value in (
            ("noticed {} after the onset", timings.detected_s),
            ("first cause {} after opening", timings.first_cause_s),
            ("complete {} after opening", timings.report_s),
        )
        if value is not None
    ]
    return (
        f"Incident {code(report.incident.id, 80)}, revision {report.revision} ({report.stage}), "
        f"written {clock(report.generated_at, day=True)}." + (f" Speed: {', '.join(speeds)}." if speeds else "")
    )
