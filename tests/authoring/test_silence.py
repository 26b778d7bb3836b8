"""A silence is explained rule by rule, and one for want of data is no proof; names of series must be real."""

from __future__ import annotations

from typing import Any

import pytest

from responder.authoring.silence import why_silent
from responder.authoring.testfile import ExpectPart
from responder.model import Comparison, Content, Rule, Severity, Signal

SIGNALS = (
    Signal(name="waiting", expr="vllm:num_requests_waiting"),
    Signal(name="queue_seconds", expr="vllm:num_requests_waiting / rate(vllm:ttft_count[10s])"),
)
RULE = Rule(
    alert="Queue", incident_class="high_ttft", severity=Severity.WARNING, expr="", for_s=30,
    terms=(Comparison(signal="waiting", op=">", number=5), Comparison(signal="queue_seconds", op=">", number=1)),
)  # fmt: skip
EXPECT = ExpectPart.model_validate({"class": "high_ttft"})


class Past:
    """A history: PromQL -> values, one each two seconds."""

    def __init__(self, **rows: list[float]) -> None:
        self.rows = rows

    async def range(self, expr: str, start: float, end: float, step: float) -> Any:
        values = self.rows.get("seconds" if "rate" in expr else "waiting", [])
        return [({}, [(start + step * n, value) for n, value in enumerate(values)])] if values else []


async def told(expect: ExpectPart = EXPECT, **rows: list[float]) -> tuple[list[str], list[str]]:
    content = Content(signals=SIGNALS, rules=(RULE,))
    return await why_silent(Past(**rows), content, (0.0, 100.0, 5.0), {"vllm:num_requests_waiting"}, expect)  # type: ignore[arg-type]


async def test_the_condition_without_data_is_named_with_the_metric_it_needs() -> None:
    """And a `silent: true` that rests on it proves nothing."""
    lines, doubts = await told(waiting=[1, 20, 20])
    assert lines == ["Queue: waiting > 5 yes; queue_seconds > 1 no data (needs vllm:ttft_count)"]
    assert doubts == [f"this silence proves nothing, for want of data: {lines[0]}"]


@pytest.mark.parametrize(
    ("waiting", "seconds", "says"),
    [
        ([9, 9], [0.2, 0.7], "Queue: waiting > 5 yes; queue_seconds > 1 no (at most 0.7)"),
        ([9] * 6, [2.0] * 6,
         "Queue: waiting > 5 yes; queue_seconds > 1 yes; all of it at once for 10 s, and it takes 30 s"),
        ([1], [2.0], "of no rule did the first condition hold at any moment"),
    ],
)  # fmt: skip
async def test_what_was_false_or_too_short_is_said(waiting: list[float], seconds: list[float], says: str) -> None:
    """A known no is a proof: no doubt is left."""
    assert await told(waiting=waiting, seconds=seconds) == ([says], [])


async def test_an_expected_alert_is_explained_whatever_held() -> None:
    """The author asked about this one."""
    expect = ExpectPart.model_validate({"alerts": ["Queue"]})
    assert (await told(expect, waiting=[3]))[0] == [
        "Queue: waiting > 5 no (at most 3); queue_seconds > 1 no data (needs vllm:ttft_count)"
    ]
