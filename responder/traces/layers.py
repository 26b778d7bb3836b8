"""How long does each transformer layer take, and which one is unlike its siblings?

Three sources, best first: annotations that name a layer (NVTX hooks, record_function), module frames of a trace with
stacks, and repetition: a decode step runs the same sequence of kernels once per layer, and attention marks each turn.
The last works on CUDA-graph traces of production servers, where nothing is annotated.
"""

from __future__ import annotations

import re

import numpy as np

from responder.traces.busy import NUMBER, Work
from responder.traces.columns import Bools, CpuEvents, Ints, Trace
from responder.traces.kernels import ATTENTION, COLLECTIVE, GEMM
from responder.traces.launches import Linked
from responder.traces.steps import Timeline
from responder.traces.views import Layer, Layers

MIN_LAYERS = 2
UNLIKE_RATIO = 1.25
UNLIKE_SPREADS = 6.0
"""A layer is unlike its siblings beyond this ratio and this many robust standard deviations."""

_ANNOTATED = re.compile(r"\blayers?[._ ]?(\d+)(?:\.([\w.]+))?", re.IGNORECASE)
_MODULE = re.compile(r"^nn\.Module: (\w*(?:Layer|Block))_(\d+)$")
_ATTENTION_PART = re.compile(r"attn|attention", re.IGNORECASE)
_MLP_PART = re.compile(r"mlp|feed_?forward|ffn|moe|expert", re.IGNORECASE)
_SIDE_KERNEL = re.compile(r"combine|merge|prepare|reduce|metadata|varlen_num_blocks", re.IGNORECASE)
_NORM = re.compile(r"norm", re.IGNORECASE)


def layers(trace: Trace, work: Work, linked: Linked, line: Timeline) -> Layers | None:
    """The layer table from the best source there is; None if the trace has none."""
    for source, events, named in (("annotations", trace.marks, _annotated), ("module stacks", trace.frames, _module)):
        numbers = [named(key.name) for key in trace.keys]
        found = _by_windows(trace, events, numbers, work, linked, source)
        if found is not None:
            return found
    return _by_repetition(work, line)


def _annotated(name: str) -> tuple[int, str] | None:
    match = _ANNOTATED.search(name)
    return (int(match.group(1)), match.group(2) or "") if match else None


def _module(name: str) -> tuple[int, str] | None:
    match = _MODULE.match(name)
    return (int(match.group(2)), "") if match and "Norm" not in match.group(1) else None


def _by_windows(
    trace: Trace, events: CpuEvents, named: list[tuple[int, str] | None], work: Work, linked: Linked, source: str
) -> Layers | None:
    """Layers from CPU intervals: GPU work belongs to the interval it was launched in; without a GPU CPU time counts."""
    is_layer = np.array([n is not None and not n[1] for n in named], np.bool_)
    number = np.array([n[0] if n is not None else -1 for n in named], np.int64)
    if not len(events):
        return None
    rows = np.flatnonzero(is_layer[events.key])
    if not len(rows) and any(n is not None for n in named):
        return None  # parts of layers only: nothing to add up against
    visits = _Visits(events.start[rows], events.end[rows], number[events.key[rows]])
    if len(np.unique(visits.layer)) < MIN_LAYERS:
        return None
    total = visits.time(work, linked)
    parts = []
    for pattern in (_ATTENTION_PART, _MLP_PART):
        match = np.array([bool(pattern.search(key.name)) for key in trace.keys], np.bool_)
        inner = np.flatnonzero(match[events.key] & ~is_layer[events.key])
        part = _Visits(events.start[inner], events.end[inner], np.zeros(len(inner), np.int64)) if len(inner) else None
        parts.append(visits.collect(part.outer_start, part.time(work, linked)) if part else None)
    count = len(visits.layer) // max(len(np.unique(visits.layer)), 1)
    return _table(source, visits.layer, total, parts[0], parts[1], count)


class _Visits:
    """Disjoint CPU windows in start order: one visit of one layer each."""

    def __init__(self, start: Ints, end: Ints, layer: Ints) -> None:
        outer = np.concatenate(([True], start[1:] >= np.maximum.accumulate(end)[:-1])) if len(start) else start > 0
        self.outer_start, self.end, self.layer = start[outer], end[outer], layer[outer]

    def place(self, when: Ints) -> Ints:
        """Which visit each instant lies in, -1 outside."""
        at = np.searchsorted(self.outer_start, when, side="right") - 1
        inside = (at >= 0) & (when < self.end[np.maximum(at, 0)])
        return np.where(inside, at, -1)

    def time(self, work: Work, linked: Linked) -> Ints:
        """GPU time launched in each visit; CPU time if the trace has no GPU work."""
        if not len(work.events):
            return self.end - self.outer_start
        visit = self.place(linked.launched)
        inside = (visit >= 0) & (linked.call >= 0)
        sums = np.bincount(visit[inside], weights=work.duration[inside], minlength=len(self.layer))
        return sums.astype(np.int64)

    def collect(self, when: Ints, amount: Ints) -> Ints:
        """Amounts at instants, added up per visit."""
        visit = self.place(when)
        return np.bincount(visit[visit >= 0], weights=amount[visit >= 0], minlength=len(self.layer)).astype(np.int64)


