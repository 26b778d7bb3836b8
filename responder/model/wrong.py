"""What is wrong? From a rule and its samples to a symptom, and from symptoms to an incident."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

from pydantic import Field

from responder.model.noun import Noun, Operator, Severity


class Comparison(Noun):
    """`signal op number`: one term of a rule."""

    signal: str
    op: Operator
    number: float


class Signal(Noun):
    """A recording rule: a name and the PromQL that computes it."""

    name: str
    """Without the `signal:` prefix: ttft_p99."""
    expr: str
    file: str = ""
    line: int = 0


class Rule(Noun):
    """A Prometheus alerting rule. `terms` is its expression as a conjunction of comparisons of signals;
    empty terms mean an expression of another shape, which Prometheus then evaluates as a whole."""

    alert: str
    incident_class: str
    severity: Severity
    expr: str
    terms: tuple[Comparison, ...] = ()
    """The first term carries the threshold an operator may override; terms on `*_samples` are guards: a guard that
    does not hold makes the rule unknown, not false."""
    for_s: float = 0.0
    keep_firing_for_s: float = 0.0
    unit: str = ""
    summary: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    file: str = ""
    line: int = 0


class Sample(NamedTuple):
    """One value of one signal for one label set. `value` None: the series exists but says NaN.

    No noun: a round over a thousand servers makes tens of thousands, from what is checked already.
    """

    signal: str
    labels: dict[str, str]
    value: float | None
    at: float


class Symptom(Noun):
    """A rule that is true for one target (and model, and engine), since when."""

    alert: str
    incident_class: str
    severity: Severity
    target: str
    labels: dict[str, str] = Field(default_factory=dict)
    """model_name, engine and whatever identifies the series."""
    since: float
    """When the condition was first seen true."""
    fired_at: float
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    summary: str = ""
    """In words, bucket-honest: 'TTFT p99 is between 1 s and 2.5 s, SLO 2 s'."""
    source: str = "rules"
    """rules, or alertmanager when somebody else's Prometheus told us."""


class Change(StrEnum):
    """The reason anything happens next."""

    OPENED = "opened"
    GREW = "grew"
    UNCHANGED = "unchanged"
    RESOLVED = "resolved"


class TimelineEntry(Noun):
    """One dated line of an incident's history."""

    at: float
    kind: Literal["onset", "symptom", "opened", "grew", "capture", "cause", "delivery", "resolved", "note", "action"]
    says: str


class Acknowledged(Noun):
    """Somebody has taken an incident: who, and when."""

    who: str
    at: float


class Incident(Noun):
    """One episode of trouble of one target."""

    id: str
    target: str
    incident_class: str
    severity: Severity
    state: Literal["open", "resolved"] = "open"
    onset_at: float
    """Estimated backwards from the data; never later than `opened_at`."""
    opened_at: float
    resolved_at: float | None = None
    symptoms: tuple[Symptom, ...] = ()
    """Every symptom the episode has had, first seen first."""
    timeline: tuple[TimelineEntry, ...] = ()
    acknowledged: Acknowledged | None = None
