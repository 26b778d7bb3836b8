"""Which options could be to blame, in which order, and how is each taken out of a launch command?

Cheap and likely first. Every change starts from the original command, so a heal names one option and not a pile of
them. What a command or a device cannot show is skipped with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from responder.launchargs import options_of
from responder.model import Noun

SHORT = {"-tp": "--tensor-parallel-size", "-q": "--quantization", "-sc": "--speculative-config",
         "-cc": "--compilation-config", "-O": "--optimization-level"}  # fmt: skip
OURS = ("--host", "--port", "--uds", "--api-key", "--ssl-keyfile", "--ssl-certfile", "--root-path",
        "--otlp-traces-endpoint", "--profiler-config")  # fmt: skip
"""Options of the sick server that a copy beside it must not have."""
BARE = frozenset({"--enable-prefix-caching", "--enable-chunked-prefill", "--async-scheduling", "--enforce-eager"})
SEVERAL = frozenset({"--api-key"})
"""Flags without a value (what follows may be the model), and those with any number of them."""
BACKENDS = {"cuda": ("TRITON_ATTN", "FLEX_ATTENTION", "FLASH_ATTN"), "rocm": ("TRITON_ATTN",)}


class Launch(Noun):
    """How a server is started."""

    argv: tuple[str, ...]
    environment: dict[str, str] = {}
    """On top of what we have ourselves."""


class Step(Noun):
    """One change to try, or the reason why not."""

    name: str
    says: str
    option: str = ""
    """What an operator would write."""
    launch: Launch | None = None
    skipped: str = ""


Made = tuple[Launch, str] | str
"""A launch and the option in words, or why the change does not apply."""
Change = Callable[[Launch, Mapping[str, str], str, Mapping[str, str]], Made]
"""(launch, options, device, wishes)"""


def steps(launch: Launch, device: str, wishes: Mapping[str, str] | None = None) -> tuple[Step, ...]:
    """Every change in order. `device`: cpu, cuda or rocm; `wishes`: `unquantized_model`."""
    options = options_of(launch.argv)
    out = []
    for name, says, change in CHANGES:
        made = change(launch, options, device, wishes or {})
        if isinstance(made, str):
            out.append(Step(name=name, says=says, skipped=made))
        else:
            out.append(Step(name=name, says=says, launch=made[0], option=made[1]))
    return tuple(out)


def clean(launch: Launch) -> Launch:
    """The command without what belongs to the sick server's place (host, port, keys)."""
    argv = launch.argv
    for flag in OURS:
        argv = without(argv, flag)
    return launch.model_copy(update={"argv": argv})


def without(argv: Sequence[str], flag: str) -> tuple[str, ...]:
    """argv without a flag in any of its spellings (with `_`, short, `--no-`, dotted) and its values."""
    names = {flag, flag.replace("--", "--no-", 1), *(short for short, long in SHORT.items() if long == flag)}
    takes = 0 if flag in BARE else len(argv) if flag in SEVERAL else 1
    out: list[str] = []
    skipping = 0
    for word in argv:
        if word.startswith("-") and not word.lstrip("-")[:1].isdigit():
            head, equals, _ = word.partition("=")
            skipping = 0
            if head.split(".", 1)[0].replace("_", "-") in names:
                skipping = 0 if equals else takes
                continue
        elif skipping:
            skipping -= 1
            continue
        out.append(word)
    return tuple(out)


def having(launch: Launch, flag: str, *value: str) -> Launch:
    """The launch with a flag set, whatever it was before."""
    return launch.model_copy(update={"argv": (*without(launch.argv, flag), flag, *value)})


def _switched_off(flag: str, option: str) -> Change:
    def change(launch: Launch, options: Mapping[str, str], device: str, wishes: Mapping[str, str]) -> Made:
        if options.get(option) == "False":
            return "it is off already"
        argv = (*without(launch.argv, flag), flag.replace("--", "--no-", 1))
        return launch.model_copy(update={"argv": argv}), flag.replace("--", "--no-", 1)

    return change


def _compilation(key: str, value: str) -> Change:
    def change(launch: Launch, options: Mapping[str, str], device: str, wishes: Mapping[str, str]) -> Made:
        if options.get("enforce_eager") == "True":
            return "--enforce-eager is on, so there are neither graphs nor compiled code"
        if key == "cudagraph_mode" and device == "cpu":
            return "a CPU has no CUDA graphs"
        config: dict[str, object] = {key: value}
        given = options.get("compilation_config", "")
        if given.startswith("{"):
            try:
                config = json.loads(given) | config
            except ValueError:
                return "the --compilation-config of this command cannot be read"
        dotted = {name.split(".", 1)[1]: v for name, v in options.items()
                  if name.startswith("compilation_config.")}  # fmt: skip
        config = {name: _plain(v) for name, v in dotted.items()} | config
        return having(launch, "--compilation-config", json.dumps(config)), f"-cc.{key}={value}"

    return change


