"""Are OTLP messages read within limits, whatever they hold?"""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from responder.requests import wire
from tests.requests.otlp import FULL, message, recorded, span


def test_every_span_of_a_recorded_server_is_read() -> None:
    """27 spans: 12 of the start, 15 requests, with the process that sent each."""
    spans = list(wire.decode(wire.walk(recorded()), "10.0.0.7"))
    assert len(spans) == 27
    assert all(s is not None for s in spans)
    named = [s for s in spans if s is not None and s.name == "llm_request"]
    assert len(named) == 15
    assert named[0].attributes["gen_ai.usage.prompt_tokens"] == 10
    assert named[0].replica.pid == "12716"
    assert named[0].replica.service == ""
    assert named[0].replica.host == "10.0.0.7"


def test_only_what_we_may_keep_is_kept() -> None:
    """An attribute we do not know (a prompt, say) never leaves the message; names and texts are cut."""
    secret = {**FULL, "gen_ai.prompt": "tell me", "gen_ai.completion": "no", "gen_ai.request.id": "x" * 5000}
    (found,) = wire.decode(wire.walk(message(span(attributes=secret))))
    assert found is not None
    assert "tell me" not in repr(found)
    assert len(str(found.attributes["gen_ai.request.id"])) == 128


def test_an_operators_tenant_attribute_is_read_when_asked_for() -> None:
    """Only then."""
    body = wire.walk(message(span(attributes={**FULL, "x-team": "blue"})))
    (without,) = wire.decode(body)
    (asked,) = wire.decode(body, more=("x-team",))
    assert without is not None
    assert asked is not None
    assert "x-team" not in without.attributes
    assert asked.attributes["x-team"] == "blue"


@pytest.mark.parametrize("value", ["text", True, ["a", "b"], None])
def test_attributes_of_wrong_types_do_no_harm(value: object) -> None:
    """They are read as what they are; what makes no sense of them comes later."""
    (found,) = wire.decode(wire.walk(message(span(attributes={**FULL, "gen_ai.latency.e2e": value}))))
    assert found is not None


def test_truncation_anywhere_is_refused_or_harmless() -> None:
    """A cut message is either refused or gives fewer spans; it never raises anything else."""
    whole = message(span(), span(own=2))
    for cut in range(len(whole)):
        try:
            found = list(wire.decode(wire.walk(whole[:cut])))
        except wire.Refused:
            continue
        assert cut == 0 or all(s is None or s.name == "llm_request" for s in found)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    """No exception but ours."""
    with contextlib.suppress(wire.Refused):
        list(wire.decode(wire.walk(data)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_flipped_byte_never_breaks_the_reader(data: st.DataObject) -> None:
    """One wrong byte anywhere costs at most this message."""
    whole = bytearray(message(span(), span(own=2)))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(wire.Refused):
        list(wire.decode(wire.walk(bytes(whole))))


def test_a_span_too_large_is_left_out_and_counted() -> None:
    """The others of its message stay."""
    fat = span(attributes={**FULL, "gen_ai.prompt": "x" * (wire.MAX_SPAN + 1)})
    envelope = wire.walk(message(fat, span(own=2)))
    assert envelope.oversized == 1
    assert len(envelope.spans) == 1


def test_more_spans_than_we_take_are_refused() -> None:
    """Four megabytes of empty spans are ten thousand at most."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for _ in range(wire.MAX_SPANS + 1):
        spans.add()
    with pytest.raises(wire.TooBig):
        wire.walk(request.SerializeToString())


@pytest.mark.parametrize("unit", [b"\x0a\x00", b"\x0a\x02\x12\x00", b"\x12\x00", b"\x08\x01"])
def test_messages_of_nothing_but_empty_parts_cost_no_memory(unit: bytes) -> None:
    """A protobuf library would make hundreds of megabytes of objects of them."""
    body = unit * (wire.MAX_MESSAGE // len(unit))
    tracemalloc.start()
    try:
        with pytest.raises(wire.TooBig):
            wire.walk(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_gzip_bomb_is_never_unpacked() -> None:
    """A thousandfold bomb stops at the limit."""
    bomb = gzip.compress(bytes(256 << 20), compresslevel=9)
    tracemalloc.start()
    try:
        with pytest.raises(wire.TooBig):
            wire.inflate(bomb, "gzip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_compressed_bodies_are_unpacked() -> None:
    """gzip and deflate, as OTLP's exporters use them."""
    body = message(span())
    assert wire.inflate(gzip.compress(body), "gzip") == body
    assert wire.inflate(zlib.compress(body), "deflate") == body
    assert wire.inflate(body, "") == body


@pytest.mark.parametrize(
    ("data", "encoding"),
    [(b"no gzip", "gzip"), (gzip.compress(b"x" * 1000, mtime=0)[:-9], "gzip"), (b"x", "br"), (b"x", "gzip, gzip")],
)
def test_broken_or_unknown_compression_is_refused(data: bytes, encoding: str) -> None:
    """With the reason."""
    with pytest.raises(wire.Refused):
        wire.inflate(data, encoding)


def test_deep_nesting_is_one_bad_span() -> None:
    """Arrays in arrays, far beyond what the library allows."""
    value = b""
    for _ in range(3000):
        inner = b"\x0a" + _length(value) + value
        value = b"\x2a" + _length(inner) + inner
    pair = b"\x0a\x01k\x12" + _length(value) + value
    body = b"\x4a" + _length(pair) + pair
    for tag in (b"\x12", b"\x12", b"\x0a"):
        body = tag + _length(body) + body
    assert list(wire.decode(wire.walk(body))) == [None]


def _length(data: bytes) -> bytes:
    out, value = bytearray(), len(data)
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
