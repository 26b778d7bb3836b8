"""metrics_window, siblings: what do they ask Prometheus, and what do they make of silence, gaps and other servers?"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from responder.capture import STEPS, metrics_window, siblings
from responder.capture.metrics_window import bucket_words, series_of
from responder.capture.step import Brief, Fetched, NoParams, Step
from responder.model import Outcome, Scalar, Target
from tests.doubles import BRIEF, NOW, ONSET, scene
from tests.recorded import window

SIGNALS = {"up": "up", "running": "vllm:num_requests_running", "waiting": "vllm:num_requests_waiting", "ttft_p99": "q"}
A = {"instance": "a:8000", "model_name": "m", "engine": "0"}
B = A | {"instance": "b:8000"}
C = A | {"instance": "c:8000"}


class FakePrometheus:
    """Answers each expression with constant series; before the onset with `before`."""

    def __init__(self, rows: dict[str, list[tuple[dict[str, str], float | None, float | None]]]) -> None:
        self.rows, self.asked = rows, list[tuple[str, float, float, float]]()
        self.in_flight = self.most_in_flight = 0

    async def __call__(self, expr: str, start: float, end: float, step: float) -> Any:
        self.asked.append((expr, start, end, step))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        times = [start + n * step for n in range(int((end - start) / step + 1e-6) + 1)]
        return [
            (labels, [(at, before if at < ONSET else since) for at in times])
            for labels, before, since in self.rows.get(expr, [])
        ]


def facts(step: Step, fetched: Fetched, brief: Brief = BRIEF) -> dict[str, Scalar]:
    """Facts by name without prefix; each is declared, by its name or by the pattern for signals."""
    found = list(step.read(fetched.files, brief))
    declared = {spec.name for spec in step.facts}
    for fact in found:
        pattern = f"metrics.{{signal}}.{fact.name.rpartition('.')[2]}"
        assert fact.name in declared or pattern in declared, fact.name
    return {fact.name.split(".", 1)[1]: fact.value for fact in found}


# ----------------------------------------------------------------------------------------------------- metrics_window


async def test_a_window_over_every_signal() -> None:
    """Ten minutes before the onset until now, one point per scrape, a few queries at a time."""
    prometheus = FakePrometheus(
        {"up": [(A, 1, 1)], "vllm:num_requests_running": [(A, 4, 16), (B, 99, 99)], "q": [(A, 0.03, 1.7)]}
    )
    async with scene(range_query=prometheus, signals=SIGNALS) as where:
        fetched = await metrics_window.STEP.fetch(where, NoParams())
    assert fetched.outcome is Outcome.OK
    assert prometheus.asked[0][0] == "up"
    assert {round(end - start) for _, start, end, _ in prometheus.asked} == {660}
    assert {step for *_, step in prometheus.asked} == {5.0}
    assert prometheus.most_in_flight <= metrics_window.AT_ONCE
    found = facts(metrics_window.STEP, fetched)
    assert (found["running.baseline"], found["running.now"], found["running.ratio"]) == (4.0, 16.0, 4.0)
    assert found["ttft_p99.bucket"] == "between 1 s and 2.5 s"
    assert found["signals_unknown"] == "waiting"
    assert (found["scrape_gap_s"], found["flat_s"], found["reset"]) == (0.0, None, None)
    assert {one.signal for one in series_of(fetched.files["series.json"])} == {"up", "running", "ttft_p99"}


async def test_a_refused_prometheus_is_found_out_once() -> None:
    """Failed with the reason after one query, not after eighty."""
    asked: list[str] = []

    async def refused(expr: str, start: float, end: float, step: float) -> Any:
        asked.append(expr)
        raise ConnectionError("refused")

    async with scene(range_query=refused, signals=SIGNALS) as where:
        fetched = await metrics_window.STEP.fetch(where, NoParams())
    assert (fetched.outcome, asked) == (Outcome.FAILED, ["up"])
    assert fetched.reason == "Prometheus did not answer: ConnectionError: refused"


async def test_a_silent_prometheus_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the query's own deadline."""
    monkeypatch.setattr(metrics_window, "QUERY_TIMEOUT_S", 0.2)

    async def silent(expr: str, start: float, end: float, step: float) -> Any:
        await asyncio.Event().wait()

    async with scene(range_query=silent, signals=SIGNALS) as where:
        fetched = await metrics_window.STEP.fetch(where, NoParams())
    assert (fetched.outcome, fetched.files) == (Outcome.FAILED, {})


async def test_one_bad_query_spoils_only_its_signal() -> None:
    """Partial, and the signal is unknown, not absent."""
    good = FakePrometheus({"up": [(A, 1, 1)], "vllm:num_requests_running": [(A, 4, 16)]})

    async def query(expr: str, start: float, end: float, step: float) -> Any:
        if expr == "q":
            raise ValueError("parse error")
        return await good(expr, start, end, step)

    async with scene(range_query=query, signals=SIGNALS) as where:
        fetched = await metrics_window.STEP.fetch(where, NoParams())
    assert fetched.outcome is Outcome.PARTIAL
    assert "ttft_p99: ValueError: parse error" in fetched.reason
    found = facts(metrics_window.STEP, fetched)
    assert (found["running.now"], "ttft_p99.now" in found) == (16.0, False)


