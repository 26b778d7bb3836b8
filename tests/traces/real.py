"""The real traces in tests/data, analysed once per session. Recorded on two H200s and, torch213_*, on a CPU.

In the torch_tp2 ones the step after the seventh decode sleeps 30 ms in Python, the eleventh copies 268 MB to pageable
host memory, the fifteenth runs one 16384-cubed matrix product; step 0 is the prefill, so they are 8, 12 and 16.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from responder.traces import kineto
from responder.traces.columns import Trace
from responder.traces.rank import Analysed, analyse_trace
from responder.traces.views import Rank

DATA = Path(__file__).resolve().parents[1] / "data" / "traces"
GRAPH, GRAPH_1 = "torch_tp2_graph_rank0.json.gz", "torch_tp2_graph_rank1.json.gz"
STACK = "torch_tp2_graph_stack_rank0.json.gz"
LLAMA = "llama7b_tp1_8steps.pt.trace.json.gz"
LLAMA_0, LLAMA_1 = "llama7b_tp2_rank0_8steps.pt.trace.json.gz", "llama7b_tp2_rank1_8steps.pt.trace.json.gz"
CPU, EXPORT = "torch213_cpu.json.gz", "torch213_python_export.json.gz"
ON_GPU = (LLAMA, LLAMA_0, LLAMA_1, GRAPH, GRAPH_1, STACK)
ALL = (*ON_GPU, CPU, EXPORT)


@cache
def trace(name: str) -> Trace:
    """The columns."""
    return kineto.read(DATA / name)


@cache
def analysed(name: str) -> Analysed:
    """With what is kept for the comparison across ranks."""
    return analyse_trace(trace(name), DATA / name)[0]


def rank(name: str) -> Rank:
    """The view."""
    return analysed(name).view


@cache
def host_ms() -> dict[str, object]:
    """What the recorder's own clock measured: one entry per rank."""
    entries: list[dict[str, object]] = json.loads((DATA / "torch_tp2_info.json").read_text())
    return entries[0]
