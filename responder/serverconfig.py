"""How is a server configured, given what its command line, its log, its version and its metrics say?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from responder.launchargs import arguments_in, number, options_of, profiler_options, truth, word
from responder.model import Scalar

LOG_MARKS = (
    b"non-default args: ",
    b"args: Namespace(",
    b"vLLM API server version ",
    b"  version ",
    b" LLM engine (v",
    b"max_num_batched_tokens=",
    b"KV cache size: ",
    b"# GPU blocks: ",
    b"Using max model len ",
)
"""What marks a log line worth keeping; the first two stand once at every start."""

CONFIG_UNITS: Mapping[str, tuple[str, str]] = {
    "version": ("", "vLLM's version"),
    "max_num_seqs": ("requests", "most requests one engine runs at a time"),
    "max_num_batched_tokens": ("tokens", "most tokens in one engine step"),
    "max_model_len": ("tokens", "longest context"),
    "gpu_memory_utilization": ("share", "share of GPU memory vLLM may take"),
    "num_gpu_blocks": ("blocks", "KV cache blocks of one engine"),
    "num_gpu_blocks_override": ("blocks", "KV cache blocks set by hand; 0: vLLM counts what fits"),
    "block_size": ("tokens", "tokens per KV cache block"),
    "kv_tokens": ("tokens", "tokens the KV cache of one engine holds"),
    "kv_cache_dtype": ("", "type of KV cache entries"),
    "cpu_kv_space": ("GiB", "memory for the KV cache of a server on a CPU"),
    "enforce_eager": ("", "whether CUDA graphs and compilation are off"),
    "prefix_caching": ("", "whether shared prompt prefixes are cached"),
    "chunked_prefill": ("", "whether long prompts are computed in several steps"),
    "scheduling_policy": ("", "fcfs (in order of arrival) or priority"),
    "tensor_parallel": ("", "GPUs one layer is spread over"),
    "pipeline_parallel": ("", "pipeline stages"),
    "data_parallel": ("", "engines side by side"),
    "speculative": ("", "speculative decoding method, or none"),
    "quantization": ("", "weight quantization, or none"),
    "profiler": ("", "profiler kind the server was started with: none, torch, cuda or proton"),
    "profiler_bounded": ("", "whether a profile of this server ends by itself and records no stacks"),
    "api_server_count": ("", "API server processes"),
    "device": ("", "cuda, cpu, …"),
    "execute_timeout_s": ("s", "after which a silent worker makes the engine give up"),
    "max_num_seqs_known": ("", "whether the most requests at a time is known"),
    "source": ("", "where these values come from"),
}

Found = tuple[Scalar, str]
"""A value and the source that said it."""
NOTHING: Found = (None, "")
COMMAND, LOG, METRICS, ANSWER, DEFAULT = (
    "command line",
    "start-up log",
    "metrics",
    "/version",
    "documented default",
)


@dataclass(frozen=True)
class Sources:
    """What each source says, as option -> raw text."""

    flags: Mapping[str, str]
    environment: Mapping[str, str]
    arguments: Mapping[str, str]
    """The log's `args` line: what the operator set, configuration files and environment included."""
    resolved: Mapping[str, str]
    """The log's engine line: what vLLM made of it."""
    cache: Mapping[str, str]
    """Labels of vllm:cache_config_info."""
    lines: str
    versions: tuple[Found, ...]
    complete: bool
    """Whether everything the operator set is known, so that an option not seen is an option not set."""

    @classmethod
    def of(
        cls,
        launch: Mapping[str, Any],
        startup: Sequence[str],
        version: Mapping[str, Any],
        cache: Mapping[str, str],
    ) -> Sources:
        """From the raw files, each of which may be empty."""
        command = [str(part) for part in launch.get("command") or ()]
        flags = options_of(command)
        arguments = _arguments(startup, launch.get("pids") or ())
        resolved: dict[str, str] = {}
        logged_version = None
        for line in startup:
            if engine := re.search(r" LLM engine \(v([^)]+)\) with config: (.*)", line):
                logged_version, resolved = engine[1], arguments_in(engine[2])
            elif banner := re.search(r"(?:API server version |█  version )(\S+)", line):
                logged_version = logged_version or banner[1]
        versions = ((version.get("version"), ANSWER), (launch.get("version"), COMMAND), (logged_version, LOG))
        return cls(
            flags=flags,
            environment={str(k): str(v) for k, v in (launch.get("environment") or {}).items()},
            arguments=arguments,
            resolved=resolved,
            cache=cache,
            lines="\n".join(startup),
            versions=tuple((str(value), source) for value, source in versions if value),
            complete=bool(arguments) or (bool(command) and "config" not in flags),
        )

    def raw(self, *names: str, label: str = "") -> Iterator[tuple[str, str]]:
        """What the sources say about an option under any of its names, most trusted first."""
        for source, said in ((COMMAND, self.flags), (LOG, self.arguments), (LOG, self.resolved)):
            for name in names:
                if name in said:
                    yield said[name], source
        if label in self.cache:
            yield self.cache[label], METRICS

    def number(self, *names: str, label: str = "", line: str = "", default: float | None = None) -> Found:
        """The first readable number; `line` is a pattern for log lines that print it."""
        for raw, source in self.raw(*names, label=label):
            if (value := number(raw)) is not None:
                return _tidy(value), source
        if line and (match := re.search(line, self.lines)) and (value := number(match[1])) is not None:
            return _tidy(value), LOG
        return (_tidy(default), DEFAULT) if default is not None and self.complete else NOTHING

    def truth(self, *names: str, label: str = "", default: bool | None = None) -> Found:
        """The first readable boolean."""
        for raw, source in self.raw(*names, label=label):
            if (value := truth(raw)) is not None:
                return value, source
        return (default, DEFAULT) if default is not None and self.complete else NOTHING

    def word(self, *names: str, label: str = "", default: str | None = None) -> Found:
        """The first readable word; a printed None means `default`."""
        for raw, source in self.raw(*names, label=label):
            if (value := word(raw)) is not None:
                return value, source
            if raw == "None" and default is not None:
                return default, source
        return (default, DEFAULT) if default is not None and self.complete else NOTHING


