"""The engine's numbers against plain loops, on traces with every sort of overlap, in every layout."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from responder.traces import kineto
from responder.traces.rank import analyse_trace
from responder.traces.views import Rank
from tests.traces import scene as made
from tests.traces import slow
from tests.traces.scene import LAYOUTS, Layout, Scene, transformer

NAMES = (
    made.ATTENTION,
    made.GEMM,
    made.NORM,
    made.CACHE,
    made.REDUCE,
    made.SORT,
    made.D2H,
    made.H2D,
    "Memset (Device)",
)


def view(scene: Scene, folder: Path, layout: Layout = "multi", name: str = "t.json") -> Rank:
    """Write, read and analyse."""
    path = scene.write(folder / name, layout)
    return analyse_trace(kineto.read(path), path)[0].view


def random_scene(seed: int) -> Scene:
    """Overlapping streams, nested operators, launches known and unknown, steps of random length."""
    dice = random.Random(seed)
    scene = Scene()
    for step in range(dice.randint(2, 6)):
        scene.step(step * 400_000 + dice.randint(0, 50_000), dice.randint(10_000, 300_000))
    for _ in range(dice.randint(5, 120)):
        start, dur = dice.randint(0, 2_500_000), dice.choice((0, 1, 999, 1000, dice.randint(1, 90_000)))
        name = dice.choice(NAMES)
        if dice.random() < 0.8:
            cpu = max(start - dice.randint(0, 300_000), 0)
            scene.launch(name, cpu, start, dur, took=dice.randint(1, 9_000), stream=dice.choice((7, 7, 7, 13, 17)))
        else:
            scene.gpu(name, start, dur, stream=dice.choice((7, 13)), grid=(dice.randint(1, 3), 1, 1))
    _nested(scene, dice, 0, 2_000_000, 0)
    return scene


def _nested(scene: Scene, dice: random.Random, low: int, high: int, depth: int) -> None:
    at = low
    while at < high - 4 and depth < 5:
        start = dice.randint(at + 1, high - 2)
        end = dice.randint(start + 1, high - 1)
        scene.op(f"aten::op{dice.randint(0, 5)}", start, end - start)
        if dice.random() < 0.6:
            _nested(scene, dice, start, end, depth + 1)
        at = end + (high - low) // 8


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(12))
def test_all_numbers_equal_those_of_plain_loops(seed: int, layout: Layout, tmp_path: Path) -> None:
    """Busy, idle, overlap, categories, kernels, steps and operators: to the nanosecond."""
    scene = random_scene(seed)
    got, want = view(scene, tmp_path, layout), slow.busy(scene)
    assert got.busy is not None
    mine = (
        got.busy.span_ms,
        got.busy.busy_ms,
        got.busy.idle_ms,
        got.busy.compute_ms,
        got.busy.collective_ms,
        got.busy.memory_ms,
    )
    names = ("span", "busy", "idle", "compute", "collective", "memory")
    assert [round(ms * 1e6) for ms in mine] == [want[name] for name in names]
    assert round(got.busy.exposed_collective_ms * 1e6) == want["collective"] - want["hidden"]
    kinds = {row.name: (row.count, round(row.sum_ms * 1e6), round(row.wall_ms * 1e6)) for row in got.categories}
    assert kinds == slow.by_category(scene)
    kernels = {
        row.name: (row.count, round(row.sum_ms * 1e6), row.median_us * 1e3, round(row.max_us * 1e3))
        for row in got.kernels
    }
    assert kernels.keys() == slow.by_kernel(scene).keys()
    for name, row in slow.by_kernel(scene).items():
        assert kernels[name] == pytest.approx(row)
    assert got.steps is not None
    steps = [(round(s.ms * 1e6), round(s.gpu_ms * 1e6)) for s in got.steps.rows]
    assert steps == [(end - start, gpu) for start, end, gpu in slow.step_gpu(scene)]
    operators = {r.name: (r.count, round(r.total_ms * 1e6), round(r.self_ms * 1e6)) for r in got.operators}
    assert operators == slow.op_totals(scene)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_idle_causes_are_disjoint_and_together_all_the_idle_time(layout: Layout, tmp_path: Path) -> None:
    """Every idle nanosecond has exactly one cause."""
    got = view(transformer(), tmp_path, layout)
    assert got.gaps is not None
    assert got.busy is not None
    assert sum(row.ms for row in got.gaps.causes) == pytest.approx(got.busy.idle_ms, abs=1e-9)
    assert sum(row.ms for row in got.gaps.buckets) == pytest.approx(got.busy.idle_ms, abs=1e-9)
    for gap in got.gaps.longest:
        assert sum(gap.causes.values()) == pytest.approx(gap.ms, abs=1e-9)


def test_a_file_of_many_pieces_reads_like_one_of_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are cut at piece ends of any size; nothing is lost or doubled."""
    scene = transformer(3, 2)
    whole = {layout: view(scene, tmp_path, layout) for layout in LAYOUTS}
    for size in (700, 1_111, 4_096):
        monkeypatch.setattr("responder.traces.source.PIECE", size)
        for layout in LAYOUTS:
            assert view(scene, tmp_path, layout) == whole[layout]


def test_operators_nest_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own time is right when a parent and its children are reduced in different batches."""
    monkeypatch.setattr("responder.traces.collect.OPS_AT_ONCE", 3)
    monkeypatch.setattr("responder.traces.source.PIECE", 900)
    for seed in range(6):
        scene = random_scene(seed)
        got = view(scene, tmp_path)
        operators = {r.name: (r.count, round(r.total_ms * 1e6), round(r.self_ms * 1e6)) for r in got.operators}
        assert operators == slow.op_totals(scene)
