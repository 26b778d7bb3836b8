"""From answers to observations: three truth values, guards, joins, thresholds of one's own, vanished targets."""

from __future__ import annotations

import itertools

import pytest

from responder.evaluate import Observation, mute, observe, present, quiet
from responder.model import Expectation, Rule, Sample, Severity, Target, Truth
from responder.rules import parse_expr

A = Target(name="a", url="http://a:8000", match={"instance": "a:8000"})
B = Target(name="b", url="http://b:8000", match={"instance": "b:8000", "job": "v"})
YES, NO, UNKNOWN = Truth.YES, Truth.NO, Truth.UNKNOWN


def rule(expr: str, alert: str = "X", for_s: float = 0.0) -> Rule:
    return Rule(alert=alert, incident_class="high_ttft", severity=Severity.WARNING, expr=expr,
                terms=parse_expr(expr), for_s=for_s)  # fmt: skip


def sample(signal: str, value: float | None, at: float = 100.0, **labels: str) -> Sample:
    return Sample(signal=signal, labels={"instance": "a:8000", "job": "v", **labels}, value=value, at=at)


def answers(*samples: Sample, **more: tuple[Sample, ...] | None) -> dict[str, tuple[Sample, ...] | None]:
    out: dict[str, tuple[Sample, ...] | None] = {}
    for one in samples:
        out[one.signal] = (*(out.get(one.signal) or ()), one)
    return {**out, **more}


def only(*observations: Observation) -> Observation:
    assert len(observations) == 1
    return observations[0]


@pytest.mark.parametrize(
    ("a", "b", "guard", "truth"),
    [
        (3.0, 1.0, 20.0, YES),
        (1.0, 1.0, 20.0, NO),
        (3.0, 9.0, 20.0, NO),
        (None, 1.0, 20.0, UNKNOWN),
        (float("nan"), 1.0, 20.0, UNKNOWN),
        (None, 9.0, 20.0, NO),
        (3.0, 1.0, 3.0, UNKNOWN),
        (1.0, 1.0, 3.0, UNKNOWN),
        (3.0, 1.0, None, UNKNOWN),
        ("absent", 1.0, 20.0, UNKNOWN),
        (3.0, "absent", 20.0, UNKNOWN),
        (1.0, "absent", 20.0, NO),
        (3.0, 1.0, "absent", UNKNOWN),
        ("silent", 1.0, 20.0, UNKNOWN),
    ],
)
def test_truth_of_a_conjunction(a: object, b: object, guard: object, truth: Truth) -> None:
    """One known *no* decides; a guard that is not met makes all of it unknown, also a *no*."""
    given: dict[str, tuple[Sample, ...] | None] = {}
    for name, value in (("a", a), ("b", b), ("a_samples", guard)):
        given[name] = None if value == "silent" else () if value == "absent" else (sample(name, value),)  # type: ignore[arg-type]
    got = only(*observe([rule("signal:a > 2 and signal:b < 5 and signal:a_samples >= 20")], given, [A], 100))
    assert got.truth is truth
    assert got.answered is (a != "silent")


def test_a_signal_nobody_was_asked_for_is_silence() -> None:
    """A missing answer is no answer; it is not an answer without series."""
    assert only(*observe([rule("signal:a > 2")], {}, [A], 100)).answered is False


def test_one_query_serves_all_targets() -> None:
    """Each target takes its own samples by its own labels; a sample that fits nobody is nobody's."""
    given = answers(sample("a", 3), sample("a", 1, instance="b:8000"), sample("a", 9, instance="b:8000", job="other"))
    got = observe([rule("signal:a > 2")], given, [A, B], 100)
    assert [(o.target, o.truth, o.value) for o in got] == [("a", YES, 3), ("b", NO, 1)]


def test_engines_are_told_apart() -> None:
    """Data-parallel engines and models of one server are series of their own."""
    given = answers(
        sample("a", 3, engine="0", model_name="m"),
        sample("a", 1, engine="1", model_name="m"),
        sample("b", 1, engine="0", model_name="m"),
        sample("b", 1, engine="1", model_name="m"),
    )
    got = observe([rule("signal:a > 2 and signal:b < 5")], given, [A], 100)
    assert [(o.labels["engine"], o.truth) for o in got] == [("0", YES), ("1", NO)]


@pytest.mark.parametrize("order", ["signal:a > 2 and on (instance) signal:wide == 1",
                                   "signal:wide == 1 and on (instance) signal:a > 2"])  # fmt: skip