def merge(sources: Sources) -> Iterator[tuple[str, Scalar, str]]:
    """Every name of CONFIG_UNITS in order, with value (None: unknown) and source ("" when unknown or derived)."""
    found = _found(sources)
    found["max_num_seqs_known"] = (found["max_num_seqs"][0] is not None, "")
    used = sorted({source for value, source in found.values() if value is not None and source})
    found["source"] = (", ".join(used) or None, "")
    for name in CONFIG_UNITS:
        value, source = found[name]
        yield name, value, source if value is not None else ""


def _found(sources: Sources) -> dict[str, Found]:
    version = sources.versions[0] if sources.versions else NOTHING
    parallel = {
        "tensor_parallel": sources.number("tensor_parallel_size", default=1),
        "pipeline_parallel": sources.number("pipeline_parallel_size", default=1),
        "data_parallel": sources.number("data_parallel_size", default=1),
    }
    device = sources.word("device_config", "device")
    if device[0] is None and sources.environment.get("VLLM_TARGET_DEVICE") == "cpu":
        device = ("cpu", COMMAND)
    profiler, bounded = _profiler(sources)
    blocks = sources.number("num_gpu_blocks_override", label="num_gpu_blocks", line=r"# \w+ blocks: ([\d,]+)")
    block_size = sources.number("block_size", label="block_size")
    return {
        "version": version,
        "max_num_seqs": sources.number("max_num_seqs"),
        "max_num_batched_tokens": sources.number(
            "max_num_batched_tokens", line=r"enabled with max_num_batched_tokens=(\d+)"
        ),
        "max_model_len": sources.number("max_model_len", "max_seq_len", line=r"Using max model len (\d+)"),
        "gpu_memory_utilization": sources.number("gpu_memory_utilization", label="gpu_memory_utilization"),
        "num_gpu_blocks": blocks,
        "num_gpu_blocks_override": sources.number(
            "num_gpu_blocks_override", label="num_gpu_blocks_override", default=0
        ),
        "block_size": block_size,
        "kv_tokens": _kv_tokens(sources, blocks, block_size),
        "kv_cache_dtype": sources.word("kv_cache_dtype", label="cache_dtype"),
        "cpu_kv_space": _cpu_kv_space(sources),
        "enforce_eager": sources.truth("enforce_eager", default=False),
        "prefix_caching": sources.truth("enable_prefix_caching", label="enable_prefix_caching"),
        "chunked_prefill": sources.truth("enable_chunked_prefill", "chunked_prefill_enabled"),
        "scheduling_policy": sources.word("scheduling_policy", default="fcfs"),
        **parallel,
        "speculative": _speculative(sources),
        "quantization": sources.word("quantization", default="none"),
        "profiler": profiler,
        "profiler_bounded": bounded,
        # With several engines vLLM chooses a number of API servers by itself.
        "api_server_count": sources.number(
            "api_server_count", default=1 if parallel["data_parallel"][0] in (None, 1) else None
        ),
        "device": (str(device[0]).removeprefix("DeviceConfig(").lower(), device[1]) if device[0] else NOTHING,
        "execute_timeout_s": _execute_timeout(sources, version, parallel, device),
    }


