"""What stands below the first screen: evidence, other causes, timeline, captures, raw files?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from responder.model import Evidence, Finding, Outcome, Report
from responder.report_answers import disproof_line, missing_line, strongest, sure
from responder.report_facts import facts_by_name, raw_path, values_of, when
from responder.report_words import STATUS_RULES, authored, clock, code, duration, plain, size


@dataclass(frozen=True)
class Proof:
    """One piece of evidence for or against: the claim, what was measured, when, and the raw file."""

    says: str
    values: str
    at: str
    file: str
    counted: bool


@dataclass(frozen=True)
class Rival:
    """Another hypothesis, and what would tell it from the leading one."""

    title: str
    cause: str
    sure: str
    says: str
    supports: tuple[str, ...]
    contradicts: tuple[str, ...]
    separates: tuple[str, ...]


@dataclass(frozen=True)
class Moment:
    """A line of the timeline."""

    at: str
    offset: str
    kind: str
    says: str


@dataclass(frozen=True)
class Capture:
    """A capture that ran, was skipped, was refused or is still to run."""

    step: str
    rung: int
    status: str
    cost: str
    reason: str
    seconds: float | None = None
    pause_seconds: float = 0.0
    bytes: int = 0
    felt: str = ""
    """What the server's users felt of it, in words."""


def proofs(report: Report, findings: Iterable[Finding]) -> tuple[Proof, ...]:
    """Evidence rows, those that counted first, strongest first."""
    others = facts_by_name(report)
    rows = []
    for finding in sorted(findings, key=lambda f: (not f.counted, -abs(f.decibans))):
        first = finding.facts[0] if finding.facts else None
        rows.append(
            Proof(
                says=authored(finding.says),
                values=values_of(finding, others),
                at=clock(when(report, first)) if first else "",
                file=raw_path(report, first) if first else "",
                counted=finding.counted,
            )
        )
    return tuple(rows)


def rivals(report: Report) -> tuple[Rival, ...]:
    """The other hypotheses, and what would tell them from the first."""
    others = facts_by_name(report)
    rows = []
    for rival in report.verdict.hypotheses[1:]:
        separates = [f"Ruled out if: {disproof_line(rival)}"] if rival.would_disprove.says else []
        separates += [f"Not known: {missing_line(m)}" for m in rival.missing]
        separates += [f"It does not explain {code(alert, 80)}." for alert in rival.unexplained]
        rows.append(
            Rival(
                title=authored(rival.title),
                cause=plain(rival.cause, 80),
                sure=sure(rival),
                says=authored(rival.says),
                supports=tuple(f"{authored(f.says)} — {values_of(f, others)}" for f in strongest(rival.supports, 4)),
                contradicts=tuple(
                    f"{authored(f.says)} — {values_of(f, others)}" for f in strongest(rival.contradicts, 4)
                ),
                separates=tuple(separates),
            )
        )
    return tuple(rows)


def moments(report: Report) -> tuple[Moment, ...]:
    """The timeline, with seconds from the onset."""
    onset = report.incident.onset_at
    return tuple(
        Moment(at=clock(e.at), offset=_offset(e.at - onset), kind=e.kind, says=plain(e.says, 400))
        for e in sorted(report.incident.timeline, key=lambda e: e.at)
    )


def _offset(seconds: float) -> str:
    if abs(seconds) < 0.5:
        return "onset"
    return ("+" if seconds > 0 else "−") + duration(float(round(abs(seconds))))


def captures(report: Report) -> tuple[Capture, ...]:
    """Every capture: run, skipped, refused, and those still to run."""
    rows = [_ran(e) for e in report.evidence]
    denied = {e.step for e in report.evidence if e.outcome is Outcome.DENIED}
    ran = {e.step for e in report.evidence}
    for refusal in report.plan.refused:
        if refusal.call.step not in denied:
            rows.append(Capture(refusal.call.step, refusal.call.rung, "denied", "", plain(refusal.why, 300)))
    under_way = report.stage in ("first", "update")
    for call in report.plan.chosen:
        if call.step not in ran:
            why = "" if under_way else "had not run when this report was written"
            rows.append(Capture(call.step, call.rung, "pending" if under_way else "skipped", "", why))
    rows += [Capture("end of a capture", 2, "pending", "", plain(words, 300)) for words in report.owed]
    return tuple(rows)


def _ran(evidence: Evidence) -> Capture:
    parts = [duration(evidence.seconds)]
    if evidence.pause_seconds:
        parts.append(f"paused the server {duration(evidence.pause_seconds)}")
    if evidence.bytes:
        parts.append(size(evidence.bytes))
    felt = evidence.cost.says if evidence.cost else ""
    if felt and evidence.rung >= 2:
        parts.append(f"for its users: {plain(felt, 300)}")
    return Capture(
        step=evidence.step,
        rung=evidence.rung,
        status=evidence.outcome.value,
        cost=", ".join(parts),
        reason=plain(evidence.reason, 300),
        seconds=evidence.seconds,
        pause_seconds=evidence.pause_seconds,
        bytes=evidence.bytes,
        felt=plain(felt, 300),
    )


def raw_files(report: Report) -> tuple[str, ...]:
    """Raw files of every capture, relative to the incident folder."""
    return tuple(f"raw/{evidence.id}/{name}" for evidence in report.evidence for name in evidence.files)


def status_rules() -> dict[str, str]:
    """What the status words mean."""
    return {status.value: words for status, words in STATUS_RULES.items()}
