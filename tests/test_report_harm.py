"""Does a report say in figures how bad it is, and nothing after the recovery as if it were the incident?"""

from __future__ import annotations

from typing import Any

import pytest

from responder.model import Evidence, Fact, Outcome, Report, Scalar
from responder.report import to_markdown
from responder.report_answers import answers
from responder.report_facts import spoken
from responder.report_harm import felt, history, sent
from responder.report_rows import captures, changed, grouped
from responder.report_unknown import unknown_items
from tests.sample_report import OPENED, fact, sample


def look(at: float, **values: Scalar) -> Evidence:
    """A metrics window; `ttft_p99__now` is metrics.ttft_p99.now."""
    facts = tuple(
        Fact(name=f"metrics.{name.replace('__', '.')}", value=value, unit="s" if "ttft" in name else "",
             step="metrics_window", at=at)
        for name, value in values.items()
    )  # fmt: skip
    return Evidence(
        id=f"metrics_window-{at:.0f}", step="metrics_window", rung=0, outcome=Outcome.OK, started_at=at, seconds=1,
        facts=facts,
    )  # fmt: skip


def with_looks(*looks: Evidence, stage: Any = "final", **changes: Any) -> Report:
    return sample(stage, evidence=looks, **changes)


def test_the_first_sentence_says_how_bad_it_is() -> None:
    """The value as its histogram knows it, the usual one and the limit of the alert."""
    lead = answers(sample())[0].lead
    assert "the first token comes late: TTFT p99 between 5 s and 7.5 s, usually about 620 ms; limit 2 s." in lead


def test_a_value_that_is_not_worse_than_usual_is_no_measure_of_harm() -> None:
    """Then the next signal is asked, and nothing is said where none is."""
    assert felt(with_looks(look(OPENED, ttft_p99__now=0.2, ttft_p99__baseline=0.6))) == ""
    both = look(OPENED, ttft_p99__now=0.2, ttft_p99__baseline=0.6, ttft_mean__now=4.0, ttft_mean__baseline=0.1)
    assert felt(with_looks(both)).startswith("TTFT, mean 4 s, usually 100 ms")
    assert felt(sample(evidence=())) == ""


def test_a_server_that_makes_no_step_says_for_how_long() -> None:
    """Users of a hang feel nothing but that."""
    report = with_looks(look(OPENED, flat_s=42.0))
    report = report.model_copy(
        update={"incident": report.incident.model_copy(update={"incident_class": "hang_or_crash"})}
    )
    assert felt(report) == "no engine step for 42 s"


def test_what_users_send_differently_is_told_with_since_when() -> None:
    """Why now: longer answers, not the same number of requests."""
    report = with_looks(look(OPENED, generation_tokens_mean__ratio=4.84, arrival_rate__ratio=1.1))
    assert sent(report) == "What users send is not as before: Answer length, mean 4.84× its usual."
    assert answers(report)[1].items[0] == sent(report)
    assert sent(with_looks(look(OPENED, arrival_rate__ratio=0.5)))
    assert sent(with_looks(look(OPENED, arrival_rate__ratio=0.9))) == ""
    later = look(OPENED + 45, arrival_rate__ratio=65.0)
    assert sent(with_looks(look(OPENED, arrival_rate__ratio=1.1), later)) == "", "those who waited came all at once"


@pytest.mark.parametrize(("seconds", "said"), [(37.0, "only 37 s of data"), (0.0, "no data"), (400.0, None)])
def test_usual_says_when_it_rests_on_little(seconds: float, said: str | None) -> None:
    """Half a minute of samples is no usual day."""
    lines = list(history(with_looks(look(OPENED, history_s=seconds))))
    assert (said in lines[0]) if said else lines == []


def test_no_difference_is_told_as_none() -> None:
    """'99 % (usual 99 %)' reads as if it were something."""
    report = with_looks(look(OPENED, kv_usage__max=0.99, kv_usage__baseline=0.99))
    assert spoken(report, report.evidence[0].facts[0]).endswith("0.99 (as usual)")


