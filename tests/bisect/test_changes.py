"""Each change takes one thing out of a launch command and nothing else; what does not apply says why."""

from __future__ import annotations

import pytest

from responder.bisect.changes import NAMES, Launch, clean, steps, without

FULL = ("vllm", "serve", "m", "--port", "8000", "--api-key", "k1", "k2", "-tp", "2", "--max-num-seqs=8",
        "--speculative-config", '{"method": "ngram"}', "--kv-cache-dtype", "fp8", "-q", "fp8",
        "-cc.cudagraph_mode=FULL")  # fmt: skip


def plan(*argv: str, device: str = "cuda", **wishes: str) -> dict[str, tuple[str, ...] | str]:
    """Change -> what it adds and takes away, or why it is skipped."""
    launch = Launch(argv=argv)
    return {step.name: step.launch.argv if step.launch else step.skipped for step in steps(launch, device, wishes)}


def test_the_order_is_cheap_and_likely_first() -> None:
    """As experts try it."""
    assert NAMES == (
        "prefix_caching_off", "cuda_graphs_off", "compilation_off", "eager", "speculation_off", "chunked_prefill_off",
        "async_scheduling_off", "attention_backend", "kv_cache_dtype_auto", "quantization_off", "float32",
        "tensor_parallel_1", "transformers",
    )  # fmt: skip


def test_every_change_of_a_full_command() -> None:
    """One change each, the rest as it was."""
    found = plan(*FULL)
    assert found["prefix_caching_off"] == (*FULL, "--no-enable-prefix-caching")
    assert found["eager"] == (*FULL, "--enforce-eager")
    assert found["cuda_graphs_off"] == (*FULL[:-1], "--compilation-config", '{"cudagraph_mode": "NONE"}')
    assert found["compilation_off"][-1] == '{"cudagraph_mode": "FULL", "mode": "NONE"}'
    assert found["speculation_off"] == tuple(w for w in FULL if "spec" not in w and "ngram" not in w)
    assert found["kv_cache_dtype_auto"][-2:] == ("--kv-cache-dtype", "auto")
    assert found["kv_cache_dtype_auto"].count("--kv-cache-dtype") == 1
    assert "-q" not in found["quantization_off"]
    assert found["tensor_parallel_1"][-2:] == ("--tensor-parallel-size", "1")
    assert "-tp" not in found["tensor_parallel_1"]
    assert found["attention_backend"][-2:] == ("--attention-backend", "TRITON_ATTN")
    assert found["float32"] == "quantised weights cannot be computed in float32"


def test_what_does_not_apply_says_why() -> None:
    """A plain CPU server has little to switch off."""
    found = plan("vllm", "serve", "m", "--enforce-eager", "--no-enable-prefix-caching", device="cpu")
    applied = [name for name, argv in found.items() if isinstance(argv, tuple)]
    assert applied == ["chunked_prefill_off", "async_scheduling_off", "float32"]
    assert all(isinstance(why, tuple) or why for why in found.values())


def test_another_backend_than_the_one_in_use() -> None:
    """The old environment variable counts, and goes."""
    launch = Launch(argv=("vllm",), environment={"VLLM_ATTENTION_BACKEND": "TRITON_ATTN", "A": "b"})
    step = next(s for s in steps(launch, "cuda") if s.name == "attention_backend")
    assert step.launch is not None
    assert step.launch.argv[-1] == "FLEX_ATTENTION"
    assert step.launch.environment == {"A": "b"}


def test_a_quantised_checkpoint_needs_its_original() -> None:
    """`--unquantized-model` replaces the model, in both spellings of a command."""
    assert "checkpoint" in plan("vllm", "serve", "m")["quantization_off"]
    assert plan("vllm", "serve", "m", "-tp", "2", unquantized_model="o")["quantization_off"][2] == "o"
    assert plan("python", "--model", "m", unquantized_model="o")["quantization_off"] == ("python", "--model", "o")


@pytest.mark.parametrize(
    ("argv", "flag", "left"),
    [
        (("a", "--enable-prefix-caching", "m"), "--enable-prefix-caching", ("a", "m")),
        (("a", "--dtype", "half", "m"), "--dtype", ("a", "m")),
        (("a", "--no-enable-x"), "--enable-x", ("a",)),
        (("a", "--enable_x=1", "c"), "--enable-x", ("a", "c")),
        (("a", "-cc.mode=none", "--b"), "--compilation-config", ("a", "--b")),
        (("a", "--seed", "-1", "--b"), "--seed", ("a", "--b")),
    ],
)
def test_a_flag_goes_with_its_values(argv: tuple[str, ...], flag: str, left: tuple[str, ...]) -> None:
    """In every spelling."""
    assert without(argv, flag) == left


def test_the_place_of_the_sick_server_is_not_copied() -> None:
    """Host, port and keys go; a key's several values, too."""
    assert clean(Launch(argv=FULL)).argv == tuple(
        w for w in FULL if w not in ("--port", "8000", "--api-key", "k1", "k2")
    )
