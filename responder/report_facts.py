"""How do we cite a fact: its value in words, when it was true, and the raw file it was read from?"""

from __future__ import annotations

from collections.abc import Iterable

from responder.model import Evidence, Fact, Finding, Report
from responder.report_signals import signal_words
from responder.report_words import clock, code, honest, measured, phrase, plain
from responder.words import known, say, signal_name

FIRST_MOVER = "metrics.first_mover"
"""A fact whose value is the name of a signal."""
ANOTHER = 0.3
"""Two looks that are nearer to each other than this share of the larger say the same."""


def within(report: Report) -> tuple[Evidence, ...]:
    """Evidence taken while the trouble lasted: a look back afterwards shows a server that is well."""
    over = report.incident.resolved_at
    during = tuple(e for e in report.evidence if over is None or e.started_at < over)
    return during or report.evidence


def facts_by_name(report: Report) -> dict[str, Fact]:
    """Server-wide facts of the time the trouble lasted; the later evidence wins."""
    return {fact.name: fact for evidence in within(report) for fact in evidence.facts if not fact.subject}


def looks_within(report: Report) -> tuple[dict[str, Fact], ...]:
    """The metrics at each look while the trouble lasted."""
    return tuple(
        {fact.name: fact for fact in evidence.facts if not fact.subject}
        for evidence in within(report)
        if evidence.step == "metrics_window" and evidence.facts
    )


def source(report: Report, fact: Fact) -> Evidence | None:
    """The evidence a fact came from: the one that holds it, else the last run of its step."""
    runs = [evidence for evidence in report.evidence if evidence.step == fact.step]
    # Names first: comparing whole facts of every look was most of what a report cost.
    holding = [e for e in runs if any(one.name == fact.name and one == fact for one in e.facts)]
    return holding[0] if holding else runs[-1] if runs else None


def raw_path(report: Report, fact: Fact) -> str:
    """Where the raw file lies, relative to the incident folder; empty when there is none."""
    if not fact.file:
        return ""
    evidence = source(report, fact)
    return f"raw/{evidence.id if evidence else fact.step}/{fact.file}"


def when(report: Report, fact: Fact) -> float:
    """When a fact was true: its own time, else when its step ran."""
    evidence = source(report, fact)
    return fact.at or (evidence.started_at if evidence else report.generated_at)


def fact_line(fact: Fact, others: dict[str, Fact]) -> str:
    """For tables: '`metrics.kv_usage.now` 99 % (usual 52 %)'."""
    return f"{code(fact.name, 80)} {_value(fact, others)}"


def _value(fact: Fact, others: dict[str, Fact]) -> str:
    words = _bare(fact, others)
    return words + (f": {phrase(fact.says, 160)}" if fact.says else "")


def _bare(fact: Fact, others: dict[str, Fact]) -> str:
    """The value with what is usual and of whom, without the fact's own words."""
    words = honest(fact, others)
    if fact.name == FIRST_MOVER and isinstance(fact.value, str):
        return signal_words(fact.value)
    stem, _, aspect = fact.name.rpartition(".")
    usual = others.get(f"{stem}.baseline")
    if aspect in ("now", "last", "max", "min") and usual is not None and usual.value is not None:
        before = honest(usual, others)
        words = say("as_usual", value=words) if before == words else say("in_usual", value=words, usual=before)
    if fact.subject:
        words = say("of_subject", value=words, subject=plain(fact.subject, 40))
    return words


def at_look(facts: Iterable[Fact], others: dict[str, Fact]) -> str:
    """' (at 21:11:09)' where a later look found another value of any of these; '' where the last look is told."""
    earlier = [fact for fact in facts if fact.at and _otherwise_later(fact, others.get(fact.name))]
    return say("at_look", at=clock(earlier[0].at)) if earlier else ""


def _otherwise_later(fact: Fact, later: Fact | None) -> bool:
    if later is None or fact.subject or later.at <= fact.at or later.value == fact.value:
        return False
    one, two = fact.value, later.value
    if isinstance(one, bool | str) or isinstance(two, bool | str) or one is None or two is None:
        return True
    return abs(one - two) > ANOTHER * max(abs(one), abs(two))


def spoken(report: Report, fact: Fact) -> str:
    """For the first screen: 'KV cache in use 99 % (usual 52 %)', without the fact's id."""
    value = _value(fact, facts_by_name(report))
    step, _, rest = fact.name.partition(".")
    signal, _, aspect = rest.rpartition(".")
    if step == "metrics" and signal:
        key = f"aspect.{aspect}"
        name = signal_words(signal)
        usual = facts_by_name(report).get(f"metrics.{signal}.baseline")
        if aspect == "ratio" and fact.value == 0 and usual is not None and usual.value is not None:
            return say("aspect.none", name=name, value=measured(0, usual.unit), usual=honest(usual, {}))
        return say(key, name=name, value=value) if known(key) else say(
            "aspect.other", name=name, aspect=_loose(aspect), value=value
        )  # fmt: skip
    name, words = _loose(fact.name), phrase(fact.says, 160).rstrip(".")
    # Words of `metrics` say how finely it was looked, those of a share whose it is, those of a time since when: none of
    # them says how much.
    counted = isinstance(fact.value, int | float) and step != "metrics" and fact.unit not in ("share", "s")
    if words and fact.value and counted and not fact.subject:
        # The words name what was counted or seen; '1 processes' before them only delays the reader.
        return f"{name}: {words}"
    value = _bare(fact, facts_by_name(report))
    apart = ": " if isinstance(fact.value, bool | str) else " "
    return f"{name}{apart}{value}" + (say("aside", words=words) if words and words != value else "")


def _loose(name: str) -> str:
    return signal_name(f"fact.{name}") or plain(name, 80).replace("_", " ").replace(".", " ")


def values_of(finding: Finding, others: dict[str, Fact]) -> str:
    """The measured values behind a finding."""
    return say("items").join(fact_line(fact, others) for fact in finding.facts[:6]) or say("no_value")
