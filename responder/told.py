"""What have others told us, however late, often and out of order? Episodes of alerts: begun, over, or both unseen.

An episode is one alert of one target and the moment it says it began. What is over stays over when its beginning is
told again, late. What began and ended between two of our rounds is still shown to one round: it was acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from responder.alertmanager import FOREVER_S, Intake
from responder.holding import key_of
from responder.model import Noun, Symptom

Key = tuple[str, ...]


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
    over: dict[Key, list[Over]] = {}
    for item in told.over:
        if now - item.at <= FOREVER_S:
            over.setdefault(item.key, []).append(item)
    fresh, passing = set(told.fresh), list(told.passing)
    for intake in intakes:
        for symptom in intake.firing:
            key = _key(symptom)
            known = firing.get(key)
            if _within(over, key, symptom.since) or (known and symptom.since < known.since):
                continue
            if known is None:
                fresh.add(key)
            first = known.fired_at if known else symptom.fired_at
            firing[key] = symptom.model_copy(update={"fired_at": first})
        for ended in intake.resolved:
            symptom, key = ended.symptom, _key(ended.symptom)
            if _within(over, key, symptom.since):
                continue
            over.setdefault(key, []).append(Over(key=key, since=symptom.since, until=ended.at, at=now))
            known = firing.get(key)
            if known is None:  # we have never heard of its beginning
                passing.append(symptom)
            elif symptom.since >= known.since:
                del firing[key]
                if key in fresh:
                    passing.append(known)
    return Told(
        symptoms=tuple(firing.values()), fresh=tuple(sorted(fresh & set(firing))), passing=tuple(passing),
        over=tuple(item for items in over.values() for item in items),
    )  # fmt: skip


def _within(over: dict[Key, list[Over]], key: Key, since: float) -> bool:
    """Whether an episode that began then is one that is over: two tellers may differ a little about when it began."""
    return any(item.since <= since <= item.until for item in over.get(key, ()))


def _key(symptom: Symptom) -> Key:
    return key_of(symptom.alert, symptom.target, symptom.labels)
