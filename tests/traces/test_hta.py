"""The same numbers as HolisticTraceAnalysis 0.5.0 where both define the same quantity.

Stored by `python -m bench.traces --store-hta`, with HTA_DISABLE_NS_ROUNDING=1: by default it rounds every event to
microseconds, which makes 12 % of idle time 20 %. It computes in float microseconds: 2 in a million, or half a
microsecond, is its own rounding.
"""

from __future__ import annotations

import json
import math
from functools import cache

import pytest

from tests.traces import real


@cache
def stored() -> dict[str, dict[str, object]]:
    return json.loads((real.DATA / "hta.json").read_text())


def near(us: float) -> object:
    return pytest.approx(us, rel=2e-6, abs=0.5)


@pytest.mark.parametrize("name", real.ON_GPU)
def test_temporal_breakdown(name: str) -> None:
    """Span, idle, computing, and what is neither."""
    busy, theirs = real.rank(name).busy, stored()[name]["temporal"]
    assert busy is not None
    assert busy.span_ms * 1e3 == near(theirs["kernel_time(us)"])
    assert busy.idle_ms * 1e3 == near(theirs["idle_time(us)"])
    assert busy.compute_ms * 1e3 == near(theirs["compute_time(us)"])
    assert (busy.busy_ms - busy.compute_ms) * 1e3 == near(theirs["non_compute_time(us)"])


@pytest.mark.parametrize("name", real.ON_GPU)
def test_overlap_of_communication_and_computation(name: str) -> None:
    """Percent with two decimals; not a number without communication."""
    busy, theirs = real.rank(name).busy, stored()[name]["overlap"]["comp_comm_overlap_pctg"]
    assert busy is not None
    if math.isnan(theirs):
        assert busy.overlap_share is None
    else:
        assert busy.overlap_share is not None
        assert busy.overlap_share * 100 == pytest.approx(theirs, abs=0.006)


@pytest.mark.parametrize("name", real.ON_GPU)
def test_kernel_breakdown(name: str) -> None:
    """Every kernel's sum, longest and mean. HTA cuts copies' names to their first eleven letters."""
    mine = {row.name: row for row in real.rank(name).kernels}
    theirs = [row for row in stored()[name]["kernels"] if not row["name"].startswith("Mem")]
    found = [row for row in theirs if row["name"] in mine]
    assert len(found) >= min(len(theirs), 50)
    for row in found:
        assert mine[row["name"]].sum_ms * 1e3 == near(row["sum (us)"])
        assert mine[row["name"]].max_us == near(row["max (us)"])
        assert mine[row["name"]].sum_ms * 1e3 / mine[row["name"]].count == near(row["mean (us)"])


@pytest.mark.parametrize("name", real.ON_GPU)
def test_idle_time_by_stream(name: str) -> None:
    """Host wait, kernel wait and other, of each stream. HTA takes a kernel that starts before the one before it has
    ended for a negative pause and subtracts it from the ordinary ones; here such a pause is none."""
    gaps = real.rank(name).gaps
    assert gaps is not None
    mine = {row.stream: row for row in gaps.streams}
    for row in stored()[name]["idle"]:
        stream = mine[str(row["stream"])]
        got = {"host_wait": stream.host_wait_ms, "kernel_wait": stream.kernel_wait_ms, "other": stream.other_ms}
        negative = overlapping_us(name, str(row["stream"])) if row["idle_category"] == "kernel_wait" else 0.0
        assert got[row["idle_category"]] * 1e3 - negative == near(row["idle_time"])


def overlapping_us(name: str, stream: str) -> float:
    """How far kernels of one stream reach into the next one, added up."""
    trace = real.trace(name)
    rows = [n for n, key in enumerate(trace.gpu.key.tolist()) if trace.keys[key].lane == stream]
    pairs = zip(rows, rows[1:], strict=False)
    return sum(max(int(trace.gpu.end[a] - trace.gpu.start[b]), 0) for a, b in pairs) / 1e3


@pytest.mark.parametrize("name", [real.GRAPH, real.GRAPH_1, real.STACK])
def test_kernels_shorter_than_their_launch(name: str) -> None:
    """Where HTA knows every launch call (it does not count cuLaunchKernelEx, which the others use for most)."""
    launches = real.rank(name).launches
    assert launches is not None
    assert launches.short_kernels == stored()[name]["launch"]["short"]
