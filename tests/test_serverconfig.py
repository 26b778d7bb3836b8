"""How is a server configured, when sources agree, differ or are missing?"""

from __future__ import annotations

from typing import Any

from responder.model import Scalar
from responder.serverconfig import CONFIG_UNITS, Sources, merge

ARGS = "(APIServer pid=7) INFO 11-20 10:00:00 [u.py:1] non-default args: {'max_num_seqs': 64, 'max_model_len': 8192}"
ENGINE = (
    "(EngineCore pid=8) INFO 11-20 10:00:01 [core.py:1] Initializing a V1 LLM engine (v0.26.0) with config: "
    "model='/m', speculative_config=None, max_seq_len=8192, tensor_parallel_size=1, pipeline_parallel_size=1, "
    "data_parallel_size=1, quantization=None, enforce_eager=False, kv_cache_dtype=auto, device_config=cuda"
)


def config(
    command: str = "",
    environment: dict[str, str] | None = None,
    startup: tuple[str, ...] = (),
    cache: dict[str, str] | None = None,
    **launch: Any,
) -> dict[str, tuple[Scalar, str]]:
    """Name -> (value, source)."""
    started = {"command": command.split(), "environment": environment or {}, **launch} if command else launch
    sources = Sources.of(started, startup, {}, cache or {})
    return {name: (value, source) for name, value, source in merge(sources)}


def test_a_flag_beats_the_log_beats_the_metrics() -> None:
    """The order of trust."""
    found = config(
        "vllm serve /m --max-num-seqs 8",
        startup=(ARGS,),
        cache={"block_size": "16", "num_gpu_blocks": "100", "gpu_memory_utilization": "0.92"},
    )
    assert found["max_num_seqs"] == (8, "command line")
    assert found["max_model_len"] == (8192, "start-up log")
    assert found["gpu_memory_utilization"] == (0.92, "metrics")
    assert found["kv_tokens"] == (1600, "metrics")
    assert found["source"][0] == "command line, documented default, metrics, start-up log"


def test_nothing_known_is_unknown() -> None:
    """Every name is answered, every value unknown; no default is made up."""
    found = config()
    assert set(found) == set(CONFIG_UNITS)
    assert {value for name, (value, _) in found.items() if name != "max_num_seqs_known"} == {None}
    assert found["max_num_seqs_known"][0] is False


def test_defaults_only_where_all_options_are_known() -> None:
    """An option not seen is not set, unless a configuration file may set it."""
    assert config("vllm serve /m")["tensor_parallel"] == (1, "documented default")
    assert config("vllm serve /m")["profiler"] == ("none", "documented default")
    assert config("vllm serve /m --config x.yaml")["tensor_parallel"] == (None, "")
    assert config("vllm serve /m --config x.yaml")["profiler"] == (None, "")
    assert config("vllm serve /m")["max_num_seqs"] == (None, ""), "its default depends on the GPU"


def test_the_engine_line_resolves_what_nobody_set() -> None:
    """vLLM prints what it made of the options."""
    found = config(startup=(ENGINE,))
    assert found["version"] == ("0.26.0", "start-up log")
    assert (found["device"][0], found["enforce_eager"][0], found["speculative"][0]) == ("cuda", False, "none")
    assert found["quantization"][0] == "none"


def test_an_old_v0_start() -> None:
    """The Namespace line, the banner and the block count of 0.6."""
    found = config(
        startup=(
            "INFO 01-01 10:00:00 api_server.py:712] vLLM API server version 0.6.6",
            "INFO 01-01 10:00:00 api_server.py:713] args: Namespace(max_num_seqs=256, quantization=None, port=8000)",
            "INFO 01-01 10:00:09 distributed_gpu_executor.py:57] # GPU blocks: 4,567, # CPU blocks: 512",
        )
    )
    assert (found["version"][0], found["max_num_seqs"][0], found["num_gpu_blocks"][0]) == ("0.6.6", 256, 4567)


