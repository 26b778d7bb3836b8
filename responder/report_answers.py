"""What does the first screen say? Five answers in the order a woken person asks.

Lines are one-line strings in which only backticks mean anything (code); `report_words` keeps foreign text inert.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from responder.beside import proofs_beside
from responder.model import (
    Fact,
    Finding,
    Hypothesis,
    Record,
    Remedy,
    Report,
    Scalar,
    Status,
    Symptom,
)
from responder.report_commands import runnable
from responder.report_facts import at_look, facts_by_name, looks_within, spoken
from responder.report_harm import felt, sent
from responder.report_unknown import FAILED, sure, unknown_items
from responder.report_words import (
    authored,
    clock,
    code,
    duration,
    limit,
    measured,
    named,
    percent,
    phrase,
    plain,
    sentence,
    trouble,
)
from responder.words import say

QUESTIONS = ("broken", "since", "cause", "do", "unknown")
CLOSE = 0.5
"""A second cause that is at least so likely, against the first, is named with it in the title."""


@dataclass(frozen=True)
class Answer:
    """One of the five questions: the sentence, then details."""

    key: str
    lead: str
    items: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The question in words."""
        return say(f"q.{self.key}")


def title(report: Report) -> str:
    """One line: state, severity, server, class in words, cause and how sure."""
    incident = report.incident
    state, severity = named("state", incident.state), named("severity", incident.severity.value)
    head = f"{state} · {severity} · {plain(incident.target, 80)}: "
    lead = leading_cause(report)
    other = close_second(report)
    besides = others_at_work(report)
    if lead and besides:
        end = say("title.both", title=phrase(lead.title, 60), sure=sure(lead), other=phrase(besides[0].title, 60))
    elif lead and other:
        end = say("title.either", title=phrase(lead.title, 60), other=phrase(other.title, 60),
                  first=percent(lead.probability), second=percent(other.probability))  # fmt: skip
    else:
        end = say("title.end", title=phrase(lead.title, 90), sure=sure(lead)) if lead else ""
    return head + trouble(incident, incident.state == "resolved") + end


def close_second(report: Report) -> Hypothesis | None:
    """The second cause where the first is little likelier: then neither by itself is what to wake somebody with."""
    lead, *others = report.verdict.hypotheses or (None,)
    if lead is None or lead.status is not Status.POSSIBLE or report.verdict.together:
        return None
    named_ones = (other for other in others if other.cause != "unknown")
    return next((other for other in named_ones if CLOSE * lead.probability <= other.probability), None)


def leading(report: Report) -> Hypothesis | None:
    """The first hypothesis, `unknown` included; None while nothing has been weighed."""
    return report.verdict.hypotheses[0] if report.verdict.hypotheses else None


def leading_cause(report: Report) -> Hypothesis | None:
    """The first hypothesis if it names a cause."""
    lead = leading(report)
    return lead if lead and lead.status is not Status.UNKNOWN and lead.cause != "unknown" else None


def answers(report: Report) -> tuple[Answer, ...]:
    """The first screen: five questions in the order a woken person asks them."""
    return (_broken(report), _since(report), _cause(report), _do(report), _unknown(report))


def _broken(report: Report) -> Answer:
    incident = report.incident
    facts = facts_by_name(report)
    models = sorted({s.labels["model_name"] for s in incident.symptoms if s.labels.get("model_name")})
    if not models and (served := facts.get("endpoints.models")) and isinstance(served.value, str):
        models = [name for name in served.value.split(", ") if name]
    where = code(incident.target, 80)
    if report.target_url and plain(incident.target) not in report.target_url:
        where += f" ({code(report.target_url, 120)})"
    if models:
        where = say("broken.users", models=", ".join(code(m, 80) for m in models[:3]), where=where)
    over = incident.state == "resolved"
    wrong = trouble(incident, over)
    if figures := felt(report):
        wrong = say("broken.figures", trouble=wrong, figures=figures)
    lead = say("broken.over" if over else "broken.open", who=where, trouble=wrong)
    load, gone = _load(report)
    if load:
        key = "broken.load_last" if gone else "broken.load_over" if over else "broken.load"
        lead += say(key, load=say("list").join(load))
    lines = (
        say("symptom.then", at=clock(symptom.fired_at), words=symptom_line(symptom)) if over else symptom_line(symptom)
        for symptom in incident.symptoms
    )
    return Answer("broken", lead, tuple(lines))


def _load(report: Report) -> tuple[list[str], bool]:
    """Requests running and waiting in words; of a server that answers no scrape any more, the last it said; of what is
    over, the most there were at any look - unless it answered none from the first look on."""
    looks = looks_within(report) or (facts_by_name(report),)
    over = report.incident.state == "resolved"
    gone = _silent(looks[0] if over else looks[-1])
    load = []
    for key in ("running", "waiting"):
        names = ("last", "now") if gone else ("max", "now") if over else ("now",)
        found = [value for look in looks if (value := _counted(look, key, names)) is not None]
        if found:
            load.append(say(f"broken.{key}", value=_whole((found[0] if gone else max(found)) if over else found[-1])))
    return load, gone


