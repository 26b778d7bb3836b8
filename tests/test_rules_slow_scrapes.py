"""The rules as `responder rules --scrape-interval` writes them for a Prometheus that looks less often."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from responder.__main__ import app
from tests.test_rules_files import promtool

ENGINE = '{instance="a:8000",job="v",model_name="m",engine="0"}'


def told(folder: Path, every_s: int, late: tuple[int, ...], minutes: int = 20) -> list[str]:
    """When VLLMFrontendStops fires, in promtool's words, from the fifth minute on.

    late: which scrapes, counted from the fifth minute on, are answered after 3 s instead of 10 ms."""
    rules = CliRunner().invoke(app, ["rules", "--scrape-interval", f"{every_s}s"])
    (folder / "rules.yaml").write_text(rules.stdout)
    count, first = 60 * minutes // every_s, 300 // every_s
    took = " ".join("3" if n - first in late else "0.01" for n in range(count))
    series = {
        f"vllm:num_requests_running{ENGINE}": f"2x{count}",
        f"vllm:generation_tokens_total{ENGINE}": f"0+{100 * every_s}x{count}",
        'up{instance="a:8000",job="v"}': f"1x{count}",
        'scrape_duration_seconds{instance="a:8000",job="v"}': took,
    }
    asked = [
        {"expr": 'count(ALERTS{alertname="VLLMFrontendStops",alertstate="firing"})', "eval_time": f"{at}s"}
        for at in range(300, 60 * minutes, 15)
    ]
    test = {
        "rule_files": ["rules.yaml"], "evaluation_interval": "5s",
        "tests": [{"interval": f"{every_s}s", "promql_expr_test": asked,
                   "input_series": [{"series": name, "values": values} for name, values in series.items()]}],
    }  # fmt: skip
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [promtool(), "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    return [line.strip() for line in done.stderr.splitlines() if "time: " in line]


@pytest.mark.prometheus
@pytest.mark.parametrize("every_s", [5, 10, 15, 30, 60])
def test_a_single_late_scrape_is_no_front_end_that_stops(tmp_path: Path, every_s: int) -> None:
    """Of four scrapes in a window one is a quarter: collected garbage, not stops again and again."""
    assert told(tmp_path, every_s, (0,)) == []


@pytest.mark.prometheus
def test_late_scrapes_again_and_again_are(tmp_path: Path) -> None:
    """Every third scrape of 5 s comes late."""
    assert told(tmp_path, 5, tuple(range(0, 60, 3))) != []
