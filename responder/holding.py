"""Since when does a rule hold, and does it still? Observations over time -> symptoms.

The states are plain values: written to disk and read back they go on where they were. Unknown changes nothing: it fires
no rule and resolves none, except that a firing rule whose data stays away is let go after a while, and at once where
the server is known to be idle and well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping

from responder.evaluate import Observation
from responder.model import Noun, Rule, Symptom, Truth
from responder.rules import NEWS
from responder.signal_words import summary

HOLD_S = 300.0
"""How long a firing rule outlives its data."""
PENDING_HOLDS_S = 30.0
"""A rule that was last seen true longer ago than this starts its `for` anew."""
GAP_S = 30.0
"""A longer pause between two rounds was not watched and counts for no `for`."""
OUTAGE_S = 3600.0
"""After a longer pause pending rules start anew."""
VANISHED_FOR_S = 30.0
"""A target may leave service discovery for a moment while it is rescheduled."""
TOLD_S = 3600.0
"""So long what was an incident is part of the hour that later moments are compared with."""


class Held(Noun):
    """A rule that is or was just true for one series of one target."""

    alert: str
    target: str
    labels: dict[str, str]
    since: float
    """First seen true."""
    fired_at: float | None = None
    """None: still pending."""
    true_at: float
    """Last seen true."""
    known_at: float
    """Last seen true or false, or last asked in vain of somebody who did not answer."""
    value: float | None = None
    threshold: float | None = None
    half_way: float | None = None
    """When it fired, the value half-way between usual and news: an hour later the fault itself is what is usual."""
    vanished: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """Identity of the series."""
        return key_of(self.alert, self.target, self.labels)


class Told(Noun):
    """What fired as news and is over: when it comes back it is no less news for being part of the last hour now."""

    alert: str
    target: str
    labels: dict[str, str]
    half_way: float
    over_at: float

    @property
    def key(self) -> tuple[str, ...]:
        """Identity of the series."""
        return key_of(self.alert, self.target, self.labels)


class States(Noun):
    """Everything the evaluation remembers between rounds; JSON-able."""

    at: float | None = None
    """The last round."""
    held: tuple[Held, ...] = ()
    told: tuple[Told, ...] = ()
    """One for each series at most, for an hour."""
    seen: tuple[str, ...] = ()
    """Targets Prometheus has ever known."""


def joined(states: States, others: States, now: float) -> States:
    """Both as one, the others' as if the time nobody watched them had not passed."""
    late = fitted(others, now)
    seen = tuple(sorted({*states.seen, *late.seen}))
    return States(at=now if states.at is None and others.at is not None else states.at, held=states.held + late.held,
                  told=states.told + late.told, seen=seen)  # fmt: skip


def only(states: States, stays: Callable[[str], bool]) -> States:
    """What is remembered of some targets."""
    held = tuple(one for one in states.held if stays(one.target))
    told = tuple(one for one in states.told if stays(one.target))
    return States(at=states.at, held=held, told=told, seen=tuple(name for name in states.seen if stays(name)))