def _silent(look: Mapping[str, Fact]) -> bool:
    down = look.get("metrics.down_s")
    return down is not None and isinstance(down.value, int | float) and down.value > 0


def _counted(look: Mapping[str, Fact], key: str, names: Iterable[str]) -> int | float | None:
    values = (look[name].value for aspect in names if (name := f"metrics.{key}.{aspect}") in look)
    return next((value for value in values if isinstance(value, int | float)), None)


def _whole(value: Scalar) -> str:
    """Requests are counted, also where a mean was measured."""
    if isinstance(value, float) and 0 < value < 1:
        return say("under_one")
    return measured(round(value) if isinstance(value, float) and math.isfinite(value) else value)


def symptom_line(symptom: Symptom) -> str:
    """A symptom in words; its own summary is bucket-honest already."""
    words = phrase(symptom.summary, 240)
    if not words:
        words = say("symptom.value", alert=plain(symptom.alert, 80), value=measured(symptom.value, symptom.unit))
        if symptom.threshold is not None:
            words += say("symptom.limit", value=limit(symptom.threshold, symptom.unit))
    engine = symptom.labels.get("engine")
    return words + (say("symptom.engine", engine=plain(engine, 20)) if engine not in (None, "", "0") else "")


def _since(report: Report) -> Answer:
    incident = report.incident
    lead = say("since.began", at=clock(incident.onset_at, day=True))
    if incident.resolved_at is not None:
        length = duration(incident.resolved_at - incident.onset_at)
        lead += say("since.over", at=clock(incident.resolved_at), length=length)
    else:
        lead += say("since.open", length=duration(report.generated_at - incident.onset_at))
    late = incident.opened_at - incident.onset_at
    lead = say("since.noticed", lead=lead, length=duration(late)) if late >= 1 else say("since.at_once", lead=lead)
    taken = incident.acknowledged
    items = (say("since.acknowledged", who=plain(taken.who, 80), at=clock(taken.at)),) if taken else ()
    items = (*((traffic,) if (traffic := sent(report)) else ()), *items)
    summary = facts_by_name(report).get("changes.summary")
    if summary is not None and summary.value:
        items = (say("since.changed", what=phrase(summary.value, 300)), *items)
    return Answer("since", lead, items)


def _cause(report: Report) -> Answer:
    lead = leading(report)
    if lead is None:
        return Answer("cause", say("cause.none" + _yet(report)))
    if leading_cause(report) is None:
        likeliest = [h for h in report.verdict.hypotheses if h.cause != "unknown" and strongest(h.supports, 1)]
        tried = tuple(say("cause.nearest", title=authored(h.title), sure=sure(h),
                          found=authored(strongest(h.supports, 1)[0].says)) for h in likeliest[:2])  # fmt: skip
        return Answer("cause", say("cause.unknown", share=percent(lead.probability), says=authored(lead.says)), tried)
    items = [say("cause.found", says=authored(f.says), measured=_measured_in(report, f))
             for f in strongest(lead.supports, 3)]  # fmt: skip
    items += [say("cause.against", says=authored(f.says), measured=_measured_in(report, f))
              for f in strongest(lead.contradicts, 1)]  # fmt: skip
    items = [_together(report), *items, *_others(report)] if report.verdict.together else items
    items += [record_line(record) for record in report.experience.records if record.cause == lead.cause]
    if lead.would_confirm and lead.status is not Status.CONFIRMED:
        items.append(
            say("cause.wanted", says=say("items").join(sentence(authored(says, 200)) for says in lead.would_confirm))
        )
    over = report.incident.state == "resolved"
    if over:
        items.append(say("cause.wrong_if_over", disproof=authored(lead.would_disprove.says)))
    else:
        items.append(say("cause.wrong_if", disproof=disproof_line(report, lead)))
    words = say(
        "cause.lead_over" if over else "cause.lead",
        title=authored(lead.title),
        sure=sure(lead),
        says=authored(lead.says),
    )
    return Answer("cause", words, tuple(items))


def record_line(record: Record) -> str:
    """This cause was right in 11 of 12 past incidents."""
    return say("cause.record", right=record.right, told=record.told)


def others_at_work(report: Report) -> list[Hypothesis]:
    """Where there are several faults at once, those beside the leading one."""
    ranked = report.verdict.hypotheses
    return [h for h in ranked[1:] if h.cause in report.verdict.together and ranked[0].cause in report.verdict.together]