def _plain(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


def _eager(launch: Launch, options: Mapping[str, str], device: str, wishes: Mapping[str, str]) -> Made:
    if options.get("enforce_eager") == "True":
        return "--enforce-eager is on already"
    return having(launch, "--enforce-eager"), "--enforce-eager"


def _speculation(launch: Launch, options: Mapping[str, str], device: str, wishes: Mapping[str, str]) -> Made:
    if not any(name.startswith("speculative_") for name in options):
        return "there is no speculative decoding"
    return launch.model_copy(update={"argv": without(launch.argv, "--speculative-config")}), "no --speculative-config"


def _backend(launch: Launch, options: Mapping[str, str], device: str, wishes: Mapping[str, str]) -> Made:
    used = options.get("attention_backend", launch.environment.get("VLLM_ATTENTION_BACKEND", ""))
    other = next((name for name in BACKENDS.get(device, ()) if name != used.upper()), "")
    if not other:
        return f"there is no other attention backend on {device}"
    environment = {k: v for k, v in launch.environment.items() if k != "VLLM_ATTENTION_BACKEND"}
    changed = having(launch, "--attention-backend", other).model_copy(update={"environment": environment})
    return changed, f"--attention-backend {other}"


def _kv_dtype(launch: Launch, options: Mapping[str, str], device: str, wishes: Mapping[str, str]) -> Made:
    if options.get("kv_cache_dtype", "auto") == "auto":
        return "the KV cache is not quantised"
    return having(launch, "--kv-cache-dtype", "auto"), "--kv-cache-dtype auto"


def _quantization(launch: Launch, options: Mapping[str, str], device: str, wishes: Mapping[str, str]) -> Made:
    argv = without(launch.argv, "--quantization")
    plain = wishes.get("unquantized_model")
    if plain:
        return launch.model_copy(update={"argv": _with_model(argv, plain)}), f"the unquantised model {plain}"
    if argv == launch.argv:
        return "no --quantization is given (of a quantised checkpoint name the original with --unquantized-model)"
    return launch.model_copy(update={"argv": argv}), "no --quantization"


def _with_model(argv: tuple[str, ...], model: str) -> tuple[str, ...]:
    if "--model" in argv:
        return (*without(argv, "--model"), "--model", model)
    at = argv.index("serve") + 1 if "serve" in argv else len(argv)
    return (*argv[:at], model, *argv[at + 1 :])


def _dtype(launch: Launch, options: Mapping[str, str], device: str, wishes: Mapping[str, str]) -> Made:
    if options.get("dtype") in ("float32", "float"):
        return "--dtype float32 is on already"
    if "quantization" in options:
        return "quantised weights cannot be computed in float32"
    return having(launch, "--dtype", "float32"), "--dtype float32"


def _one_gpu(launch: Launch, options: Mapping[str, str], device: str, wishes: Mapping[str, str]) -> Made:
    if options.get("tensor_parallel_size", "1") == "1":
        return "one accelerator serves each layer already"
    return having(launch, "--tensor-parallel-size", "1"), "--tensor-parallel-size 1"


CHANGES: tuple[tuple[str, str, Change], ...] = (
    ("prefix_caching_off", "cached prefixes", _switched_off("--enable-prefix-caching", "enable_prefix_caching")),
    ("cuda_graphs_off", "CUDA graphs", _compilation("cudagraph_mode", "NONE")),
    ("compilation_off", "compiled code", _compilation("mode", "NONE")),
    ("eager", "CUDA graphs and compiled code together", _eager),
    ("speculation_off", "speculative decoding", _speculation),
    ("chunked_prefill_off", "chunked prefill", _switched_off("--enable-chunked-prefill", "enable_chunked_prefill")),
    ("async_scheduling_off", "asynchronous scheduling", _switched_off("--async-scheduling", "async_scheduling")),
    ("attention_backend", "the attention backend", _backend),
    ("kv_cache_dtype_auto", "the quantised KV cache", _kv_dtype),
    ("quantization_off", "quantised weights", _quantization),
    ("float32", "the precision of the computation", _dtype),
    ("tensor_parallel_1", "tensor parallelism", _one_gpu),
)
REFERENCE = "transformers"
"""The last word: the same files in Hugging Face transformers."""
NAMES = (*(name for name, _, _ in CHANGES), REFERENCE)

CAUSE_OF = {
    "prefix_caching_off": "attention_backend_defect",
    "cuda_graphs_off": "cuda_graph_defect",
    "compilation_off": "cuda_graph_defect",
    "eager": "cuda_graph_defect",
    "speculation_off": "speculation_defect",
    "attention_backend": "attention_backend_defect",
    "kv_cache_dtype_auto": "quantization_defect",
    "quantization_off": "quantization_defect",
}
"""The canonical cause that a heal proves, where there is one."""
