"""Are the DCGM exporter's series of this host read over the incident, and another host's left alone?"""

from __future__ import annotations

from typing import Any

from responder.capture import dcgm
from responder.capture.step import NoParams
from responder.model import Outcome
from tests.doubles import BRIEF, NOW, ONSET, scene

BEFORE, AFTER = [ONSET - 300, ONSET - 100], [ONSET + 10, ONSET + 50]


def series(host: str, gpu: str, before: list[float], after: list[float]) -> tuple[dict[str, str], list[Any]]:
    points = list(zip([*BEFORE, *AFTER], [*before, *after], strict=True))
    return {"Hostname": host, "gpu": gpu, "instance": "10.0.0.9:9400"}, points


class Prometheus:
    """Answers by metric name."""

    def __init__(self, **rows: list[tuple[dict[str, str], list[Any]]]) -> None:
        self.rows = rows

    async def __call__(
        self, expr: str, start: float, end: float, step: float
    ) -> list[tuple[dict[str, str], list[Any]]]:
        assert start < ONSET < end == NOW
        return self.rows.get(expr, [])


async def run(prometheus: Prometheus | None, url: str = "http://gpu-1:8000") -> tuple[Any, dict[str, Any]]:
    async with scene(url, range_query=prometheus) as where:
        fetched = await dcgm.fetch(where, NoParams())
    found = list(dcgm.read(fetched.files, BRIEF))
    assert {fact.name for fact in found} <= {spec.name for spec in dcgm.STEP.facts}
    return fetched, {fact.name.removeprefix("dcgm."): fact.value for fact in found}


async def test_throttling_and_faults_since_the_onset() -> None:
    """Counters by growth since the onset, gauges against before; another host's GPU changes nothing."""
    prometheus = Prometheus(
        DCGM_FI_DEV_THERMAL_VIOLATION=[
            series("gpu-1", "0", [5e9, 5e9], [20e9, 35e9]),
            series("gpu-2", "0", [0, 0], [0, 59e9]),
        ],
        DCGM_FI_DEV_XID_ERRORS=[series("gpu-1", "0", [0, 0], [0, 79])],
        DCGM_FI_DEV_GPU_UTIL=[series("gpu-1", "0", [90, 90], [45, 45]), series("gpu-1", "1", [90, 90], [45, 0])],
        DCGM_FI_DEV_PCIE_REPLAY_COUNTER=[series("gpu-1", "0", [7, 7], [7, 7])],
    )
    _, said = await run(prometheus)
    assert said["gpus"] == 2
    assert said["thermal_violation_share"] == 0.5
    assert said["xid"] == 79
    assert said["pcie_replays"] == 0
    assert said["gpu_util.ratio"] == 0.375
    assert said["gpu_util.lowest"] == 22.5


async def test_an_old_xid_is_not_of_this_incident() -> None:
    """The gauge keeps the last XID for ever."""
    _, said = await run(Prometheus(DCGM_FI_DEV_XID_ERRORS=[series("gpu-1", "0", [31, 31], [31, 31])]))
    assert said["xid"] == 0


async def test_no_exporter_is_skipped_and_a_broken_prometheus_fails() -> None:
    """Silence is not health."""
    fetched, said = await run(Prometheus(DCGM_FI_DEV_GPU_UTIL=[series("gpu-2", "0", [1, 1], [1, 1])]))
    assert (fetched.outcome, said) == (Outcome.SKIPPED, {})
    assert "gpu-1" in fetched.reason

    class Broken(Prometheus):
        async def __call__(self, *_: Any) -> list[Any]:
            raise ConnectionError("refused")

    assert (await run(Broken()))[0].outcome is Outcome.FAILED
    assert (await run(None))[0].outcome is Outcome.SKIPPED


async def test_a_gpu_that_spins_is_told_from_one_that_idles() -> None:
    """As recorded of a stopped rank: full utilisation without memory activity beside none at all. Of a GPU whose memory
    nobody watches only idleness can be said."""
    prometheus = Prometheus(
        DCGM_FI_DEV_GPU_UTIL=[
            series("gpu-1", "0", [90, 90], [100, 100]),
            series("gpu-1", "1", [90, 90], [0, 0]),
            series("gpu-1", "2", [90, 90], [100, 100]),
        ],
        DCGM_FI_DEV_MEM_COPY_UTIL=[series("gpu-1", "0", [40, 40], [0, 0]), series("gpu-1", "1", [40, 40], [0, 0])],
    )
    _, said = await run(prometheus)
    assert (said["spinning"], said["idle"]) == (1, 1)