def test_an_instance_wide_signal_joins_with_every_engine(order: str) -> None:
    """HTTP and process metrics know no engine."""
    given = answers(sample("a", 3, engine="0"), sample("a", 1, engine="1"), sample("wide", 1))
    got = {o.labels["engine"]: o.truth for o in observe([rule(order)], given, [A], 100)}
    assert got == {"0": YES, "1": NO}


def test_a_probe_speaks_of_its_target() -> None:
    """Probe samples carry the target's name instead of Prometheus' labels."""
    probe = Sample(signal="responder_probe_flat_seconds", labels={"target": "a"}, value=9, at=100)
    given = answers(probe, sample("in_flight", 2, engine="0"))
    expr = "responder_probe_flat_seconds > 8 and on (instance) signal:in_flight > 0"
    got = observe([rule(expr)], given, [A, B], 100)
    assert [(o.target, o.truth, o.labels) for o in got] == [("a", YES, {"engine": "0"}), ("b", UNKNOWN, {})]


def test_where_metrics_are_back_the_alerts_of_the_log_are_over() -> None:
    """The log is read only while there are no metrics; what it said then must not hold an incident open for ever."""
    silent = rule("responder_log_silent_seconds > 25 and responder_log_running > 0")
    said = [Sample(signal=f"responder_log_{name}", labels={"target": "a"}, value=30, at=100)
            for name in ("silent_seconds", "running")]  # fmt: skip
    unread = {"responder_log_silent_seconds": (), "responder_log_running": ()}
    assert only(*observe([silent], answers(*said), [A], 100)).truth is YES
    assert only(*observe([silent], unread, [A], 100)).truth is UNKNOWN
    assert only(*observe([silent], answers(sample("progress_total", 5), **unread), [A], 100)).truth is NO


def test_an_exporter_of_the_machine_is_matched_by_host() -> None:
    """NVIDIA's exporter has a port of its own."""
    given = answers(sample("dcgm_gpu_util", 3, instance="a:9400"), sample("dcgm_gpu_util", 90, instance="c:9400"))
    assert only(*observe([rule("signal:dcgm_gpu_util < 30")], given, [A], 100)).truth is YES


def test_of_two_scrapes_of_the_same_thing_the_newer_counts() -> None:
    given = answers(sample("a", 1, at=99, job="old"), sample("a", 3, at=100, job="new"))
    assert only(*observe([rule("signal:a > 2")], given, [A], 100)).value == 3


@pytest.mark.parametrize(("limit", "truth"), [(2.0, YES), (4.0, NO), (3.0, NO)])
def test_a_threshold_of_one_target(limit: float, truth: Truth) -> None:
    """Instead of the number in the rule; the other targets keep the rule's."""
    strict = A.model_copy(update={"thresholds": {"X": limit, "X.for": 7.0, "Y": 100.0}})
    seen = answers(sample("a", 3), sample("b", 1))
    got = only(*observe([rule("signal:a > 2.5 and signal:b > 0")], seen, [strict], 1))
    assert (got.truth, got.threshold, got.for_s) == (truth, limit, 7.0)


def test_a_vanished_target_is_a_symptom_of_its_own() -> None:
    """Known before, gone now, while Prometheus talks about others."""
    down = rule("signal:up < 1")
    others = answers(sample("up", 1, instance="c:8000"))
    assert only(*observe([down], others, [A], 100, seen={"a"})).vanished
    assert only(*observe([down], others, [A], 100)).truth is UNKNOWN, "never seen: perhaps it was never scraped"
    nothing = observe([down], {"up": ()}, [A], 100, seen={"a"})
    assert only(*nothing).truth is UNKNOWN, "a Prometheus that knows nobody has just started"
    silent = observe([down], {"up": None}, [A], 100, seen={"a"})
    assert only(*silent).truth is UNKNOWN


def test_an_expression_of_another_shape() -> None:
    """Prometheus evaluates it; what comes back is true, and nothing is *no* only while the target is scraped."""
    odd = rule("max(x) by (instance) > 2 * y")
    up, down = sample("up", 1), sample("up", 0)
    hit = sample(odd.expr, 7, engine="0")
    assert only(*observe([odd], answers(hit, up), [A], 100)).truth is YES
    assert only(*observe([odd], answers(up, **{odd.expr: ()}), [A], 100)).truth is NO
    assert only(*observe([odd], answers(down, **{odd.expr: ()}), [A], 100)).truth is UNKNOWN
    assert only(*observe([odd], answers(up, **{odd.expr: None}), [A], 100)).truth is UNKNOWN


