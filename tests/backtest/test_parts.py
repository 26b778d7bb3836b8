"""The pure parts of a backtest: times, servers of a history, where to look, what it adds up to."""

from __future__ import annotations

from typing import Any

import pytest

from responder.backtest.alerts import Episode, episodes, overlap
from responder.backtest.find import beside, choose, find, scraped
from responder.backtest.scan import Question, Stretch, merged, questions, stretches
from responder.backtest.tally import Price, Verdict, summary
from responder.backtest.times import moment
from responder.model import Comparison, Expectation, Incident, Rule, Severity, Target
from responder.window import host_of

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("now", NOW),
        ("7d", NOW - 7 * 86400),
        ("now-90m", NOW - 5400),
        ("1h30m", NOW - 5400),
        ("1795168469.5", 1795168469.5),
        ("2026-11-20T10:05:00Z", 1795169100.0),
        ("2026-11-20T12:05:00+02:00", 1795169100.0),
        ("2026-11-20 10:05", 1795169100.0),
    ],
)
def test_a_moment_may_be_written_in_every_usual_way(text: str, at: float) -> None:
    """RFC 3339, unix seconds, how long ago."""
    assert moment(text, NOW) == pytest.approx(at)


@pytest.mark.parametrize("text", ["yesterday", "7 days", "", "2026-13-01", "5"])
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    """In words."""
    with pytest.raises(ValueError, match="2026-11-20T10:05:00Z"):
        moment(text, NOW)


def row(*moments: float, **labels: str) -> tuple[dict[str, str], list[float]]:
    return labels, list(moments)


def test_servers_are_told_apart_by_as_few_labels_as_it_takes() -> None:
    """instance alone where that is enough; several models and engines are one server; jobs where a port is missing."""
    plain = find([
        row(1, instance="a:8000", job="vllm", model_name="m", engine="0"),
        row(1, instance="a:8000", job="vllm", model_name="m", engine="1"),
        row(1, instance="a:8000", job="vllm", model_name="lora", engine="0"),
        row(1, instance="b:8000", job="vllm", model_name="m", engine="0"),
    ])  # fmt: skip
    assert [(t.name, t.match, t.url, t.model) for t in plain] == [
        ("a:8000", {"instance": "a:8000"}, "http://a:8000", None),
        ("b:8000", {"instance": "b:8000"}, "http://b:8000", "m"),
    ]
    bare = find([row(1, 2, instance="gpu-1", job="one", engine="0"), row(2, instance="gpu-1", job="two", engine="0")])
    assert [t.match for t in bare] == [{"instance": "gpu-1", "job": "one"}, {"instance": "gpu-1", "job": "two"}]
    assert bare[0].url == ""
    twice = find([row(1, instance="a:8000", job="one", engine="0"), row(1, instance="a:8000", job="two", engine="0")])
    assert [t.match for t in twice] == [{"instance": "a:8000"}]
    after = find([row(1, instance="gpu-1", job="old", engine="0"), row(2, instance="gpu-1", job="new", engine="0")])
    assert [t.match for t in after] == [{"instance": "gpu-1"}]
    pods = find([row(1, pod="p-1", cluster="x"), row(1, pod="p-2", cluster="x")])
    assert [t.match for t in pods] == [{"pod": "p-1"}, {"pod": "p-2"}]
    odd = find([row(1, server="s1"), row(1, server="s2")])
    assert [t.match for t in odd] == [{"server": "s1"}, {"server": "s2"}]


def test_failed_scrapes_tell_the_interval_too() -> None:
    """By the labels that `up` has; a server nobody scrapes by itself has none."""
    labels = {"__name__": "vllm:num_requests_running", "instance": "a:8000", "job": 'v"', "model_name": "m"}
    assert scraped(labels) == 'timestamp(up{instance="a:8000",job="v\\""})'
    assert scraped({"pod": "a", "job": "push"}) == ""


