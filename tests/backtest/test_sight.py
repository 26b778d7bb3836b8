"""What stays dark in a history is told before anything is said of incidents."""

from __future__ import annotations

from responder.backtest.sight import Rows, blind
from responder.model import Comparison, Content, Rule, Severity, Signal, Target

WANTED = {
    "up": "up",
    "waiting": "vllm:num_requests_waiting",
    "share": 'rate(http_requests_total{status=~"4.*"}[60s]) / rate(http_requests_total[60s])',
    "unfinished": "rate(vllm:request_success_total[60s]) / rate(http_requests_total[60s])",
}


def rule(alert: str, signal: str) -> Rule:
    return Rule(alert=alert, incident_class="high_ttft", severity=Severity.WARNING, expr=f"signal:{signal} > 1",
                terms=(Comparison(signal=signal, op=">", number=1.0),), for_s=30.0)  # fmt: skip


RULES = (rule("Down", "up"), rule("Queue", "waiting"), rule("Refused", "share"), rule("Aborts", "unfinished"),
         rule("Probed", "responder_probe_refused"))  # fmt: skip
CONTENT = Content(rules=RULES, signals=tuple(Signal(name=name, expr=expr) for name, expr in WANTED.items()))
A, B = (Target(name=name, url="", match={"instance": name}) for name in ("a:1", "b:1"))


async def test_a_rule_is_blind_where_its_metrics_are_missing_and_not_where_nothing_has_happened_yet() -> None:
    """Of all servers, or of one; refused requests have no series before the first one."""
    has = {"up": (), "vllm:num_requests_waiting": ("a:1", "b:1"), "http_requests_total": ("a:1",),
           "vllm:request_success_total": ("a:1", "b:1"), WANTED["unfinished"]: ("a:1",)}  # fmt: skip

    async def ask(name: str, expr: str, start: float, end: float, step: float) -> Rows | None:
        inner = expr.removeprefix("count by (instance) (").removesuffix(")")
        return [({"instance": instance}, [(start, 1.0)]) for instance in has.get(inner, ())]

    found = await blind(ask, CONTENT, WANTED, [A, B], start=0.0, end=900.0, interval=30.0)
    assert found.missing == {"Down": ("up",)}
    assert found.missing_of == {"b:1": {"Refused": ("share",), "Aborts": ("unfinished",)}}
    assert set(found.shortest_s) == {"Down", "Queue", "Refused", "Aborts"}
    told = "\n".join(found.words(30.0))
    assert "scraped every 30 s" in told
    assert "Aborts (unfinished); Refused (share)" in told


async def test_nothing_is_said_of_a_history_that_has_everything() -> None:
    """Nor where Prometheus did not answer: that is said elsewhere."""

    async def ask(name: str, expr: str, start: float, end: float, step: float) -> Rows | None:
        return None if name == "up" else [({"instance": i}, [(start, 1.0)]) for i in ("a:1", "b:1")]

    found = await blind(ask, CONTENT, WANTED, [A, B], start=0.0, end=900.0, interval=4.0)
    assert found.words(4.0) == []