def test_low_throughput_needs_an_expectation() -> None:
    """Without one there is no share; with one it is what all engines deliver together."""
    low = rule("signal:generation_share < 0.5")
    given = answers(
        sample("generation_minute_rate", 100, engine="0"), sample("generation_minute_rate", 150, engine="1")
    )
    asked = A.model_copy(update={"expect": Expectation(generation_tokens_per_second=1000)})
    assert only(*observe([low], {**given, "generation_share": ()}, [A], 100)).truth is UNKNOWN
    got = only(*observe([low], {**given, "generation_share": ()}, [asked], 100))
    assert (got.truth, got.value) == (YES, 0.25)
    both = asked.model_copy(update={"expect": Expectation(generation_tokens_per_second=100, requests_per_second=10)})
    got = only(*observe([low], {**given, "finish_minute_rate": (sample("finish_minute_rate", 4),)}, [both], 100))
    assert got.value == 0.4
    assert only(*observe([low], {"generation_minute_rate": None}, [asked], 100)).truth is UNKNOWN


def test_present_and_quiet() -> None:
    """Quiet is not "gauges at 0": a hung server looks like that. It takes proof that the engine answers."""
    idle = answers(sample("up", 1), sample("in_flight", 0, engine="0"), sample("in_flight", 0, engine="1"))
    assert present(idle, [A, B]) == {"a"}
    assert quiet(idle, [A, B], responsive={"a", "b"}) == {"a"}
    assert quiet(idle, [A], responsive=()) == set()
    busy = answers(sample("in_flight", 0, engine="0"), sample("in_flight", 1, engine="1"))
    assert quiet(busy, [A], responsive={"a"}) == set()
    assert quiet(answers(sample("in_flight", None)), [A], responsive={"a"}) == set()


def test_every_rule_says_something_about_every_target() -> None:
    """Nothing is ever left out: no observation would look like nothing to worry about."""
    rules = [rule("signal:a > 2", "X"), rule("signal:up < 1", "Y"), rule("vector(1)", "Z")]
    got = observe(rules, answers(sample("a", 3)), [A, B], 100)
    assert {(o.alert, o.target) for o in got} == set(itertools.product("XYZ", "ab"))


def test_our_own_captures_make_rules_unknown_but_no_excuse_for_death() -> None:
    """On the muted target only; a server that is down is down, whatever we were doing to it."""
    rules = [
        rule("signal:a > 2", "Slow"),
        rule("signal:up == 0", "Down"),
        rule("responder_probe_refused == 1", "Refused"),
    ]
    given = answers(sample("a", 9.0), sample("up", 0.0), sample("a", 9.0, instance="b:8000"))
    given["responder_probe_refused"] = (
        Sample(signal="responder_probe_refused", labels={"target": "a"}, value=1, at=1),
    )
    seen = {(one.alert, one.target): one for one in mute(observe(rules, given, [A, B], 100), rules, {"a"})}
    assert (seen["Slow", "a"].truth, seen["Slow", "a"].answered) == (UNKNOWN, False)
    assert seen["Down", "a"].truth is YES
    assert seen["Refused", "a"].truth is YES
    assert seen["Slow", "b"].truth is YES


SLOW = "signal:p99 > 2 and signal:p99_grown >= 4 and signal:p99_samples >= 20"


@pytest.mark.parametrize(
    ("grown", "truth", "lasting"), [(5.0, YES, True), (3.0, NO, True), (1.5, NO, False), ("absent", UNKNOWN, False)]
)
def test_news_begins_an_alert_and_half_of_it_keeps_it(grown: object, truth: Truth, lasting: bool) -> None:
    """A server that is slow as ever is none; a fault of half an hour has become part of the last hour and goes on."""
    known = () if grown == "absent" else (sample("p99_grown", float(str(grown))),)
    got = only(*observe([rule(SLOW)], answers(sample("p99", 3), sample("p99_samples", 30), *known), [A], 100))
    assert (got.truth, got.lasting, got.passed) == (truth, lasting, True)
    assert got.half_way == (None if grown == "absent" else pytest.approx(3 / float(str(grown)) * 2))


def test_a_limit_of_the_targets_own_needs_no_news() -> None:
    """Over its owner's limit is over it, from the first minute on; a `for` of its own says nothing about that."""
    given = answers(sample("p99", 3), sample("p99_grown", 1.0), sample("p99_samples", 30))
    own, patient = (A.model_copy(update={"thresholds": {key: 2.5}}) for key in ("X", "X.for"))
    assert only(*observe([rule(SLOW)], given, [own], 100)).truth is YES
    assert only(*observe([rule(SLOW)], given, [patient], 100)).truth is NO
