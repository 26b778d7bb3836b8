"""What is wrong right now? Answers of Prometheus and of the probes -> one observation per rule and series.

Three truth values throughout. An absent signal, a NaN and a Prometheus that says nothing are *unknown*: they make no
rule true and no rule false. `holding.py` turns observations into symptoms over time.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from responder.model import Comparison, Rule, Sample, Target, Truth
from responder.rules import NEWS
from responder.table import IDENTITY as IDENTITY
from responder.table import UP as UP
from responder.table import Answers, Column, Table

GUARD = "_samples"
EXPECTED_SHARE = "generation_share"
TOKENS, REQUESTS = "generation_minute_rate", "finish_minute_rate"
"""What that share is worked out of."""
LOG = "responder_log_"
STEPS = "progress_total"
"""A server without this has no metrics to go by."""
DEATH = frozenset({UP, "responder_probe_refused", "responder_probe_process_gone"})
COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


class Observation(NamedTuple):
    """What one rule says about one series of one target, now; made tens of thousands of times a round."""

    alert: str
    target: str
    labels: dict[str, str]
    """model_name and engine, as far as the rule's signals have them."""
    truth: Truth
    value: float | None = None
    """Of the first term."""
    threshold: float | None = None
    for_s: float = 0.0
    answered: bool = True
    """False: somebody who was asked said nothing; the clock of patience stands still."""
    vanished: bool = False
    """True because the target is no longer there to be scraped, not because of a value."""
    lasting: bool = False
    """Still true of what has begun: terms that ask for news hold half-way between usual and what is news, in ratios. A
    server that is only as slow as ever again is well."""
    passed: bool = False
    """All terms hold but those that ask for news."""
    half_way: float | None = None
    """The value half-way between what is usual and what is news, by the last hour as it is now."""


def observe(
    rules: Iterable[Rule], answers: Answers, targets: Collection[Target], now: float, seen: Collection[str] = ()
) -> tuple[Observation, ...]:
    """One observation per rule, target and series (at least one per rule and target).

    `seen` are targets Prometheus has ever known: one that is gone from a talking Prometheus is itself a symptom.
    """
    table = Table({**answers, **_expected(answers, targets, now)})
    out: list[Observation] = []
    for rule in rules:
        first = rule.terms[0].signal if rule.terms else ""
        columns = [table.column(term.signal) for term in rule.terms]
        answered = not any(table.silent(term.signal) for term in rule.terms)
        for target in targets:
            if not first:
                out += _opaque(rule, table, target)
            elif first.startswith(LOG) and table.scraped(STEPS, target):
                # The log stands in for missing metrics. Where they are back it is not read, and its alerts are over.
                out.append(_seen(rule, target, {}, Truth.NO))
            elif first == UP and target.name in seen and table.vanished(target):
                out.append(_seen(rule, target, {}, Truth.YES, vanished=True))
            else:
                out += _conjunction(rule, columns, target, answered)
    return tuple(out)


def present(answers: Answers, targets: Iterable[Target]) -> frozenset[str]:
    """Targets that Prometheus scrapes at this moment, whether or not the scrapes work."""
    table = Table(answers)
    return frozenset(target.name for target in targets if table.of(UP, target))


def quiet(answers: Answers, targets: Iterable[Target], responsive: Collection[str]) -> frozenset[str]:
    """Targets with nothing in flight whose engine has just proven that it answers (`responsive`).

    Only there does the absence of samples mean that all is well; gauges at 0 alone are what a hang looks like too.
    """
    table = Table(answers)
    found = set()
    for target in targets:
        flight = table.of("in_flight", target)
        if flight and all(sample.value == 0 for sample in flight) and target.name in responsive:
            found.add(target.name)
    return frozenset(found)


def mute(seen: Iterable[Observation], rules: Iterable[Rule], muted: Collection[str]) -> tuple[Observation, ...]:
    """What was observed, without what our own captures may have caused: unknown, on `muted` targets.

    A server that is gone is still gone: no capture of ours is an excuse for that.
    """
    deadly = {rule.alert for rule in rules if rule.terms and rule.terms[0].signal in DEATH}
    return tuple(
        one._replace(truth=Truth.UNKNOWN, answered=False, lasting=False, passed=False)
        if one.target in muted and one.alert not in deadly else one
        for one in seen
    )  # fmt: skip


def threshold_of(rule: Rule, target: Target) -> float | None:
    """The number the first term is compared with for this target."""
    if target.thresholds and rule.alert in target.thresholds:
        return target.thresholds[rule.alert]
    return rule.terms[0].number if rule.terms else None


def for_of(rule: Rule, target: Target) -> float:
    """How long the rule must hold for this target; `thresholds: {VLLMNoProgress.for: 60}` suits a slow server."""
    return target.thresholds.get(f"{rule.alert}.for", rule.for_s)


def _conjunction(rule: Rule, columns: Sequence[Column], target: Target, answered: bool) -> list[Observation]:
    """A natural join of the terms' series on model and engine; an instance-wide term joins with each engine."""
    terms: Sequence[Comparison] = rule.terms
    limit = threshold_of(rule, target)
    if limit is not None and limit != terms[0].number:
        terms = (terms[0].model_copy(update={"number": limit}), *terms[1:])
    news = [term.signal.endswith(NEWS) for term in terms]
    if rule.alert in target.thresholds:  # its owner's limit: over it is over it, however usual
        columns = [column for column, new in zip(columns, news, strict=True) if not new]
        terms, news = [term for term, new in zip(terms, news, strict=True) if not new], []
    rows = _joined([column.of(target) for column in columns])
    out = []
    for labels, row in rows:
        truths = [_truth(term, sample) for term, sample in zip(terms, row, strict=True)]
        first = row[0].value if row[0] is not None else None
        truth = _all(terms, truths)
        seen = _seen(rule, target, labels, truth, value=first, limit=limit, answered=answered)
        out.append(seen._replace(**_lasting(terms, row, truths)) if any(news) else seen)
    return out


