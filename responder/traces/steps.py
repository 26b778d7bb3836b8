"""What did the engine do step by step, which step took longest, and where did its time go?

vLLM marks the submission of a step on the CPU (`execute_context_N(T)_generation_M(K)`). Under CUDA graphs and async
scheduling that mark ends long before the step does, so a step lasts from its start to the next step's start, and its
GPU work is what was launched in between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from responder.traces.busy import CATEGORY_NAMES, MS, Work
from responder.traces.columns import Ints, Trace
from responder.traces.intervals import Set, within
from responder.traces.kernels import CATEGORIES
from responder.traces.launches import Linked
from responder.traces.views import SlowStep, Step, StepKind, Steps

MAX_ROWS = 3000
SLOW_LISTED = 8
NOTABLE = 0.2
"""A step is listed as slow from this share beyond the median of its kind."""

_PLAIN = re.compile(r"^execute_(?:\d+_)?context_(\d+)\(([^)]*)\)_generation_(\d+)\(([^)]*)\)")
_OLD = re.compile(r"^execute_new_(\d+)_cached_(\d+)")
_PROFILER = re.compile(r"^ProfilerStep#(\d+)")


@dataclass(frozen=True)
class Named:
    """What a step's name tells."""

    kind: str
    prefill_requests: int = 0
    prefill_tokens: int = 0
    decode_requests: int = 0
    decode_tokens: int = 0


def parse(name: str) -> Named | None:
    """Read a step annotation; None if the name is not one."""
    match = _PLAIN.match(name)
    if match:
        context, context_tokens, generation, generation_tokens = match.groups()
        numbers = int(context), _tokens(context_tokens), int(generation), _tokens(generation_tokens)
        return Named(_kind(int(context), int(generation)), *numbers)
    match = _OLD.match(name)
    if match:
        new, cached = int(match.group(1)), int(match.group(2))
        return Named(_kind(new, cached), new, 0, cached, cached)
    return Named("other") if _PROFILER.match(name) else None


def _tokens(inside: str) -> int:
    """`8192`, or the detailed form `sq8192sk9000sqsq…` whose sq is the number of query tokens."""
    match = re.match(r"(?:sq)?(\d+)", inside)
    return int(match.group(1)) if match else 0


def _kind(context: int, generation: int) -> str:
    if context:
        return "mixed" if generation else "prefill"
    return "decode" if generation else "empty"


@dataclass
class Timeline:
    """Steps as arrays, for the other analyses."""

    source: str
    start: Ints
    end: Ints
    names: list[str]
    named: list[Named]
    of_gpu: Ints
    """Step of each GPU event, by when it was launched; -1 outside steps."""

    def step_at(self, when: Ints) -> Ints:
        """Step that contains each instant, -1 outside."""
        place = (np.searchsorted(self.start, when, side="right") - 1).astype(np.int32)
        if len(self.start):
            place[when >= self.end[np.maximum(place, 0)]] = -1
        return place

    def kind(self, step: int) -> str:
        """Kind of a step, empty outside."""
        return self.named[step].kind if step >= 0 else ""


def timeline(trace: Trace, work: Work, linked: Linked) -> Timeline:
    """Find the steps: vLLM's marks, else the profiler's own."""
    marks = trace.marks
    parsed = [parse(key.name) for key in trace.keys]
    is_vllm = np.array([p is not None and p.kind != "other" for p in parsed], np.bool_)
    is_profiler = np.array([p is not None and p.kind == "other" for p in parsed], np.bool_)
    source, rows = "vllm", np.zeros(0, np.int64)
    if len(marks):
        rows = _outer(marks.start, marks.end, np.flatnonzero(is_vllm[marks.key]))
        if not len(rows):
            source, rows = "profiler", _outer(marks.start, marks.end, np.flatnonzero(is_profiler[marks.key]))
    if not len(rows):
        nothing = np.zeros(0, np.int64)
        return Timeline("", nothing, nothing, [], [], np.full(len(work.events), -1, np.int64))
    start = marks.start[rows]
    names = [trace.keys[key].name for key in marks.key[rows].tolist()]
    named = [p for p in (parse(name) for name in names) if p is not None]
    # the last step has no next one: it ends with its own mark or its last GPU work
    launched_last = linked.launched >= start[-1] if len(work.events) else np.zeros(0, np.bool_)
    last_gpu = int(work.events.end[launched_last].max()) if launched_last.any() else 0
    end = np.append(start[1:], max(int(marks.end[rows[-1]]), last_gpu))
    found = Timeline(source, start, end, names, named, np.zeros(0, np.int64))
    found.of_gpu = found.step_at(linked.launched)
    return found


