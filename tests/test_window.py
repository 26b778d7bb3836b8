"""What does a stored metrics window hold, and does it survive the file?"""

from __future__ import annotations

import dataclasses
import json

import pytest

from responder.signal_words import SIGNALS
from responder.window import SCRAPED_AT, Window, aggregate_of, decode, encode, gather, grid, series_of, unit_of
from tests.recorded import window

MATCH = {"instance": "a:8000"}
EMPTY = Window(start=100.0, step=5.0, length=4, onset_at=110.0, interval=5.0, asked=("running", "up"))
OURS = {"instance": "a:8000", "model_name": "m", "engine": "0"}


def test_only_our_series_are_kept() -> None:
    """Other servers, and series without our labels, do not mix in."""
    rows = [
        (OURS, [(100.0, 1.0)]),
        (OURS | {"instance": "b:8000"}, [(100.0, 50.0)]),
        ({"job": "x"}, [(100.0, 70.0)]),
    ]
    assert gather(EMPTY, {"running": rows}, MATCH).signals["running"] == (1.0, None, None, None)


def test_engines_add_up_and_are_kept() -> None:
    """Amounts are summed, the fullest cache counts, each engine stays visible; a gap of one is not a zero of both."""
    rows = [(OURS, [(100.0, 1.0), (105.0, 0.5)]), (OURS | {"engine": "1"}, [(105.0, 3.0), (110.0, None)])]
    found = gather(EMPTY, {"running": rows, "kv_usage": rows}, MATCH)
    assert found.signals["running"] == (1.0, 3.5, None, None)
    assert found.signals["kv_usage"] == (1.0, 3.0, None, None)
    assert found.engines["running"]["1"] == (None, 3.0, None, None)


def test_an_engine_that_two_scrape_is_one_engine() -> None:
    """A store that keeps what both replicas of a Prometheus say; what only one of them saw counts."""
    rows = [
        ({"instance": "a:1", "model_name": "m", "engine": "0", "prometheus_replica": name}, points)
        for name, points in (("p-0", [(100.0, 5.0), (105.0, 6.0)]), ("p-1", [(100.0, 5.0), (110.0, 7.0)]))
    ]
    found = gather(EMPTY, {"running": rows}, {"instance": "a:1"})
    assert found.signals["running"] == (5.0, 6.0, 7.0, None)
    assert not found.engines


def test_the_gpu_exporter_is_found_by_its_host() -> None:
    """It listens on a port of its own."""
    rows = [({"instance": "a:9400", "gpu": "0"}, [(100.0, 40.0)]), ({"instance": "b:9400"}, [(100.0, 99.0)])]
    assert gather(EMPTY, {"dcgm_gpu_util": rows}, MATCH).signals["dcgm_gpu_util"][0] == 40.0


@pytest.mark.parametrize(
    ("signal", "how"),
    [("running", "sum"), ("generation_rate", "sum"), ("ttft_samples", "sum"), ("ttft_p99", "max"),
     ("kv_usage", "max"), ("prefix_hit_rate", "min"), ("up", "min")],
)  # fmt: skip
def test_how_engines_become_one(signal: str, how: str) -> None:
    """Amounts add up; of the rest the worst one counts."""
    assert aggregate_of(signal) == how


@pytest.mark.parametrize("signal", sorted(SIGNALS))
def test_a_unit_is_the_one_the_reference_names(signal: str) -> None:
    """Or none: a number of tokens is not called seconds because its name begins like a latency."""
    named, used = SIGNALS[signal].unit, unit_of(signal)
    assert used in ("", named) or (used == "/s" and named.endswith("/s"))


def test_a_window_survives_its_file() -> None:
    """What is written is read, infinities and points off the grid left out."""
    rows = [(OURS, [(100.0, 1.25), (105.0, float("inf")), (110.0, 0.1 + 0.2), (999.0, 5.0)])]
    times = [(OURS, [(100.0, 1795170240.1234)])]
    before = dataclasses.replace(gather(EMPTY, {"running": rows, SCRAPED_AT: times}, MATCH), failed={"up": "why"})
    after = decode(encode(before))
    assert after is not None
    assert after.signals["running"] == (1.25, None, 0.3, None)
    assert after.signals[SCRAPED_AT][0] == 1795170240.123
    assert (after.failed, after.asked, after.end) == ({"up": "why"}, ("running", "up"), 115.0)


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{}", b"\xff", b'{"start":1}',
     json.dumps({"start": 0, "step": 1, "length": 2, "onset_at": 0, "interval": 1, "signals": {"a": [1]},
                 "engines": {}, "failed": {}, "asked": []}).encode()],
)  # fmt: skip
def test_other_files_are_no_window(raw: bytes) -> None:
    """Nothing raises; a row that does not fit its grid is a damaged file."""
    assert decode(raw) is None
    assert series_of(raw) == ()


def test_charts_get_every_signal_with_its_gaps() -> None:
    """Series carry unit and gaps; bookkeeping is not drawn."""
    series = {one.signal: one for one in series_of(window("hang_worker"))}
    assert SCRAPED_AT not in series
    assert series["ttft_p99"].unit == "s"
    assert series["running"].points[-1][1] == 19.0
    assert series["running"].points[0][1] is None


@pytest.mark.parametrize(("seconds", "step", "length"), [(600, 5.0, 121), (100_000, 100.0, 1001), (0, 5.0, 1)])
def test_the_grid_keeps_to_the_limit(seconds: float, step: float, length: int) -> None:
    """One point per scrape, fewer when the window is long."""
    assert grid(0.0, seconds, 5.0, 1000) == (step, length)
