"""What is in a Kineto (Chrome) trace? Read once, front to back, in pieces; any end of the file will do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from responder.traces import lines, objects, source
from responder.traces.collect import Collector
from responder.traces.columns import Trace
from responder.traces.layout import Layout, Start, find_start, last_boundary
from responder.traces.source import Source, UnreadableTrace

HEAD_LIMIT = 8 << 20
"""Bytes searched for the first event; traces of many ranks carry long process-group tables in front."""

EVENT_LIMIT = 64 << 20
"""An event larger than this is not one; what is behind it is lost and said to be."""

LINE_LAYOUTS = (Layout.MULTI, Layout.SINGLE)


Decode = Callable[[bytes, Layout, Collector], None]


def read(
    path: Path,
    *,
    stop_at: float | None = None,
    progress: Callable[[float], None] | None = None,
    decode: Decode | None = None,
) -> Trace:
    """Read a trace file; UnreadableTrace if it holds no trace events at all. `decode` reads another dialect."""
    pieces = Source(path, stop_at=stop_at, progress=progress)
    reader = _Reader(pieces, decode)
    for piece in pieces:
        reader.feed(piece)
        if reader.lost:
            break
    return reader.finish()


class _Reader:
    def __init__(self, pieces: Source, decode: Decode | None = None) -> None:
        self.source = pieces
        self.by_lines = decode is None
        self.decode = decode or objects.decode
        self.start: Start | None = None
        self.into = Collector()
        self.rest = b""
        self.closed = False
        """Whether the list of events was seen to end."""
        self.lost = ""

    def feed(self, piece: bytes) -> None:
        text = self.rest + piece if self.rest else piece
        if self.start is not None and len(text) < source.PIECE // 2:
            self.rest = text  # what a piece costs besides its events is paid for a whole one
            return
        if self.start is None:
            self.start = find_start(text)
            if self.start is None or (self.start.layout is Layout.OTHER and len(text) < 65536 and self._more_to_come()):
                self.start = None
                if len(text) > HEAD_LIMIT:
                    raise UnreadableTrace(f"{self.source.path}: no trace events in its first {HEAD_LIMIT >> 20} MB")
                self.rest = text
                return
            text = text[self.start.at :]
        end = last_boundary(text, self.start.layout)
        if end == 0 and len(text) > EVENT_LIMIT:
            self.lost = f"an event is larger than {EVENT_LIMIT >> 20} MB; what follows it was not read"
        self._take(text, end)
        self.rest = text[end:]

    def _more_to_come(self) -> bool:
        return not self.source.ended

    def _take(self, text: bytes, end: int) -> None:
        assert self.start is not None
        if end == 0:
            return
        layout = self.start.layout
        if self.by_lines and layout in LINE_LAYOUTS and lines.scan(text, end, layout, self.into):
            return
        self.decode(text[:end], layout, self.into)

    def finish(self) -> Trace:
        if self.start is None:
            self.start = find_start(self.rest)
            if self.start is None:
                raise UnreadableTrace(_why_no_trace(self.source.path, self.rest, self.source.ended))
            self.rest = self.rest[self.start.at :]
        layout = self.start.layout
        boundary = last_boundary(self.rest, layout)
        self._take(self.rest, boundary)
        tail = self.rest[boundary:]
        self._last_event(tail, layout)
        trace = self.into.finish()
        trace.bytes, trace.layout = self.source.bytes, str(layout)
        trace.meta = header(self.start.header)
        if self.source.ended:
            trace.notes.append(self.source.ended)
        if self.lost:
            trace.notes.append(self.lost)
        if not self.closed and not trace.notes:
            trace.notes.append("the list of events does not end: the file is cut off or still being written")
        return trace

    def _last_event(self, tail: bytes, layout: Layout) -> None:
        """The event before the closing bracket has no separator behind it; a cut-off one is not an event."""
        if layout in LINE_LAYOUTS:
            end = tail.find(b"\n  }\n")
            body, behind = (tail[: end + 4], tail[end + 4 :]) if end >= 0 else (b"", tail)
        elif layout is Layout.COMPACT:
            end = tail.find(b"}\n")
            body, behind = (tail[: end + 1], tail[end + 1 :]) if end >= 0 else (b"", tail)
        else:
            body, behind = b"", tail
        if body:
            self.decode(body, layout, self.into)
        self.closed = behind.lstrip(b" \r\n\t,").startswith(b"]")


def _why_no_trace(path: Path, text: bytes, ended: str) -> str:
    if ended and not text:
        return f"{path}: {ended}, and nothing of it could be read"
    shown = text[:60].decode("utf-8", "replace").strip()
    reason = f" ({ended})" if ended else ""
    return f"{path}: this is no profiler trace: no list of trace events in it{reason}; it begins with {shown!r}"


_SIMPLE = re.compile(rb'"(with_stack|record_shapes|vllm_version|host_name|trace_id|displayTimeUnit|baseTimeNanoseconds'
                     rb'|cuda_driver_version|cuda_runtime_version)":\s*("(?:[^"\\]|\\.)*"|\d+)')  # fmt: skip


def header(text: bytes) -> dict[str, object]:
    """What the file says about itself before its events: rank, world size, GPU, versions."""
    found: dict[str, object] = {}
    for name, value in _SIMPLE.findall(text):
        try:
            found[name.decode()] = json.loads(value)
        except ValueError:
            continue
    decoder = json.JSONDecoder()
    for name in ("deviceProperties", "distributedInfo"):
        at = text.find(b'"%s"' % name.encode())
        colon = text.find(b":", at)
        if at < 0 or colon < 0:
            continue
        try:
            found[name], _ = decoder.raw_decode(text[colon + 1 :].decode("utf-8", "replace").lstrip())
        except ValueError:
            continue
    # vLLM writes its version as JSON text inside JSON text
    version = found.get("vllm_version")
    if isinstance(version, str):
        found["vllm_version"] = version.strip('"')
    return found
