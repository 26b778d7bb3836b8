"""What did somebody else's Prometheus tell us? Alertmanager's webhook payload (version 4) -> symptoms.

They carry the identity our own evaluation would give them, so both fold into one. Nothing in a payload raises: what
cannot be used comes back as a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from responder.classes import PRECEDENCE
from responder.evaluate import IDENTITY
from responder.holding import key_of
from responder.model import Noun, Rule, Severity, Symptom, Target

FOREVER_S = 12 * 3600.0
"""An alert nobody has repeated or resolved for this long is forgotten; Alertmanager repeats every 4 h by default."""
MAX_ALERTS = 1000
MAX_TEXT = 500


FOUND_LATE = "found late"
"""Source of a symptom, and receiver of a payload, that comes from Prometheus' memory (`missed.py`)."""


class Ended(Noun):
    """An alert that is over, and when it ended, as far as is known."""

    symptom: Symptom
    at: float


class Intake(Noun):
    """What one payload said."""

    firing: tuple[Symptom, ...] = ()
    resolved: tuple[Ended, ...] = ()
    refused: tuple[str, ...] = ()
    """Why an alert, or all of it, is of no use to us."""


class Names:
    """Targets by what an alert may call them: their own labels; else name or address in `target` or `instance`. The
    first of several wins. Made once for many alerts: a storm over a thousand targets must not try each on each."""

    def __init__(self, targets: Collection[Target]) -> None:
        self._by_match: dict[tuple[str, ...], dict[tuple[str, ...], tuple[int, Target]]] = {}
        self._by_name: dict[str, tuple[int, Target]] = {}
        for place, target in enumerate(targets):
            if target.match:
                names = tuple(sorted(target.match))
                values = tuple(target.match[name] for name in names)
                self._by_match.setdefault(names, {}).setdefault(values, (place, target))
            for word in (target.name, urlsplit(target.url).netloc):
                self._by_name.setdefault(word, (place, target))

    def find(self, labels: Mapping[str, str]) -> Target | None:
        """The target an alert with these labels is about."""
        found = [
            hit
            for names, by_values in self._by_match.items()
            if (hit := by_values.get(tuple(labels.get(name, "\0") for name in names))) is not None
        ]
        if not found:
            words = (labels.get("target"), labels.get("instance"))
            found = [hit for word in words if word is not None and (hit := self._by_name.get(word)) is not None]
        return min(found, key=lambda hit: hit[0])[1] if found else None


def from_alertmanager(
    payload: object, targets: Collection[Target] | Names, now: float, rules: Iterable[Rule] = ()
) -> Intake:  # fmt: skip
    """Read a payload. Class and severity come from the alert's labels, else from our rule of the same name."""
    targets = targets if isinstance(targets, Names) else Names(targets)
    if not isinstance(payload, dict) or not isinstance(payload.get("alerts"), list):
        return Intake(refused=("no Alertmanager payload: an object with a list `alerts` is expected",))
    if payload.get("version") not in ("4", 4):
        return Intake(refused=(f"payload version {payload.get('version')!r}: only version 4 is known",))
    book = {rule.alert: rule for rule in rules}
    firing: list[Symptom] = []
    resolved: list[Ended] = []
    source = FOUND_LATE if payload.get("receiver") == FOUND_LATE else "alertmanager"
    refused: list[str] = []
    for alert in payload["alerts"][:MAX_ALERTS]:
        got = _alert(alert, targets, now, book, source)
        if isinstance(got, str):
            refused.append(got)
        elif alert.get("status") == "resolved":
            resolved.append(Ended(symptom=got, at=max(got.since, min(_time(alert.get("endsAt")) or now, now))))
        else:
            firing.append(got)
    if len(payload["alerts"]) > MAX_ALERTS:
        refused.append(f"{len(payload['alerts']) - MAX_ALERTS} alerts beyond the first {MAX_ALERTS}")
    return Intake(firing=tuple(firing), resolved=tuple(resolved), refused=tuple(refused))


def split(payload: Any, targets: Collection[Target] | Names) -> dict[str, Any]:
    """The alerts of a payload by the name of their target, each part a payload of its own; '' is for those of none."""
    alerts = payload.get("alerts") if isinstance(payload, dict) else None
    if not isinstance(alerts, list):
        return {"": payload}
    known, parts = targets if isinstance(targets, Names) else Names(targets), dict[str, list[Any]]()
    for alert in alerts:
        labels = alert.get("labels") if isinstance(alert, dict) else None
        named = {str(k): str(v)[:MAX_TEXT] for k, v in labels.items()} if isinstance(labels, dict) else {}
        target = known.find(named)
        parts.setdefault(target.name if target else "", []).append(alert)
    return {name: {**payload, "alerts": some} for name, some in parts.items()} or {"": payload}


def fold(own: Iterable[Symptom], told: Iterable[Symptom]) -> tuple[Symptom, ...]:
    """Both as one: what we see ourselves counts, what we only heard of is added. Earliest first."""
    by_key = {key_of(s.alert, s.target, s.labels): s for s in told}
    for symptom in own:
        key = key_of(symptom.alert, symptom.target, symptom.labels)
        heard = by_key.get(key)
        since = min(symptom.since, heard.since) if heard else symptom.since
        by_key[key] = symptom.model_copy(update={"since": since})
    return tuple(sorted(by_key.values(), key=lambda s: (s.since, s.target, s.alert)))


def _alert(alert: Any, targets: Names, now: float, book: Mapping[str, Rule], source: str) -> Symptom | str:
    """The symptom, or why it cannot be one."""
    if not isinstance(alert, dict) or not isinstance(alert.get("labels"), dict):
        return "an alert without labels"
    labels = {_text(k): _text(v) for k, v in alert["labels"].items()}
    name = labels.get("alertname", "")
    if not name:
        return "an alert without alertname"
    if alert.get("status") not in ("firing", "resolved"):
        return f"{name}: status {alert.get('status')!r} is neither firing nor resolved"
    target = targets.find(labels)
    if target is None:
        return f"{name}: its labels match no configured target"
    rule = book.get(name)
    incident_class = labels.get("class") or (rule.incident_class if rule else "")
    if incident_class not in PRECEDENCE:
        return f"{name}: label `class` must be one of {', '.join(PRECEDENCE)}"
    said = alert.get("annotations")
    notes = {_text(k): _text(v) for k, v in said.items()} if isinstance(said, dict) else {}
    started = _time(alert.get("startsAt"))
    return Symptom(
        alert=name,
        incident_class=incident_class,
        severity=_severity(labels.get("severity", ""), rule),
        target=target.name,
        labels={label: labels[label] for label in IDENTITY if labels.get(label)},
        since=min(started, now) if started is not None else now,
        fired_at=now,
        unit=notes.get("unit", rule.unit if rule else ""),
        summary=notes.get("summary", "") or notes.get("description", "") or name,
        source=source,
    )


def _severity(label: str, rule: Rule | None) -> Severity:
    """`page` and `critical` wake people; what nobody knows is a warning."""
    known = {**{str(s): s for s in Severity}, "page": Severity.CRITICAL, "none": Severity.INFO}
    return known.get(label.lower(), rule.severity if rule else Severity.WARNING)


def _text(value: object) -> str:
    """Not too long, and none that JSON may carry and nobody can write down: half of a surrogate pair."""
    return str(value)[:MAX_TEXT].encode("utf-8", "replace").decode()


def _time(text: object) -> float | None:
    """RFC 3339 -> unix seconds; Go writes nanoseconds, and year 1 for 'not set'."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if parsed.tzinfo is None or parsed.year < 1971:
        return None
    return parsed.timestamp()