async def test_a_server_prometheus_does_not_know() -> None:
    """Failed, with the labels that were looked for; that it is not there is the one fact."""
    async with scene(range_query=FakePrometheus({"up": [(B, 1, 1)]}), signals=SIGNALS) as where:
        fetched = await metrics_window.STEP.fetch(where, NoParams())
    assert fetched.outcome is Outcome.FAILED
    assert "instance=a:8000" in fetched.reason
    assert facts(metrics_window.STEP, fetched) == {"seen": False}


async def test_a_fresh_server_has_no_baseline() -> None:
    """Unknown, not zero."""
    prometheus = FakePrometheus({"up": [(A, None, 1)], "vllm:num_requests_running": [(A, None, 16)]})
    async with scene(range_query=prometheus, signals=SIGNALS) as where:
        fetched = await metrics_window.STEP.fetch(where, NoParams())
    found = facts(metrics_window.STEP, fetched)
    assert (found["running.baseline"], found["running.ratio"], found["running.now"]) == (None, None, 16.0)


async def test_without_prometheus_it_is_skipped() -> None:
    """Both steps say what to start."""
    async with scene(signals=SIGNALS) as where:
        for step in (metrics_window.STEP, siblings.STEP):
            fetched = await step.fetch(where, NoParams())
            assert fetched.outcome is Outcome.SKIPPED
            assert "--prometheus" in fetched.reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hang_worker", {"flat_with_in_flight": True, "catch_up": False, "running.pinned": False, "waiting.now": 0.0}),
        ("hang_after", {"flat_with_in_flight": False, "catch_up": True}),
        ("spike", {"running.pinned": True, "catch_up": False, "stalls": 0, "preemption_rate.max": 0.0}),
        ("kv_starve", {"running.pinned": False, "flat_s": 0.0, "scrape_gap_s": 0.0, "reset": False}),
    ],
)
def test_recorded_incidents(name: str, expected: dict[str, Scalar]) -> None:
    """What tells them apart, from the stored file alone."""
    found = facts(metrics_window.STEP, Fetched({"series.json": window(name)}))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0005, "below 0.001 s"),
        (2.5, "between 1 s and 2.5 s"),
        (2.6, "between 2.5 s and 5 s"),
        (9999.0, "above 2560 s"),
    ],
)
def test_quantiles_are_told_as_buckets(value: float, words: str) -> None:
    """A histogram knows no more."""
    assert bucket_words(value) == words


# ----------------------------------------------------------------------------------------------------------- siblings

OTHERS = tuple(
    Target(name=name, url=f"http://{name}:8000", match={"instance": f"{name}:8000"}) for name in ("b", "c", "d")
)


async def compare(rows: dict[str, Any], signals: dict[str, str] = SIGNALS) -> tuple[Fetched, dict[str, Scalar]]:
    async with scene(range_query=FakePrometheus(rows), signals=signals, siblings=OTHERS) as where:
        fetched = await siblings.STEP.fetch(where, NoParams())
    return fetched, facts(siblings.STEP, fetched)


async def test_only_we_have_a_queue() -> None:
    """Routing: the others of our model are idle; a server of another model does not count."""
    other_model = A | {"instance": "d:8000", "model_name": "z"}
    _, found = await compare({
        "up": [(A, 1, 1), (B, 1, 1), (C, 1, 1)],
        "vllm:num_requests_running": [(A, 8, 64), (B, 8, 8), (C, 8, 8), (other_model, 1, 1)],
        "vllm:num_requests_waiting": [(A, 0, 300), (B, 0, 0), (C, 0, 0), (other_model, 0, 999)],
    })  # fmt: skip
    assert found == {
        "count": 2, "healthy": 2, "affected_share": 0.0, "waiting_ratio": 300.0, "running_ratio": 8.0, "idle": 2,
        "others_load_ratio": 1.0,
    }  # fmt: skip


async def test_what_came_here_was_taken_from_the_others() -> None:
    """All others together, against themselves before the onset; who ran next to nothing before says nothing."""
    _, found = await compare({
        "up": [(A, 1, 1), (B, 1, 1), (C, 1, 1)],
        "vllm:num_requests_running": [(A, 8, 22), (B, 8, 1), (C, 8, 1)],
    })  # fmt: skip
    assert found["others_load_ratio"] == 0.125
    _, found = await compare({"up": [(A, 1, 1), (B, 1, 1)], "vllm:num_requests_running": [(A, 8, 22), (B, 0, 4)]})
    assert found["others_load_ratio"] is None


