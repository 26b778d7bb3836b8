"""What stands below the first screen: evidence, other causes, timeline, captures, raw files?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from responder.classes import UNKNOWN
from responder.harm import stood_still
from responder.model import Evidence, Fact, Finding, Outcome, Report, Status
from responder.moments import BETWEEN_SPELLS, between_spells
from responder.report_answers import disproof_line, strongest
from responder.report_facts import at_look, facts_by_name, looks_within, raw_path, values_of, when
from responder.report_signals import signal_words
from responder.report_unknown import RIVAL, missing_line, sure
from responder.report_words import (
    authored,
    clock,
    code,
    duration,
    honest,
    named,
    outcome_words,
    phrase,
    plain,
    size,
)
from responder.words import say

TOUCHES = 1
"""The rung from which on a capture has contact with the engine."""
MOVED_MOST = 8
MOVED = 0.3
"""A signal that is nearer to its usual than this share is not told as changed."""
DERIVED = (
    "queue_seconds",
    "_growth",
    "_samples",
    "_ratio",
    "_share",
    "_lately",
    "_usual",
    "_total",
    "progress",
    "preemptions",
    "occupancy",
)
"""Signals computed from others, or only counted for a rule: they say nothing that the others do not."""
CHANGES = "changes."
"""Facts of this name say themselves that something is another than before."""


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
    then: bool = False
    """A verdict that is not this report's."""

    @property
    def what(self) -> str:
        """The kind in words."""
        return say("kind.then", kind=named("kind", self.kind)) if self.then else named("kind", self.kind)


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
    why: str = ""
    """What it was run for."""


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
    named_first = sorted(report.verdict.hypotheses[1:], key=lambda h: h.cause == UNKNOWN and h.probability < RIVAL)
    for rival in named_first:
        if rival.cause == UNKNOWN and rival.probability < RIVAL:
            # That hardly anything speaks for no cause at all is one line, without the list of what was considered.
            rows.append(Rival(authored(rival.title), rival.cause, sure(rival), "", (), (), ()))
            continue
        separates = [say("ruled_out", disproof=disproof_line(report, rival))] if rival.would_disprove.says else []
        separates += [say("not_known", missing=missing_line(m)) for m in rival.missing]
        separates += [say("not_explained", alert=code(alert, 80)) for alert in rival.unexplained]
        rows.append(
            Rival(
                title=authored(rival.title),
                cause=plain(rival.cause, 80),
                sure=sure(rival),
                says=authored(rival.says),
                supports=tuple(_found(f, others) for f in strongest(rival.supports, 4)),
                contradicts=tuple(_found(f, others) for f in strongest(rival.contradicts, 4)),
                separates=tuple(separates),
            )
        )
    return tuple(rows)


def _found(finding: Finding, others: dict[str, Fact]) -> str:
    return f"{authored(finding.says)} — {values_of(finding, others)}{at_look(finding.facts, others)}"


def moments(report: Report) -> tuple[Moment, ...]:
    """The timeline, with seconds from the onset; captures that touched the server stand in it with their cost."""
    onset, calm = report.incident.onset_at, between_spells(report.evidence)
    found = [(e.at, e.kind, phrase(e.says, 400)) for e in report.incident.timeline]
    for item in report.evidence:
        if item.rung >= TOUCHES and item.outcome is not Outcome.SKIPPED:
            words = {"step": plain(item.id, 60), "rung": item.rung, "does": named("rung", item.rung),
                     "outcome": outcome_words(item.outcome)}  # fmt: skip
            found.append(
                (item.started_at, "capture", say("moment.capture", **words, cost=_ran(item).cost + _but(item, calm)))
            )
    return tuple(
        Moment(clock(at), _offset(at - onset), kind, says, then=report.judged_anew and kind == "cause")
        for at, kind, says in sorted(found, key=lambda moment: moment[0])
    )


def _offset(seconds: float) -> str:
    if abs(seconds) < 0.5:
        return say("onset")
    return ("+" if seconds > 0 else "−") + duration(float(round(abs(seconds))))


def captures(report: Report) -> tuple[Capture, ...]:
    """Every capture: run, skipped, refused, and those still to run."""
    for_what = {call.step: phrase(call.why, 300) for call in report.plan.chosen}
    calm = between_spells(report.evidence)
    rows = [replace(_ran(e), why=for_what.get(e.step, ""), reason=_reason(e, calm)) for e in report.evidence]
    denied = {e.step for e in report.evidence if e.outcome is Outcome.DENIED}
    ran = {e.step for e in report.evidence}
    for refusal in report.plan.refused:
        if refusal.call.step not in denied:
            rows.append(Capture(refusal.call.step, refusal.call.rung, "denied", "", phrase(refusal.why, 300)))
    under_way = report.stage in ("first", "update")
    for call in report.plan.chosen:
        if call.step not in ran:
            why = "" if under_way else say("not_run")
            rows.append(Capture(call.step, call.rung, "pending" if under_way else "skipped", "", why))
    rows += [Capture(say("owed"), 2, "pending", "", phrase(words, 300)) for words in report.owed]
    return tuple(rows)


def _reason(evidence: Evidence, calm: Collection[str]) -> str:
    """Why it ended as it did; of one that ran and got no answer, that it got none, or that it came between spells."""
    return phrase(evidence.reason, 300) or phrase(_tells_nothing(evidence, calm), 300)


