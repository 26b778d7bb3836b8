"""How bad is it for users, in figures, what came with it, and on how much history does `usual` rest?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from responder.model import Fact, Report, Symptom
from responder.report_facts import at_look, facts_by_name, looks_within, spoken
from responder.report_signals import signal_words
from responder.report_words import duration, honest, limit, measured
from responder.words import say

FELT: Mapping[str, tuple[tuple[str, str], ...]] = {
    "high_ttft": (("ttft_p99", "VLLMTTFT"), ("ttft_slow_p50", "VLLMTTFT"), ("ttft_mean", ""), ("queue_time_mean", "")),
    "slow_decode": (("itl_p99", "VLLMITLHigh"), ("itl_mean", ""), ("decode_time_mean", "")),
    "sporadic_slow": (("ttft_tail_p99", ""), ("e2e_p99", ""), ("itl_p99", "VLLMITLHigh")),
    "low_throughput": (("generation_rate", ""), ("finish_rate", "")),
}
"""Class -> the signals that say what its users feel, the best first, each with the alerts whose limit is one for it."""
LESS_IS_WORSE = frozenset({"generation_rate", "finish_rate"})
STILL = ("metrics.down_s", "metrics.flat_s")
"""Of a server without progress: since when it has not answered, or made no step."""
SENT = ("arrival_rate", "prompt_tokens_mean", "generation_tokens_mean")
"""What users send; a change of it is no doing of the server's."""
CHANGED = 1.4
"""A signal that is so many times its usual, or that part of it, is told as changed."""
SHORT_HISTORY_S = 300.0
"""Half of what `usual` is taken from, when there is enough of it."""


def felt(report: Report) -> str:
    """What users feel: 'TTFT p99 between 10 s and 20 s, usually about 33 ms; limit 2 s'; '' where nobody knows."""
    over = report.incident.state == "resolved"
    facts = facts_by_name(report)
    if report.incident.incident_class == "hang_or_crash":
        return _still(facts) if not over else ""
    for signal, alerts in FELT.get(report.incident.incident_class, ()):
        now, usual = _worst(facts, signal, over), facts.get(f"metrics.{signal}.baseline")
        if now is None or not _worse(signal, now, usual):
            continue
        words = say("felt.now", name=signal_words(signal), value=honest(now, facts))
        if over:
            words = say("felt.worst", name=signal_words(signal), value=measured(now.value, now.unit))
        if usual is not None and usual.value is not None:
            words += say("felt.usual", value=honest(usual, facts))
        return words + _limit(report.incident.symptoms, alerts)
    return ""


def _still(facts: Mapping[str, Fact]) -> str:
    for name in STILL:
        fact = facts.get(name)
        if fact is not None and isinstance(fact.value, int | float) and fact.value >= 1:
            return say(f"felt.{name.partition('.')[2]}", value=duration(fact.value))
    return ""


def _worst(facts: Mapping[str, Fact], signal: str, over: bool) -> Fact | None:
    """The value now; of what is over, or stands still, the worst of it."""
    worst = "min" if signal in LESS_IS_WORSE else "max"
    for aspect in (worst, "now") if over else ("now", "last", worst):
        fact = facts.get(f"metrics.{signal}.{aspect}")
        if fact is not None and isinstance(fact.value, int | float):
            return fact
    return None


def _worse(signal: str, now: Fact, usual: Fact | None) -> bool:
    if usual is None or not isinstance(usual.value, int | float) or not isinstance(now.value, int | float):
        return True
    return now.value < usual.value if signal in LESS_IS_WORSE else now.value > usual.value


def _limit(symptoms: tuple[Symptom, ...], alerts: str) -> str:
    """The limit of the first alert that watches this signal; '' when none of them fires."""
    for symptom in symptoms:
        if alerts and symptom.alert.startswith(alerts) and symptom.threshold is not None:
            return say("felt.limit", value=limit(symptom.threshold, symptom.unit or "s"))
    return ""


def sent(report: Report) -> str:
    """What users send differently since then: 'Requests arriving 2.1× its usual'; '' when it is the same. By the first
    look that can tell: later on, who waits sends less, and who asks again sends more."""
    found: list[str] = []
    if report.incident.incident_class == "hang_or_crash" and _short(report):
        return ""  # a few seconds of before, and whoever was stuck asks again: it would read as the trigger
    facts = facts_by_name(report)
    for signal in SENT:
        ratios = (look[name] for look in looks_within(report) if (name := f"metrics.{signal}.ratio") in look)
        first = next((fact for fact in ratios if isinstance(fact.value, int | float) and fact.value > 0), None)
        if first is not None and _times(first) >= CHANGED:
            found.append(spoken(report, first) + at_look([first], facts))
    return say("since.sent", what=say("items").join(found)) if found else ""


def _times(fact: Fact) -> float:
    value = float(fact.value) if isinstance(fact.value, int | float) else 1.0
    return max(value, 1 / value)


def history(report: Report) -> Iterator[str]:
    """That what is called usual rests on little, if it does."""
    seconds = history_s(report)
    if seconds is not None and seconds < SHORT_HISTORY_S:
        yield say("history.none") if seconds < 1 else say("history.short", length=duration(seconds))


def _short(report: Report) -> bool:
    seconds = history_s(report)
    return seconds is not None and seconds < SHORT_HISTORY_S


def history_s(report: Report) -> float | None:
    """Seconds of data from before it began; None where nothing says so."""
    fact = facts_by_name(report).get("metrics.history_s")
    return float(fact.value) if fact is not None and isinstance(fact.value, int | float) else None
