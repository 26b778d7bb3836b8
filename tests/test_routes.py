"""Is exactly the right receiver told, at every hour, and nobody forgotten?"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from responder.config import parse
from responder.model import Severity, Target
from responder.routes import Hours, Route, receivers_for, within
from tests.flow import incident, symptom

KNOWN = ("chat", "pager", "mail")
TARGET = Target(name="t", url="http://t", labels={"team": "search"}, model="chat-70b")


def told(*routes: Route, now: float = 0.0, **update: object) -> tuple[str, ...]:
    return receivers_for(incident(**update), TARGET, routes, KNOWN, now)


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({"severity": "critical"}, False), ({"severity": "warning|critical"}, True), ({"class": "high_.*"}, True),
        ({"class": "high"}, False), ({"model": "chat-70b"}, True), ({"model": "tiny"}, False), ({"target": "t"}, True),
        ({"alert": "B"}, False), ({"team": "search"}, True), ({"team": "ads"}, False), ({"zone": ""}, True),
        ({"zone": ".+"}, False), ({"team": "search", "severity": "critical"}, False), ({}, True),
    ],
)  # fmt: skip
def test_matchers_are_anchored_and_all_must_hold(match: dict[str, str], fits: bool) -> None:
    """A label that is not there is an empty one, as for Alertmanager."""
    assert told(Route(match=match, receivers=("pager",))) == (("pager",) if fits else KNOWN)


def test_the_first_match_counts_and_continue_goes_on() -> None:
    """In the order written."""
    first = Route(receivers=("chat",), goes_on=True)
    second = Route(match={"severity": "warning"}, receivers=("pager", "chat"))
    third = Route(receivers=("mail",))
    assert told(first, second, third) == ("chat", "pager")
    assert told(first, third) == ("chat", "mail")
    assert told(second, first, third, severity=Severity.CRITICAL) == ("chat", "mail")


def test_any_alert_of_the_incident_may_match() -> None:
    """One of several symptoms."""
    route = Route(match={"alert": "B"}, receivers=("pager",))
    assert told(route, symptoms=(symptom("A"), symptom("B"))) == ("pager",)


def test_nobody_is_left_untold() -> None:
    """No route, no match, or only receivers that are gone: all are told."""
    assert told() == KNOWN
    assert told(Route(receivers=("gone",))) == KNOWN


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("when", "inside"),
    [
        ("2026-11-20T22:00", True), ("2026-11-20T21:59", False), ("2026-11-21T05:59", True),
        ("2026-11-21T06:00", False),
        ("2026-11-21T23:00", False), ("2026-11-22T02:00", False), ("2026-11-23T02:00", False),
    ],
)  # fmt: skip
def test_hours_over_midnight_belong_to_the_day_they_began(when: str, inside: bool) -> None:
    """Friday 22:00 to Saturday 06:00, by Berlin's clocks."""
    night = Hours(days=(4,), start=22 * 60, end=6 * 60, zone="Europe/Berlin")
    assert within(night, at(when, "Europe/Berlin")) is inside


def test_hours_follow_the_zones_summer_time() -> None:
    """08:00 in New York is 13:00 UTC in winter and 12:00 in summer."""
    morning = Hours(start=480, end=481, zone="America/New_York")
    assert within(morning, at("2026-01-15T13:00"))
    assert within(morning, at("2026-07-15T12:00"))
    assert not within(morning, at("2026-07-15T13:00"))


def nowhere(_: tuple[str | int, ...]) -> tuple[int, int]:
    return 0, 0


def test_a_route_as_an_operator_writes_it(tmp_path: Path) -> None:
    """from, to, continue; durations and names as in the documentation."""
    tree = {
        "receivers": {"pager": {"url": "http://x"}},
        "routes": [{"match": {"severity": "critical"}, "receivers": ["pager"], "continue": True,
                    "hours": [{"days": ["sat", "sun"], "from": "22:00", "to": "06:30", "zone": "Asia/Shanghai"}]}],
    }  # fmt: skip
    config, problems = parse(tree, "f", nowhere)
    assert problems == ()
    assert config is not None
    route = config.routes[0].route()
    assert route.hours == (Hours(days=(5, 6), start=1320, end=390, zone="Asia/Shanghai"),)
    assert route.goes_on


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ({"receivers": ["pagr"]}, "no receiver 'pagr'"),
        ({"receivers": []}, "must not be empty"),
        ({"receivers": ["pager"], "match": {"class": "("}}, "not a regular expression"),
        ({"receivers": ["pager"], "hours": [{"zone": "Mars/Olympus"}]}, "no time zone"),
        ({"receivers": ["pager"], "hours": [{"from": 1320}]}, "not a time of day"),
        ({"receivers": ["pager"], "hours": [{"from": "12:75"}]}, "not a time of day"),
        ({"receivers": ["pager"], "matches": {}}, "unknown key"),
    ],
)
def test_a_route_that_would_not_work_is_refused(route: dict[str, object], words: str) -> None:
    """In words, before the daemon starts."""
    config, problems = parse({"receivers": {"pager": {"url": "http://x"}}, "routes": [route]}, "f", nowhere)
    assert config is None
    assert words in problems[0].what