def _outer(start: Ints, end: Ints, rows: Ints) -> Ints:
    """Rows that do not begin inside an earlier one (the mark exists once per thread that runs it)."""
    kept, reach = [], -1
    for row in rows.tolist():
        if start[row] >= reach:
            kept.append(row)
            reach = int(end[row])
    return np.array(kept, np.int64)


AT_ONCE = 1 << 16
"""GPU events looked at together: what that takes must not grow with the trace."""


def per_step_gpu(work: Work, line: Timeline) -> Ints:
    """GPU busy time of each step's own work, overlaps counted once."""
    spent = np.zeros(len(line.start), np.int64)
    order = np.argsort(line.of_gpu, kind="stable").astype(np.int32)  # events come in start order
    step = line.of_gpu[order]
    begin = int(np.searchsorted(step, 0))
    while begin < len(order):
        last = step[min(begin + AT_ONCE, len(order)) - 1]
        finish = int(np.searchsorted(step, last, side="right"))
        rows, own = order[begin:finish], step[begin:finish]
        # one running maximum for all steps: shift every step far from its neighbours
        shift = own * np.int64(work.last - work.first + 1) - work.first
        end = work.events.end[rows] + shift
        reach = np.empty(len(end), np.int64)
        reach[0] = np.iinfo(np.int64).min
        np.maximum.accumulate(end[:-1], out=reach[1:])
        np.maximum(reach, work.events.start[rows] + shift, out=reach)
        fresh = np.maximum(end - reach, 0)
        spent += np.bincount(own, weights=fresh, minlength=len(spent)).astype(np.int64)
        begin = finish
    return spent


def per_step_category(work: Work, line: Timeline) -> Ints:
    """(step, category) -> summed durations."""
    shape = len(line.start), len(CATEGORY_NAMES)
    sums = np.zeros(shape[0] * shape[1], np.int64)
    for at in range(0, len(line.of_gpu), AT_ONCE):
        rows = slice(at, at + AT_ONCE)
        flat = line.of_gpu[rows] * shape[1] + work.category[rows]
        inside = line.of_gpu[rows] >= 0
        part = np.bincount(flat[inside], weights=work.duration[rows][inside], minlength=len(sums))
        sums += part.astype(np.int64)
    return sums.reshape(shape)


def steps(work: Work, line: Timeline, blocked: Set, causes: dict[str, Ints]) -> Steps:
    """The step table with its slow steps explained; `causes` is idle time per step by what the CPU did."""
    if not len(line.start):
        return Steps(count=0, source="", rows=[], kinds=[], slow=[])
    gpu = per_step_gpu(work, line)
    idle = line.end - line.start - within(work.covered, line.start, line.end)
    held = within(blocked, line.start, line.end)
    last = len(line.start) - 1
    rows = [
        Step(
            index=index,
            name=line.names[index],
            kind=named.kind,
            at_ms=int(line.start[index]) / MS,
            ms=int(line.end[index] - line.start[index]) / MS,
            gpu_ms=int(gpu[index]) / MS,
            blocked_ms=int(held[index]) / MS,
            idle_ms=int(idle[index]) / MS,
            prefill_requests=named.prefill_requests,
            prefill_tokens=named.prefill_tokens,
            decode_requests=named.decode_requests,
            decode_tokens=named.decode_tokens,
            last=index == last,
        )
        for index, named in enumerate(line.named)
    ]
    slow = _slow(work, line, rows, causes)
    return Steps(count=len(rows), source=line.source, rows=_thinned(rows, slow), kinds=_kinds(rows), slow=slow)


