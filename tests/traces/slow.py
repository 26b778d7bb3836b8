"""The slow, obviously right way to compute what the engine computes: plain loops over plain events."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from responder.traces.kernels import COLLECTIVE, MEMORY, classify
from tests.traces.scene import Made, Scene

GPU = ("kernel", "gpu_memcpy", "gpu_memset")


def covered(intervals: list[tuple[int, int]]) -> int:
    """Length of the union."""
    total, reach = 0, None
    for start, end in sorted(intervals):
        if reach is None or start > reach:
            total, reach = total + end - start, end
        elif end > reach:
            total, reach = total + end - reach, end
    return total


def gpu_events(scene: Scene) -> list[Made]:
    """What ran on the GPU."""
    return [event for event in scene.events if event.cat in GPU]


def spans(events: list[Made]) -> list[tuple[int, int]]:
    """Intervals of events."""
    return [(event.start, event.start + event.dur) for event in events]


def busy(scene: Scene) -> dict[str, float]:
    """Span, busy, idle, computing, collectives, hidden collectives; ns."""
    events = gpu_events(scene)
    every = spans(events)
    kind = {event.name: classify(event.name) for event in events}
    compute = spans([e for e in events if kind[e.name] not in MEMORY | {COLLECTIVE}])
    collective = spans([e for e in events if kind[e.name] == COLLECTIVE])
    span = max(end for _, end in every) - min(start for start, _ in every)
    hidden = covered(compute) + covered(collective) - covered(compute + collective)
    return {
        "span": span,
        "busy": covered(every),
        "idle": span - covered(every),
        "compute": covered(compute),
        "collective": covered(collective),
        "hidden": hidden,
        "memory": covered(spans([e for e in events if kind[e.name] in MEMORY])),
    }


def by_category(scene: Scene) -> dict[str, tuple[int, int, int]]:
    """Category -> (count, summed ns, covered ns)."""
    groups: dict[str, list[Made]] = defaultdict(list)
    for event in gpu_events(scene):
        groups[classify(event.name)].append(event)
    return {name: (len(rows), sum(e.dur for e in rows), covered(spans(rows))) for name, rows in groups.items()}


def by_kernel(scene: Scene) -> dict[str, tuple[int, int, float, int]]:
    """Name -> (count, sum, median, max) in ns."""
    groups: dict[str, list[int]] = defaultdict(list)
    for event in gpu_events(scene):
        groups[event.name].append(event.dur)
    return {name: (len(t), sum(t), median(t), max(t)) for name, t in groups.items()}


def launched(scene: Scene) -> list[tuple[Made, Made | None]]:
    """Every GPU event with its launch call."""
    calls = {e.args["correlation"]: e for e in scene.events if e.cat == "cuda_runtime" and "correlation" in e.args}
    return [(event, calls.get(event.args.get("correlation"))) for event in gpu_events(scene)]


def step_gpu(scene: Scene) -> list[tuple[int, int, int]]:
    """(start, end, GPU ns) of each step: start to start, the last one to the end of its GPU work or mark."""
    marks = sorted((e for e in scene.events if e.name.startswith("execute_context")), key=lambda e: e.start)
    pairs = [(event, call.start if call else event.start) for event, call in launched(scene)]
    rows = []
    for number, mark in enumerate(marks):
        last = number == len(marks) - 1
        own = [e for e, when in pairs if when >= mark.start and (last or when < marks[number + 1].start)]
        end = max([mark.start + mark.dur, *(e.start + e.dur for e in own)]) if last else marks[number + 1].start
        rows.append((mark.start, end, covered(spans(own))))
    return rows


def op_totals(scene: Scene) -> dict[str, tuple[int, int, int]]:
    """Operator -> (count, inclusive ns, own ns), nesting found by comparing each with each."""
    ops = [e for e in scene.events if e.cat == "cpu_op"]
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in ops:
        inside = [o for o in ops if o is not one and one.start <= o.start and o.start + o.dur <= one.start + one.dur]
        children = [
            o
            for o in inside
            if not any(p.start <= o.start and o.start + o.dur <= p.start + p.dur for p in inside if p is not o)
        ]
        row = sums[one.name]
        row[0] += 1
        row[1] += one.dur
        row[2] += one.dur - sum(o.dur for o in children)
    return {name: (n, total, own) for name, (n, total, own) in sums.items()}