@pytest.mark.parametrize(
    ("rows", "matches"),
    [
        (  # a pair of scrapers in a store that keeps what both say
            [row(1, 2, instance="a:8000", prometheus_replica=r, engine="0") for r in ("p-0", "p-1")],
            [{"instance": "a:8000"}],
        ),
        (  # the same address in two clusters
            [row(1, 2, instance="10.0.0.1:8000", job="vllm", cluster=c, engine="0") for c in ("eu", "us")],
            [{"cluster": "eu", "instance": "10.0.0.1:8000"}, {"cluster": "us", "instance": "10.0.0.1:8000"}],
        ),
        (  # pushed: everything comes from the collector's address
            [row(1, 2, instance="otel:8889", job="otel", exported_instance=f"gpu-{n}:8000") for n in (1, 2)],
            [{"exported_instance": "gpu-1:8000"}, {"exported_instance": "gpu-2:8000"}],
        ),
        (  # pushed without any address
            [row(1, 2, service_name="vllm", service_instance_id=f"s-{n}", env="prod") for n in (1, 2)],
            [{"service_instance_id": "s-1"}, {"service_instance_id": "s-2"}],
        ),
        (  # labels nobody has heard of: as few as it takes
            [row(1, 2, rack="r1", slot=slot, owner="me", room="x") for slot in ("1", "2")],
            [{"slot": "1"}, {"slot": "2"}],
        ),
        ([row(1, 2, service_name="vllm", host_name="h-1", env="prod")], [{"host_name": "h-1"}]),
    ],
    ids=["pair", "clusters", "collector", "pushed", "odd", "alone"],
)  # fmt: skip
def test_servers_are_told_apart_in_anybodys_labels(rows: list[Any], matches: list[dict[str, str]]) -> None:
    """Never two of one, never one of two."""
    assert [target.match for target in find(rows)] == matches


def test_who_is_not_judged_may_still_be_somebodys_sibling() -> None:
    """Asked for one replica, all the others of the history are compared with, and the one itself stands once."""
    found = find([row(1, instance=f"gpu-{n}:8000") for n in (1, 2, 3)])
    asked = choose(found, ["http://gpu-2:8000"])
    assert [one.name for one in asked] == ["gpu-2:8000"]
    assert [one.name for one in beside(asked, found)] == ["gpu-2:8000", "gpu-1:8000", "gpu-3:8000"]


def test_an_operator_may_name_a_server_in_many_ways() -> None:
    """By URL, name, host or label value; what is not there is said with what is."""
    found = find([row(1, instance="gpu-1", pod="p-1"), row(1, instance="gpu-2:8000", pod="p-2")])
    for text in ("gpu-1", "http://gpu-1:8000", "gpu-1:8000"):
        assert [t.name for t in choose(found, [text])] == ["gpu-1"]
    assert [t.name for t in choose(found, ["http://gpu-2:8000/"])] == ["gpu-2:8000"]
    with pytest.raises(ValueError, match="holds gpu-1, gpu-2:8000"):
        choose(found, ["http://gpu-9:8000"])
    both = find([row(1, instance="h:1", engine="0"), row(1, instance="h:2", engine="0")])
    with pytest.raises(ValueError, match="h:1, h:2"):
        choose(both, ["http://h:3"])
    own = Target(name="mine", url="http://gpu-1:8000", match={"instance": "gpu-1:8000"}, thresholds={"A": 3.0})
    (lent,) = choose(found, [], [own])
    assert lent.match == {"instance": "gpu-1"}
    assert lent.thresholds == {"A": 3.0}
    assert host_of("[::1]:8000") == "::1"


def rule(alert: str = "A", for_s: float = 30.0, *terms: Comparison, expr: str = "signal:waiting > 5") -> Rule:
    return Rule(alert=alert, incident_class="high_ttft", severity=Severity.WARNING, expr=expr, terms=terms, for_s=for_s)


def test_a_rule_is_asked_about_as_often_as_its_patience_needs() -> None:
    """Half its `for`, between the scrape interval and 15 s; information alone is not asked about."""
    term = Comparison(signal="waiting", op=">", number=5)
    slow = rule("A", 33.0, term)
    fast = rule("B", 0.0, term)
    info = fast.model_copy(update={"severity": Severity.INFO})
    target = Target(name="t", url="http://t:1", match={"instance": "t:1"}, thresholds={"A": 2.5, "B.for": 60})
    asked = questions([slow, fast, info], {"waiting": "vllm:num_requests_waiting"}, [target], 1.0)
    assert [(q.alert, q.step) for q in asked] == [("A", 15.0), ("B", 1.0)]
    assert asked[0].expr == "(vllm:num_requests_waiting) > 2.5"
    assert [q.step for q in questions([slow, fast], {}, [target], 30.0)] == [15.0, 15.0]
    minutes = rule("C", 180.0, term)
    assert [q.step for q in questions([minutes], {}, [target], 5.0)] == [45.0]


