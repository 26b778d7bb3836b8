"""What does one trace say? All analyses of one file's events, in order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from responder.traces import layers as layer_table
from responder.traces.allocator import give_back
from responder.traces.blocked import blocked, blocked_set, waits
from responder.traces.busy import Work, busy, categories, copies, devices
from responder.traces.columns import Ints, Trace
from responder.traces.gaps import causes, gaps
from responder.traces.kernels import COLLECTIVE, classify
from responder.traces.launches import Linked, idle_is_reliable, launches, link
from responder.traces.operators import annotation_table, operator_categories, operators
from responder.traces.outliers import kernels, outliers, unknown
from responder.traces.steps import Timeline, steps, timeline
from responder.traces.views import Rank

KERNELS_LISTED = 60
UNKNOWN_LISTED = 20
OPERATORS_LISTED = 40


@dataclass
class Collectives:
    """What is kept of one rank to compare it with others."""

    name: list[str]
    start: Ints
    end: Ints
    size: Ints
    step: Ints
    epoch_ns: int


@dataclass
class Analysed:
    """One rank's view, and its collectives for the comparison across ranks."""

    view: Rank
    collectives: Collectives | None
    begin_ns: int = 0
    end_ns: int = 0
    """First and last event on the file's own clock, to tell which traces belong together."""


def analyse_trace(trace: Trace, path: Path, form: str = "kineto") -> list[Analysed]:
    """One result per device with GPU work; one in all if there is none."""
    give_back()
    found = devices(trace)
    if len(found) > 1:
        total = sum(len(Work(trace, device).events) for device in found)
        found = [device for device in found if len(Work(trace, device).events) > total * 0.001]
    if not found:
        return [_one(trace, path, form, None, False)]
    return [_one(trace, path, form, device, len(found) > 1) for device in found]


def _one(trace: Trace, path: Path, form: str, device: str | None, several: bool) -> Analysed:
    work = Work(trace, device)
    linked = link(trace, work)
    give_back()
    line = timeline(trace, work, linked)
    ops = operators(trace)
    view = identity(trace, path, form, device, several)
    partial = list(trace.notes)
    if trace.bad_events:
        partial.append(f"{trace.bad_events} events are not valid JSON and were left out")
    span = trace.last_ns / 1e6
    notes = _notes(trace)
    in_name = _RANK_IN_NAME.search(path.name)
    if in_name and view.rank is not None and int(in_name.group(1)) != view.rank:
        notes.append(f"the file's name says rank {in_name.group(1)}, its content rank {view.rank}; the content counts")
    facts: dict[str, object] = {
        "partial": partial,
        "notes": notes,
        "span_ms": span,
        "gpu_events": len(work.events),
        "operators": ops[:OPERATORS_LISTED],
        "operator_categories": operator_categories(ops, span),
        "annotations": annotation_table(trace),
    }
    if len(work.events):
        facts |= _gpu_facts(trace, work, linked, line, notes)
    else:
        facts["steps"] = steps(work, line, blocked_set(trace, linked, waits(trace, work, linked)), {})
        facts["layers"] = layer_table.layers(trace, work, linked, line)
    return Analysed(_with(view, facts), _collectives(trace, work, line), trace.epoch_ns, trace.epoch_ns + trace.last_ns)


def _gpu_facts(trace: Trace, work: Work, linked: Linked, line: Timeline, notes: list[str]) -> dict[str, object]:
    reliable, why = idle_is_reliable(trace, linked)
    if why:
        notes.append(why)
    masks = waits(trace, work, linked)
    held = blocked_set(trace, linked, masks)
    idle = causes(trace, work, linked, line, held)
    give_back()
    table = kernels(work)
    strangers, share = unknown(table)
    far, single = outliers(trace, work, line)
    give_back()
    launched = launches(trace, work, linked) if len(trace.calls) else None
    give_back()
    pauses = gaps(trace, work, linked, line, idle)
    give_back()
    table_of_steps = steps(work, line, held, {cause: found.of_step for cause, found in idle.causes.items()})
    give_back()
    repeated = layer_table.layers(trace, work, linked, line)
    give_back()
    return {
        "busy": busy(work, reliable=reliable),
        "categories": categories(work),
        "kernels": table[:KERNELS_LISTED],
        "unknown": strangers[:UNKNOWN_LISTED],
        "unknown_share": share,
        "outliers": far,
        "singles": single,
        "gaps": pauses,
        "blocked": blocked(trace, work, linked, masks) if len(trace.calls) else None,
        "launches": launched,
        "copies": copies(work),
        "steps": table_of_steps,
        "layers": repeated,
    }


def _with(view: Rank, facts: dict[str, object]) -> Rank:
    return msgspec.structs.replace(view, **facts)


def _notes(trace: Trace) -> list[str]:
    notes = []
    frames = trace.counts.get("python_function", 0)
    total = sum(trace.counts.values())
    if total and frames / total > 0.5:
        notes.append(
            f"{frames / total:.0%} of the events are Python frames: record with torch_profiler_with_stack=false, "
            "the trace and the pause of the server shrink accordingly"
        )
    syncs = trace.counts.get("cuda_sync", 0)
    if syncs:
        notes.append(f"{syncs} cuda_sync markers are not GPU work and not counted as busy")
    return notes


_RANK_IN_NAME = re.compile(r"rank[_-]?(\d+)", re.IGNORECASE)


def identity(trace: Trace, path: Path, form: str, device: str | None, several: bool) -> Rank:
    """Who recorded this: rank, device, versions. The file's own word beats its name."""
    meta = trace.meta
    group = meta.get("distributedInfo")
    group = group if isinstance(group, dict) else {}
    in_name = _RANK_IN_NAME.search(path.name)
    named = int(in_name.group(1)) if in_name else None
    rank = group.get("rank") if isinstance(group.get("rank"), int) else named
    world = group.get("world_size") if isinstance(group.get("world_size"), int) else None
    label = f"rank {rank}" if rank is not None else path.name.split(".")[0]
    if several:
        label += f", device {device}"
    cards = meta.get("deviceProperties")
    gpu = ""
    if isinstance(cards, list) and cards and device is not None:
        mine = [card for card in cards if isinstance(card, dict) and str(card.get("id")) == device]
        gpu = str(mine[0].get("name", "")) if mine else ""
    return Rank(
        file=str(path),
        format=f"{form} ({trace.layout})" if trace.layout else form,
        label=label,
        rank=rank,
        world_size=world,
        device=device or "",
        gpu=gpu,
        host=str(meta.get("host_name", "")),
        vllm_version=str(meta.get("vllm_version", "")),
        bytes=trace.bytes,
        events=sum(trace.counts.values()),
        bad_events=trace.bad_events,
    )


def _collectives(trace: Trace, work: Work, line: Timeline) -> Collectives | None:
    flags = np.array([classify(name) == COLLECTIVE for name in work.names], np.bool_)
    rows = np.flatnonzero(flags[work.name]) if len(work.events) else np.zeros(0, np.int64)
    if not len(rows):
        return None
    names = [work.names[number] for number in work.name[rows].tolist()]
    events = work.events
    return Collectives(
        names, events.start[rows], events.end[rows], work.sizes[events.size[rows]], line.of_gpu[rows], trace.epoch_ns
    )
