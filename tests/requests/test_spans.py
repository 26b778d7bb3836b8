"""Is every layout of request spans read, and joined with what is around it?"""

from __future__ import annotations

import pytest

from responder.requests.record import Request, Span
from responder.requests.spans import TENANT_ATTRIBUTES, around_of, is_request, is_start_up, join, phase_of, request_of
from responder.requests.wire import decode, walk
from tests.requests.otlp import FULL, T0, message, recorded, span


def spans(*made: dict[str, object]) -> list[Span]:
    """Through the wire and back."""
    found = list(decode(walk(message(*made)), more=TENANT_ATTRIBUTES))
    assert all(s is not None for s in found)
    return [s for s in found if s is not None]


def one(**changes: object) -> Request:
    """The request of one span."""
    (found,) = spans(span(**changes))  # type: ignore[arg-type]
    return request_of(found)


def test_attributes_of_today() -> None:
    """One span says it all."""
    got = one()
    assert (got.id, got.e2e, got.ttft, got.queue, got.prefill, got.decode) == ("cmpl-1", 2.0, 0.5, 0.1, 0.3, 1.5)
    assert (got.prompt_tokens, got.completion_tokens, got.max_tokens, got.n) == (100, 51, 64, 1)
    assert got.per_token == pytest.approx(0.03)
    assert got.before_queue == pytest.approx(0.1)


def test_attributes_of_the_old_engine() -> None:
    """No prefill and decode time before 0.10.2: what TTFT and queue leave over."""
    old = {k: v for k, v in FULL.items() if "time_in_model" not in k}
    got = one(attributes={**old, "gen_ai.latency.time_in_scheduler": 0.02})
    assert got.prefill == pytest.approx(0.4)
    assert got.decode == pytest.approx(1.5)


def test_phases_as_children() -> None:
    """In any order, whatever their prefix."""
    bare = {"gen_ai.request.id": "r", "gen_ai.usage.prompt_tokens": 7}
    parts = [
        span("vllm_queue", start=T0, end=T0 + 0.5, own=2, parent=1, kind=1, attributes={}),
        span("prefill", start=T0 + 0.5, end=T0 + 0.75, own=3, parent=1, kind=1, attributes={}),
        span("vllm_decode", start=T0 + 0.75, end=T0 + 2, own=4, parent=1, kind=1, attributes={}),
        span("vllm_preempted", start=T0 + 1, end=T0 + 1.5, own=5, parent=1, kind=1, attributes={}),
    ]
    found = spans(*parts, span(attributes=bare))
    assert [is_request(s) for s in found] == [False] * 4 + [True]
    assert not any(is_start_up(s) for s in found)
    (got,) = join([request_of(found[-1])], [around_of(s) for s in found[:-1]])
    assert (got.queue, got.prefill, got.decode) == pytest.approx((0.5, 0.25, 1.25))
    assert got.ttft == pytest.approx(0.75)
    assert got.preemptions == 1
    assert got.layout == "children"


def test_phases_as_events() -> None:
    """The journey of a request as dated events."""
    journey = [("journey.QUEUED", T0 + 0.1), ("journey.SCHEDULED", T0 + 0.6), ("journey.PREEMPTED", T0 + 1.0),
               ("journey.FIRST_TOKEN", T0 + 1.1), ("journey.FINISHED", T0 + 2.0)]  # fmt: skip
    got = one(name="llm_core", attributes={"gen_ai.request.id": "r"}, events=journey)
    assert (got.queue, got.prefill, got.decode, got.ttft) == pytest.approx((0.5, 0.5, 0.9, 1.1), abs=1e-6)
    assert got.preemptions == 1
    assert got.layout == "events"


def test_start_up_spans_are_no_requests() -> None:
    """A recorded server: 12 spans of its start, 15 requests, each complete."""
    found = [s for s in decode(walk(recorded())) if s is not None]
    requests = [request_of(s) for s in found if is_request(s)]
    assert len(requests) == 15
    assert sum(is_start_up(s) for s in found) == 12
    assert all(r.queue is not None and r.prefill is not None and r.decode is not None and r.id for r in requests)


@pytest.mark.parametrize("bad", ["soon", -1.0, float("nan"), float("inf"), 1e300, True])
def test_impossible_numbers_are_unknown(bad: object) -> None:
    """Text, negative, NaN, infinite: None, and the span's own length stands in for the duration."""
    got = one(attributes={**FULL, "gen_ai.latency.e2e": bad, "gen_ai.latency.time_in_queue": bad,
                          "gen_ai.usage.prompt_tokens": bad})  # fmt: skip
    assert got.e2e == pytest.approx(2.0)
    assert got.queue is None
    assert got.prompt_tokens is None


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("vllm_queue", "queue"),
        ("llm.prefill", "prefill"),
        ("Decode", "decode"),
        ("generate", "decode"),
        ("POST /v1", ""),
    ],
)
def test_names_of_phases(name: str, phase: str) -> None:
    """As vLLM and its relatives spell them."""
    assert phase_of(name) == phase


def test_time_before_the_server_is_told_from_the_gateways_span() -> None:
    """The outermost span around a request, and whose tenant it was."""
    gateway = span("POST /v1/completions", start=T0 - 3, end=T0 + 2.1, own=9, attributes={"tenant.id": "blue"})
    hop = span("upstream", start=T0 - 0.1, end=T0 + 2.1, own=8, parent=9, kind=3, attributes={"upstream_cluster": "m"})
    found = spans(gateway, hop, span(parent=8))
    (got,) = join([request_of(found[2])], [around_of(s) for s in found[:2]])
    assert got.gateway == pytest.approx(5.1)
    assert got.gateway_name == "POST /v1/completions"
    assert got.tenant == "blue"
    assert got.attempts == 1


def test_a_second_try_of_the_gateway_is_recognised() -> None:
    """Two calls to the same upstream under one span: only the second reached the end in vLLM."""
    found = spans(
        span("POST /v1/completions", own=9, attributes={}),
        span("upstream", own=7, parent=9, kind=3, attributes={"upstream_cluster": "m"}),
        span("upstream", own=8, parent=9, kind=3, attributes={"upstream_cluster": "m"}),
        span(parent=8),
    )
    (got,) = join([request_of(found[3])], [around_of(s) for s in found[:3]])
    assert got.attempts == 2


def test_equal_requests_after_each_other_are_tries_and_an_agents_are_not() -> None:
    """Same prompt length one after the other: tries. Growing prompts, or side by side: not."""

    def three(lengths: tuple[int, int, int], starts: tuple[float, float, float]) -> list[int]:
        made = [span(own=k + 1, parent=99, start=T0 + at, attributes={**FULL, "gen_ai.usage.prompt_tokens": length})
                for k, (length, at) in enumerate(zip(lengths, starts, strict=True))]  # fmt: skip
        return [r.attempts for r in join([request_of(s) for s in spans(*made)], [])]

    assert three((100, 100, 100), (0, 3, 6)) == [1, 2, 3]
    assert three((100, 150, 200), (0, 3, 6)) == [1, 1, 1]
    assert three((100, 100, 100), (0, 0, 0)) == [1, 1, 1]


def test_a_ring_of_parents_ends() -> None:
    """Spans that name each other as parents."""
    found = spans(span("a", own=8, parent=9, attributes={}), span("b", own=9, parent=8, attributes={}), span(parent=8))
    (got,) = join([request_of(found[2])], [around_of(s) for s in found[:2]])
    assert got.gateway is not None
