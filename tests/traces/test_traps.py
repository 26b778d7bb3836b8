"""What makes other tools give wrong answers, one test each."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from responder.traces import kineto
from responder.traces.rank import analyse_trace
from tests.traces import real
from tests.traces.scene import ATTENTION, CACHE, D2H, GEMM, H2D, LAYOUTS, REDUCE, Layout, Scene, transformer
from tests.traces.test_reference import view


def test_a_blocking_copy_is_waiting_for_the_gpu_a_submitted_one_is_not(tmp_path: Path) -> None:
    """A pageable copy returns when it is done, whatever its call is named; cudaStreamSynchronize alone would say 0."""
    scene = Scene()
    scene.launch(GEMM, 0, 5_000, 400_000)
    scene.launch(D2H, 10_000, 405_000, 50_000, took=460_000, size=268_435_456)
    scene.launch(H2D, 500_000, 510_000, 9_000, took=3_000, size=64)
    held = view(scene, tmp_path).blocked
    assert held is not None
    assert (held.total_ms, held.copy_ms, held.synchronize_ms) == (0.46, 0.46, 0.0)
    assert [(row.name, row.count) for row in held.calls] == [("cudaMemcpyAsync", 1)]


def test_in_the_real_graph_trace_copies_block_three_quarters_of_the_time() -> None:
    """And synchronisation calls next to nothing: the split is reported."""
    held = real.rank(real.GRAPH).blocked
    assert held is not None
    assert 0.75 < held.share < 0.8
    assert held.stream_synchronize_ms < 0.001 * held.copy_ms


def test_waiting_on_other_threads_holds_nobody_up(tmp_path: Path) -> None:
    """An output thread may wait for its copies: it launches nothing."""
    scene = Scene()
    scene.launch(GEMM, 0, 5_000, 100_000)
    scene.call("cudaEventSynchronize", 10_000, 90_000, tid=999)
    held = view(scene, tmp_path).blocked
    assert held is not None
    assert (held.total_ms, held.other_threads_ms) == (0.0, 0.09)


def test_a_step_lasts_until_the_next_one_starts(tmp_path: Path) -> None:
    """Under CUDA graphs its mark ends with the submission."""
    scene = Scene()
    for step in range(4):
        begin = step * 5_000_000
        scene.step(begin, 100_000)
        replay = scene.call("cudaGraphLaunch", begin + 20_000, 60_000)
        for kernel in range(5):
            scene.gpu(GEMM, begin + 100_000 + kernel * 900_000, 890_000, correlation=replay)
    rank = view(scene, tmp_path)
    assert rank.steps is not None
    assert [row.ms for row in rank.steps.rows[:3]] == [5.0, 5.0, 5.0]
    assert [row.gpu_ms for row in rank.steps.rows] == pytest.approx([4.45] * 4)
    assert rank.launches is not None
    assert (rank.launches.graph_launches, rank.launches.graph_kernels) == (4, 20)


def test_outliers_are_sought_within_phase_and_grid(tmp_path: Path) -> None:
    """A kernel that also runs in a prefill is no fiftyfold outlier; one decode instance of 18 ms among 0.4 is."""
    scene = Scene()
    for step in range(30):
        begin, prefill = step * 50_000_000, step % 10 == 0
        scene.step(begin, 1_000_000, context=int(prefill), tokens=2048 * prefill)
        long = 20_000_000 if prefill else 18_000_000 if step == 17 else 400_000
        scene.launch(ATTENTION, begin + 1_000, begin + 10_000, long)
        scene.launch(GEMM, begin + 2_000, begin + 30_000_000, 9_000_000 if step == 18 else 100_000,
                     grid=(4096 if step == 18 else 8, 1, 1))  # fmt: skip
    rank = view(scene, tmp_path)
    assert [(one.step, one.phase, one.duration_us) for one in rank.outliers] == [(17, "decode", 18_000.0)]
    assert rank.outliers[0].ratio == pytest.approx(45)
    assert [(one.step, one.grid) for one in rank.singles if one.category == "gemm"] == [(18, "4096, 1, 1")]


def test_collectives_are_compared_within_their_size(tmp_path: Path) -> None:
    """A reduction of many elements is no outlier among small ones."""
    scene = Scene()
    for step in range(20):
        scene.step(step * 1_000_000, 500_000)
        scene.launch(REDUCE, step * 1_000_000, step * 1_000_000 + 9_000, 10_000, size=4096)
        scene.launch(REDUCE, step * 1_000_000 + 1, step * 1_000_000 + 90_000, 300_000, size=16_777_216)
    assert view(scene, tmp_path).outliers == []


def test_writing_the_cache_is_not_attention(tmp_path: Path) -> None:
    """reshape_and_cache_flash has flash in its name."""
    scene = Scene()
    scene.gpu(CACHE, 0, 1_000)
    scene.gpu(ATTENTION, 2_000, 5_000)
    assert {row.name: row.sum_ms for row in view(scene, tmp_path).categories} == {"kv_cache": 0.001, "attention": 0.005}


@pytest.mark.parametrize("layout", ["multi", "single", "compact"])
def test_unescaped_names_cost_only_themselves(layout: Layout, tmp_path: Path) -> None:
    """torch writes Python frames' names without escaping quotes and newlines; every GPU number stays exact."""
    clean = transformer(4, 3)
    broken = transformer(4, 3)
    for number in range(36):
        name = ('<string>("a"): f', "line one\nline two: g", 'x{"y"}\\: h')[number % 3]
        broken.frame(name, number * 1_000, 2_000_000)
    for number in range(20):
        clean.frame(f"fine.py({number}): f", number * 1_000, 900)
        broken.frame(f"fine.py({number}): f", number * 1_000, 900)
    got, want = view(broken, tmp_path, layout), view(clean, tmp_path, layout, "c.json")
    assert got.bad_events == 36
    assert any("36 events are not valid JSON" in why for why in got.partial)
    assert (got.busy, got.categories, got.kernels, got.gaps) == (want.busy, want.categories, want.kernels, want.gaps)
    assert got.steps == want.steps


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_gzip_file_tells_what_it_has(layout: Layout, share: float, tmp_path: Path) -> None:
    """And says that it is partial. Python's reader gives an error and nothing."""
    path = transformer(8, 6).write(tmp_path / "t.json.gz", layout)
    whole = analyse_trace(kineto.read(path), path)[0].view
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    got = analyse_trace(kineto.read(path), path)[0].view
    assert 0 < got.events < whole.events or share > 0.99
    assert any("cut off" in why for why in got.partial)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_still_being_written_says_so(layout: Layout, tmp_path: Path) -> None:
    """Plain JSON without its end; the half event at the end is not an event."""
    scene = transformer(3, 2)
    path = scene.write(tmp_path / "t.json", layout, ending=False)
    got = analyse_trace(kineto.read(path), path)[0].view
    assert got.events in (len(scene.events), len(scene.events) - 1)
    assert any("cut off or still being written" in why for why in got.partial)