def test_a_rule_on_what_is_expected_is_asked_about_only_where_somebody_expects_something() -> None:
    """Of such a rule, the rest is asked."""
    share = Comparison(signal="generation_share", op="<", number=0.5)
    busy = Comparison(signal="engine_busy", op="<", number=0.5)
    low = rule("L", 60.0, share, busy, expr="signal:generation_share < 0.5 and on (instance) signal:engine_busy < 0.5")
    target = Target(name="t", url="http://t:1")
    assert questions([low], {"engine_busy": "x"}, [target], 5.0) == []
    expecting = target.model_copy(update={"expect": Expectation(requests_per_second=3.0)})
    assert questions([low], {"engine_busy": "x"}, [expecting], 5.0)[0].expr == "(x) < 0.5"


def test_only_what_may_have_held_long_enough_is_walked() -> None:
    """Hits that are close to each other are one stretch; one that is too short for the rule is none."""
    question = Question("A", "x", 15.0, 60.0)
    assert stretches(question, "t", [0, 15], 2.0) == []
    assert stretches(question, "t", [0, 15, 45, 60], 2.0) == [Stretch("t", -17.0, 77.0)]
    assert stretches(Question("B", "x", 5.0, 0.0), "t", [100.0], 2.0) == [Stretch("t", 93.0, 107.0)]
    assert merged([Stretch("t", 0, 10), Stretch("u", 5, 6), Stretch("t", 9, 20)]) == [
        Stretch("t", 0, 20), Stretch("u", 5, 6),
    ]  # fmt: skip


def incident(name: str, opened: float, resolved: float | None = None) -> Incident:
    return Incident(
        id=name, target="t", incident_class="high_ttft", severity=Severity.WARNING, onset_at=opened - 30,
        opened_at=opened, resolved_at=resolved, state="open" if resolved is None else "resolved",
    )  # fmt: skip


def test_existing_alerts_are_laid_beside_our_incidents() -> None:
    """Lead time, what only we saw, what only they saw; the GPU exporter of the same host counts as the server."""
    targets = [Target(name="t", url="http://t:8000", match={"instance": "t:8000"})]
    rows = [
        ({"alertname": "Queue", "instance": "t:8000"}, [(NOW + at, 1.0) for at in (60, 75, 90)]),
        ({"alertname": "Hot", "instance": "t:9400"}, [(NOW + 5000, 1.0)]),
        ({"alertname": "Disk", "instance": "elsewhere:9100"}, [(NOW + 60, 1.0), (NOW + 600, 1.0)]),
    ]
    found = episodes(rows, targets, 15.0)
    assert [(e.alert, e.target, e.since - NOW, e.until - NOW) for e in found] == [
        ("Disk", "", 60, 60), ("Queue", "t", 60, 90), ("Disk", "", 600, 600), ("Hot", "t", 5000, 5000),
    ]  # fmt: skip
    told = overlap([incident("i", NOW, NOW + 100), incident("j", NOW + 9000)], [e for e in found if e.alert != "Disk"])
    assert told["also_alerted"]["i"][0]["lead_s"] == 60.0
    assert told["only_ours"] == ["j"]
    assert [one["alert"] for one in told["only_theirs"]] == ["Hot"]
    assert overlap([], [Episode(alert="A", target="t", since=1.0, until=2.0)])["only_theirs"][0]["alert"] == "A"


def test_noise_is_counted_against_the_time_servers_were_there() -> None:
    """Not against the length of the history."""
    total = summary(
        [incident("i", NOW, NOW + 5)], {"i": Verdict("capacity_exceeded", "confirmed", 0.99)},
        {"i": [Price("stacks", 1, 10.0, 0.05, 100), Price("canary", 1, 8.0, 0.0, 10)]}, {"t": 43200.0, "u": 43200.0},
    )  # fmt: skip
    assert total["incidents_per_target_day"] == 1.0
    assert total["by_target"]["t"]["per_day"] == 2.0
    assert total["by_cause"] == {"capacity_exceeded": 1}
    assert total["captures"]["pause_seconds_at_most"] == 0.05
    assert total["captures"]["by_step"]["canary"]["runs"] == 1