def _thinned(rows: list[Step], slow: list[SlowStep]) -> list[Step]:
    if len(rows) <= MAX_ROWS:
        return rows
    every = -(-len(rows) // MAX_ROWS)
    kept = {row.index for row in rows[::every]} | {item.step.index for item in slow}
    return [row for row in rows if row.index in kept]


def _kinds(rows: list[Step]) -> list[StepKind]:
    table = []
    for kind in ("prefill", "mixed", "decode", "empty", "other"):
        mine = [row for row in rows if row.kind == kind]
        if not mine:
            continue
        mine = [row for row in mine if not row.last] or mine
        times = np.array([row.ms for row in mine])
        tokens = np.array([_tokens_of(row) for row in mine], np.float64)
        table.append(
            StepKind(
                kind=kind,
                count=len(mine),
                total_ms=float(times.sum()),
                median_ms=float(np.median(times)),
                max_ms=float(times.max()),
                median_tokens=float(np.median(tokens)),
                us_per_token=_slope(tokens, times),
            )
        )
    return table


def _tokens_of(step: Step) -> int:
    return step.prefill_tokens + step.decode_tokens


def _expected(tokens: np.ndarray, times: np.ndarray) -> np.ndarray:
    """What a step of that many tokens usually takes: a prefill of 4000 tokens is not slow beside one of 500."""
    slope = max((_slope(tokens, times) or 0.0) / 1e3, 0.0)
    return np.maximum(float(np.median(times - slope * tokens)) + slope * tokens, 0.0)


def _slope(tokens: np.ndarray, times: np.ndarray) -> float | None:
    """Microseconds per token: the median slope between pairs of steps, which slow steps do not pull away."""
    if len(tokens) < 3 or len(np.unique(tokens)) < 3:
        return None
    if len(tokens) > 300:
        chosen = np.linspace(0, len(tokens) - 1, 300).astype(int)
        tokens, times = tokens[chosen], times[chosen]
    one, other = np.triu_indices(len(tokens), 1)
    across = tokens[other] - tokens[one]
    differ = across != 0
    return float(np.median((times[other] - times[one])[differ] / across[differ])) * 1e3


def _slow(work: Work, line: Timeline, rows: list[Step], idle: dict[str, Ints]) -> list[SlowStep]:
    """Steps with the most time beyond the median of their kind, and which component it went into."""
    by_category = per_step_category(work, line)
    found = []
    for kind in {row.kind for row in rows}:
        # the last step has no successor to end it: under async scheduling its GPU work trails a step behind
        mine = np.array([row.index for row in rows if row.kind == kind and not row.last])
        if len(mine) < 3:
            continue
        times = np.array([rows[index].ms for index in mine])
        expected = _expected(np.array([_tokens_of(rows[index]) for index in mine], np.float64), times)
        parts = {name: by_category[mine, number] / MS for number, name in enumerate(CATEGORY_NAMES)}
        parts |= {f"idle: {cause}": values[mine] / MS for cause, values in idle.items()}
        normal = {name: float(np.median(values)) for name, values in parts.items()}
        for place in np.argsort(expected - times)[:SLOW_LISTED].tolist():
            usual = float(expected[place])
            excess = float(times[place]) - usual
            if excess < NOTABLE * usual:
                continue
            because = {name: float(values[place]) - normal[name] for name, values in parts.items()}
            because = dict(sorted(((n, v) for n, v in because.items() if v > 0.02 * excess), key=lambda item: -item[1]))
            step = rows[int(mine[place])]
            found.append(
                SlowStep(step=step, usual_ms=usual, excess_ms=excess, because=because, says=_says(step, usual, because))
            )
    return sorted(found, key=lambda item: -item.excess_ms)[:SLOW_LISTED]


def _says(step: Step, usual: float, because: dict[str, float]) -> str:
    words = [f"{_component(name)} +{ms:.3g} ms" for name, ms in list(because.items())[:3]]
    why = ", ".join(words) if words else "no single component stands out"
    return f"step {step.index} ({step.kind}) took {step.ms:.4g} ms, usually {usual:.4g} ms: {why}"


def _component(name: str) -> str:
    if name.startswith("idle: "):
        return f"GPU idle while {name[6:]}"
    return CATEGORIES.get(name, name)
