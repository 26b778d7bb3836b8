"""Hours without a fault: the load wanders within its bounds, bursts end after ten seconds, a seed is a history."""

import gzip
import json
import random
from pathlib import Path

from bench.faults import healthy_hours, simulate

EDGE = simulate.MACHINES["edge"]


def test_load_wanders_within_its_bounds_and_over_the_whole_time() -> None:
    stretches = healthy_hours.plan(3.0, random.Random(1))
    assert stretches[0].since < -healthy_hours.BEFORE_S
    assert stretches[-1].since < 3 * 3600
    assert all(healthy_hours.LEAST <= s.share <= healthy_hours.MOST for s in stretches)
    assert len({s.share for s in stretches}) > 20


def test_a_burst_is_over_after_ten_seconds() -> None:
    stream = simulate.Stream(0.0)
    streams = healthy_hours.traffic([healthy_hours.Stretch(0.0, 0.2, stream, burst=True)])
    (in_it,), (after,) = streams(5.0, EDGE, 1.0), streams(11.0, EDGE, 1.0)
    assert in_it.rate > 2.9 * after.rate


def test_the_same_seed_is_the_same_history_without_incidents(tmp_path: Path) -> None:
    files = [tmp_path / "a.om.gz", tmp_path / "b.om.gz"]
    counts = [healthy_hours.write(file, "edge", 0.02, 7) for file in files]
    assert counts[0] == counts[1] > 1000
    assert gzip.decompress(files[0].read_bytes()) == gzip.decompress(files[1].read_bytes())
    (truth,) = json.loads((tmp_path / "a.json").read_text())["targets"].values()
    assert truth["incidents"] == []
    assert truth["to"] > truth["from"]