def key_of(alert: str, target: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Identity of a symptom; equal for our own evaluation and for an Alertmanager's word about the same."""
    return (alert, target, labels.get("model_name", ""), labels.get("engine", ""))


def advance(
    states: States,
    observations: Iterable[Observation],
    now: float,
    rules: Iterable[Rule],
    *,
    targets: Collection[str],
    present: Collection[str] = (),
    quiet: Collection[str] = (),
    hold_s: float = HOLD_S,
) -> tuple[States, tuple[Symptom, ...]]:
    """The states after this round, and the symptoms that hold.

    targets: names of all configured targets. present: those Prometheus knows now. quiet: those known to be idle and
    well. States of rules or targets that no longer exist are dropped.
    """
    book = {rule.alert: rule for rule in rules}
    before = fitted(states, now)
    held = {h.key: h for h in before.held if h.alert in book and h.target in targets}
    told = {t.key: t for t in before.told if t.alert in book and t.target in targets and now - t.over_at < TOLD_S}
    after: dict[tuple[str, ...], Held] = {}
    seen_now: set[tuple[str, ...]] = set()
    asked_in_vain = set()
    for seen in observations:
        key = key_of(seen.alert, seen.target, seen.labels)
        seen_now.add(key)
        if not seen.answered:
            asked_in_vain.add((seen.alert, seen.target))
        if seen.alert in book:
            step = _step(held.get(key), seen, now, book[seen.alert], seen.target in quiet, hold_s, told.get(key))
            if step is not None:
                after[key] = step
    for key, was in held.items():
        if key not in seen_now:  # the series itself is gone: unknown
            silent = (was.alert, was.target) in asked_in_vain
            kept = _unknown(was, now, answered=not silent, quiet=was.target in quiet, hold_s=hold_s)
            if kept is not None:
                after[key] = kept
    told |= {key: _over(was, was.half_way, now) for key, was in held.items()
             if key not in after and was.fired_at is not None and was.half_way is not None}  # fmt: skip
    known = tuple(sorted((set(before.seen) | set(present)) & set(targets)))
    ordered = tuple(sorted(after.values(), key=lambda h: (h.since, h.key)))
    symptoms = tuple(_symptom(h, book[h.alert]) for h in ordered if h.fired_at is not None)
    return States(at=now, held=ordered, told=tuple(told[key] for key in sorted(told)), seen=known), symptoms


def as_ever(observations: Iterable[Observation], states: States) -> tuple[Observation, ...]:
    """Those whose limit is passed as in the last hour, so that only news is wanting, and whose alert does not stand."""
    fired = {held.key for held in states.held if held.fired_at is not None}
    return tuple(
        seen
        for seen in observations
        if seen.passed and seen.truth is Truth.NO and key_of(seen.alert, seen.target, seen.labels) not in fired
    )


def _step(
    was: Held | None, seen: Observation, now: float, rule: Rule, quiet: bool, hold_s: float, told: Told | None
) -> Held | None:  # fmt: skip
    if seen.truth is Truth.YES or _lasts(was, seen):
        return _true(was, seen, now)
    if told is not None and _is_back(seen, rule, told):
        return _true(was, seen._replace(half_way=told.half_way), now)
    if was is None:
        return None
    if seen.truth is Truth.UNKNOWN:
        return _unknown(was, now, answered=seen.answered, quiet=quiet, hold_s=hold_s)
    if was.fired_at is not None and now - was.true_at < rule.keep_firing_for_s:
        return was.model_copy(update={"known_at": now})
    return None


def _lasts(was: Held | None, seen: Observation) -> bool:
    """No news any more, and still as bad as when it was."""
    if was is None or was.fired_at is None:
        return False
    still = was.half_way is not None and seen.value is not None and seen.value >= was.half_way
    return seen.lasting or (seen.passed and still)


def _is_back(seen: Observation, rule: Rule, told: Told) -> bool:
    """As bad as what was news before it happened the first time."""
    number = max((term.number for term in rule.terms if term.signal.endswith(NEWS)), default=1.0)
    return seen.passed and seen.value is not None and seen.value >= told.half_way * math.sqrt(number)


def _over(was: Held, half_way: float, now: float) -> Told:
    return Told(alert=was.alert, target=was.target, labels=was.labels, half_way=half_way, over_at=now)


def _true(was: Held | None, seen: Observation, now: float) -> Held:
    since = now if was is None else was.since
    fired_at = None if was is None else was.fired_at
    wait = max(seen.for_s, VANISHED_FOR_S) if seen.vanished else seen.for_s
    half_way = None if was is None else was.half_way
    if fired_at is None and now - since >= wait:
        fired_at, half_way = now, seen.half_way
    return Held(
        alert=seen.alert,
        target=seen.target,
        labels=seen.labels,
        since=since,
        fired_at=fired_at,
        true_at=now,
        known_at=now,
        value=seen.value,
        threshold=seen.threshold,
        half_way=half_way,
        vanished=seen.vanished,
    )


def _unknown(was: Held, now: float, *, answered: bool, quiet: bool, hold_s: float) -> Held | None:
    if was.fired_at is None:
        return was if now - was.true_at <= PENDING_HOLDS_S else None
    if not answered:
        return was.model_copy(update={"known_at": now})
    if quiet or now - was.known_at > hold_s:
        return None
    return was


def fitted(states: States, now: float) -> States:
    """The states as if the time nobody watched had not passed: after a restart, a suspend, a clock set back."""
    if states.at is None:
        return states
    gap = now - states.at
    if 0 <= gap <= GAP_S:
        return states
    held = []
    told = states.told if gap > 0 else tuple(t.model_copy(update={"over_at": t.over_at + gap}) for t in states.told)
    for was in states.held:
        if gap < 0:
            moved = {"since": was.since + gap, "true_at": was.true_at + gap, "known_at": was.known_at + gap}
            if was.fired_at is not None:
                moved["fired_at"] = was.fired_at + gap
            held.append(was.model_copy(update=moved))
        elif was.fired_at is not None:
            held.append(was.model_copy(update={"true_at": was.true_at + gap, "known_at": was.known_at + gap}))
        elif gap <= OUTAGE_S:
            moved = {"since": was.since + gap, "true_at": was.true_at + gap, "known_at": was.known_at + gap}
            held.append(was.model_copy(update=moved))
    return states.model_copy(update={"held": tuple(held), "told": told})


def _symptom(held: Held, rule: Rule) -> Symptom:
    assert held.fired_at is not None
    if held.vanished:
        words = "Prometheus no longer knows the server: it has left service discovery"
    else:
        signal = rule.terms[0].signal if rule.terms else ""
        words = summary(rule.summary, signal, held.value, held.threshold, held.labels)
    return Symptom(
        alert=held.alert,
        incident_class=rule.incident_class,
        severity=rule.severity,
        target=held.target,
        labels=held.labels,
        since=held.since,
        fired_at=held.fired_at,
        value=held.value,
        threshold=held.threshold,
        unit=rule.unit,
        summary=words,
    )
