"""What has changed between two verdicts, and which finding did it?"""

from __future__ import annotations

from responder.classes import UNKNOWN
from responder.model import Finding, Hypothesis, Status, TimelineEntry, Verdict
from responder.report_words import percent

SURER = (Status.UNKNOWN, Status.POSSIBLE, Status.PROBABLE, Status.CONFIRMED)
"""From nothing known to proven."""
Named = tuple[str, str, Status, str]
"""Cause, its title, how sure; and the finding that turned it into what follows, if one did."""


def named(verdict: Verdict) -> Named:
    """What a verdict names first."""
    lead = verdict.hypotheses[0]
    return lead.cause, lead.title, lead.status, ""


def entries(before: Verdict | None, now: Verdict, at: float) -> tuple[TimelineEntry, ...]:
    """Lines of the timeline: another leading cause, one that is surer or less sure than before, or a second one beside
    it; and why."""
    lead = now.hypotheses[0]
    was = before.hypotheses[0] if before else None
    if lead.cause == (was.cause if was else UNKNOWN) and (was is None or lead.status is was.status):
        return _joined(before, now, at) if before else ()
    said = _said(lead, at)
    if before is None or was is None or was.cause == UNKNOWN:
        return (said,)
    reason = why(before, now)
    if lead.cause != was.cause:
        then = f"until then {was.title} was {was.status.value}"
        return (said, TimelineEntry(at=at, kind="note", says=f"{then}; what changed it: {reason}" if reason else then))
    return (said, TimelineEntry(at=at, kind="note", says=f"what changed it: {reason}")) if reason else (said,)


def why(before: Verdict, now: Verdict) -> str:
    """The loudest finding there was not before that speaks for the change, as it is said; '' when none stands out."""
    lead, was = now.hypotheses[0], before.hypotheses[0]
    known = {(h.cause, f.weight): f.truth for h in before.hypotheses for f in _counted(h)}
    sinks = lead.cause == was.cause and SURER.index(lead.status) < SURER.index(was.status)
    found = [(lead.cause, f) for f in (lead.contradicts if sinks else lead.supports)]
    if sinks:  # or for another one
        found += [(h.cause, f) for h in now.hypotheses[1:] for f in h.supports]
    if lead.cause != was.cause:
        found += [(h.cause, f) for h in now.hypotheses if h.cause == was.cause for f in h.contradicts]
    fresh = [f for cause, f in found if f.counted and known.get((cause, f.weight)) is not f.truth]
    return max(fresh, key=lambda finding: abs(finding.decibans)).says if fresh else ""


def _joined(before: Verdict, now: Verdict, at: float) -> tuple[TimelineEntry, ...]:
    lead = now.hypotheses[0].cause
    second = [h for h in now.hypotheses if h.cause in now.together and h.cause not in (lead, *before.together)]
    out: list[TimelineEntry] = []
    for cause in second:
        says = f"{cause.title}: {cause.status.value} beside another"
        out.append(TimelineEntry(at=at, kind="cause", says=says))
        known = {f.weight: f.truth for h in before.hypotheses if h.cause == cause.cause for f in _counted(h)}
        fresh = [f for f in cause.supports if f.counted and known.get(f.weight) is not f.truth]
        if fresh:
            loudest = max(fresh, key=lambda finding: abs(finding.decibans))
            out.append(TimelineEntry(at=at, kind="note", says=f"what changed it: {loudest.says}"))
    return tuple(out)


def _said(cause: Hypothesis, at: float) -> TimelineEntry:
    says = f"{cause.title}: {cause.status.value} ({percent(cause.probability)})"
    return TimelineEntry(at=at, kind="cause", says=says)


def _counted(hypothesis: Hypothesis) -> tuple[Finding, ...]:
    return tuple(f for f in (*hypothesis.supports, *hypothesis.contradicts) if f.counted)
