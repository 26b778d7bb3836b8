"""Several ranks of one run: who is waited for, who is missing, how far clocks are apart."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from responder.traces import kineto
from responder.traces.rank import Analysed, analyse_trace
from responder.traces.ranks import across
from tests.traces.scene import GEMM, REDUCE, Scene


def run_of(
    folder: Path, ranks: int, late: int | None, *, clock_ns: int = 0, skip: int = 0, missing: tuple[int, ...] = ()
) -> list[Analysed]:
    """Traces of one run: rank `late` reaches every collective 200 us after the others; the last rank's clock is off by
    `clock_ns` and its recording begins `skip` collectives later."""
    dice = random.Random(7)
    found = []
    arrivals = [
        [number * 1_000_000 + dice.randint(0, 20_000) + (200_000 if rank == late else 0) for rank in range(ranks)]
        for number in range(200)
    ]
    for rank in range(ranks):
        if rank in missing:
            continue
        scene = Scene(rank=rank, world=ranks)
        shift = clock_ns if rank == ranks - 1 else 0
        for number, arrival in enumerate(arrivals):
            if rank == ranks - 1 and number < skip:
                continue
            end = max(arrival) + 30_000
            name = REDUCE if number % 3 else REDUCE.replace("AllReduce_Sum", "AllGather")
            scene.launch(GEMM, max(arrival) - 300_000 + shift + 1_000_000, max(arrival) + 700_000 + shift, 5_000)
            scene.launch(name, 0, arrival[rank] + shift + 1_000_000, end - arrival[rank], size=4096, stream=17)
        path = scene.write(folder / f"rank{rank}.json.gz")
        found += analyse_trace(kineto.read(path), path)
    return found


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_straggler_is_named_with_how_late_it_comes(ranks: int, tmp_path: Path) -> None:
    """It arrives last everywhere and causes all the waiting; the transfer is its own duration."""
    (run,) = across(run_of(tmp_path, ranks, late=1))
    assert run.straggler == "rank 1"
    (mine,) = [row for row in run.lateness if row.rank == "rank 1"]
    assert mine.last_share == 1.0
    assert mine.lateness_median_us == pytest.approx(200, abs=20)
    assert mine.caused_wait_ms == pytest.approx(200 * 0.2 * (ranks - 1), rel=0.1)
    assert run.transfer_ms == pytest.approx(200 * 0.03, rel=0.01)
    assert run.matched == 200


def test_without_a_straggler_nobody_is_blamed(tmp_path: Path) -> None:
    """Two ranks that are late by turns."""
    (run,) = across(run_of(tmp_path, 2, late=None))
    assert run.straggler == ""
    assert run.says.startswith("no rank is the straggler")


def test_clocks_are_aligned_by_the_ends_of_collectives(tmp_path: Path) -> None:
    """Traces of two hosts, five milliseconds apart: lateness is the same as without."""
    (run,) = across(run_of(tmp_path, 2, late=0, clock_ns=5_000_000))
    assert run.clock_offsets_us["rank 1"] == pytest.approx(-5_000, abs=1)
    assert run.straggler == "rank 0"
    assert run.clock_error_us < 1


def test_recordings_that_begin_apart_are_matched(tmp_path: Path) -> None:
    """The profiler starts on one rank after the other."""
    (run,) = across(run_of(tmp_path, 2, late=1, skip=17))
    assert (run.matched, run.unmatched, run.straggler) == (183, 17, "rank 1")


def test_missing_ranks_are_said(tmp_path: Path) -> None:
    """The world size is in every file."""
    (run,) = across(run_of(tmp_path, 4, late=1, missing=(2,)))
    assert run.missing == [2]
    (alone,) = across(run_of(tmp_path, 4, late=1, missing=(1, 2, 3)))
    assert alone.missing == [1, 2, 3]
    assert alone.says == "only one rank was recorded"


def test_two_sessions_in_one_folder_are_compared_each_on_its_own(tmp_path: Path) -> None:
    """A second profile of the same server does not mix with the first."""
    first = run_of(tmp_path, 2, late=1)
    second = run_of(tmp_path, 2, late=0)
    for one in second:
        one.begin_ns += 10**12
        one.end_ns += 10**12
    assert [run.straggler for run in across(first + second)] == ["rank 1", "rank 0"]


def test_a_single_gpu_has_nothing_to_compare(tmp_path: Path) -> None:
    """World size one."""
    assert across(run_of(tmp_path, 1, late=None)) == []