def _arguments(startup: Sequence[str], pids: Sequence[int]) -> dict[str, str]:
    """The args line of the log; a line printed by another process is another start's."""
    for line in reversed(startup):
        match = re.search(r"(?:non-default args: |args: (?=Namespace\())(.*)", line)
        if match:
            printed_by = re.search(r"pid=(\d+)\)", line)
            if printed_by and pids and int(printed_by[1]) not in pids:
                return {}
            return arguments_in(match[1])
    return {}


def _tidy(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _kv_tokens(sources: Sources, blocks: Found, block_size: Found) -> Found:
    found = sources.number(label="kv_cache_size_tokens", line=r"KV cache size: ([\d,]+) tokens")
    if found[0] is None and isinstance(blocks[0], int) and isinstance(block_size[0], int):
        return blocks[0] * block_size[0], blocks[1]
    return found


def _cpu_kv_space(sources: Sources) -> Found:
    value = number(sources.environment.get("VLLM_CPU_KVCACHE_SPACE"))
    return (_tidy(value), COMMAND) if value else NOTHING


def _speculative(sources: Sources) -> Found:
    """The method, because that is what the advice depends on; `none` when it is known to be off."""
    raw, source = sources.word("speculative_config", "speculative_model", default="none")
    if not isinstance(raw, str) or raw == "none":
        return raw, source
    inside = {k: v.strip("'\" ") for k, v in arguments_in(raw.replace('"', "'")).items()}
    return inside.get("method") or inside.get("model") or raw[:60], source


def _profiler(sources: Sources) -> tuple[Found, Found]:
    """Kind, and whether a profile is bounded: it ends after some steps and records neither stacks nor the front end.
    Anything else has stopped servers for 45 to 260 s when the profile was written."""
    for said, source in ((sources.flags, COMMAND), (sources.arguments, LOG)):
        options = profiler_options(said)
        if options:
            kind = options.get("profiler", "none")
            kind = "none" if kind in ("", "None") else kind
            if kind == "none":
                return (kind, source), NOTHING
            bounded = (number(options.get("max_iterations")) or 0) > 0
            if kind == "torch":
                bounded = bounded and truth(options.get("torch_profiler_with_stack", "True")) is False
                bounded = bounded and truth(options.get("ignore_frontend", "False")) is True
            return (kind, source), (bounded, source)
    # Up to 0.15 the environment switched it on.
    env = sources.environment
    if env.get("VLLM_TORCH_PROFILER_DIR") and not _at_least(sources.versions, (0, 16)):
        limited = (number(env.get("VLLM_PROFILER_MAX_ITERS")) or 0) > 0
        return ("torch", COMMAND), (
            limited
            and env.get("VLLM_TORCH_PROFILER_WITH_STACK") == "0"
            and env.get("VLLM_TORCH_PROFILER_DISABLE_ASYNC_LLM") == "1",
            COMMAND,
        )
    return (("none", DEFAULT) if sources.complete else NOTHING), NOTHING


def _execute_timeout(sources: Sources, version: Found, parallel: Mapping[str, Found], device: Found) -> Found:
    """Only the multiprocess executor has it; one GPU runs the model inside the engine process, without any time-out."""
    set_to = number(sources.environment.get("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"))
    one_gpu = device[0] == "cuda" and parallel["tensor_parallel"][0] == 1 and parallel["pipeline_parallel"][0] == 1
    executor = sources.word("distributed_executor_backend")[0]
    if (one_gpu and executor != "mp") or executor in ("ray", "uni"):
        return NOTHING
    if set_to is not None:
        return _tidy(set_to), COMMAND
    return (300, DEFAULT) if version[0] and _at_least(sources.versions, (0, 9, 2)) else NOTHING


def _at_least(versions: Sequence[Found], wanted: tuple[int, ...]) -> bool:
    digits = re.findall(r"\d+", str(versions[0][0]))[:3] if versions else []
    return tuple(int(digit) for digit in digits) >= wanted
