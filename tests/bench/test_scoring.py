"""The figures of the benchmark are what statistics books say, and its worse data are worse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.scoring import figures, missing, rivals
from bench.scoring.cases import clock_off, from_folder, grounded, half_the_samples, is_right, only_metrics, without
from bench.scoring.peers import _findings, _meant, _only
from responder.backtest.look import FROM_HISTORY
from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.folder import IncidentFolder

FOLDER = Path(__file__).parents[1] / "incidents" / "cpu_spike"


def test_intervals_are_those_of_the_textbooks() -> None:
    """Wilson of 95 in 100; Poisson's upper bound of nothing seen is 3, of two 6.3."""
    assert figures.wilson(95, 100) == pytest.approx((0.888, 0.978), abs=0.001)
    assert figures.wilson(0, 0) == (0.0, 1.0)
    assert figures.poisson_upper(0) == pytest.approx(2.996, abs=0.001)
    assert figures.poisson_upper(2) == pytest.approx(6.296, abs=0.001)


def test_scores_of_small_examples() -> None:
    """Counted by hand."""
    assert figures.macro_f1([("a", "a"), ("a", "b"), ("b", "b")]) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert figures.brier([(0.9, True), (0.6, False)]) == pytest.approx((0.01 + 0.36) / 2)
    assert figures.ece([(0.8, True)] * 8 + [(0.8, False)] * 2, bins=1) == pytest.approx(0.0)
    assert figures.ece([]) is None
    assert figures.ece_by_chance([]) is None
    assert figures.calibration([]) == "–"
    assert figures.quantile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_of_few_verdicts_even_honest_ones_look_dishonest() -> None:
    """Fifteen verdicts that are right as often as they say have an ECE of a tenth; a thousand hardly any."""
    few, many = figures.ece_by_chance([(0.8, True)] * 15), figures.ece_by_chance([(0.8, True)] * 1000)
    assert few is not None
    assert many is not None
    assert few[0] > 0.1
    assert many[0] < 0.05
    assert few[0] < few[1]
    assert few == figures.ece_by_chance([(0.8, True)] * 15)
    assert figures.calibration([(0.8, True)] * 15).startswith("0.200 of 15 (honest ones: 0.")


def test_unknown_is_right_only_where_no_cause_of_the_playbooks_was_at_work() -> None:
    """And a refinement of a cause is that cause."""
    assert is_right("unknown", frozenset())
    assert not is_right("worker_hang", frozenset())
    assert is_right("engine_hang/paused", frozenset({"engine_hang"}))
    assert not is_right("unknown", frozenset({"engine_hang"}))


def test_a_recorded_incident_is_weighed_with_less() -> None:
    """Before captures only what Prometheus told counts; a cause that is left out is not named."""
    content = load(Config(), STEPS)
    case = from_folder(FOLDER, content)
    assert grounded(case)
    before = only_metrics(case, content)
    cited = {f.step for h in before.report.verdict.hypotheses for s in h.supports for f in s.facts}
    assert cited <= set(FROM_HISTORY)
    less = without(content, {"capacity_exceeded"})
    assert "capacity_exceeded" not in {c.id for c in less.causes} | {c for b in less.playbooks for c in b.causes}
    assert rivals.first_rule(rivals.facts_of(case)) == "capacity_exceeded"


def test_worse_data_are_worse() -> None:
    """About half of the points are gone; the onset lies elsewhere; other files stay as they are."""
    raw = IncidentFolder(FOLDER).read_raw("metrics_window")["series.json"]
    half = json.loads(half_the_samples(1)("metrics_window", {"series.json": raw})["series.json"])
    known = sum(value is not None for value in half["signals"]["running"])
    whole = sum(value is not None for value in json.loads(raw)["signals"]["running"])
    assert 0.4 * whole < known < 0.6 * whole
    later = json.loads(clock_off(5.0)("metrics_window-2", {"series.json": raw})["series.json"])
    assert later["onset_at"] == json.loads(raw)["onset_at"] + 5.0
    assert half_the_samples(1)("siblings", {"series.json": b"x"}) == {"series.json": b"x"}


def test_what_peers_print_is_read_as_they_mean_it() -> None:
    """Checks without a finding say nothing; the first word that any finding has names the cause."""
    said = {"checks": [{"id": "queue_pressure", "finding": {"severity": "warning"}}, {"id": "tpot", "finding": None}]}
    assert _findings(said) == ["queue_pressure"]
    assert _meant("vllm-doctor", ["queue_pressure", "kv_cache_pressure"]) == "kv_pressure_preemption"
    assert _meant("inference-doctor", ["DECODE_PRESSURE"]) == "slow_accelerator"
    assert _meant("inference-doctor", ["failed: queue"]) == "unknown"
    assert _only('# TYPE up unknown\nup{instance="a:1"} 1 1\nup{instance="b:1"} 1 1\n# EOF', "a:1").count(b"up{") == 1


def test_without_a_family_what_needs_it_has_no_series() -> None:
    """Of `or` one side is enough, of all else everything is needed; names of older versions stand in for nobody."""
    lost = missing.lost_signals(load(Config(), STEPS))
    assert {"kv_usage"} == lost["kv_usage"]
    assert "prefix_hit_rate" in lost["prefix_hits"]
    assert "prompt_computed_rate" not in lost["prefix_hits"]
    assert "prompt_tokens_mean" not in lost["request_prompt_tokens"]
    assert {"prompt_tokens_p50", "prompt_tokens_p99", "prompt_tokens_longest"} <= lost["request_prompt_tokens"]
    assert "ttft_mean" in lost["ttft"]
    assert "prefill_time_mean" not in lost["ttft"]


def test_a_window_without_signals_has_neither_them_nor_their_engines() -> None:
    """All else stays as it is."""
    raw = {name: IncidentFolder(FOLDER).read_raw("metrics_window")[name] for name in ("series.json",)}
    less = json.loads(missing.without_signals({"running"})("metrics_window", raw)["series.json"])
    whole = json.loads(raw["series.json"])
    assert set(whole["signals"]) - set(less["signals"]) == {"running"}
    assert "running" not in less["engines"]
    assert less["signals"]["waiting"] == whole["signals"]["waiting"]


@pytest.mark.parametrize("folder", [
    "routing_imbalance_one_of_two", "frontend_starved_thirtieth_in_blocks", "giant_prompt_rare",
    "prefill_interference_steady", "growing_chats_over_prefill",
])  # fmt: skip
def test_nothing_left_out_makes_a_wrong_cause_confirmed(folder: str) -> None:
    """Recorded incidents whose look-alike was said to be confirmed where a step, or a metric family, was not there."""
    content = load(Config(), STEPS)
    case = from_folder(FOLDER.parent / folder, content)
    rows = [
        *missing.steps_left_out([case], content),
        *missing.no_prometheus([case], content),
        *missing.families_left_out([case], content, every=1),
    ]
    assert len({row.without for row in rows}) > 30
    assert [row for row in rows if row.confirmed and not row.right] == []
    assert missing.counted(rows).endswith(" 0 of them wrong")