def _together(report: Report) -> str:
    """That there are several faults at once, by name; the shares of two that are both there say nothing."""
    titles = {h.cause: authored(h.title) for h in report.verdict.hypotheses}
    names = [titles.get(cause, code(cause, 80)) for cause in report.verdict.together]
    return say("cause.together", count=len(names), names=say("items").join(names))


def _others(report: Report) -> Iterator[str]:
    """What shows each of the others: what the first does not explain, else the loudest."""
    for other in others_at_work(report):
        for found in (*proofs_beside(other), *strongest(other.supports, 1))[:1]:
            yield say("cause.other", title=authored(other.title), says=authored(found.says),
                      measured=_measured_in(report, found))  # fmt: skip


def _yet(report: Report) -> str:
    return "_yet" if report.stage in ("first", "update") else ""


def disproof_line(report: Report, hypothesis: Hypothesis) -> str:
    """What would prove the cause wrong, with the command that tells."""
    command = runnable(report, hypothesis.would_disprove.command)
    return authored(hypothesis.would_disprove.says) + (say("check", command=code(command)) if command else "")


def _measured_in(report: Report, finding: Finding) -> str:
    facts = finding.facts[:3]
    words = say("items").join(spoken(report, fact) for fact in facts)
    return words + at_look(facts, facts_by_name(report)) if words else say("no_value")


def strongest(findings: Iterable[Finding], count: int) -> list[Finding]:
    """The findings that counted, loudest first."""
    return list(islice((f for f in sorted(findings, key=lambda f: -abs(f.decibans)) if f.counted), count))


def remedies(report: Report) -> tuple[Remedy, ...]:
    """What can be done about the leading cause, safe first."""
    lead = leading(report)
    return tuple(sorted(lead.remedies, key=lambda r: not r.safe_now)) if lead else ()


def _do(report: Report) -> Answer:
    over = report.incident.state == "resolved"
    actions = tuple(remedy_line(report, r) for r in remedies(report))
    actions += tuple(
        say("do.other", title=authored(other.title), remedy=remedy_line(report, remedy))
        for other in others_at_work(report)
        for remedy in [r for r in other.remedies if r.safe_now][:2]
    )
    lead = leading(report)
    if actions:
        return Answer("do", say("do.over") if over else say("do.order"), actions)
    if lead is None:
        return Answer("do", say("do.none" + _yet(report)))
    return Answer("do", say("do.look"), tuple(dict.fromkeys(_look_first(report))))


def _look_first(report: Report) -> Iterator[str]:
    """Where no action is known: the captures that found nothing to look at, then how to tell the likeliest causes."""
    ran = {evidence.step: evidence for evidence in report.evidence}
    for evidence in ran.values():
        if evidence.outcome in FAILED[:3] and evidence.reason:
            yield say("do.mend", step=code(evidence.step, 60), reason=sentence(phrase(evidence.reason, 200)))
    lead = leading(report)
    if lead is not None and leading_cause(report) is not None:
        yield disproof_line(report, lead)
        return
    likeliest = [h for h in report.verdict.hypotheses if h.cause != "unknown" and h.would_disprove.says]
    for rival in likeliest[:2]:
        yield say("do.tell", title=sentence(authored(rival.title)), disproof=disproof_line(report, rival))


def remedy_line(report: Report, remedy: Remedy) -> str:
    """One action: whether it is safe, what, the exact option or command, what it costs."""
    return say(
        "do.line",
        how=say("do.safe") if remedy.safe_now else say("do.care"),
        says=sentence(authored(remedy.says)),
        option=say("do.option", option=code(runnable(report, remedy.option))) if remedy.option else "",
        now=say("do.now", values=now) if (now := set_now(remedy)) else "",
        tradeoff=sentence(authored(remedy.tradeoff)),
    )


def set_now(remedy: Remedy) -> str:
    """What the option of a remedy is set to, as it is written on a command line; '' if not known."""
    found = remedy.found
    if found is None or isinstance(found, bool):
        return ""
    return f"{found:g}" if isinstance(found, float) else plain(found, 80)


def _unknown(report: Report) -> Answer:
    items = tuple(dict.fromkeys(unknown_items(report, leading(report))))
    if items:
        return Answer("unknown", say("unknown.lead"), items)
    return Answer("unknown", say("unknown.nothing") if report.evidence else say("unknown.all"))


def footer(report: Report) -> str:
    """Incident id, revision and how fast we were."""
    timings = report.timings
    speeds = [
        say(f"footer.{key}", length=duration(value))
        for key, value in (
            ("detected", timings.detected_s),
            ("cause", timings.first_cause_s),
            ("report", timings.report_s),
        )
        if value is not None
    ]
    line = say("footer", id=code(report.incident.id, 80), revision=report.revision,
               stage=named("stage", report.stage), at=clock(report.generated_at, day=True))  # fmt: skip
    return line + (say("footer.speed", speeds=say("list").join(speeds)) if speeds else "")
