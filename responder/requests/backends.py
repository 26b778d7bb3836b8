"""How do we ask an existing tracing back end? Tempo and Jaeger over HTTP: the window around the onset, slowest first.

Neither sorts, so we ask twice: for whatever is there (that shows what is fast, to compare with) and for what took
longest, then fetch the longest traces whole. `fetch_*` bring bodies, `*_spans` turn stored bodies into spans (pure).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

from responder import ask
from responder.requests.record import TEXT_MOST, Request, Span, number
from responder.requests.spans import ATTRIBUTES, RESOURCE, TENANT_ATTRIBUTES, around_of, is_request, join, request_of
from responder.requests.wire import MAX_ATTRIBUTES, MAX_EVENTS, replica_of

SPAN_NAME = "llm_request"
FOUND = 500
"""Traces one search may list."""
SLOWEST, OTHERS = 60, 60
"""Traces fetched whole: the longest, and an even sample of the rest."""
MAX_ANSWER = 16 << 20
AT_ONCE = 8
QUERY_S = 5.0
MOST_SERVICES = 20


class BackendSilent(Exception):
    """The back end did not answer as one; the text says what it did."""


@dataclass(frozen=True)
class Window:
    """Unix seconds."""

    since: float
    until: float


async def tempo(
    http: aiohttp.ClientSession, url: str, window: Window, headers: Mapping[str, str] | None = None
) -> list[Request]:
    """Requests that Tempo (2.0 and later) knows of. BackendSilent."""
    span = {"start": int(window.since), "end": int(window.until) + 1}
    anything = await _json(http, f"{url}/api/search?" + _tempo_query(f'{{ name = "{SPAN_NAME}" }}', **span), headers)
    listed = _listed(anything)
    if len(listed) >= FOUND:  # more than fit: the slow ones may not be among them
        floor = sorted(listed.values())[int(0.9 * len(listed))]
        query = f'{{ name = "{SPAN_NAME}" && duration > {max(1, int(floor))}ms }}'
        listed |= _listed(await _json(http, f"{url}/api/search?" + _tempo_query(query, **span), headers))
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(trace: str) -> list[Span]:
        async with slots:
            return list(otlp_spans(await _json(http, f"{url}/api/traces/{quote(trace)}", headers)))

    found = await asyncio.gather(*(one(trace) for trace in choose(listed)), return_exceptions=True)
    failed = [f for f in found if isinstance(f, BaseException)]
    if failed and len(failed) == len(found):
        raise BackendSilent(str(failed[0]))
    return requests_of(span for part in found if not isinstance(part, BaseException) for span in part)


async def jaeger(
    http: aiohttp.ClientSession,
    url: str,
    window: Window,
    headers: Mapping[str, str] | None = None,
    service: str | None = None,
) -> list[Request]:
    """Requests that Jaeger knows of, of one service or of all that have such spans. BackendSilent."""
    services = [service] if service else _names(await _json(http, f"{url}/api/services", headers))
    spans: list[Span] = []
    for name in services[:MOST_SERVICES]:
        query = {
            "service": name, "operation": SPAN_NAME, "start": int(window.since * 1e6), "end": int(window.until * 1e6),
            "limit": OTHERS,
        }  # fmt: skip
        some = list(jaeger_spans(await _json(http, f"{url}/api/traces?{urlencode(query)}", headers)))
        spans += some
        lengths = sorted(s.end - s.start for s in some if is_request(s))
        if len(lengths) >= OTHERS:
            query |= {"minDuration": f"{int(lengths[int(0.9 * len(lengths))] * 1e6)}us", "limit": SLOWEST}
            spans += jaeger_spans(await _json(http, f"{url}/api/traces?{urlencode(query)}", headers))
    return requests_of(spans)


def _tempo_query(query: str, *, start: int, end: int) -> str:
    return urlencode({"q": query, "start": start, "end": end, "limit": FOUND})


async def _json(http: aiohttp.ClientSession, url: str, headers: Mapping[str, str] | None) -> Any:
    wanted = {"Accept": "application/json", **(headers or {})}
    answer = await ask.get(http, url, timeout=QUERY_S, max_bytes=MAX_ANSWER, headers=wanted)
    where = url.split("?", 1)[0]
    if answer.reach != "ok":
        raise BackendSilent(f"{where}: {answer.reach} {answer.error}".strip())
    if answer.status != 200:
        raise BackendSilent(f"{where}: HTTP {answer.status}")
    if answer.truncated:
        raise BackendSilent(f"{where}: more than {MAX_ANSWER} bytes")
    try:
        return json.loads(answer.body)
    except ValueError as error:
        raise BackendSilent(f"{where}: no JSON") from error


# ----------------------------------------------------------------------------------------------- pure from here on


def choose(listed: Mapping[str, float]) -> list[str]:
    """Trace ids to fetch: the longest first, then an even sample of the others."""
    order = sorted(listed, key=lambda trace: (-listed[trace], trace))
    rest = order[SLOWEST:]
    stride = max(1, -(-len(rest) // OTHERS))
    return order[:SLOWEST] + rest[::stride]


def _listed(answer: Any) -> dict[str, float]:
    """Trace id -> milliseconds of a Tempo search."""
    out: dict[str, float] = {}
    for entry in _list(answer, "traces"):
        trace, length = entry.get("traceID"), number(entry.get("durationMs"), 1e10)
        if isinstance(trace, str) and trace:
            out[trace] = length or 0.0
    return out


def _names(answer: Any) -> list[str]:
    data = answer.get("data") if isinstance(answer, dict) else None
    return sorted(name for name in data if isinstance(name, str)) if isinstance(data, list) else []


def requests_of(spans: Iterable[Span]) -> list[Request]:
    """Requests among spans, joined with the spans around them, each once, oldest first."""
    requests: dict[tuple[str, str], Request] = {}
    around = {}
    for span in spans:
        if is_request(span):
            requests[(span.trace, span.span)] = request_of(span)
        else:
            around[span.span] = around_of(span)
    return sorted(join(requests.values(), around.values()), key=lambda r: r.start)


def otlp_spans(body: Any) -> Iterator[Span]:
    """Spans of OTLP's JSON, as Tempo gives a trace (`batches`, `resourceSpans`, or either inside `trace`)."""
    top = body.get("trace", body) if isinstance(body, dict) else {}
    for batch in _list(top, "batches") or _list(top, "resourceSpans"):
        resource = batch.get("resource")
        replica = replica_of(_values(resource if isinstance(resource, dict) else {}, RESOURCE))
        scopes = _list(batch, "scopeSpans") or _list(batch, "instrumentationLibrarySpans")
        for span in (s for scope in scopes for s in _list(scope, "spans")):
            start, end = _nano(span.get("startTimeUnixNano")), _nano(span.get("endTimeUnixNano"))
            if start is None or end is None:
                continue
            status = span.get("status")
            code = status.get("code") if isinstance(status, dict) else None
            yield Span(
                trace=_id(span.get("traceId")), span=_id(span.get("spanId")), parent=_id(span.get("parentSpanId")),
                name=str(span.get("name", ""))[:TEXT_MOST], kind=_kind(span.get("kind")), start=start, end=end,
                error=code in (2, "STATUS_CODE_ERROR"), attributes=_values(span, _wanted()),
                events=[(str(e.get("name", ""))[:TEXT_MOST], at) for e in _list(span, "events")[:MAX_EVENTS]
                        if (at := _nano(e.get("timeUnixNano"))) is not None],
                replica=replica,
            )  # fmt: skip