def _but(evidence: Evidence, calm: Collection[str]) -> str:
    said = phrase(_tells_nothing(evidence, calm), 300)
    return say("moment.but", says=said) if said else ""


def _tells_nothing(evidence: Evidence, calm: Collection[str]) -> str:
    return BETWEEN_SPELLS if evidence.id in calm else _unanswered(evidence)


def _unanswered(evidence: Evidence) -> str:
    """What a request of ours met that was sent and not answered; '' where it was, or where none was sent. That the
    capture itself ran says nothing of that."""
    found = next((f for f in evidence.facts if f.name == f"{evidence.step}.ok"), None)
    return found.says if found is not None and found.value is False else ""


def _pause(evidence: Evidence) -> float:
    """The pause that was the capture's: none where the server stood still already (also told of older records)."""
    cost = evidence.cost
    if cost is None or evidence.pause_seconds > cost.pause_s or not stood_still(cost.silence_s, cost.tokens_per_s):
        return evidence.pause_seconds  # what a capture measured of itself stays
    return 0.0


def _ran(evidence: Evidence) -> Capture:
    parts = [duration(evidence.seconds)]
    if pause := _pause(evidence):
        parts.append(say("paused", length=duration(pause)))
    if evidence.bytes:
        parts.append(size(evidence.bytes))
    felt = evidence.cost.says if evidence.cost else ""
    if felt and evidence.rung >= 2:
        parts.append(say("felt", words=phrase(felt, 300)))
    return Capture(
        step=evidence.step,
        rung=evidence.rung,
        status=evidence.outcome.value,
        cost=", ".join(parts),
        reason=phrase(evidence.reason, 300),
        seconds=evidence.seconds,
        pause_seconds=_pause(evidence),
        bytes=evidence.bytes,
        felt=plain(felt, 300),
    )


def grouped(rows: Iterable[Capture]) -> tuple[Capture, ...]:
    """For people: runs of a step that ended the same way for the same reason are one row."""
    alike: dict[tuple[str, str, str], list[Capture]] = {}
    for row in rows:
        alike.setdefault((row.step, row.status, row.reason), []).append(row)
    return tuple(
        same[-1] if len(same) == 1 else replace(same[-1], cost=say("runs", count=len(same), cost=same[-1].cost))
        for same in alike.values()
    )


@dataclass(frozen=True)
class Moved:
    """A signal, or something of the server, that is another than before."""

    name: str
    before: str
    now: str


def changed(report: Report) -> tuple[Moved, ...]:
    """What is another than before the onset: what captures say outright, then the signals that moved most, each at the
    look of the incident that found it furthest from its usual."""
    facts = facts_by_name(report)
    rows = [
        Moved(plain(fact.name.removeprefix(CHANGES), 60).replace("_", " "), "", phrase(fact.says, 300))
        for name, fact in facts.items()
        if name.startswith(CHANGES) and fact.says and fact.value not in (None, False, 0, "")
    ]
    most: dict[str, tuple[float, float, Moved]] = {}
    for look in looks_within(report) or (facts,):
        for signal, way, share, row in _moved(look):
            if share >= MOVED and way > most.get(signal, (0.0, share, row))[0]:
                most[signal] = (way, share, row)
    furthest = sorted(most.items(), key=lambda item: (-item[1][1], item[0]))[:MOVED_MOST]
    return (*rows, *(row for _, (_, _, row) in furthest))


def _moved(look: dict[str, Fact]) -> Iterator[tuple[str, float, float, Moved]]:
    """(signal, how far from its usual, the same as a share of the larger, in words) of every signal of a look."""
    for name, now in look.items():
        signal = name.removeprefix("metrics.").removesuffix(".now")
        usual = look.get(f"metrics.{signal}.baseline")
        if name != f"metrics.{signal}.now" or usual is None or signal.endswith(DERIVED):
            continue
        if isinstance(now.value, int | float) and isinstance(usual.value, int | float):
            largest = max(abs(now.value), abs(usual.value))
            way = abs(now.value - usual.value)
            yield (
                signal,
                way,
                way / largest if largest else 0.0,
                Moved(signal_words(signal), honest(usual, look), honest(now, look)),
            )


def raw_files(report: Report) -> tuple[str, ...]:
    """Raw files of every capture, relative to the incident folder."""
    return tuple(f"raw/{evidence.id}/{name}" for evidence in report.evidence for name in evidence.files)


def raw_folders(report: Report) -> dict[str, list[tuple[str, int]]]:
    """The same for one line a step: step -> (folder relative to the incident's, number of files) of each run."""
    folders: dict[str, list[tuple[str, int]]] = {}
    for evidence in report.evidence:
        if evidence.files:
            folders.setdefault(evidence.step, []).append((f"raw/{evidence.id}", len(evidence.files)))
    return folders


def neighbours(report: Report) -> tuple[str, ...]:
    """Past incidents that left much the same evidence, nearest first."""
    return tuple(
        say(
            "near.line",
            incident=code(one.incident, 80),
            target=code(one.target, 80),
            at=clock(one.at, day=True),
            signs=f"{100 * (1 - one.distance):.0f}",
            named=code(one.named, 80),
            status=named("status", one.status.value),
            turned_out=say("near.turned_out", cause=code(one.turned_out, 80)) if one.turned_out else "",
        )
        for one in report.experience.nearest
    )


def status_rules() -> dict[str, str]:
    """What the status words mean."""
    return {status.value: say(f"rule.{status.value}") for status in Status}