def test_graph_replays_without_kernels_make_idle_time_unreliable(tmp_path: Path) -> None:
    """The GPU looks idle because nobody recorded what it ran."""
    scene = Scene()
    for step in range(10):
        scene.call("cudaGraphLaunch", step * 1_000_000, 20_000)
    scene.launch(GEMM, 100, 5_000, 10_000)
    scene.launch(GEMM, 9_900_000, 9_990_000, 10_000)
    rank = view(scene, tmp_path)
    assert rank.busy is not None
    assert not rank.busy.idle_reliable
    assert any("10 of 10 CUDA-graph replays have no kernels" in note for note in rank.notes)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_beyond_64_bits_are_skipped_unread(layout: Layout, tmp_path: Path) -> None:
    """Communicator ids are larger than any integer type; the event counts all the same."""
    scene = Scene()
    scene.add("kernel", REDUCE, 0, 9_000, pid=0, tid=7, **{"Comms Id": 2**70, "correlation": 5, "grid": [2, 1, 1]})
    scene.add("kernel", REDUCE, 20_000, 9_000, pid=0, tid=7, correlation=2**80, grid=[2, 1, 1])
    rank = view(scene, tmp_path, layout)
    assert (rank.gpu_events, rank.bad_events) in ((2, 0), (1, 1))
    assert rank.gpu_events == 2 or layout in ("compact", "other")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_unknown_category_is_counted_and_harms_nobody(layout: Layout, tmp_path: Path) -> None:
    """The piece it lies in is decoded the general way."""
    scene = transformer(2, 2)
    want = view(scene, tmp_path, layout)
    scene.add("wormhole", "somewhere", 0, 5)
    got = view(scene, tmp_path, layout)
    assert got.events == want.events + 1
    assert got.busy == want.busy
    assert got.kernels == want.kernels


