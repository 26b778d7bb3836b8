"""What do we keep of a finished request? Times, sizes and ids; nothing of what was asked or answered. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

TEXT_MOST = 128


class Replica(NamedTuple):
    """Who served it, as far as the span says."""

    service: str = ""
    """OTEL_SERVICE_NAME; `unknown_service:…` (nobody set it) is kept as ''."""
    instance: str = ""
    """service.instance.id: one per API server process."""
    pid: str = ""
    """vllm.process_id."""
    host: str = ""
    """host.name, else the address the span came from."""

    @property
    def name(self) -> str:
        """Short and readable."""
        return self.service or (f"{self.host}:{self.pid}" if self.pid else self.host) or self.instance[:8] or "?"


class Span(NamedTuple):
    """A span of any layout, reduced to what we may keep."""

    trace: str
    span: str
    parent: str
    name: str
    kind: int
    """OTLP: 1 internal, 2 server, 3 client."""
    start: float
    """Unix seconds."""
    end: float
    error: bool
    attributes: Mapping[str, float | str | bool]
    events: Sequence[tuple[str, float]]
    """(name, unix seconds)."""
    replica: Replica


@dataclass(frozen=True, slots=True)
class Request:
    """A finished request. Seconds; None where its span layout does not say."""

    id: str
    start: float
    """Unix seconds of its arrival at vLLM."""
    e2e: float
    ttft: float | None = None
    queue: float | None = None
    prefill: float | None = None
    decode: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    max_tokens: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    preemptions: int | None = None
    error: bool = False
    layout: str = "attributes"
    model: str = ""
    tenant: str = ""
    trace: str = ""
    span: str = ""
    parent: str = ""
    replica: Replica = field(default_factory=Replica)
    gateway: float | None = None
    """Seconds the outermost span of a gateway or router in the same trace took, when there is one."""
    gateway_name: str = ""
    attempts: int = 1
    """How often the gateway tried, or how many requests of one trace followed each other."""

    @property
    def end(self) -> float:
        """Unix seconds when it was finished."""
        return self.start + self.e2e

    @property
    def per_token(self) -> float | None:
        """Seconds per output token after the first."""
        if self.decode is None or not self.completion_tokens or self.completion_tokens < 2:
            return None
        return self.decode / (self.completion_tokens - 1)

    @property
    def before_queue(self) -> float | None:
        """Front end: parsing, tokenising, waiting for the engine's inbox, and the way back of the first token."""
        if self.ttft is None or self.queue is None or self.prefill is None:
            return None
        return max(0.0, self.ttft - self.queue - self.prefill)


COLUMNS = tuple(f.name for f in fields(Request) if f.name not in ("replica", "span", "parent"))


def number(value: object, most: float = 1e7) -> float | None:
    """A finite, non-negative, plausible number, else None. Numbers may come as text; booleans are none."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and 0 <= found <= most else None


def whole(value: object, most: int = 1 << 31) -> int | None:
    """A count, or None."""
    found = number(value, most - 1)
    return None if found is None else int(found)


# -------------------------------------------------------------------------------------- as stored with an incident


def dump(requests: Iterable[Request], *, source: str, notes: Mapping[str, Any] | None = None) -> bytes:
    """Anonymised rows: request ids stay, a tenant becomes a short hash, trace ids stay (they lead to the gateway)."""
    replicas: dict[Replica, int] = {}
    lines = []
    for item in requests:
        row: list[Any] = [_short(getattr(item, name)) for name in COLUMNS]
        row[COLUMNS.index("tenant")] = pseudonym(item.tenant)
        lines.append([replicas.setdefault(item.replica, len(replicas)), *row])
    head = {"source": source, "columns": ["replica", *COLUMNS], "replicas": [list(r) for r in replicas],
            "notes": dict(notes or {})}  # fmt: skip
    return "\n".join(json.dumps(line, separators=(",", ":")) for line in [head, *lines]).encode() + b"\n"


def restore(data: bytes) -> tuple[list[Request], dict[str, Any]]:
    """What `dump` wrote: the rows and the head. ValueError when it is something else; cut lines are left out."""
    lines = data.decode(errors="replace").splitlines()
    try:
        head = json.loads(lines[0])
        columns = head["columns"]
        replicas = [Replica(*map(str, entry)) for entry in head["replicas"]]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not stored requests: {error}") from error
    rows = []
    for line in lines[1:]:
        try:
            values = dict(zip(columns, json.loads(line), strict=True))
            replica = replicas[values.pop("replica")]
            rows.append(Request(**{k: v for k, v in values.items() if k in COLUMNS}, replica=replica))
        except (ValueError, TypeError, IndexError, KeyError):
            continue
    return rows, head


def pseudonym(tenant: str) -> str:
    """The first eight hex digits of the tenant's SHA-256: whoever knows the name can recognise it."""
    return f"tenant-{hashlib.sha256(tenant.encode()).hexdigest()[:8]}" if tenant else ""


def _short(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


__all__ = ["COLUMNS", "Replica", "Request", "Span", "dump", "number", "pseudonym", "replace", "restore", "whole"]
