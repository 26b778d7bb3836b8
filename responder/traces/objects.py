"""What does a piece of a trace say when its lines are not the usual ones? Decoded as JSON, event by event if need be.

torch writes names of Python frames without escaping quotes and newlines, so a whole file may not be valid JSON. Only
the events that are broken themselves are lost, and they are counted.
"""

from __future__ import annotations

import msgspec
import numpy as np

from responder.traces.collect import Collector, key_of
from responder.traces.layout import Layout, top_level_objects
from responder.traces.lines import KEPT


class Args(msgspec.Struct):
    """The few arguments we use. Undeclared ones are skipped undecoded: some hold integers beyond 64 bits."""

    correlation: int | str | None = None
    grid: msgspec.Raw = msgspec.Raw()
    bytes: int | str | None = None
    elements: int | str | None = msgspec.field(default=None, name="In msg nelems")


class Event(msgspec.Struct):
    """A trace event; ids may be numbers or strings, times too in some writers."""

    ph: str = ""
    name: str = ""
    cat: str = ""
    pid: int | str | None = None
    tid: int | str | None = None
    ts: float | str | None = None
    dur: float | str | None = None
    args: Args | None = None


_many = msgspec.json.Decoder(list[Event], strict=True)
_one = msgspec.json.Decoder(Event, strict=True)

KEPT_PREFIXES = (("_runtime", "calls"), ("_driver", "calls"))
"""Other accelerators' runtimes: xpu_runtime, hip_runtime, privateuse1_runtime, mtia_runtime."""


def decode(text: bytes, layout: Layout, into: Collector) -> None:
    """Collect the events in `text`: whole events, separated by commas, in any layout."""
    body = text.strip(b" \r\n\t,")
    if not body:
        return
    try:
        events = _many.decode(b"[" + body + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError):
        events = _one_by_one(body, layout, into)
    _collect(events, into)


def _one_by_one(body: bytes, layout: Layout, into: Collector) -> list[Event]:
    if layout in (Layout.MULTI, Layout.SINGLE):
        parts = (b"\n" + body).split(b"\n  },\n")
        texts = [part + b"\n  }" for part in parts[:-1]] + [parts[-1]]
    elif layout is Layout.COMPACT:
        texts = body.split(b",\n{")
        texts = [texts[0], *(b"{" + rest for rest in texts[1:])]
    else:
        texts = [body[first:last] for first, last in top_level_objects(body)]
    events = []
    for text in texts:
        stripped = text.strip(b" \r\n\t,")
        if not stripped:
            continue
        try:
            events.append(_one.decode(stripped))
        except (msgspec.DecodeError, UnicodeDecodeError):
            into.bad_events += 1
    return events


def destination(category: str) -> str | None:
    """Where events of this category go; None for a category nobody told us of."""
    known = KEPT.get(category)
    if known is not None:
        return known
    for ending, kind in KEPT_PREFIXES:
        if category.endswith(ending):
            return kind
    return None


def _collect(events: list[Event], into: Collector) -> None:
    groups: dict[str, list[list[int]]] = {}
    for event in events:
        if event.ph != "X":
            continue
        into.count(event.cat, 1)
        kind = destination(event.cat)
        if not kind:
            continue
        start, duration = nanoseconds(event.ts), nanoseconds(event.dur)
        if start is None or duration is None or duration < 0:
            into.bad_events += 1
            continue
        module = event.name.startswith("nn.Module")
        if kind == "frames" and duration < 1_000_000 and not module:
            continue
        row = [start, duration, into.keys.number(key_of(event.name, event.pid, event.tid))]
        if kind in ("gpu", "calls"):
            row += _detail(event, kind, into)
        groups.setdefault(kind, []).append(row)
    for kind, rows in groups.items():
        columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
        if kind == "gpu":
            into.gpu(*columns)
        elif kind == "calls":
            into.calls(*columns)
        else:
            into.plain(kind, *columns)


def _detail(event: Event, kind: str, into: Collector) -> list[int]:
    args = event.args or Args()
    correlation = _number(args.correlation, -1)
    if kind == "calls":
        return [correlation]
    grid = -1
    text = bytes(args.grid).strip(b'[]"')
    if text and event.cat == "kernel":
        known = into.grid_numbers.get(text)
        grid = into.grid_number(text) if known is None else known
    size = args.bytes if event.cat != "kernel" else args.elements
    return [correlation, grid, _number(size, 0)]


def _number(value: int | str | None, otherwise: int) -> int:
    """An integer that fits a column, from a number or its text."""
    try:
        number = int(value) if value is not None else otherwise
    except ValueError:
        return otherwise
    return number if -(2**62) < number < 2**62 else otherwise


def nanoseconds(value: float | str | None) -> int | None:
    """Microseconds as the file has them, to nanoseconds; None if it is no sensible number.

    A float64 holds microseconds since torch's base time to the nanosecond for 101 days; text is read exactly.
    """
    try:
        if isinstance(value, str):
            whole, _, part = value.partition(".")
            number = int(whole) * 1000 + int((part + "000")[:3] or 0)
        elif value is None:
            return None
        else:
            base = int(value)
            number = base * 1000 + round((value - base) * 1000)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < 2**62 else None
