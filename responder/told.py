"""What have others told us, however late, often and out of order? Episodes of alerts: begun, over, or both unseen.

An episode is one alert of one target and the moment it says it began. What is over stays over when its beginning is
told again, late. What began and ended between two of our rounds is still shown to one round: it was acknowledged.
Of one target no more is kept apart than anybody can read; what is beyond that is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from responder.alertmanager import FOREVER_S, Intake
from responder.correlate import LOUDNESS
from responder.holding import key_of
from responder.model import Noun, Symptom

Key = tuple[str, ...]
MOST = 500
"""Alerts of one target, equally loud, that are kept apart, and episodes of one target that are known to be over. With
2,400 alerts for each of 25 servers the daemon came to 548 MB, and to seconds until it acknowledged one."""
BEYOND = "MoreAlerts"
"""The alert that stands for all others of its target; its value is how often one of them was told."""
COUNTED = "counted"
"""Its source. Somebody's own alert may have its name: it is no stand-in, and stays."""


class Over(Noun):
    """An episode that has ended."""

    key: Key
    since: float
    until: float
    at: float
    """When we were told."""


class Told(Noun):
    """Everything remembered of what others said; JSON-able."""

    symptoms: tuple[Symptom, ...] = ()
    """Firing. `fired_at` is when we first heard of it."""
    fresh: tuple[Key, ...] = ()
    """Those of them that no round has seen yet."""
    passing: tuple[Symptom, ...] = ()
    """Over before any round saw them."""
    over: tuple[Over, ...] = ()

    @property
    def shown(self) -> tuple[Symptom, ...]:
        """What a round is to see."""
        firing = {_key(s) for s in self.symptoms}
        return (*self.symptoms, *(s for s in self.passing if _key(s) not in firing))

    def only(self, stays: Callable[[str], bool]) -> Told:
        """What is remembered of some targets."""
        return Told(
            symptoms=tuple(s for s in self.symptoms if stays(s.target)),
            fresh=tuple(key for key in self.fresh if stays(key[1])),
            passing=tuple(s for s in self.passing if stays(s.target)),
            over=tuple(o for o in self.over if stays(o.key[1])),
        )

    def joined(self, other: Told) -> Told:
        """Both, of different targets, as one."""
        return Told(
            symptoms=self.symptoms + other.symptoms, fresh=self.fresh + other.fresh,
            passing=self.passing + other.passing, over=self.over + other.over,
        )  # fmt: skip

    def seen(self) -> Told:
        """After a round has seen it, and what came of it is on disk."""
        return self.model_copy(update={"fresh": (), "passing": ()}) if self.fresh or self.passing else self


def hear(told: Told, intakes: Iterable[Intake], now: float) -> Told:
    """What is known after these payloads, in the order they came."""
    firing = {_key(s): s for s in told.symptoms if now - s.fired_at <= FOREVER_S}
    loud = Counter((s.target, s.severity) for s in firing.values())
    over: dict[Key, list[Over]] = {}
    for item in told.over:
        if now - item.at <= FOREVER_S:
            over.setdefault(item.key, []).append(item)
    fresh, passing = set(told.fresh), list(told.passing)
    short = Counter(s.target for s in passing)
    for intake in intakes:
        for symptom in intake.firing:
            key = _key(symptom)
            known = firing.get(key)
            if _within(over, key, symptom.since) or (known and symptom.since < known.since):
                continue
            if known is None and loud[symptom.target, symptom.severity] >= MOST:
                key = key_of(BEYOND, symptom.target, {})
                known = firing.get(key)
                symptom = _beyond(symptom, known)
            if known is None:
                fresh.add(key)
                loud[symptom.target, symptom.severity] += 1
            first = known.fired_at if known else symptom.fired_at
            firing[key] = symptom.model_copy(update={"fired_at": first})
        for ended in intake.resolved:
            symptom, key = ended.symptom, _key(ended.symptom)
            if _within(over, key, symptom.since):
                continue
            over.setdefault(key, []).append(Over(key=key, since=symptom.since, until=ended.at, at=now))
            known = firing.get(key)
            if known is None:  # we have never heard of its beginning
                passed = symptom
            elif symptom.since < known.since:
                continue
            else:
                del firing[key]
                loud[symptom.target, known.severity] -= 1
                if key not in fresh:
                    continue
                passed = known
            if short[symptom.target] < MOST:
                short[symptom.target] += 1
                passing.append(passed)
    _less(firing)
    return Told(
        symptoms=tuple(firing.values()), fresh=tuple(sorted(fresh & set(firing))), passing=tuple(passing),
        over=_latest(over),
    )  # fmt: skip


def _beyond(symptom: Symptom, before: Symptom | None) -> Symptom:
    """What stands for an alert that is one too many: as loud as the loudest of them."""
    says = f"more than {MOST} different alerts of this server at once: the others are counted, not listed"
    one, was = symptom.severity, (before.value or 0.0) if before else 0.0
    loudest = max(one, before.severity if before else one, key=LOUDNESS.index)
    return symptom.model_copy(update={"alert": BEYOND, "labels": {}, "summary": says, "unit": "", "value": was + 1,
                                      "threshold": None, "severity": loudest, "source": COUNTED})  # fmt: skip


def _less(firing: dict[Key, Symptom]) -> None:
    """Where there is room again, nothing stands for others any more: they are told again while they fire."""
    kept = Counter(symptom.target for symptom in firing.values())
    for target in [s.target for s in firing.values() if s.source == COUNTED]:
        if kept[target] <= MOST:
            del firing[key_of(BEYOND, target, {})]


def _latest(over: dict[Key, list[Over]]) -> tuple[Over, ...]:
    """The latest of each target."""
    kept, of = [], Counter[str]()
    for item in sorted((item for items in over.values() for item in items), key=lambda item: item.at, reverse=True):
        of[item.key[1]] += 1
        if of[item.key[1]] <= MOST:
            kept.append(item)
    return tuple(reversed(kept))


def _within(over: dict[Key, list[Over]], key: Key, since: float) -> bool:
    """Whether an episode that began then is one that is over: two tellers may differ a little about when it began."""
    return any(item.since <= since <= item.until for item in over.get(key, ()))


def _key(symptom: Symptom) -> Key:
    return key_of(symptom.alert, symptom.target, symptom.labels)