OVER = OPENED + 642


def over() -> Report:
    """Trouble at the first look, more at the second, and a look back at a server that is well."""
    return with_looks(
        look(OPENED, ttft_p99__now=5.0, ttft_p99__max=6.0, ttft_p99__baseline=0.03, waiting__now=20.0,
             waiting__max=37.0, waiting__baseline=0.0, running__max=4.0),
        look(OPENED + 45, ttft_p99__now=15.0, ttft_p99__max=15.0, ttft_p99__baseline=0.03, waiting__now=30.0,
             waiting__max=37.0, waiting__baseline=0.0, running__max=4.0),
        look(OVER + 1, ttft_p99__now=0.04, ttft_p99__max=15.0, ttft_p99__baseline=0.03, waiting__now=0.0,
             waiting__max=37.0, waiting__baseline=0.0, running__max=4.0),
        stage="resolved",
    )  # fmt: skip


def test_of_what_is_over_the_values_are_those_of_the_incident() -> None:
    """The worst look, never the one after the recovery."""
    rows = {row.name: (row.before, row.now) for row in changed(over())}
    assert rows["TTFT p99"] == ("about 30 ms", "about 15 s")
    assert rows["Requests waiting"] == ("0", "30")


def test_what_is_over_is_told_in_the_past_and_without_contradiction() -> None:
    """It was late; so many waited; each alert with its time; nothing to check now."""
    broken, _, cause, *_ = answers(over())
    assert "the first token came late: TTFT p99 up to 15 s, usually about 30 ms; limit 2 s." in broken.lead
    assert "At most at a time: 4 running, 37 waiting." in broken.lead
    assert all(" UTC on, as last measured: " in item for item in broken.items)
    assert cause.lead.startswith("While it lasted: ")
    assert "It would have been wrong if" in cause.items[-1]
    assert "Check:" not in cause.items[-1]
    text = to_markdown(over())
    assert "comes late" not in text.split("## Timeline")[0]


def test_what_cannot_matter_on_this_server_is_not_told_as_unknown() -> None:
    """No GPU items on a CPU, no draft tokens without speculation, nothing that is only there when asked for."""
    absent = fact("metrics.signals_unknown", "dcgm_gpu_util,spec_acceptance,corrupted_rate,generation_share,itl_mean")
    on_cpu = (fact("config.device", "cpu"), fact("config.speculative", "none"), absent)
    report = sample()
    lead = report.verdict.hypotheses[0]
    found = look(OPENED).model_copy(update={"facts": on_cpu})
    lines = list(unknown_items(report.model_copy(update={"evidence": (found,)}), lead))
    assert not any("`gpu`" in line for line in lines)
    assert lines[-1] == "Signals without a value here: Inter-token latency, mean"
    found = look(OPENED).model_copy(update={"facts": (fact("config.device", "cuda"), absent)})
    lines = list(unknown_items(report.model_copy(update={"evidence": (found,)}), lead))
    assert any("`gpu`" in line for line in lines)
    assert "GPU utilisation" in lines[-1]


def test_runs_that_ended_alike_are_one_row() -> None:
    """Three times skipped for the same reason is one thing to read."""
    skipped = [
        Evidence(id=f"gpu-{n}", step="gpu", rung=0, outcome=Outcome.SKIPPED, reason="no NVIDIA driver",
                 started_at=OPENED + n, seconds=0)
        for n in range(3)
    ]  # fmt: skip
    failed = skipped[0].model_copy(update={"id": "gpu-9", "reason": "another"})
    rows = [row for row in grouped(captures(sample(evidence=(*skipped, failed)))) if row.step == "gpu"]
    assert [(row.reason, "3 runs" in row.cost) for row in rows] == [("no NVIDIA driver", True), ("another", False)]