def test_cuda_sync_markers_are_no_gpu_work(tmp_path: Path) -> None:
    """They lie on GPU streams; counted as kernels they would hide idleness."""
    scene = transformer(2, 2)
    want = view(scene, tmp_path)
    scene.add("cuda_sync", "Stream Sync", 0, 5_000_000, pid=0, tid=7)
    got = view(scene, tmp_path)
    assert got.busy == want.busy
    assert any("1 cuda_sync markers" in note for note in got.notes)


def test_other_accelerators_runtime_calls_are_calls(tmp_path: Path) -> None:
    """xpu_runtime and its like."""
    scene = Scene()
    scene.add("xpu_runtime", "urEnqueueKernelLaunch", 0, 500, correlation=7)
    scene.gpu(GEMM, 1_000, 500, correlation=7)
    assert len(kineto.read(scene.write(tmp_path / "t.json")).calls) == 1


@pytest.mark.parametrize("name", real.ON_GPU)
def test_reading_by_lines_and_reading_as_json_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast reader against the general one, on every event of every real trace."""
    fast = real.trace(name)
    monkeypatch.setattr("responder.traces.lines.scan", lambda *a: False)
    slow = kineto.read(real.DATA / name)
    for column in ("start", "end", "correlation"):
        assert (getattr(fast.gpu, column) == getattr(slow.gpu, column)).all()
    for one, two in ((fast.gpu, slow.gpu), (fast.calls, slow.calls), (fast.marks, slow.marks), (fast.ops, slow.ops)):
        assert [fast.keys[k] for k in one.key.tolist()] == [slow.keys[k] for k in two.key.tolist()]
        assert (one.start == two.start).all()
        assert (one.end == two.end).all()
    grids = [[t.grids[g] if g >= 0 else "" for g in t.gpu.grid.tolist()] for t in (fast, slow)]
    assert grids[0] == grids[1]
    sizes = [[t.sizes[number] for number in t.gpu.size.tolist()] for t in (fast, slow)]
    assert sizes[0] == sizes[1]
    mine, theirs = dict(fast.counts), dict(slow.counts)
    theirs.pop("Trace", None)
    mine.pop("Trace", None)
    assert mine == theirs
    assert fast.bad_events == slow.bad_events == 0


def test_the_real_layouts_of_torch_213_are_read() -> None:
    """One key a line, and the Python export with one event a line."""
    assert real.trace(real.CPU).layout == "torch>=2.13"
    assert real.trace(real.EXPORT).layout == "python export"
    for name in (real.CPU, real.EXPORT):
        rank = real.rank(name)
        assert not rank.partial
        assert rank.steps is not None
        assert rank.steps.count == 3
        assert sum(row.count for row in rank.operators) == 264


def test_a_plain_and_a_gzip_file_give_the_same(tmp_path: Path) -> None:
    """By content, not by name."""
    plain = tmp_path / "t.gz"
    plain.write_bytes(gzip.decompress((real.DATA / real.LLAMA).read_bytes()))
    got = analyse_trace(kineto.read(plain), plain)[0].view
    assert got.kernels == real.rank(real.LLAMA).kernels
