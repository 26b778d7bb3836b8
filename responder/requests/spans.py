"""Which spans are requests, in every layout vLLM has used? Pure.

- *attributes* (0.6 to 0.32 and on): one `llm_request` span; its attributes hold TTFT, queue time, tokens and, from
  0.10.2 on, prefill and decode time. Before, prefill is what TTFT and queue leave over.
- *children*: the request's span has children named after the phases (`queue`, `vllm_prefill`, …), which may arrive
  before or after it, in other batches.
- *events*: phases as dated events on the span (`journey.QUEUED`, `journey.SCHEDULED`, `journey.FIRST_TOKEN`, …).

Spans of gateways and routers in the same trace are remembered, to tell time spent before vLLM and retries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from responder.requests.record import TEXT_MOST, Request, Span, number, replace, whole

REQUEST_NAMES = {"llm_request", "llm_core"}
LATENCY = "gen_ai.latency."
ATTRIBUTES = {
    "gen_ai.request.id", "gen_ai.request.n", "gen_ai.request.top_p", "gen_ai.request.max_tokens",
    "gen_ai.request.temperature", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens",
    "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.response.model", "gen_ai.request.model",
    "gen_ai.response.id",
    *(LATENCY + name for name in (
        "time_to_first_token", "e2e", "time_in_queue", "time_in_model_prefill", "time_in_model_decode",
        "time_in_model_inference", "time_in_scheduler")),
    "llm.usage.prompt_tokens", "llm.usage.completion_tokens", "llm.request.id", "request.id", "num_preemptions",
    "http.request.resend_count", "http.resend_count", "retry.attempt", "x-envoy-attempt-count",
    "upstream_cluster", "upstream_cluster.name", "server.address", "error.type",
}  # fmt: skip
"""All we ever read of a span's attributes, so that nothing else can be kept by mistake."""
TENANT_ATTRIBUTES = (
    "tenant.id", "tenant", "enduser.id", "user.tenant", "http.request.header.x-tenant-id",
    "http.request.header.x-tenant", "http.request.header.x-user-id",
)  # fmt: skip
RESOURCE = {"service.name", "service.instance.id", "vllm.process_id", "host.name", "k8s.pod.name"}
PHASES = {
    "queue": "queue", "queued": "queue", "waiting": "queue",
    "prefill": "prefill",
    "decode": "decode", "generate": "decode", "generation": "decode",
    "preempted": "preempted",
}  # fmt: skip
RESENT = ("http.request.resend_count", "http.resend_count", "retry.attempt", "x-envoy-attempt-count")
CLIENT = 3


class Around(NamedTuple):
    """A span that is no request itself: a phase of one, or a gateway's."""

    trace: str
    span: str
    parent: str
    name: str
    kind: int
    start: float
    end: float
    phase: str
    """queue, prefill, decode, preempted, or '' for a span from outside vLLM."""
    resent: int
    tenant: str
    to: str
    """Whom a client span called."""


def phase_of(name: str) -> str:
    """The phase a span's name stands for; `vllm_prefill`, `llm.prefill` and `Prefill` are one."""
    word = name.lower().replace(".", "_").removeprefix("vllm_").removeprefix("llm_").removeprefix("request_")
    return PHASES.get(word.removesuffix("_phase").removesuffix("_time"), "")


def is_request(span: Span) -> bool:
    """Whether it stands for one request of an engine."""
    if span.name in REQUEST_NAMES:
        return True
    return any(key in span.attributes for key in (LATENCY + "time_in_queue", LATENCY + "e2e"))


def is_start_up(span: Span) -> bool:
    """Spans of vLLM's loading (0.16 and later) carry code attributes only and belong to no request."""
    return span.kind == 1 and not span.attributes and not phase_of(span.name)


def request_of(span: Span, tenants: Sequence[str] = TENANT_ATTRIBUTES) -> Request:
    """The request a span stands for; what its layout does not say stays None."""
    attributes = span.attributes
    e2e = number(attributes.get(LATENCY + "e2e"))
    if e2e is None:
        e2e = max(0.0, span.end - span.start)
    out = Request(
        id=_text(_first(attributes, "gen_ai.request.id", "request.id", "llm.request.id", "gen_ai.response.id")),
        start=span.start,
        e2e=e2e,
        ttft=number(attributes.get(LATENCY + "time_to_first_token")),
        queue=number(attributes.get(LATENCY + "time_in_queue")),
        prefill=number(attributes.get(LATENCY + "time_in_model_prefill")),
        decode=number(attributes.get(LATENCY + "time_in_model_decode")),
        prompt_tokens=whole(_first(attributes, "gen_ai.usage.prompt_tokens", "gen_ai.usage.input_tokens",
                                   "llm.usage.prompt_tokens")),
        completion_tokens=whole(_first(attributes, "gen_ai.usage.completion_tokens", "gen_ai.usage.output_tokens",
                                       "llm.usage.completion_tokens")),
        max_tokens=whole(attributes.get("gen_ai.request.max_tokens")),
        n=whole(attributes.get("gen_ai.request.n"), 1 << 8),
        temperature=number(attributes.get("gen_ai.request.temperature"), 100),
        top_p=number(attributes.get("gen_ai.request.top_p"), 1),
        preemptions=whole(attributes.get("num_preemptions"), 1 << 8),
        error=span.error,
        model=_text(_first(attributes, "gen_ai.response.model", "gen_ai.request.model")),
        tenant=tenant_of(attributes, tenants),
        trace=span.trace,
        span=span.span,
        parent=span.parent,
        replica=span.replica,
    )  # fmt: skip
    return _completed(_from_events(out, span.events))