def _by_repetition(work: Work, line: Timeline) -> Layers | None:
    """Layers from the order of kernels in steps that all have the same number of attention kernels."""
    if not len(line.start) or not len(work.events):
        return None
    rows = np.flatnonzero(line.of_gpu >= 0).astype(np.int32)
    step = line.of_gpu[rows]
    is_norm = np.array([bool(_NORM.search(text)) for text in work.names], np.bool_)[work.name[rows]]
    is_gemm = work.category[rows] == NUMBER[GEMM]
    side = np.array([bool(_SIDE_KERNEL.search(text)) for text in work.names], np.bool_)[work.name[rows]]
    attention = (work.category[rows] == NUMBER[ATTENTION]) & ~side
    anchors = np.flatnonzero(attention)
    if not len(anchors):
        return None
    per_step = np.bincount(step[anchors], minlength=len(line.start))
    decode = np.array([named.kind == "decode" for named in line.named], np.bool_)
    usable = (per_step >= MIN_LAYERS) & (decode if (per_step[decode] >= MIN_LAYERS).any() else True)
    if not usable.any():
        return None
    depth = int(np.bincount(per_step[usable]).argmax())
    anchors = anchors[(usable & (per_step == depth))[step[anchors]]]
    # a collective's time is mostly waiting for another rank: no property of the layer
    before = np.zeros(len(rows) + 1, np.int64)
    before[1:] = work.duration[rows]
    before[1:][work.category[rows] == NUMBER[COLLECTIVE]] = 0
    del rows, side, attention
    return _segments(np.cumsum(before, out=before), step, is_norm, is_gemm, anchors, depth)


def _segments(before: Ints, step: Ints, is_norm: Bools, is_gemm: Bools, anchors: Ints, depth: int) -> Layers | None:
    """Cut the kernel sequence at each layer's first normalisation; attention half up to the next one behind it.
    `before`: time of all kernels before each."""
    index = np.arange(len(step), dtype=np.int32)
    # one after another: each of them is as long as the trace
    projection = np.maximum.accumulate(np.where(is_gemm, index, -1))[anchors]
    last_norm = np.maximum.accumulate(np.where(is_norm, index, -1))
    begin = np.where(projection >= 0, last_norm[np.maximum(projection, 0)], -1)
    del last_norm
    following = np.minimum.accumulate(np.where(is_norm, index, len(step))[::-1])[::-1]
    middle = following[np.minimum(anchors + 1, len(step) - 1)]
    del following, index
    turn = np.tile(np.arange(depth), len(anchors) // depth)
    # behind the last layer there is no next one: it has as many kernels as the layer before it
    end = np.append(begin[1:], -1)
    end = np.where(turn < depth - 1, end, middle + np.roll(end - middle, 1))
    same_step = (begin >= 0) & (middle < end) & (end <= len(step)) & (begin < anchors) & (anchors < middle)
    same_step &= step[np.maximum(begin, 0)] == step[anchors]
    same_step &= step[np.minimum(np.maximum(end - 1, 0), len(step) - 1)] == step[anchors]
    whole = same_step.reshape(-1, depth).all(axis=1)
    if not whole.any():
        return None
    chosen = np.repeat(whole, depth)
    begin, middle, end, turn = begin[chosen], middle[chosen], end[chosen], turn[chosen]
    attention, mlp = before[middle] - before[begin], before[end] - before[middle]
    return _table("repetition", turn, attention + mlp, attention, mlp, int(whole.sum()))


def _table(source: str, layer: Ints, total: Ints, attention: Ints | None, mlp: Ints | None, steps: int) -> Layers:
    numbers = np.unique(layer)

    def median(values: Ints | None) -> np.ndarray | None:
        return None if values is None else np.array([float(np.median(values[layer == n])) / 1e3 for n in numbers])

    totals, attentions, mlps = median(total), median(attention), median(mlp)
    assert totals is not None
    usual = float(np.median(totals))
    spread = 1.4826 * float(np.median(np.abs(totals - usual)))
    rows, unlike = [], []
    for place, number in enumerate(numbers.tolist()):
        value = float(totals[place])
        ratio = value / usual if usual else 1.0
        if (ratio > UNLIKE_RATIO or ratio < 1 / UNLIKE_RATIO) and abs(value - usual) > UNLIKE_SPREADS * spread:
            unlike.append(number)
        rows.append(
            Layer(
                index=number,
                total_us=value,
                attention_us=float(attentions[place]) if attentions is not None else None,
                mlp_us=float(mlps[place]) if mlps is not None else None,
                ratio=ratio,
            )
        )
    return Layers(source=source, steps=steps, layers=rows, unlike=unlike, says=_says(rows, unlike, usual))


def _time(us: float) -> str:
    return f"{us:.4g} us" if us < 10_000 else f"{us / 1e3:.4g} ms"


def _says(rows: list[Layer], unlike: list[int], usual: float) -> str:
    if not unlike:
        return f"{len(rows)} layers alike, {_time(usual)} each"
    worst = max((row for row in rows if row.index in unlike), key=lambda row: abs(row.ratio - 1))
    where = ""
    if worst.attention_us is not None and worst.mlp_us is not None:
        usual_attention = float(np.median([row.attention_us or 0.0 for row in rows]))
        usual_mlp = float(np.median([row.mlp_us or 0.0 for row in rows]))
        more = abs(worst.attention_us - usual_attention) >= abs(worst.mlp_us - usual_mlp)
        where = ", in its attention half" if more else ", in its MLP half"
    others = f" (and {len(unlike) - 1} more)" if len(unlike) > 1 else ""
    return f"layer {worst.index} takes {_time(worst.total_us)}, its siblings {_time(usual)}{where}{others}"