async def test_answers_tell_a_loss_better_than_the_few_requests_that_run_at_once() -> None:
    """Two running instead of five may be chance; as many answers per second are not. Of hardly any nothing is said."""
    rows = {"up": [(A, 1, 1), (B, 1, 1)], "vllm:num_requests_running": [(A, 8, 22), (B, 5, 2)]}
    _, found = await compare(rows | {"answers": [(A, 2, 2), (B, 2.0, 1.9)]}, SIGNALS | {"finish_rate": "answers"})
    assert found["others_load_ratio"] == pytest.approx(0.95)
    _, found = await compare(rows | {"answers": [(A, 2, 2), (B, 2.0, 0.4)]}, SIGNALS | {"finish_rate": "answers"})
    assert found["others_load_ratio"] == pytest.approx(0.4)
    rows["vllm:num_requests_running"] = [(A, 8, 22), (B, 5, 28)]  # in trouble itself
    _, found = await compare(rows | {"answers": [(A, 2, 2), (B, 2.0, 0.4)]}, SIGNALS | {"finish_rate": "answers"})
    assert found["others_load_ratio"] == pytest.approx(5.6)
    _, found = await compare(rows | {"answers": [(A, 2, 2), (B, 0.2, 0.0)]}, SIGNALS | {"finish_rate": "answers"})
    assert found["others_load_ratio"] is None


async def test_all_have_the_same_trouble() -> None:
    """A queue, or gone."""
    _, found = await compare({
        "up": [(A, 1, 1), (B, 1, 1), (C, 1, 0)],
        "vllm:num_requests_running": [(A, 8, 64), (B, 8, 64), (C, 8, None)],
        "vllm:num_requests_waiting": [(A, 0, 300), (B, 0, 280), (C, 0, None)],
    })  # fmt: skip
    assert (found["healthy"], found["affected_share"], found["idle"]) == (1, 1.0, 0)


def test_load_that_had_moved_before_the_onset_was_told_is_compared_with_the_usual() -> None:
    """A queue needs minutes to form: where ours ran twice its usual just before, others had lost their load by then."""

    def server(finish: tuple[float, float, float], running: tuple[float, float, float]) -> dict[str, Any]:
        keys = ("usual", "just_before", "recent")
        both = {"finish_rate": dict(zip(keys, finish, strict=True)), "running": dict(zip(keys, running, strict=True))}
        return {"models": ["m"], "engines": {}, "up": {"recent": 1.0}, "waiting": {"recent": 0.0, "usual": 0.0}, **both}

    def told(early: float) -> Scalar:
        servers = {
            "a:8000": server((1.0, 1.2, 1.1), (32.5, early, 92.0)),
            "b:8000": server((0.8, 0.2, 0.4), (26.0, 5.0, 7.0)),
        }
        files = {"siblings.json": json.dumps({"target": "a:8000", "failed": {}, "servers": servers}).encode()}
        return {fact.name: fact.value for fact in siblings.STEP.read(files, BRIEF)}["siblings.others_load_ratio"]

    assert told(early=62.0) == pytest.approx(0.5)
    assert told(early=35.0) is None, "before an onset told in time they did next to nothing: nothing to compare"


async def test_a_single_server_has_no_siblings() -> None:
    """Known to be none: zero, and nothing to compare with."""
    _, found = await compare({"up": [(A, 1, 1)], "vllm:num_requests_running": [(A, 8, 64)]})
    assert found == {"count": 0}


async def test_engines_of_one_server() -> None:
    """One rank carries the load of all."""
    ranks = [(A | {"engine": str(n)}, 10, load) for n, load in enumerate([60, 2, 2, 2])]
    _, found = await compare({"vllm:num_requests_running": ranks})
    assert found["engine_imbalance"] == 30.0


async def test_siblings_without_an_answer() -> None:
    """A Prometheus that fails is a failed step, not a lonely server."""

    async def refused(expr: str, start: float, end: float, step: float) -> Any:
        raise ConnectionError("refused")

    async with scene(range_query=refused, signals=SIGNALS, siblings=OTHERS) as where:
        fetched = await siblings.STEP.fetch(where, NoParams())
    assert fetched.outcome is Outcome.FAILED
    assert facts(siblings.STEP, fetched) == {}


@pytest.mark.parametrize("step", [metrics_window.STEP, siblings.STEP], ids=lambda step: step.name)
@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[]", b"{}"])
def test_damaged_files_give_no_facts(step: Step, raw: bytes) -> None:
    """A stored folder may be damaged."""
    assert list(step.read(dict.fromkeys(("series.json", "siblings.json"), raw), BRIEF)) == []


def test_these_steps_are_registered() -> None:
    """Under their own names, and none of them claims to disturb the server."""
    mine = {"metrics_window", "scrape", "endpoints", "server_config", "log_tail", "siblings", "canary"}
    assert mine <= set(STEPS)
    assert {STEPS[name].worst_pause_s for name in mine} == {0.0}
    assert {name for name in mine if STEPS[name].rung > 0} == {"canary"}
    assert NOW > ONSET
