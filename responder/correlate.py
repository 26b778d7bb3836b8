"""New, same, worse, or over? Symptoms of one target -> at most one open incident, and the reason for every change.

Flapping is one incident: it is resolved only after a while without symptoms, and soon afterwards it is opened again
rather than anew. A restart somebody wanted is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Literal, NamedTuple

from responder.classes import PRECEDENCE
from responder.holding import key_of
from responder.kept import shortened
from responder.model import Change, Incident, Noun, Severity, Silence, Symptom, Target, TimelineEntry

MOST_SYMPTOMS = 1000
"""Of one incident; only what is louder than all of them is added then."""
MORE = f"more than {MOST_SYMPTOMS} different symptoms: further ones are not listed"
LOUDNESS = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)
RESTART_ALERTS = frozenset(
    {"VLLMTargetDown", "VLLMRestarted", "VLLMConnectionRefused", "VLLMProcessGone", "VLLMUnhealthy"}
)
"""What a replica shows that is being replaced."""
LOG_ENDED = frozenset({"VLLMLogSilent", "VLLMLogThroughput", "VLLMLogQueue"})
"""What the end of its log looks like: the last stats line goes on standing there. Of a server that stopped on request
it proves nothing."""
DOWN_ALERT = "VLLMTargetDown"
DOWN_AGAIN = "down again"
ENDS_TOLD = 3
"""A server that comes back and goes again is looked at again, until the third time: then it is proven."""
ASLEEP_ALERT = "VLLMSleeping"
SLEEP_LOOKS_LIKE = frozenset(
    {"VLLMNoProgress", "VLLMNoProgressCanary", "VLLMNoProgressLoad", "VLLMNoProgressConnections"}
)
"""A sleeping engine looks exactly like a hung one, except that it says so."""
SLUG_LENGTH = 48


class Policy(Noun):
    """How patient correlation is, seconds."""

    hold_down_s: float = 30.0
    """Without symptoms for this long: resolved."""
    reopen_s: float = 600.0
    """Back within this time after being resolved: the same incident."""
    restart_grace_s: float = 180.0
    """How long a replica may take to be replaced."""
    restarts_excused: int = 2
    """In an hour; the next one is a crash loop, whoever restarts it."""


PATIENCE = Policy()
LOOP_S = 3600.0


class Memory(Noun):
    """What correlation remembers between rounds; JSON-able."""

    calm_since: dict[str, float] = {}
    """Incident id -> first round without symptoms."""
    stopping_since: dict[str, float] = {}
    """Target -> when its server was last seen to stop on request."""
    excused: dict[str, tuple[float, ...]] = {}
    """Target -> when the restarts began that were taken for wanted ones."""

    def joined(self, other: Memory) -> Memory:
        """Both as one."""
        return Memory(calm_since={**self.calm_since, **other.calm_since}, excused={**self.excused, **other.excused},
                      stopping_since={**self.stopping_since, **other.stopping_since})  # fmt: skip

    def only(self, stays: Callable[[str], bool], targets: Mapping[str, str]) -> Memory:
        """What is remembered of some targets; `targets`: incident id -> target."""
        return Memory(
            calm_since={i: at for i, at in self.calm_since.items() if i in targets and stays(targets[i])},
            stopping_since={t: at for t, at in self.stopping_since.items() if stays(t)},
            excused={t: at for t, at in self.excused.items() if stays(t)},
        )


class Decision(NamedTuple):
    """One incident and why it is mentioned in this round."""

    change: Change
    incident: Incident
    reason: str


def correlate(
    symptoms: Iterable[Symptom],
    incidents: Iterable[Incident],
    memory: Memory,
    now: float,
    *,
    targets: Sequence[Target],
    silences: Iterable[Silence] = (),
    healthy: Collection[str] = (),
    stopping: Collection[str] = (),
    policy: Policy = PATIENCE,
) -> tuple[tuple[Decision, ...], Memory]:
    """One decision per open incident and per incident that opens.

    incidents: the open ones, and those resolved within `policy.reopen_s`. healthy: targets known to be up and
    answering. stopping: targets whose server logged a shutdown on request.
    """
    # What is remembered of a later moment than now was seen before the clock was set back.
    stops = {t: min(at, now) for t, at in memory.stopping_since.items() if now - at <= policy.restart_grace_s}
    stops.update({t: now for t in stopping})
    incidents = tuple(incidents)
    latest, taken = _latest(incidents), {incident.id for incident in incidents}
    by_target: dict[str, list[Symptom]] = {target.name: [] for target in targets}
    for symptom in symptoms:
        if symptom.target in by_target:
            by_target[symptom.target].append(symptom)
    sound = {name for name in healthy if not _loud(by_target.get(name, ()))}
    muted = [silence for silence in silences if silence.starts_at <= now < silence.ends_at]
    decisions: list[Decision] = []
    calm: dict[str, float] = {}
    excused = {t: kept for t, began in memory.excused.items() if (kept := _recent(began, now))}
    for target in targets:
        mine = by_target[target.name]
        heard = [s for s in mine if not any(is_silenced(s, silence, target) for silence in muted)]
        known = latest.get(target.name)
        if known is not None and known.state == "open":
            since = None if _loud(mine) else min(memory.calm_since.get(known.id, now), now)
            if since is not None:
                calm[known.id] = since
            decisions.append(_continue(known, heard, since, now, policy))
        else:
            restart = _wanted_restart(target, targets, sound, stops, heard, now, policy)
            if restart:
                excused[target.name] = _excuse(excused.get(target.name, ()), heard, policy)
                restart = len(excused[target.name]) <= policy.restarts_excused
            opens = [] if restart or _asleep(heard) else heard
            if _loud(opens):
                begun = _begin(known, opens, now, policy, taken)
                taken.add(begun.incident.id)
                decisions.append(begun)
    return tuple(decisions), Memory(calm_since=calm, stopping_since=stops, excused=excused)


def is_silenced(symptom: Symptom, silence: Silence, target: Target) -> bool:
    """Every matcher (a regular expression, anchored at both ends) fits; what is no regular expression fits nothing."""
    labels = {
        **target.labels,
        **target.match,
        **symptom.labels,
        "target": symptom.target,
        "model": target.model or symptom.labels.get("model_name", ""),
        "alert": symptom.alert,
        "class": symptom.incident_class,
        "severity": symptom.severity.value,
    }
    try:
        return bool(silence.match) and all(
            re.fullmatch(pattern, labels.get(name, "")) is not None for name, pattern in silence.match.items()
        )
    except re.error:
        return False


def class_of(symptoms: Iterable[Symptom]) -> str:
    """The class of an incident with these symptoms; information alone names no class if there is anything louder."""
    known = list(symptoms)
    classes = {s.incident_class for s in known if s.severity is not Severity.INFO} or {s.incident_class for s in known}
    return next((name for name in PRECEDENCE if name in classes), min(classes))


def severity_of(symptoms: Iterable[Symptom]) -> Severity:
    """The loudest."""
    return max((s.severity for s in symptoms), key=LOUDNESS.index)


def incident_id(target: str, at: float, taken: Collection[str] = ()) -> str:
    """`<UTC yyyymmdd-hhmmss>-<target>`; two targets that read alike in the same second get a number."""
    slug = re.sub(r"[^a-z0-9]+", "-", target.lower()).strip("-")[:SLUG_LENGTH].rstrip("-") or "target"
    base = f"{datetime.fromtimestamp(at, UTC):%Y%m%d-%H%M%S}-{slug}"
    return next(name for name in chain((base,), (f"{base}-{n}" for n in range(2, 10_000))) if name not in taken)


def _latest(incidents: Iterable[Incident]) -> dict[str, Incident]:
    """Per target the open incident, else the one resolved last."""
    ordered = sorted(incidents, key=lambda i: (i.state == "open", i.opened_at))
    return {incident.target: incident for incident in ordered}


def _loud(symptoms: Iterable[Symptom]) -> bool:
    return any(s.severity is not Severity.INFO for s in symptoms)


def _asleep(symptoms: Sequence[Symptom]) -> bool:
    """All that is wrong is what a sleeping engine looks like."""
    loud = {s.alert for s in symptoms if s.severity is not Severity.INFO}
    return any(s.alert == ASLEEP_ALERT for s in symptoms) and loud <= SLEEP_LOOKS_LIKE


def _wanted_restart(
    target: Target, targets: Sequence[Target], sound: Collection[str], stops: Mapping[str, float],
    symptoms: Sequence[Symptom], now: float, policy: Policy,
) -> bool:  # fmt: skip
    """Down or restarted, nothing else, not for long, and either its log says so or all its siblings serve."""
    loud = [s for s in symptoms if s.severity is not Severity.INFO]
    said = {s.alert for s in loud} - (LOG_ENDED if target.name in stops else frozenset())
    if not said or not said <= RESTART_ALERTS:
        return False
    if now - min(s.fired_at for s in loud) > policy.restart_grace_s:
        return False
    siblings = [t.name for t in targets if t.model and t.model == target.model and t.name != target.name]
    return target.name in stops or (bool(siblings) and all(name in sound for name in siblings))


def _recent(began: Iterable[float], now: float) -> tuple[float, ...]:
    return tuple(at for at in began if now - at <= LOOP_S)


def _excuse(began: tuple[float, ...], symptoms: Sequence[Symptom], policy: Policy) -> tuple[float, ...]:
    """Going down and coming back are one restart."""
    at = min(s.fired_at for s in symptoms)
    return began if began and at - began[-1] <= policy.restart_grace_s else (*began, at)


def _begin(
    last: Incident | None, symptoms: list[Symptom], now: float, policy: Policy, taken: Collection[str]
) -> Decision:
    """A new incident, or the one that was resolved a moment ago."""
    words = _words(symptoms)
    if last is not None and last.resolved_at is not None and _same_trouble(last, symptoms, now, policy):
        reopened = last.model_copy(update={"state": "open", "resolved_at": None})
        merged = _merged(reopened, symptoms, now)
        return Decision(Change.GREW, _noted(merged, now, "grew", f"came back: {words}"), "came back")
    incident = Incident(
        id=incident_id(symptoms[0].target, now, taken),
        target=symptoms[0].target,
        incident_class=class_of(symptoms),
        severity=severity_of(symptoms),
        onset_at=min(now, *(s.since for s in symptoms)),
        opened_at=now,
    )
    return Decision(Change.OPENED, _noted(_merged(incident, symptoms, now), now, "opened", f"opened: {words}"), "new")


def _same_trouble(last: Incident, symptoms: Sequence[Symptom], now: float, policy: Policy) -> bool:
    """Back soon, with an alert or a class it had before: a hang after a traffic jam is another incident."""
    if last.resolved_at is None or now - last.resolved_at > policy.reopen_s:
        return False
    had = {s.alert for s in last.symptoms} | {s.incident_class for s in last.symptoms}
    loud = [s for s in symptoms if s.severity is not Severity.INFO]
    return class_of(loud) == last.incident_class or all({s.alert, s.incident_class} & had for s in loud)


def _continue(known: Incident, heard: list[Symptom], calm_since: float | None, now: float, policy: Policy) -> Decision:
    """The same, worse, or over."""
    if calm_since is not None and now - calm_since >= policy.hold_down_s:
        over = known.model_copy(update={"state": "resolved", "resolved_at": now})
        says = f"no symptom for {now - calm_since:.0f} s"
        return Decision(Change.RESOLVED, _noted(over, now, "resolved", says), says)
    merged = _merged(known, heard, now)
    news = worse(known, merged) or _down_again(known, heard)
    if news:
        return Decision(Change.GREW, _noted(merged, now, "grew", news), news)
    return Decision(Change.UNCHANGED, merged, "calm" if calm_since is not None else "same symptoms")


def worse(before: Incident, after: Incident) -> str:
    """In words, what is new; empty when nothing is."""
    news = []
    known = {s.alert for s in before.symptoms}
    new = sorted({s.alert for s in after.symptoms if s.severity is not Severity.INFO} - known)
    if new:
        news.append(f"also {', '.join(new)}")
    if after.incident_class != before.incident_class:
        news.append(f"class {before.incident_class} → {after.incident_class}")
    if after.severity is not before.severity:
        news.append(f"severity {before.severity.value} → {after.severity.value}")
    return "; ".join(news)


def _down_again(known: Incident, heard: Iterable[Symptom]) -> str:
    """Whether the server answered and is down once more, since anything was told of it; empty when not."""
    told = [entry for entry in known.timeline if entry.kind in ("opened", "grew")]
    latest = max((entry.at for entry in told), default=known.opened_at)
    had = any(s.alert == DOWN_ALERT for s in known.symptoms)
    again = any(s.alert == DOWN_ALERT and s.fired_at > latest for s in heard)
    often = sum(entry.says == DOWN_AGAIN for entry in told) >= ENDS_TOLD - 1
    return DOWN_AGAIN if had and again and not often else ""


def _merged(incident: Incident, symptoms: Iterable[Symptom], now: float) -> Incident:
    """The incident with these symptoms: those it had keep their place and first time, and take the latest value."""
    merged = {key_of(s.alert, s.target, s.labels): s for s in incident.symptoms}
    timeline = list(incident.timeline)
    for symptom in symptoms:
        key = key_of(symptom.alert, symptom.target, symptom.labels)
        was = merged.get(key)
        if was is None and len(merged) >= MOST_SYMPTOMS and not _louder(symptom, merged.values()):
            if all(entry.says != MORE for entry in timeline):
                timeline.append(TimelineEntry(at=now, kind="note", says=MORE))
        elif was is None:
            at = min(symptom.fired_at, now)
            timeline.append(TimelineEntry(at=at, kind="symptom", says=symptom.summary or symptom.alert))
            merged[key] = symptom
        else:
            first = {"since": min(was.since, symptom.since), "fired_at": min(was.fired_at, symptom.fired_at)}
            merged[key] = symptom.model_copy(update=first)
    if not merged:
        return incident
    return incident.model_copy(
        update={
            "symptoms": tuple(merged.values()),
            "timeline": tuple(timeline),
            "incident_class": class_of(merged.values()),
            "severity": severity_of(merged.values()),
        }
    )


def _louder(symptom: Symptom, others: Iterable[Symptom]) -> bool:
    return LOUDNESS.index(symptom.severity) > LOUDNESS.index(severity_of(others))


def _noted(incident: Incident, at: float, kind: Literal["opened", "grew", "resolved"], says: str) -> Incident:
    entry = TimelineEntry(at=at, kind=kind, says=says)
    return incident.model_copy(update={"timeline": shortened((*incident.timeline, entry))})


def _words(symptoms: Iterable[Symptom]) -> str:
    return ", ".join(sorted({s.alert for s in symptoms}))
