"""Was a server that is gone drained? As a real PromQL engine reads its last scrapes, here 15 s apart."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from responder.backtest.walk import DRAINED_BY_ITS_LAST_SCRAPE
from responder.rules import widen
from tests.test_rules_files import promtool

LABELS = '{instance="a:8000",job="v",model_name="m",engine="0"}'


def unlike(folder: Path, drained: int, running: str, tokens: str, at_s: int) -> str:
    """What promtool finds at that moment instead of `drained`; '' when that is so."""
    series = {
        f"vllm:num_requests_running{LABELS}": running,
        f"vllm:num_requests_waiting{LABELS}": "0x8",
        f"vllm:generation_tokens_total{LABELS}": tokens,
    }
    asked = {"expr": widen(DRAINED_BY_ITS_LAST_SCRAPE, 15.0), "eval_time": f"{at_s}s",
             "exp_samples": [{"labels": LABELS, "value": drained}]}  # fmt: skip
    test = {"evaluation_interval": "15s", "tests": [{
        "interval": "15s", "promql_expr_test": [asked],
        "input_series": [{"series": name, "values": values} for name, values in series.items()]}]}  # fmt: skip
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [promtool(), "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.prometheus
@pytest.mark.parametrize("later_s", [0, 15, 30])
def test_a_server_that_had_nothing_left_to_do_was_drained_also_two_slow_scrapes_later(
    tmp_path: Path, later_s: int
) -> None:
    """Its last scrape, 120 s on, shows nothing in flight and few new tokens; then nothing comes any more."""
    assert unlike(tmp_path, 1, "5x7 0", "0+1000x7 7010", 120 + later_s) == ""


@pytest.mark.prometheus
def test_a_server_that_was_at_work_was_not(tmp_path: Path) -> None:
    """As many run as ever, and tokens came."""
    assert unlike(tmp_path, 0, "5x8", "0+1000x8", 135) == ""
