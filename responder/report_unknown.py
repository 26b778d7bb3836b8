"""What do we not know of this incident? Only what could matter on this server, the most important first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from responder.model import Fact, Hypothesis, Missing, Outcome, Report, Scalar, Status, WhyUnknown
from responder.report_facts import facts_by_name
from responder.report_harm import history
from responder.report_signals import signal_words
from responder.report_words import authored, code, named, outcome_words, percent, phrase, plain, sentence
from responder.words import say, told

SIGNALS_NAMED = 6
RIVAL = 0.15
"""From this probability on, another cause is named on the first screen."""
EVEN = 0.5
FAILED = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INTERRUPTED, Outcome.PARTIAL)
ONLY_ON_GPUS = frozenset({"gpu", "dcgm", "nvidia_smi", "nccl_ras", "nccl_log", "infiniband", "nsys", "nsys_range"})
"""Steps that can tell nothing of a server without GPUs."""
MATTERS_UNLESS: tuple[tuple[str, str, Scalar], ...] = (
    ("dcgm_", "config.device", "cpu"),
    ("spec_", "config.speculative", "none"),
    ("prefix_", "config.prefix_caching", False),
)
"""Signals whose name begins so say nothing where this fact has this value."""
AGAINST_THE_PAST = frozenset(
    {"itl_ratio", "itl_usual_samples", "ttft_ratio", "ttft_longer_s", "token_rate_ratio"}
    | {"itl_minutes_grown", "running_ratio"}
    | {"prefix_hit_flow", "prefix_hit_share", "prefix_hit_usual", "prefix_usual_samples"}
    | {"itl_grown", "itl_gaps_grown", "ttft_grown", "ttft_slow_grown", "ttft_late_grown", "ttft_tail_grown"}
    | {"waiting_grown", "itl_high_grown", "unfinished_grown", "unfinished_worst_ratio", "scrape_grown"}
    | {"itl_late_recur_grown", "itl_halts_recur_grown", "itl_gaps_recur_grown", "itl_stops_apart_grown", "asked_ratio"}
    | {"itl_late_beyond", "itl_halts_beyond", "itl_halted_s"}
)
"""Signals that compare with the last hour: a short history has its own line, which says why they are not there."""
ASKED_FOR = ("generation_share", "corrupted_rate", "scrape_tail_s")
"""Signals there are only where somebody asked for them (`expect:`, VLLM_COMPUTE_NANS_IN_LOGITS, scrapes each 12 s or
more often)."""


def unknown_items(report: Report, lead: Hypothesis | None) -> Iterator[str]:
    """Rival causes, why it came about, claims nobody could decide, captures that failed, signals that are not there."""
    if lead and lead.why_unknown and lead.status in (Status.CONFIRMED, Status.PROBABLE):
        yield why_unknown_line(lead.why_unknown)
    for rival in report.verdict.hypotheses[1:]:
        if rival.probability >= RIVAL and rival.cause not in report.verdict.together:
            yield say("unknown.rival", title=authored(rival.title), sure=sure(rival))
    facts = facts_by_name(report)
    idle = ONLY_ON_GPUS if _is(facts, "config.device", "cpu") else frozenset()
    missing = [m for m in lead.missing if m.step not in idle] if lead else []
    if lead:
        yield from (say("unknown.unexplained", alert=code(alert, 80)) for alert in lead.unexplained)
    yield from (missing_line(m) for m in missing)
    short = tuple(history(report))
    yield from short
    known = {m.step for m in missing} | idle
    for evidence in report.evidence:
        if evidence.outcome in FAILED and evidence.step not in known:
            words = {"step": code(evidence.step, 60), "outcome": outcome_words(evidence.outcome)}
            yield say("unknown.capture", **words, reason=phrase(evidence.reason, 160))
    past = AGAINST_THE_PAST if short else frozenset()
    names = [signal_words(name) for name in _absent(facts) if name not in past]
    if names:
        more = [say("unknown.more", count=len(names) - SIGNALS_NAMED)] if len(names) > SIGNALS_NAMED else []
        yield say("unknown.signals", names=plain(say("items").join([*names[:SIGNALS_NAMED], *more]), 400))


def _is(facts: Mapping[str, Fact], name: str, value: Scalar) -> bool:
    return name in facts and facts[name].value == value and facts[name].value is not None


def _absent(facts: Mapping[str, Fact]) -> list[str]:
    """Signals without any value that could have one here."""
    told_of = facts.get("metrics.signals_unknown")
    names = told_of.value.replace(" ", "").split(",") if told_of and isinstance(told_of.value, str) else []
    pointless = tuple(start for start, fact, value in MATTERS_UNLESS if _is(facts, fact, value))
    return [name for name in names if name and name not in ASKED_FOR and not name.startswith(pointless)]


def sure(hypothesis: Hypothesis) -> str:
    """How sure: 'probable, 87 %'. One of two faults at once may be probable although neither of the two leads, and its
    share of the weight, which knows one fault alone, is small: 'probable, 0.2 %' would be read as a mistake."""
    if hypothesis.status is Status.UNKNOWN:
        return say("sure.weight", share=percent(hypothesis.probability))
    if hypothesis.status is Status.PROBABLE and hypothesis.probability < EVEN:
        return say("sure.beside", status=named("status", hypothesis.status.value))
    return say("sure.status", status=named("status", hypothesis.status.value), share=percent(hypothesis.probability))


def why_unknown_line(why: WhyUnknown) -> str:
    """That nobody knows why it came about: what is not there, what could not be looked at, where else to look."""
    line = say("why.unknown")
    if why.not_found:
        line += say("why.not_found", what=say("items").join(authored(says, 120) for says in why.not_found))
    if why.not_seen:
        line += say("why.not_seen", what=say("items").join(authored(says, 120) for says in why.not_seen))
    return line + say("why.otherwise", where=authored(why.otherwise))


def missing_line(missing: Missing) -> str:
    """Evidence we do not have, why, and what it would have told."""
    would = say("items").join(_claims(missing.would_tell))
    line = say("missing", step=code(missing.step, 60), why=sentence(phrase(missing.why, 160)))
    return line + (say("missing.would", would=sentence(would)) if would else "")


def _claims(joined: str) -> Iterator[str]:
    """Claims that were joined by semicolons, each in the language spoken; a claim may hold a semicolon itself."""
    parts = joined.split("; ") if joined else []
    while parts:
        tries = ["; ".join(parts[:count]) for count in range(len(parts), 0, -1)]
        whole = next((claim for claim in tries if told(claim) != claim), parts[0])
        yield authored(whole, 200)
        parts = parts[whole.count("; ") + 1 :]