def around_of(span: Span, tenants: Sequence[str] = TENANT_ATTRIBUTES) -> Around:
    """A span that is none, reduced to what joins it to a request."""
    resent = max((whole(span.attributes.get(key), 1 << 8) or 0 for key in RESENT), default=0)
    to = _text(_first(span.attributes, "upstream_cluster.name", "upstream_cluster", "server.address"))
    return Around(span.trace, span.span, span.parent, span.name[:TEXT_MOST], span.kind, span.start, span.end,
                  phase_of(span.name), resent, tenant_of(span.attributes, tenants), to)  # fmt: skip


def tenant_of(attributes: Mapping[str, object], tenants: Sequence[str]) -> str:
    """Whose request it was, if the operator traces that."""
    return _text(_first(attributes, *tenants))


def _from_events(request: Request, events: Sequence[tuple[str, float]]) -> Request:
    when: dict[str, float] = {}
    preempted = 0
    for name, at in events:
        word = name.upper().rsplit(".", 1)[-1]
        when.setdefault(word, at)
        if word == "PREEMPTED":
            preempted += 1
        if word in ("FINISHED", "DEPARTED"):
            when[word] = at
    queued, scheduled, first = when.get("QUEUED"), when.get("SCHEDULED"), when.get("FIRST_TOKEN")
    finished = when.get("FINISHED")
    if scheduled is None and first is None:
        return request
    changes: dict[str, object] = {"layout": "events", "preemptions": preempted}
    if request.queue is None:
        changes["queue"] = _between(queued if queued is not None else request.start, scheduled)
    if request.prefill is None:
        changes["prefill"] = _between(scheduled, first)
    if request.ttft is None:
        changes["ttft"] = _between(request.start, first)
    if request.decode is None:
        changes["decode"] = _between(first, finished if finished is not None else request.end)
    return replace(request, **changes)  # type: ignore[arg-type]


def _completed(request: Request) -> Request:
    """What an older layout leaves out and the rest implies."""
    changes: dict[str, float] = {}
    if request.ttft is not None and request.queue is not None and request.prefill is None:
        changes["prefill"] = max(0.0, request.ttft - request.queue)
    if request.ttft is not None and request.decode is None:
        changes["decode"] = max(0.0, request.e2e - request.ttft)
    return replace(request, **changes) if changes else request  # type: ignore[arg-type]


def _between(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else max(0.0, b - a)


def _first(attributes: Mapping[str, object], *names: str) -> object:
    for name in names:
        if name in attributes:
            return attributes[name]
    return None


def _text(value: object) -> str:
    return "" if value is None else str(value)[:TEXT_MOST]


# -------------------------------------------------------------------------------------------------------- joining


def join(requests: Iterable[Request], around: Iterable[Around]) -> list[Request]:
    """Requests with what spans around them say: phases from children, time and attempts from gateways."""
    by_span = {a.span: a for a in around if not a.phase}
    children: dict[str, list[Around]] = {}
    calls: dict[tuple[str, str, str], int] = {}
    for item in around:
        if item.phase:
            children.setdefault(item.parent, []).append(item)
        elif item.kind == CLIENT:
            key = (item.trace, item.parent, item.to or item.name)
            calls[key] = calls.get(key, 0) + 1
    joined = [_gateway(_phases(r, children.get(r.span, ())), by_span, calls) for r in requests]
    return _one_after_the_other(joined)


def _phases(request: Request, parts: Sequence[Around]) -> Request:
    if not parts:
        return request
    spent: dict[str, float] = {}
    for part in parts:
        spent[part.phase] = spent.get(part.phase, 0.0) + max(0.0, part.end - part.start)
    changes: dict[str, object] = {"layout": "children"}
    for phase in ("queue", "prefill", "decode"):
        if getattr(request, phase) is None or request.layout != "attributes":
            changes[phase] = spent.get(phase, getattr(request, phase))
    if request.ttft is None:
        ends = [p.end for p in parts if p.phase == "prefill"]
        changes["ttft"] = max(0.0, min(ends) - request.start) if ends else None
    preempted = sum(p.phase == "preempted" for p in parts)
    if preempted:
        changes["preemptions"] = preempted
    return replace(request, **changes)  # type: ignore[arg-type]


def _gateway(request: Request, by_span: Mapping[str, Around], calls: Mapping[tuple[str, str, str], int]) -> Request:
    outer: Around | None = None
    attempts, tenant = 1, request.tenant
    at, seen = request.parent, 0
    while at in by_span and seen < 16:
        outer = by_span[at]
        attempts = max(attempts, outer.resent + 1)
        if outer.kind == CLIENT:
            attempts = max(attempts, calls.get((outer.trace, outer.parent, outer.to or outer.name), 1))
        tenant = tenant or outer.tenant
        at, seen = outer.parent, seen + 1
    if outer is None:
        return request
    return replace(request, gateway=max(0.0, outer.end - outer.start), gateway_name=outer.name, attempts=attempts,
                   tenant=tenant)  # fmt: skip


def _one_after_the_other(requests: list[Request]) -> list[Request]:
    """Equal requests of one trace that follow each other are attempts. Those side by side (n > 1, several prompts) are
    not, nor are the calls of an agent, whose prompts grow."""
    traces: dict[tuple[object, ...], list[int]] = {}
    for index, item in enumerate(requests):
        if item.trace and item.parent and item.prompt_tokens is not None:
            traces.setdefault((item.trace, item.prompt_tokens, item.max_tokens), []).append(index)
    for members in traces.values():
        if len(members) < 2:
            continue
        members.sort(key=lambda i: requests[i].start)
        attempts, end = 1, requests[members[0]].end
        for index in members[1:]:
            item = requests[index]
            if item.start >= end:
                attempts += 1
            end = max(end, item.end)
            requests[index] = replace(item, attempts=max(item.attempts, attempts))
    return requests