def jaeger_spans(body: Any) -> Iterator[Span]:
    """Spans of Jaeger's JSON."""
    wanted = _wanted()
    for trace in _list(body, "data"):
        processes = trace.get("processes")
        processes = processes if isinstance(processes, dict) else {}
        for span in _list(trace, "spans"):
            start, length = number(span.get("startTime"), 1e17), number(span.get("duration"), 1e15)
            if start is None or length is None:
                continue
            tags = {str(t.get("key")): t.get("value") for t in _list(span, "tags")[:MAX_ATTRIBUTES]}
            yield Span(
                trace=str(span.get("traceID", "")), span=str(span.get("spanID", "")), parent=_parent(span),
                name=str(span.get("operationName", ""))[:TEXT_MOST], kind=_kind(tags.get("span.kind")),
                start=start / 1e6, end=(start + length) / 1e6,
                error=tags.get("error") in (True, "true") or tags.get("otel.status_code") == "ERROR",
                attributes={k: _short(v) for k, v in tags.items() if k in wanted and isinstance(v, str | int | float)},
                events=list(_logs(span)), replica=_jaeger_replica(processes.get(span.get("processID"))),
            )  # fmt: skip


def _jaeger_replica(process: Any) -> Any:
    process = process if isinstance(process, dict) else {}
    tags = {str(t.get("key")): _short(t.get("value", "")) for t in _list(process, "tags")[:MAX_ATTRIBUTES]}
    return replica_of({**tags, "service.name": str(process.get("serviceName", ""))})


def _parent(span: Mapping[str, Any]) -> str:
    for reference in _list(span, "references"):
        if reference.get("refType") == "CHILD_OF":
            return str(reference.get("spanID", ""))
    return str(span.get("parentSpanID", ""))


def _logs(span: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for entry in _list(span, "logs")[:MAX_EVENTS]:
        at = number(entry.get("timestamp"), 1e17)
        names = [f.get("value") for f in _list(entry, "fields") if f.get("key") in ("event", "message", "name")]
        if at is not None and names:
            yield str(names[0])[:TEXT_MOST], at / 1e6


def _list(tree: Any, key: str) -> Sequence[dict[str, Any]]:
    found = tree.get(key) if isinstance(tree, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _wanted() -> set[str]:
    return ATTRIBUTES | set(TENANT_ATTRIBUTES)


def _values(tree: Mapping[str, Any], wanted: set[str]) -> dict[str, float | str | bool]:
    out: dict[str, float | str | bool] = {}
    for pair in _list(tree, "attributes")[:MAX_ATTRIBUTES]:
        value = pair.get("value")
        if pair.get("key") not in wanted or not isinstance(value, dict):
            continue
        for kind in ("stringValue", "doubleValue", "intValue", "boolValue"):
            if isinstance(value.get(kind), str | int | float):
                out[str(pair["key"])] = _short(value[kind])
                break
    return out


def _short(value: Any) -> Any:
    return value[:TEXT_MOST] if isinstance(value, str) else value


def _nano(value: Any) -> float | None:
    found = number(value, 1e20)
    return None if found is None else found / 1e9


def _id(value: Any) -> str:
    """Hex, from hex or from the base64 that protobuf's JSON makes of bytes."""
    text = str(value or "")
    if len(text) in (16, 32) and all(c in "0123456789abcdefABCDEF" for c in text):
        return text.lower()
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return ""


def _kind(value: Any) -> int:
    names = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
    if isinstance(value, str):
        return names.get(value.lower().removeprefix("span_kind_"), 0)
    return value if isinstance(value, int) else 0
