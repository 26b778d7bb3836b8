"""What is inside an OTLP message, and how much memory may finding out cost?

A protobuf message of four megabytes of nothing but empty submessages becomes hundreds of megabytes of objects. So the
envelope is walked by hand, without building anything, and only single spans of bounded size are given to the protobuf
library. What is not a span of ours to keep is never copied.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from responder.requests.record import TEXT_MOST, Replica, Span
from responder.requests.spans import ATTRIBUTES, RESOURCE

MAX_MESSAGE = 4 << 20
"""Bytes after decompression; vLLM's exporter sends batches of 512 spans, some 0.5 MiB."""
MAX_SPANS = 10_000
MAX_SPAN = 64 << 10
MAX_ATTRIBUTES = 128
MAX_EVENTS = 64
GZIP, ZLIB = 31, 15


class Refused(ValueError):
    """A message we do not take; the text says why."""


class TooBig(Refused):
    """More than we take at once."""


@dataclass(frozen=True)
class Envelope:
    """A message whose outer structure is sound: where its spans lie."""

    data: bytes
    spans: Sequence[tuple[int, int, int]]
    """(index into `resources`, start, end)."""
    resources: Sequence[tuple[int, int]]
    oversized: int
    """Spans larger than we look at."""


def inflate(data: bytes, encoding: str, limit: int = MAX_MESSAGE) -> bytes:
    """Decompress gzip or deflate, never producing more than `limit` bytes. Refused; TooBig for a bomb."""
    if encoding in ("", "identity"):
        if len(data) > limit:
            raise TooBig(f"more than {limit} bytes")
        return data
    if encoding not in ("gzip", "deflate"):
        raise Refused(f"content encoding {encoding[:20]!r} is not known here: send gzip or nothing")
    machine = zlib.decompressobj(GZIP if encoding == "gzip" else ZLIB)
    try:
        out = machine.decompress(data, limit + 1)
    except zlib.error as error:
        raise Refused(f"not {encoding}: {error}") from error
    if len(out) > limit:
        raise TooBig(f"more than {limit} bytes when decompressed")
    if not machine.eof:
        raise Refused(f"{encoding} data ends too early")
    return out


def walk(data: bytes) -> Envelope:
    """Find the spans of an ExportTraceServiceRequest. Refused when the bytes are no such message."""
    spans: list[tuple[int, int, int]] = []
    resources: list[tuple[int, int]] = []
    oversized = 0
    for number, kind, start, end in _fields(data, 0, len(data)):
        if number != 1 or kind != 2:
            continue
        index = len(resources)
        if index >= MAX_SPANS:
            raise TooBig(f"more than {MAX_SPANS} resources in one message")
        resources.append((start, start))
        for inner, inner_kind, a, b in _fields(data, start, end):
            if inner_kind != 2:
                continue
            if inner == 1:
                resources[index] = (a, b)
            elif inner == 2:
                oversized += _spans(data, a, b, index, spans)
    return Envelope(data, spans, resources, oversized)


def _spans(data: bytes, start: int, end: int, resource: int, out: list[tuple[int, int, int]]) -> int:
    oversized = 0
    for number, kind, a, b in _fields(data, start, end):
        if number != 2 or kind != 2:
            continue
        if b - a > MAX_SPAN:
            oversized += 1
            continue
        if len(out) >= MAX_SPANS:
            raise TooBig(f"more than {MAX_SPANS} spans in one message")
        out.append((resource, a, b))
    return oversized


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, end) of the fields between two places. Refused when they do not fit."""
    seen = 0
    while at < end:
        seen += 1
        if seen > 4 * MAX_SPANS:
            raise TooBig("more fields than any honest message has")
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(data, at, end)
            start, at = at, at + length
        elif kind == 0:
            start = at
            _, at = _varint(data, at, end)
        elif kind == 1:
            start, at = at, at + 8
        elif kind == 5:
            start, at = at, at + 4
        else:
            raise Refused("not a protobuf message")
        if at > end or tag >> 3 == 0:
            raise Refused("truncated, or not a protobuf message")
        yield tag >> 3, kind, start, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            break
    raise Refused("truncated, or not a protobuf message")


# ---------------------------------------------------------------------------------------------------- single spans


@cache
def _messages() -> tuple[Any, Any]:
    """Imported on first use: a daemon without the receiver never pays for protobuf."""
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

    return Resource, SpanMessage


def decode(envelope: Envelope, peer: str = "", more: Sequence[str] = ()) -> Iterator[Span | None]:
    """The spans of a message; None for one that is no span. `more`: attributes to read beside ours (tenants)."""
    _, message_type = _messages()
    wanted = ATTRIBUTES | set(more)
    replicas: dict[int, Replica] = {}
    for resource, start, end in envelope.spans:
        if resource not in replicas:
            replicas[resource] = _replica(envelope, resource, peer)
        try:
            found = message_type.FromString(envelope.data[start:end])
            yield _span(found, wanted, replicas[resource])
        except Exception:  # the library's errors differ by implementation; one bad span must not cost the others
            yield None


def _span(found: Any, wanted: set[str], replica: Replica) -> Span:
    events = [(event.name[:TEXT_MOST], event.time_unix_nano / 1e9) for event in found.events[:MAX_EVENTS]]
    return Span(
        trace=found.trace_id.hex()[:32],
        span=found.span_id.hex()[:16],
        parent=found.parent_span_id.hex()[:16],
        name=found.name[:TEXT_MOST],
        kind=int(found.kind),
        start=found.start_time_unix_nano / 1e9,
        end=found.end_time_unix_nano / 1e9,
        error=found.status.code == 2,
        attributes=_plain(found.attributes[:MAX_ATTRIBUTES], wanted),
        events=events,
        replica=replica,
    )


def _plain(attributes: Any, wanted: set[str]) -> dict[str, float | str | bool]:
    out: dict[str, float | str | bool] = {}
    for pair in attributes:
        if pair.key not in wanted:
            continue
        kind = pair.value.WhichOneof("value")
        if kind == "string_value":
            out[pair.key] = pair.value.string_value[:TEXT_MOST]
        elif kind in ("int_value", "double_value", "bool_value"):
            out[pair.key] = getattr(pair.value, kind)
    return out


def _replica(envelope: Envelope, index: int, peer: str) -> Replica:
    start, end = envelope.resources[index]
    if end - start > MAX_SPAN:
        return Replica(host=peer)
    resource_type, _ = _messages()
    try:
        found = _plain(resource_type.FromString(envelope.data[start:end]).attributes[:MAX_ATTRIBUTES], RESOURCE)
    except Exception:  # as above: a resource we cannot read is one without a name
        return Replica(host=peer)
    return replica_of(found, peer)


def replica_of(resource: Any, peer: str = "") -> Replica:
    """Who sent it, from a resource's attributes."""
    service = str(resource.get("service.name", ""))
    return Replica(
        service="" if service.startswith("unknown_service") else service,
        instance=str(resource.get("service.instance.id", "")),
        pid=str(resource.get("vllm.process_id", "")),
        host=str(resource.get("k8s.pod.name") or resource.get("host.name") or peer),
    )
