"""What do exporters send? OTLP messages made of plain values, in every layout vLLM has used."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

DATA = Path(__file__).resolve().parent.parent / "data" / "requests"
T0 = 1_800_000_000.0
FULL = {
    "gen_ai.latency.time_to_first_token": 0.5,
    "gen_ai.latency.e2e": 2.0,
    "gen_ai.latency.time_in_queue": 0.1,
    "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 51,
    "gen_ai.latency.time_in_model_prefill": 0.3,
    "gen_ai.latency.time_in_model_decode": 1.5,
    "gen_ai.latency.time_in_model_inference": 1.8,
    "gen_ai.request.id": "cmpl-1",
    "gen_ai.request.max_tokens": 64,
    "gen_ai.request.n": 1,
    "gen_ai.request.top_p": 1.0,
}
"""Attributes of a request span of 0.10.2 and later."""


def span(
    name: str = "llm_request",
    *,
    start: float = T0,
    end: float | None = None,
    kind: int = 2,
    trace: int = 1,
    own: int = 1,
    parent: int = 0,
    attributes: Mapping[str, Any] | None = None,
    events: Sequence[tuple[str, float]] = (),
) -> dict[str, Any]:
    """One span as plain values."""
    return {
        "name": name,
        "start": start,
        "end": start + 2.0 if end is None else end,
        "kind": kind,
        "trace": trace,
        "own": own,
        "parent": parent,
        "attributes": FULL if attributes is None else attributes,
        "events": events,
    }


def message(*spans: dict[str, Any], resource: Mapping[str, Any] | None = None) -> bytes:
    """An ExportTraceServiceRequest with these spans."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    _fill(group.resource.attributes, resource or {"service.name": "unknown_service:python", "vllm.process_id": "77"})
    scope = group.scope_spans.add()
    for item in spans:
        made = scope.spans.add()
        made.name, made.kind = item["name"], item["kind"]
        made.trace_id = item["trace"].to_bytes(16, "big")
        made.span_id = item["own"].to_bytes(8, "big")
        if item["parent"]:
            made.parent_span_id = item["parent"].to_bytes(8, "big")
        made.start_time_unix_nano, made.end_time_unix_nano = int(item["start"] * 1e9), int(item["end"] * 1e9)
        _fill(made.attributes, item["attributes"])
        for name, at in item["events"]:
            made.events.add(name=name, time_unix_nano=int(at * 1e9))
    return bytes(request.SerializeToString())


def _fill(attributes: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        pair = attributes.add(key=key)
        if isinstance(value, bool):
            pair.value.bool_value = value
        elif isinstance(value, int):
            pair.value.int_value = value
        elif isinstance(value, float):
            pair.value.double_value = value
        elif isinstance(value, str):
            pair.value.string_value = value
        elif isinstance(value, list):
            for entry in value:
                pair.value.array_value.values.add(string_value=str(entry))


def recorded() -> bytes:
    """All spans one vLLM 0.32 exported from start to end, as one message."""
    request = ExportTraceServiceRequest()
    lines = gzip.decompress((DATA / "otlp_spans_0.32.jsonl.gz").read_bytes()).splitlines()
    for number, line in enumerate(lines):
        source = json.loads(line)
        group = request.resource_spans.add()
        _fill(group.resource.attributes, source["res"])
        made = group.scope_spans.add().spans.add()
        made.name, made.kind = source["name"], source["kind"]
        made.trace_id, made.span_id = bytes.fromhex(source["trace"]), bytes.fromhex(source["span"])
        made.parent_span_id = bytes.fromhex(source["parent"] or "")
        made.start_time_unix_nano = int((T0 + number) * 1e9)
        made.end_time_unix_nano = int((T0 + number + source["dur_ms"] / 1000) * 1e9)
        _fill(made.attributes, source["attrs"])
    return bytes(request.SerializeToString())


def stored(name: str) -> bytes:
    """A recorded file of tests/data/requests, unpacked."""
    return gzip.decompress((DATA / f"{name}.jsonl.gz").read_bytes())