def _lasting(terms: Sequence[Comparison], row: Sequence[Sample | None], truths: Sequence[Truth]) -> dict[str, Any]:
    """What `holding.py` goes by once the rule has fired."""
    asked = [(term, sample) for term, sample in zip(terms, row, strict=True) if term.signal.endswith(NEWS)]
    passed = all(told is Truth.YES for term, told in zip(terms, truths, strict=True) if not term.signal.endswith(NEWS))
    still = all(_truth(_half_way(term), sample) is Truth.YES for term, sample in asked)
    first = None if row[0] is None or terms[0].op not in (">", ">=") else row[0].value
    levels = [
        first / sample.value * math.sqrt(term.number)
        for term, sample in asked
        if first is not None and sample is not None and sample.value
    ]
    return {"passed": passed, "lasting": passed and still, "half_way": max(levels, default=None)}


def _half_way(term: Comparison) -> Comparison:
    return term.model_copy(update={"number": math.sqrt(term.number)})


Row = tuple[dict[str, str], list[Sample | None]]
"""What one series is known by, and its sample of each term."""


def _joined(found: Sequence[list[Sample]]) -> list[Row]:
    if all(len(samples) < 2 for samples in found):  # most servers run one engine
        row: list[Sample | None] = [samples[0] if samples else None for samples in found]
        known: dict[str, str] = {}
        for sample in row:
            if sample is not None:
                if not _agree(known, sample.labels):
                    break
                known.update(_identity(sample))
        else:
            return [(known, row)]
    rows: list[Row] = [({}, [])]
    for samples in found:
        joined: list[Row] = []
        for labels, row in rows:
            fitting = [sample for sample in samples if _agree(labels, sample.labels)]
            joined += [({**labels, **_identity(sample)}, [*row, sample]) for sample in fitting]
            if not fitting:
                joined.append((labels, [*row, None]))
        rows = joined
    return rows


def _opaque(rule: Rule, table: Table, target: Target) -> list[Observation]:
    """An expression Prometheus evaluated as a whole: what comes back is true.

    Nothing coming back is *no* only while the target is scraped; the expression's metrics may be gone with it.
    """
    samples = table.of(rule.expr, target)
    if samples:
        return [_seen(rule, target, _identity(s), Truth.YES, value=s.value) for s in samples]
    scraped = any(sample.value == 1 for sample in table.of(UP, target))
    truth = Truth.NO if scraped and not table.silent(rule.expr) else Truth.UNKNOWN
    return [_seen(rule, target, {}, truth, answered=not (table.silent(rule.expr) or table.silent(UP)))]


def _seen(
    rule: Rule, target: Target, labels: dict[str, str], truth: Truth, *, value: float | None = None,
    limit: float | None = None, answered: bool = True, vanished: bool = False,
) -> Observation:  # fmt: skip
    threshold = limit if limit is not None else threshold_of(rule, target)
    waits = for_of(rule, target) if target.thresholds else rule.for_s
    return Observation(rule.alert, target.name, labels, truth, value, threshold, waits, answered, vanished)


def _identity(sample: Sample) -> dict[str, str]:
    labels = sample.labels
    return {label: labels[label] for label in IDENTITY if labels.get(label)}


def _agree(known: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    # A generator for each of a hundred thousand samples would be dear.
    return not known or all(labels.get(label, value) == value for label, value in known.items())


def _truth(term: Comparison, sample: Sample | None) -> Truth:
    if sample is None or sample.value is None or sample.value != sample.value:
        return Truth.UNKNOWN
    return Truth.YES if COMPARE[term.op](sample.value, term.number) else Truth.NO


def _all(terms: Sequence[Comparison], truths: Sequence[Truth]) -> Truth:
    """Kleene's `and`, except that a guard (`*_samples`) that is not met makes the whole unknown: a p99 of three
    requests is no more a reason to resolve than to fire."""
    for term, truth in zip(terms, truths, strict=True):
        if truth is not Truth.YES and term.signal.endswith(GUARD):
            return Truth.UNKNOWN
    if Truth.NO in truths:
        return Truth.NO
    return Truth.UNKNOWN if Truth.UNKNOWN in truths else Truth.YES


def needed(targets: Iterable[Target]) -> tuple[str, ...]:
    """Signals to ask for beside those that the rules name."""
    return (TOKENS, REQUESTS) if any(target.expect for target in targets) else ()


def _expected(answers: Answers, targets: Iterable[Target], now: float) -> dict[str, tuple[Sample, ...]]:
    """`generation_share` for targets somebody expects something of: the smaller of the shares of tokens and requests,
    over a minute.

    A Prometheus that does not scrape the responder cannot know the expectation.
    """
    table = Table(answers)
    shares = list(answers.get(EXPECTED_SHARE) or ())
    for target in targets:
        if target.expect is None:
            continue
        asked = (
            (TOKENS, target.expect.generation_tokens_per_second),
            (REQUESTS, target.expect.requests_per_second),
        )
        parts = []
        for signal, wanted in asked:
            values = [sample.value for sample in table.of(signal, target) if sample.value is not None]
            if wanted and values:
                parts.append(sum(values) / wanted)
        if parts:
            shares.append(Sample(signal=EXPECTED_SHARE, labels={"target": target.name}, value=min(parts), at=now))
    return {EXPECTED_SHARE: tuple(shares)} if shares else {}
