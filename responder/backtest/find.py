"""Which servers does a history hold? Label sets of vLLM's series -> targets. Pure.

Nobody promises that `instance` is host:port, or that it is there at all: servers are told apart by the fewest labels
that do it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from responder.evaluate import IDENTITY
from responder.model import Target
from responder.window import host_of

Labels = Mapping[str, str]
SEEN = "vllm:num_requests_running"
"""Every version exposes it from the start."""
STAMP = f"timestamp({SEEN})"
"""When each of its samples was taken: Prometheus goes on showing the last one for five minutes."""


def scraped(labels: Labels) -> str:
    """When the server with these labels was scraped, answered or not, in PromQL; empty when no label tells it apart."""
    pairs = ",".join(f"{name}={json.dumps(labels[name])}" for name in ("instance", "job") if labels.get(name))
    return f"timestamp(up{{{pairs}}})" if labels.get("instance") else ""


_CANDIDATES = (
    ("instance",),
    ("instance", "job"),
    ("pod",),
    ("namespace", "pod"),
    ("exported_instance",),
    ("service_instance_id",),
    ("cluster", "instance"),
    ("cluster", "namespace", "pod"),
    ("instance", "job", "namespace", "pod"),
)
_SCRAPERS = frozenset(
    {"job", "replica", "prometheus", "monitor", "endpoint", "receive", "tenant_id"}
    | {"prometheus_replica", "__replica__", "rule_replica", "thanos_replica", "receive_replica", "ha_replica"}
)
"""Labels that say who scraped, where one address was scraped twice: by two jobs, or by the two of a pair that stands in
for one another, in a store that leaves both in."""
_NAMES = frozenset({"exported_pod", "host", "host_name", "hostname", "node", "server", "service_instance_id"})
"""What people would call a server by, rather than by any other label that tells it apart."""
Row = tuple[Labels, Collection[float]]
"""Labels of a series, and the moments at which it was there."""


def find(rows: Sequence[Row]) -> list[Target]:
    """One target per server. rows: of `SEEN`, all series of the history."""
    names = _telling(rows)
    servers: dict[tuple[str, ...], list[Row]] = {}
    for labels, moments in rows:
        servers.setdefault(tuple(labels.get(name, "") for name in names), []).append((labels, moments))
    targets: dict[str, Target] = {}
    for key in sorted(servers):
        match = {name: value for name, value in zip(names, key, strict=True) if value}
        models = sorted({labels["model_name"] for labels, _ in servers[key] if labels.get("model_name")})
        name = _name(match, targets)
        targets[name] = Target(name=name, url=_url(match), match=match, model=models[0] if len(models) == 1 else None)
    return list(targets.values())


def choose(found: Sequence[Target], wanted: Sequence[str], configured: Iterable[Target] = ()) -> list[Target]:
    """The targets an operator asks for: URLs, names, or host names of found servers; configured ones lend what they
    say (thresholds, expectations, names). ValueError in words when one is not in the history."""
    known = list(configured)
    if not wanted and known:
        return [_lent(target, found) for target in known]
    if not wanted:
        return list(found)
    out: dict[str, Target] = {}
    for text in wanted:
        own = next((t for t in known if text.rstrip("/") in (t.name, t.url)), None)
        target = _lent(own, found) if own else _found(text, found)
        out[target.name] = target
    return list(out.values())


def beside(chosen: Sequence[Target], found: Sequence[Target]) -> list[Target]:
    """The chosen ones first, then all others of the history: who is not judged may still be somebody's sibling."""
    return [*chosen, *(other for other in found if not any(_covers(one.match, other.match) for one in chosen))]


def _lent(own: Target, found: Sequence[Target]) -> Target:
    """A configured target with the labels its series really have."""
    if any(_covers(own.match, target.match) for target in found):
        return own
    try:
        return own.model_copy(update={"match": _found(own.url, found).match})
    except ValueError:
        return own


def _covers(match: Labels, labels: Labels) -> bool:
    return bool(match) and all(labels.get(name) == value for name, value in match.items())


def _found(text: str, found: Sequence[Target]) -> Target:
    url = urlsplit(text if "//" in text else f"//{text}")
    host, address = url.hostname or "", url.netloc.rstrip("/")
    looked_for = (
        [t for t in found if address in (t.name, t.match.get("instance"))],
        [t for t in found if text in t.match.values()],
        [t for t in found if host and host == host_of(t.match.get("instance", ""))],
    )
    for fitting in looked_for:
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(target.name for target in fitting)
            raise ValueError(f"--target {text}: several servers of the history fit ({names}); write one of their names")
    names = ", ".join(target.name for target in found) or "none"
    raise ValueError(f"--target {text}: not in the history, which holds {names}")


def _telling(rows: Sequence[Row]) -> tuple[str, ...]:
    """The fewest labels under which no two servers look like one."""
    everywhere = [names for names in _CANDIDATES if all(labels.get(names[0]) for labels, _ in rows)]
    for names in everywhere:
        if not _mixed(rows, names):
            return names
    every = sorted({name for labels, _ in rows for name in labels} - {*IDENTITY, "__name__"})
    for name in sorted(every, key=lambda name: (name not in _SCRAPERS, name in _NAMES, name)):
        fewer = tuple(other for other in every if other != name)
        if fewer and not _mixed(rows, fewer):
            every = list(fewer)
    return tuple(every) or ("instance",)


def _mixed(rows: Sequence[Row], names: tuple[str, ...]) -> bool:
    """Whether two series of the same model and engine exist at the same time under the same values of these labels.

    The same host:port scraped by two jobs, or by two replicas of one, is one server all the same.
    """
    seen: dict[tuple[str, ...], list[Row]] = {}
    for labels, moments in rows:
        key = tuple(labels.get(name, "") for name in (*names, *IDENTITY))
        for other, when in seen.setdefault(key, []):
            if set(when) & set(moments) and not _scraped_twice(labels, other):
                return True
        seen[key].append((labels, moments))
    return False


def _scraped_twice(labels: Labels, other: Labels) -> bool:
    """The same host:port, and only who scraped it differs."""
    differ = {name for name in {*labels, *other} if labels.get(name) != other.get(name)}
    return labels.get("instance", "").rpartition(":")[2].isdigit() and bool(differ) and differ <= _SCRAPERS


def _name(match: Labels, taken: Mapping[str, Any]) -> str:
    first = match.get("instance") or match.get("pod") or "/".join(match.values()) or "server"
    if first not in taken:
        return first
    whole = "/".join(match.values())
    return next(name for name in (whole, *(f"{whole}#{n}" for n in range(2, 10_000))) if name not in taken)


def _url(match: Labels) -> str:
    instance = match.get("instance", "")
    host, _, port = instance.rpartition(":")
    return f"http://{instance}" if host and port.isdigit() else ""
