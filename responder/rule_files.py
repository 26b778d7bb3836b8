"""What does a Prometheus rule file say? Recording rules are signals, alerting rules are rules."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from responder.authored import Part, Text
from responder.classes import PRECEDENCE
from responder.located import Path, Source, did_you_mean
from responder.model import Problem, Rule, Severity, Signal
from responder.rules import SIGNAL, parse_expr
from responder.validation import problems_of

DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
SECONDS = (31_536_000.0, 604_800.0, 86_400.0, 3_600.0, 60.0, 1.0, 0.001)


def _duration(value: object) -> object:
    """Prometheus writes durations as `1m30s`; `0` needs no unit."""
    if value in (0, "0"):
        return 0.0
    got = DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if got is None:
        raise ValueError(f"`{value}` is not a duration; write for example 15s or 1m30s")
    return sum(int(count) * unit for count, unit in zip(got.groups(), SECONDS, strict=True) if count)


def _as_text(value: object) -> object:
    """Prometheus takes a number or a bool where it wants text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Duration = Annotated[float, BeforeValidator(_duration, json_schema_input_type=str)]
Loose = Annotated[str, BeforeValidator(_as_text)]


class RulePart(Part):
    """A recording or alerting rule."""

    record: Text | None = None
    alert: Text | None = None
    expr: Annotated[Text, BeforeValidator(_as_text)]
    for_s: Duration = Field(default=0.0, alias="for")
    keep_firing_for_s: Duration = Field(default=0.0, alias="keep_firing_for")
    labels: dict[str, Loose] = {}
    annotations: dict[str, Loose] = {}


class GroupPart(Part):
    """A group of rules."""

    name: Text
    interval: Duration = 0.0
    query_offset: Duration = 0.0
    limit: int = 0
    labels: dict[str, Loose] = {}
    rules: list[RulePart] = []


class RuleFile(Part):
    """A file of rule groups."""

    groups: list[GroupPart] = []


def rules_of(source: Source) -> tuple[list[Signal], list[Rule], list[Problem]]:
    """Signals and rules of a file with everything wrong in it; recording rules that are no signals are left out."""
    try:
        body = RuleFile.model_validate(source.root.plain())
    except ValidationError as error:
        return [], [], problems_of(error, RuleFile, source)
    signals: list[Signal] = []
    rules: list[Rule] = []
    problems: list[Problem] = []
    for g, group in enumerate(body.groups):
        for r, part in enumerate(group.rules):
            path: Path = ("groups", g, "rules", r)
            if part.record and part.record.startswith(SIGNAL):
                line, _ = source.locate((*path, "record"))
                name = part.record.removeprefix(SIGNAL)
                signals.append(Signal(name=name, expr=part.expr, file=source.file, line=line))
            elif part.alert:
                rules.append(_rule(part, {**group.labels, **part.labels}, source, path))
                problems += _wrong(part, {**group.labels, **part.labels}, source, path)
            elif not part.record:
                problems.append(source.problem(path, "a rule needs `alert` or `record`"))
    return signals, rules, problems


def _rule(part: RulePart, labels: dict[str, str], source: Source, path: Path) -> Rule:
    severity = labels.get("severity", "warning")
    return Rule(
        alert=part.alert or "",
        incident_class=labels.get("class", ""),
        severity=Severity(severity) if severity in [*Severity] else Severity.WARNING,
        expr=part.expr,
        terms=parse_expr(part.expr),
        for_s=part.for_s,
        keep_firing_for_s=part.keep_firing_for_s,
        unit=part.annotations.get("unit", ""),
        summary=part.annotations.get("summary", ""),
        labels=labels,
        annotations=dict(part.annotations),
        file=source.file,
        line=source.locate((*path, "alert"))[0],
    )


def _wrong(part: RulePart, labels: dict[str, str], source: Source, path: Path) -> list[Problem]:
    """Labels the responder needs to open an incident."""
    allowed: dict[str, Any] = {"class": PRECEDENCE, "severity": [str(severity) for severity in Severity]}
    problems = []
    for label, values in allowed.items():
        value = labels.get(label)
        if value is None:
            what = f"alert `{part.alert}` has no label `{label}`"
            problems.append(source.problem((*path, "alert"), what, f"one of {', '.join(values)}"))
        elif value not in values:
            near = did_you_mean(value, values) or f"one of {', '.join(values)}"
            problems.append(source.problem((*path, "labels", label), f"`{value}` is no {label}", near))
    return problems
