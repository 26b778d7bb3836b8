"""Time per transformer layer from annotations, module stacks, or the order of kernels alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.traces import real
from tests.traces.scene import ATTENTION, GEMM, NORM, Scene, transformer
from tests.traces.test_reference import view


def test_the_layer_unlike_its_siblings_is_named(tmp_path: Path) -> None:
    """One layer's MLP takes longer; nothing annotates layers."""
    found = view(transformer(6, 8, slow_layer=5), tmp_path).layers
    assert found is not None
    assert (found.source, found.unlike, found.steps) == ("repetition", [5], 6)
    assert found.says.startswith("layer 5 takes ")
    assert found.says.endswith("in its MLP half")


def test_halves_add_up_and_collectives_are_left_out(tmp_path: Path) -> None:
    """A collective's time is waiting for another rank, no property of the layer."""
    found = view(transformer(6, 4), tmp_path).layers
    waiting = view(transformer(6, 4, ranks_late=50_000), tmp_path, name="w.json").layers
    assert found is not None
    assert waiting is not None
    for row in found.layers:
        assert row.total_us == pytest.approx(2 + 6 + 1 + 8 + 5 + 2 + 9 + 1.5 + 9)
        assert (row.attention_us, row.mlp_us) == (pytest.approx(22), pytest.approx(21.5))
    assert [row.total_us for row in waiting.layers] == pytest.approx([row.total_us for row in found.layers])


def test_alike_layers_are_said_to_be_alike(tmp_path: Path) -> None:
    """No layer is singled out for noise."""
    found = view(transformer(6, 4), tmp_path).layers
    assert found is not None
    assert found.unlike == []
    assert found.says == "4 layers alike, 43.5 us each"


def annotated(name: str, part: str) -> Scene:
    """Three layers by annotation; the second takes three times as long."""
    scene = Scene()
    for step in range(3):
        for layer in range(3):
            cpu = step * 1_000_000 + layer * 100_000
            scene.mark(name.format(layer), cpu, 90_000)
            scene.mark(part.format(layer), cpu + 1_000, 20_000)
            scene.launch(NORM, cpu + 500, cpu + 5_000, 2_000)
            scene.launch(ATTENTION, cpu + 2_000, cpu + 9_000, 10_000)
            scene.launch(GEMM, cpu + 40_000, cpu + 60_000, 8_000 * (4 if layer == 1 else 1))
    return scene


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("{{'Module': 'model.layers.{}'}}", "{{'Module': 'model.layers.{}.self_attn'}}"),
        ("layer {}", "layer {}.attention"),
    ],
)
def test_annotations_that_name_layers_are_used(name: str, part: str, tmp_path: Path) -> None:
    """vLLM's NVTX hooks, and anybody's record_function."""
    found = view(annotated(name, part), tmp_path).layers
    assert found is not None
    assert (found.source, found.unlike) == ("annotations", [1])
    assert [row.total_us for row in found.layers] == pytest.approx([20, 44, 20])
    assert [row.attention_us for row in found.layers] == pytest.approx([10, 10, 10])


def test_module_frames_of_a_real_cpu_trace_name_its_layers() -> None:
    """Four DecoderLayers in three steps, by CPU time, for there is no GPU."""
    found = real.rank(real.CPU).layers
    assert found is not None
    assert (found.source, found.steps, len(found.layers)) == ("module stacks", 3, 4)


def test_module_frames_assign_gpu_time_by_launch(tmp_path: Path) -> None:
    """With stacks, work belongs to the layer whose forward launched it."""
    scene = Scene()
    for step in range(3):
        for layer in range(4):
            cpu = step * 10_000_000 + layer * 2_000_000
            scene.frame(f"nn.Module: LlamaDecoderLayer_{layer}", cpu, 1_900_000)
            scene.frame(f"nn.Module: LlamaAttention_{layer}", cpu + 1_000, 800_000)
            scene.frame(f"nn.Module: LlamaMLP_{layer}", cpu + 900_000, 800_000)
            scene.launch(ATTENTION, cpu + 2_000, cpu + 9_000_000, 30_000)
            scene.launch(GEMM, cpu + 950_000, cpu + 9_100_000, 70_000)
    found = view(scene, tmp_path).layers
    assert found is not None
    assert found.source == "module stacks"
    assert [(r.total_us, r.attention_us, r.mlp_us) for r in found.layers] == [(100.0, 30.0, 70.0)] * 4


def test_a_trace_without_layers_has_no_layer_table(tmp_path: Path) -> None:
    """Nothing is invented."""
    scene = Scene()
    scene.launch(GEMM, 0, 5_000, 10_000)
    assert view(scene, tmp_path).layers is None
