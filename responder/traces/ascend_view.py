"""What is in Ascend's `trace_view.json`? Python, CANN and NPU timelines in one list, told apart by process names.

Process names come as metadata events anywhere in the file, so it is read twice: names first, then events.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from responder.traces import kineto
from responder.traces.ascend import rank_beside
from responder.traces.collect import Collector, key_of
from responder.traces.layout import Layout, top_level_objects
from responder.traces.objects import nanoseconds
from responder.traces.rank import Analysed, analyse_trace
from responder.traces.steps import parse
from responder.traces.views import Annotation

_WAIT = re.compile(r"EVENT_|NOTIFY|Notify_|CAPTURE|PROFILER_|MODEL_EXECUTE|STARS|SDMA_SQE", re.IGNORECASE)
_OPERATION = re.compile(r"^(hcom_|Hccl|hccl)")


class _Args(msgspec.Struct):
    name: str | None = None
    stream: int | str | None = msgspec.field(default=None, name="Stream Id")
    connection: int | str | None = msgspec.field(default=None, name="connection_id")


class _Event(msgspec.Struct):
    ph: str = ""
    name: str = ""
    cat: str = ""
    pid: int | str | None = None
    tid: int | str | None = None
    ts: float | str | None = None
    dur: float | str | None = None
    args: _Args | None = None


_many = msgspec.json.Decoder(list[_Event])
_one = msgspec.json.Decoder(_Event)


def read_trace_view(
    path: Path, *, stop_at: float | None = None, progress: Callable[[float], None] | None = None
) -> list[Analysed]:
    """Analyse the timeline; Ascend's own overlap analysis is kept as annotations."""
    dialect = _Dialect()
    kineto.read(path, stop_at=stop_at, decode=dialect.names)
    trace = kineto.read(path, stop_at=stop_at, progress=progress, decode=dialect.events)
    trace.meta |= rank_beside(path)
    found = analyse_trace(trace, path, "Ascend trace_view")
    overlap = [
        Annotation(name=f"Overlap Analysis: {name}", count=count, cpu_ms=0.0, gpu_ms=spent / 1e6)
        for name, (count, spent) in dialect.overlap.items()
    ]
    return [
        Analysed(msgspec.structs.replace(one.view, annotations=overlap + one.view.annotations), one.collectives)
        for one in found
    ]


class _Dialect:
    """The two readings of one file."""

    def __init__(self) -> None:
        self.process: dict[str, str] = {}
        self.overlap: dict[str, tuple[int, int]] = {}

    def names(self, text: bytes, layout: Layout, into: Collector) -> None:
        """First reading: which process is which."""
        if b"process_name" not in text:
            return
        for event in _decoded(text, into):
            if event.ph == "M" and event.name == "process_name" and event.args and event.args.name:
                self.process[str(event.pid)] = event.args.name

    def events(self, text: bytes, layout: Layout, into: Collector) -> None:
        """Second reading."""
        groups: dict[str, list[tuple[int, ...]]] = {}
        for event in _decoded(text, into):
            if event.ph != "X":
                continue
            start, duration = nanoseconds(event.ts), nanoseconds(event.dur if event.dur is not None else 0.0)
            if start is None or duration is None:
                into.bad_events += 1
                continue
            process = self.process.get(str(event.pid), "")
            into.count(process or event.cat or "unnamed", 1)
            self._place(event, process, start, duration, groups, into)
        for kind, rows in groups.items():
            columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
            into.gpu(*columns) if kind == "gpu" else into.plain(kind, *columns)

    def _place(
        self,
        event: _Event,
        process: str,
        start: int,
        duration: int,
        groups: dict[str, list[tuple[int, ...]]],
        into: Collector,
    ) -> None:
        stream = event.args.stream if event.args and event.args.stream is not None else event.tid
        if "Overlap Analysis" in process:
            count, spent = self.overlap.get(event.name, (0, 0))
            self.overlap[event.name] = (count + 1, spent + duration)
        elif "Ascend Hardware" in process or process == "NPU":
            if not _WAIT.search(event.name):
                key = into.keys.number(key_of(event.name, "npu", stream))
                groups.setdefault("gpu", []).append((start, duration, key, -1, -1, 0))
        elif "HCCL" in process or process.startswith("Communication"):
            if _OPERATION.match(event.name):
                kind = re.split(r"__|@", event.name)[0]
                key = into.keys.number(key_of(kind, "npu", f"communication {event.tid}"))
                groups.setdefault("gpu", []).append((start, duration, key, -1, -1, 0))
        elif parse(event.name) is not None:
            key = into.keys.number(key_of(event.name, event.pid, event.tid))
            groups.setdefault("marks", []).append((start, duration, key))
        elif event.cat == "cpu_op" or event.name.startswith("aten::") or "::" in event.name:
            key = into.keys.number(key_of(event.name, event.pid, event.tid))
            groups.setdefault("ops", []).append((start, duration, key))


def _decoded(text: bytes, into: Collector) -> list[_Event]:
    body = text.strip(b" \r\n\t,")
    if not body:
        return []
    try:
        return _many.decode(b"[" + body + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError):
        events = []
        for first, last in top_level_objects(body):
            try:
                events.append(_one.decode(body[first:last]))
            except (msgspec.DecodeError, UnicodeDecodeError):
                into.bad_events += 1
        return events
