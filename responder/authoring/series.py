"""What does promtool's short notation of a series say? `0+10x24`, `1x5 _x3 NaN stale` as samples and as OpenMetrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|[Ii]nf)"
EXPANDING = re.compile(rf"({NUMBER})([-+](?:\d+\.?\d*|\.\d+))?x(\d+)")
GAP = re.compile(r"_(?:x(\d+))?")
PLAIN = re.compile(rf"{NUMBER}|NaN")
SERIES = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?")
LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
MAX_SAMPLES = 20_000


def values(text: str) -> list[float | None]:
    """The samples of `0+10x24 _x3 5`: a value each, None where nothing was scraped. ValueError says what is wrong."""
    out: list[float | None] = []
    for word in text.split():
        if (many := re.search(r"x(\d+)$", word)) and (len(many[1]) > 9 or int(many[1]) > MAX_SAMPLES):
            raise ValueError(f"more than {MAX_SAMPLES:,} samples")  # before they are made
        if got := EXPANDING.fullmatch(word):
            step = float(got[2]) if got[2] else 0.0
            out += [float(got[1]) + step * n for n in range(int(got[3]) + 1)]
        elif got := GAP.fullmatch(word):
            out += [None] * int(got[1] or 1)
        elif word == "stale":
            out.append(None)
        elif PLAIN.fullmatch(word):
            out.append(float(word))
        else:
            raise ValueError(f"`{word}` is no value; write for example 5, 0+10x24 (25 values), _x3 (3 missing) or NaN")
        if len(out) > MAX_SAMPLES:
            raise ValueError(f"more than {MAX_SAMPLES:,} samples")
    return out


def name_of(text: str) -> tuple[str, dict[str, str]]:
    """`vllm:x{instance="a:8000"}` as name and labels. ValueError says what is wrong."""
    got = SERIES.fullmatch(text.strip())
    if got is None:
        raise ValueError(f'`{text}` is no series; write for example vllm:num_requests_waiting{{instance="a:8000"}}')
    labels, rest = {}, got[2] or ""
    while rest.strip():
        pair = LABEL.match(rest)
        if pair is None:
            raise ValueError(f'`{rest}` is not a list of label="value"')
        labels[pair[1]] = pair[2].replace('\\"', '"').replace("\\\\", "\\")
        rest = rest[pair.end() :]
    return got[1], labels


def openmetrics(
    rows: Iterable[tuple[str, Mapping[str, str], Sequence[float | None]]], start: float, step: float
) -> str:
    """Samples as OpenMetrics text with timestamps, every `step` seconds from `start`; what promtool backfills from.

    Names go out as untyped: the recording rules do not ask for types, and histograms come as their single series.
    """
    by_name: dict[str, list[str]] = {}
    for name, labels, samples in rows:
        where = by_name.setdefault(name, [])
        for index, value in enumerate(samples):
            if value is not None:
                where.append(f"{_written(name, labels)} {_number(value)} {start + index * step:.3f}")
    lines = []
    for name in sorted(by_name):
        lines += [f"# TYPE {name} unknown", *by_name[name]]
    return "\n".join([*lines, "# EOF", ""])


def _number(value: float) -> str:
    if value != value:  # noqa: PLR0124 - NaN is the one value that differs from itself
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _written(name: str, labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(labels.items()))
    return f"{name}{{{pairs}}}" if pairs else name


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
