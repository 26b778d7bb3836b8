"""Two workers share a run of all tests; what must stay together does."""

from __future__ import annotations

import pytest

from tests import test_rules_files
from tests.conftest import PROMTOOL, together


@pytest.mark.parametrize(
    ("test", "unit"),
    [
        ("tests/live/test_truth.py::test_kv_starvation", "live"),
        ("tests/live/test_wrong_output.py::test_bisection[x]", "live"),
        ("tests/notify/test_digest.py::test_a[b::c]", "tests/notify/test_digest.py"),
        (f"tests/test_rules_files.py::{PROMTOOL}[latency_test.yaml]", "promtool"),
        ("tests/test_rules_files.py::test_prometheus_accepts_the_file[a.yaml]", "tests/test_rules_files.py"),
    ],
)
def test_live_tests_are_one_unit_and_so_is_a_file(test: str, unit: str) -> None:
    """Two real vLLM servers at once would starve each other."""
    assert together(test) == unit


def test_what_takes_promtool_minutes_has_that_name() -> None:
    assert callable(getattr(test_rules_files, PROMTOOL))
