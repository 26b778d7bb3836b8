"""Who is told what? The report, messages and their buttons, and who wants to hear nothing."""

from __future__ import annotations

from typing import Literal

from responder.model.concluded import Experience, Status, Verdict
from responder.model.done import Evidence, Plan
from responder.model.noun import Noun
from responder.model.wrong import Incident


class Timings(Noun):
    """How fast we were, seconds; None while it has not happened."""

    detected_s: float | None = None
    """Onset -> opened."""
    first_cause_s: float | None = None
    """Opened -> a cause named."""
    report_s: float | None = None
    """Opened -> complete report."""


class Series(Noun):
    """One signal over time, for charts: (unix seconds, value) pairs; None marks a gap."""

    signal: str
    label: str
    unit: str = ""
    points: tuple[tuple[float, float | None], ...]
    threshold: float | None = None


class TraceRow(Noun):
    """Time of one kind of work or of one kernel in a trace."""

    name: str
    kind: str = ""
    count: int = 0
    ms: float = 0.0
    share: float | None = None
    """0..1: kinds of work of the span, kernels of all their time."""


class TraceStep(Noun):
    """One engine step of a trace; `slow` says where the time of one that stands out went."""

    index: int
    kind: Literal["prefill", "decode", "mixed", "empty", "other"]
    ms: float
    gpu_ms: float = 0.0
    slow: str = ""


class TraceView(Noun):
    """What the trace engine saw of one rank, as much as a report shows."""

    evidence: str
    label: str
    file: str = ""
    about: str = ""
    on_gpu: bool = True
    """False: kinds and kernels are CPU operators."""
    span_ms: float = 0.0
    idle_share: float | None = None
    step_count: int = 0
    steps: tuple[TraceStep, ...] = ()
    kinds: tuple[TraceRow, ...] = ()
    """Steps by kind; `ms` is the median."""
    work: tuple[TraceRow, ...] = ()
    kernels: tuple[TraceRow, ...] = ()
    findings: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()


class Report(Noun):
    """Everything a report says, before it is worded or drawn."""

    revision: int
    stage: Literal["first", "update", "final", "resolved"]
    incident: Incident
    verdict: Verdict
    evidence: tuple[Evidence, ...]
    plan: Plan
    timings: Timings
    series: tuple[Series, ...] = ()
    traces: tuple[TraceView, ...] = ()
    target_url: str = ""
    owed: tuple[str, ...] = ()
    experience: Experience = Experience()
    generated_at: float
    before: tuple[str, str, Status, str] | None = None
    """What the message before named first (cause, title, how sure), and the finding that has changed it since."""
    judged_anew: bool = False
    """By other playbooks than those in force then: the timeline says what was said then."""


class Delivery(Noun):
    """One message to one receiver; the id is the receiver's idempotency key."""

    id: str
    incident: str
    revision: int
    receiver: str
    stage: Literal["first", "update", "final", "resolved"]
    state: Literal["pending", "delivered", "dead", "superseded"] = "pending"
    attempts: int = 0
    next_at: float = 0.0
    error: str = ""
    """Why the last attempt failed; begins with `ambiguous` while an attempt may have arrived without our knowing."""
    queued_at: float = 0.0
    doubtful: bool = False
    """An attempt may have arrived, and it was sent again: the receiver may have it twice."""


class Button(Noun):
    """Something a person may press in a message. Whoever shows it carries the id only; what it means stays with us."""

    id: str = ""
    action: Literal["acknowledge", "silence", "approve", "deny", "right", "wrong"]
    incident: str
    target: str = ""
    step: str = ""
    rung: int = 0
    cause: str = ""
    truth: str = ""
    """Of `wrong`: which cause it was instead; empty: another one, or nobody knows."""
    seconds: float = 0.0
    """Of a silence."""
    until: float = 0.0
    """When the question expires; 0: it does not."""
    what: str = ""
    """What pressing it does to the server, or the name of the cause it was instead, in words."""


class Silence(Noun):
    """A maintenance window: matching symptoms open nothing while it holds."""

    id: str
    match: dict[str, str]
    """Label -> regular expression (fully anchored), over target, alert, class, severity and the target's labels."""
    starts_at: float
    ends_at: float
    comment: str = ""
