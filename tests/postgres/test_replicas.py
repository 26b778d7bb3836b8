"""Two real daemons on a real PostgreSQL: one is killed, stopped, cut off from the database; nothing is done twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.replicas import Trial, options_of
from tests.cluster import Cluster


@pytest.mark.timeout(400)
async def test_two_replicas_act_once_whatever_happens_to_them(cluster: Cluster, tmp_path: Path) -> None:
    """Every incident is told from its opening to its end, and each capture that touches a server runs at most once."""
    random.seed(3)
    options = options_of(["--rounds", "3", "--targets", "2", "--lease", "3", "--calm", "2"])
    figures = await Trial(cluster, tmp_path, options).run()
    assert figures["incidents"] >= 2
    assert figures["double runs"] == 0
    assert figures["incidents not told as over"] == 0
    assert figures["revisions told with two contents"] == 0
