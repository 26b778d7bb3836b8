"""With which options was this server started? vLLM's command line and start-up log lines, as option -> raw text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

_SHORT = {
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "asc": "api_server_count",
    "q": "quantization",
    "sc": "speculative_config",
    "cc": "compilation_config",
}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kmgtKMGT]?)")
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}


def options_of(argv: Sequence[str]) -> dict[str, str]:
    """Options of a vLLM command line by their Python name: `--max-num-seqs 8` -> {"max_num_seqs": "8"}.

    A flag without a value is "True", its `--no-` form "False"; `--profiler-config.max_iterations 8` keeps its dot."""
    found: dict[str, str] = {}
    words = list(argv)
    for at, word in enumerate(words):
        if not word.startswith("-") or word in ("-", "--") or re.fullmatch(r"-[\d.]+", word):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--") and name.partition(".")[0] not in _SHORT:
            continue
        head, dot, rest = name.partition(".")
        head = _SHORT.get(head, head) if not word.startswith("--") else head
        name = head.replace("-", "_") + dot + rest.replace("-", "_")
        following = words[at + 1] if at + 1 < len(words) else "-"
        if not equals:
            value = "True" if following.startswith("-") and not re.fullmatch(r"-[\d.]+", following) else following
        if value == "True" and name.startswith("no_"):
            name, value = name[3:], "False"
        found[name] = value
    return found


def arguments_in(line: str) -> dict[str, str]:
    """Top-level `'key': value` or `key=value` pairs of a printed dict or configuration, values as printed. Python
    cannot parse these lines: they hold constructors and `<Enum: 0>`."""
    found: dict[str, str] = {}
    for piece in split_top(line):
        match = re.match(r"\s*(?:'(\w+)'\s*:|\"(\w+)\"\s*:|(\w+)=)\s*(.*)", piece, re.DOTALL)
        if match:
            found[match[1] or match[2] or match[3]] = match[4].strip()
    return found


def split_top(text: str) -> list[str]:
    """Split at commas outside brackets and quotes; surrounding braces or a constructor's name are taken off first."""
    inner = re.match(r"\s*(?:\w+\(|\{)(.*?)[)}]?\s*$", text, re.DOTALL)
    text = inner[1] if inner else text
    pieces: list[str] = []
    closing: list[str] = []
    start = 0
    quote = ""
    for at, char in enumerate(text):
        if quote:
            if char == quote and text[at - 1] != "\\":
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in _PAIRS:
            closing.append(_PAIRS[char])
        elif closing and char == closing[-1]:
            closing.pop()
        elif char == "," and not closing:
            pieces.append(text[start:at])
            start = at + 1
    return [*pieces, text[start:]]


def number(text: str | None) -> float | None:
    """A number as vLLM's options take it: `8k` is 8000, `8K` is 8192. None for everything else."""
    match = _NUMBER.fullmatch(text.strip().strip("'\"").replace(",", "")) if text else None
    if match is None:
        return None
    return float(match[1]) * (_DECIMAL | _BINARY).get(match[2], 1)


def truth(text: str | None) -> bool | None:
    """True, False or unknown of a printed or typed boolean."""
    word = text.strip().strip("'\"").lower() if text else ""
    return {"true": True, "1": True, "false": False, "0": False}.get(word)


def word(text: str | None) -> str | None:
    """A printed string without its quotes; `None` is unknown."""
    if text is None:
        return None
    bare = text.strip().strip("'\"")
    return None if bare in ("", "None") else bare


def profiler_options(options: Mapping[str, str]) -> dict[str, str]:
    """The profiler's options from `--profiler-config` as JSON, as dotted flags, or as vLLM prints it; empty: none."""
    whole = options.get("profiler_config", "")
    found: dict[str, str] = {}
    if whole.startswith("{"):
        try:
            value = json.loads(whole)
        except ValueError:
            value = {}
        found = {str(key): str(item) for key, item in value.items()} if isinstance(value, dict) else {}
        found = found or arguments_in(whole)
    elif whole not in ("", "None"):
        found = arguments_in(whole)
    dotted = {k.removeprefix("profiler_config."): v for k, v in options.items() if k.startswith("profiler_config.")}
    return {key: value.strip("'\"") for key, value in (found | dotted).items()}
