"""What in a valid configuration cannot have been meant? `responder check` refuses it; a daemon only warns and starts.

A daemon that has run with it for a year must come up again after an update, however wrong a silence in it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from responder.classes import PRECEDENCE
from responder.config import Config
from responder.located import Path, did_you_mean
from responder.model import Problem, Severity
from responder.routes import FIELDS

SHORTEST_AGE_S = 3600.0
"""An incident folder kept for less is gone before anybody has read the report."""


def doubts(config: Config, alerts: Collection[str]) -> tuple[Problem, ...]:
    """Everything of the kind, with its place. `alerts` are the names of all alerts in force."""
    return (*_twice(config), *_silences(config), *_matchers(config, alerts), *_retention(config))


def _twice(config: Config) -> Iterator[Problem]:
    """One server watched twice, or one server's alerts for two."""
    urls: dict[str, int] = {}
    labels: dict[tuple[tuple[str, str], ...], int] = {}
    for number, target in enumerate(config.targets):
        if target.url in urls:
            what = f"targets.{number}.url: {target.url} is watched already, by targets.{urls[target.url]}"
            yield config.places.problem(("targets", number, "url"), what, "remove one of the two")
            continue
        match = target.match or {"instance": urlsplit(target.url).netloc}
        same = tuple(sorted(match.items()))
        if same in labels:
            shown = ", ".join(f"{name}={value}" for name, value in same)
            what = f"targets.{number}.match: {shown} matches the series of targets.{labels[same]}, too"
            instead = "an alert would be told of one of the two only; write labels that only this server's series have"
            yield config.places.problem(("targets", number, "match"), what, instead)
        urls[target.url] = number
        labels.setdefault(same, number)


def _silences(config: Config) -> Iterator[Problem]:
    for number, silence in enumerate(config.silences):
        at: Path = ("silences", number)
        where = f"silences.{number}"
        if silence.ends_at.timestamp() <= silence.starts_at.timestamp():
            what = f"{where}.ends_at: it ends before it starts, so it silences nothing"
            yield config.places.problem((*at, "ends_at"), what, "a time after `starts_at`")
        if not silence.match:
            yield config.places.problem((*at, "match"), f"{where}.match: matches nothing", "for example {target: chat}")
        for key, value in silence.match.items():
            if says := _not_a_pattern(value):
                what = f"{where}.match.{key}: {says}, so it silences nothing"
                yield config.places.problem((*at, "match", key), what, f"literally: {re.escape(value)}")


def _not_a_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        return f"{value!r} is not a regular expression: {error}"
    return ""


def _matchers(config: Config, alerts: Collection[str]) -> Iterator[Problem]:
    """Routes and silences that can never match: a misspelt field, or a value it never has."""
    targets = config.targets
    values: dict[str, list[str]] = {
        "severity": [severity.value for severity in Severity],
        "class": list(PRECEDENCE),
        "alert": sorted(alerts),
        "target": [t.name or urlsplit(t.url).netloc for t in targets],
    }
    labels = {name for target in targets for name in target.labels}
    more = {*labels, *(name for target in targets for name in target.match), "instance", "model_name"}
    for number, route in enumerate(config.routes):
        yield from _never(config, ("routes", number, "match"), route.match, values, {*FIELDS, *labels})
    for number, silence in enumerate(config.silences):
        known = {*FIELDS, *more}
        yield from _never(config, ("silences", number, "match"), silence.match, values, known, strict=False)


def _never(
    config: Config, at: Path, match: Mapping[str, str], values: Mapping[str, Iterable[str]], known: Collection[str],
    *, strict: bool = True,
) -> Iterator[Problem]:  # fmt: skip
    """strict: `known` are all fields there are. Silences also see the labels of alerts, which nobody can list."""
    where = ".".join(map(str, at))
    for key, value in match.items():
        near = did_you_mean(key, known)
        if key not in known and (strict or near):
            fields = f"there are {', '.join(FIELDS)}, and the labels of your targets"
            yield config.places.problem((*at, key), f"{where}: nothing is called `{key}`", near or fields, key=True)
        elif key in values and not _not_a_pattern(value) and not any(re.fullmatch(value, v) for v in values[key]):
            near = did_you_mean(value, values[key])
            there = ", ".join(values[key]) if key != "alert" else "`responder reference` lists the alerts"
            yield config.places.problem((*at, key), f"{where}.{key}: no {key} is ever {value!r}", near or there)


def _retention(config: Config) -> Iterator[Problem]:
    age = config.retention.age
    if age < SHORTEST_AGE_S:
        what = f"retention.age: keeps an incident for {age:g} seconds only"
        yield config.places.problem(("retention", "age"), what, f"with a unit: {age:g}d")
