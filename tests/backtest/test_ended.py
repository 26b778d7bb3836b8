"""An incident is over with the last sample of its server's history, not when Prometheus stops showing that sample."""

from __future__ import annotations

from typing import Any

import pytest

from responder.backtest.ended import SAYS, ended
from responder.model import Incident, Severity, Target, TimelineEntry

LAST, INTERVAL = 1000.0, 5.0
TARGET = Target(name="gpu-1:8000", url="http://gpu-1:8000", match={"instance": "gpu-1:8000"})


def incident(resolved: float | None) -> Incident:
    entries = [TimelineEntry(at=900.0, kind="opened", says="opened")]
    if resolved is not None:
        entries.append(TimelineEntry(at=resolved, kind="resolved", says="no symptom for 30 s"))
    return Incident(id="a", target=TARGET.name, incident_class="high_ttft", severity=Severity.WARNING, onset_at=880.0,
                    opened_at=900.0, resolved_at=resolved, state="open" if resolved is None else "resolved",
                    timeline=tuple(entries))  # fmt: skip


class History:
    """Scraped until LAST. `shown`: until when Prometheus shows its last sample; `metric`: the only one there is."""

    def __init__(self, shown: float, metric: str = "up", goes_on: bool = False) -> None:
        self.shown, self.metric, self.goes_on = shown, metric, goes_on

    async def __call__(self, expr: str, start: float, end: float, step: float) -> list[tuple[dict[str, str], Any]]:
        if f"({self.metric}" not in expr:
            return []
        times = [start + n * step for n in range(int((end - start) / step + 1e-6) + 1)]
        return [({}, [(at, at if self.goes_on else min(at, LAST)) for at in times if at < self.shown])]


@pytest.mark.parametrize("metric", ["up", "vllm:num_requests_running"])
async def test_it_ends_with_the_last_sample(metric: str) -> None:
    """Also where the history holds nothing but vLLM's own metrics; the timeline says why."""
    told = await ended(History(LAST + 300, metric), TARGET, incident(LAST + 335), 930.0, INTERVAL)
    assert (told.resolved_at, told.timeline[-1].at, told.timeline[-1].says) == (LAST, LAST, SAYS)
    assert told.timeline[0].says == "opened"


async def test_it_does_not_end_before_it_was_looked_at() -> None:
    """A second look at what Prometheus still showed is part of the incident."""
    told = await ended(History(LAST + 300), TARGET, incident(LAST + 335), LAST + 20, INTERVAL)
    assert told.resolved_at == LAST + 20


@pytest.mark.parametrize(
    ("history", "resolved"),
    [(History(2000.0, goes_on=True), 1335.0), (History(LAST + 2), 1335.0), (History(0.0), 1335.0),
     (History(LAST + 300), None)],
    ids=["goes on", "marked by Prometheus", "nothing known", "still open"],
)  # fmt: skip
async def test_otherwise_it_stays_as_it_is(history: History, resolved: float | None) -> None:
    """Only a sample that fades says that nothing is known of what came after it."""
    before = incident(resolved)
    assert await ended(history, TARGET, before, 930.0, INTERVAL) == before
