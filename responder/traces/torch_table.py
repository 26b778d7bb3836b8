"""What does PyTorch's `key_averages().table()` say, the `profiler_out` text that vLLM writes beside its traces?"""

from __future__ import annotations

import re
from pathlib import Path

from responder.traces.kernels import classify
from responder.traces.rank import Analysed
from responder.traces.source import UnreadableTrace
from responder.traces.tabular import NO_TIMELINE, Sum, table_rank
from responder.traces.views import Operator

MAX_BYTES = 64 << 20
_RULE = re.compile(r"^\s*-{3,}(\s+-{3,})+\s*$")
_TIME = re.compile(r"^(-?[\d.]+)(ns|us|μs|ms|s)$")
_UNIT_NS = {"ns": 1.0, "us": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9}
_DEVICES = ("CUDA", "XPU", "NPU", "HPU", "MTIA", "Device")


def is_table(text: str) -> bool:
    """Whether this looks like a profiler table."""
    return "Self CPU" in text and "# of Calls" in text and any(_RULE.match(line) for line in text.splitlines()[:200])


def read(path: Path) -> list[Analysed]:
    """Operators, and device kernels where the table has them."""
    if path.stat().st_size > MAX_BYTES:
        raise UnreadableTrace(f"{path}: a profiler table of more than {MAX_BYTES >> 20} MB")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rules = [number for number, line in enumerate(lines) if _RULE.match(line)]
    if len(rules) < 2:
        raise UnreadableTrace(f"{path}: a profiler table without its rules")
    spans = [match.span() for match in re.finditer(r"-{3,}", lines[rules[0]])]
    header = _cells(lines[rules[0] + 1], spans)
    stop = rules[2] if len(rules) > 2 else len(lines)
    device = next((d for d in _DEVICES if f"Self {d}" in header), None)
    operators, kernels = [], []
    for line in lines[rules[1] + 1 : stop]:
        cells = dict(zip(header, _cells(line, spans), strict=False))
        name, calls = cells.get("Name", ""), cells.get("# of Calls", "")
        if not name or not calls.isdigit():
            continue
        own, total = _nanoseconds(cells.get("Self CPU", "")), _nanoseconds(cells.get("CPU total", ""))
        on_device = _nanoseconds(cells.get(f"Self {device}", "")) if device else 0.0
        if on_device and not total:
            # an operator's row repeats the time of the kernels it launched; the kernel's own row has no CPU time
            kernels.append(Sum(name=name, count=int(calls), total_ns=on_device))
        else:
            operators.append(
                Operator(name=name, category=classify(name), count=int(calls), total_ms=total / 1e6, self_ms=own / 1e6)
            )
    if not operators and not kernels:
        raise UnreadableTrace(f"{path}: a profiler table without rows")
    notes = [NO_TIMELINE, "the table lists at most 100 rows and cuts long names"]
    return [table_rank(path, "torch profiler table", gpu=kernels, operators=operators, notes=notes)]


def _cells(line: str, spans: list[tuple[int, int]]) -> list[str]:
    return [line[first:last].strip() for first, last in spans]


def _nanoseconds(text: str) -> float:
    match = _TIME.match(text)
    if not match:
        return 0.0
    try:
        return float(match.group(1)) * _UNIT_NS[match.group(2)]
    except ValueError:
        return 0.0