def test_another_process_log_is_not_this_server() -> None:
    """A log left over from an earlier start names another pid."""
    assert config("vllm serve /m", startup=(ARGS,), pids=[7])["max_num_seqs"] == (64, "start-up log")
    assert config("vllm serve /m", startup=(ARGS,), pids=[99])["max_num_seqs"] == (None, "")


def test_a_bounded_profiler() -> None:
    """Bounded: ends by itself, no stacks, no front end; anything else has frozen servers."""
    safe = (
        '--profiler-config {"profiler":"torch","max_iterations":8,'
        '"torch_profiler_with_stack":false,"ignore_frontend":true}'
    )
    assert config(f"vllm serve /m {safe}")["profiler_bounded"] == (True, "command line")
    for risky in (
        safe.replace("8", "0"),
        safe.replace('"torch_profiler_with_stack":false,', ""),
        safe.replace('"ignore_frontend":true', '"ignore_frontend":false'),
    ):
        assert config(f"vllm serve /m {risky}")["profiler_bounded"][0] is False
    assert config("vllm serve /m")["profiler_bounded"] == (None, "")
    by_environment = config("vllm serve /m", {"VLLM_TORCH_PROFILER_DIR": "/t"}, version="0.11.0")
    assert (by_environment["profiler"][0], by_environment["profiler_bounded"][0]) == ("torch", False)
    ignored = config("vllm serve /m", {"VLLM_TORCH_PROFILER_DIR": "/t"}, version="0.26.0")
    assert ignored["profiler"][0] == "none"


def test_the_deadline_of_a_silent_worker() -> None:
    """300 s by default where there are worker processes; one GPU has none at all."""
    two = "vllm serve /m -tp 2"
    assert config(two, version="0.26.0")["execute_timeout_s"] == (300, "documented default")
    assert config(two, version="0.9.1")["execute_timeout_s"] == (None, "")
    assert config(two, {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "20"})["execute_timeout_s"] == (20, "command line")
    assert config("vllm serve /m", startup=(ENGINE,))["execute_timeout_s"] == (None, "")


def test_speculation_is_named_by_its_method() -> None:
    """JSON on the command line, a printed object in the log."""
    assert (
        config('vllm serve /m --speculative-config {"method":"ngram","num_speculative_tokens":3}')["speculative"][0]
        == "ngram"
    )
    printed = ENGINE.replace(
        "speculative_config=None", "speculative_config=SpeculativeConfig(method='eagle', model='x')"
    )
    assert config(startup=(printed,))["speculative"][0] == "eagle"


def test_several_engines_leave_the_front_ends_open() -> None:
    """vLLM chooses the number of API servers by itself then."""
    assert config("vllm serve /m")["api_server_count"][0] == 1
    assert config("vllm serve /m -dp 2")["api_server_count"][0] is None
    assert config("vllm serve /m -dp 2 -asc 4")["api_server_count"][0] == 4


def test_what_remedies_ask_for_is_read():
    """An override of the KV blocks, chunked prefill, the order of serving, memory for the cache on a CPU."""
    found = config(
        "vllm serve /m --num-gpu-blocks-override 128 --scheduling-policy priority",
        {"VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_TARGET_DEVICE": "cpu"},
        startup=(ENGINE + ", enable_chunked_prefill=True",),
    )
    assert found["num_gpu_blocks_override"] == (128, "command line")
    assert found["scheduling_policy"] == ("priority", "command line")
    assert found["cpu_kv_space"] == (4, "command line")
    assert found["chunked_prefill"] == (True, "start-up log")
    assert config("vllm serve /m", {"VLLM_TARGET_DEVICE": "cpu"})["device"] == ("cpu", "command line")
    assert config("vllm serve /m")["num_gpu_blocks_override"] == (0, "documented default")
    assert config("vllm serve /m")["scheduling_policy"] == ("fcfs", "documented default")
    assert config()["num_gpu_blocks_override"] == (None, "")
