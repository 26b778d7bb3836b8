"""How does `responder requests` answer? From the running daemon's memory, or from an incident's stored rows."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from responder.config import http_url, seconds
from responder.requests.explain import Explanation, Slow, explain
from responder.requests.record import Request, restore

OK, RUNTIME, CONTENT = 0, 1, 2
TIMEOUT_S = 20.0


def show_requests(slowest: int, since: str, url: str, token_file: Path | None, file: Path | None, format: str) -> int:
    """`responder requests`."""
    try:
        window = seconds(since)
        assert isinstance(window, float)
        raw = file.read_bytes() if file is not None else _ask(http_url(url), token_file, window)
        requests, _ = restore(raw)
    except (ValueError, AssertionError) as error:
        typer.echo(str(error) or f"{since!r} is not a duration", err=True)
        return CONTENT
    except OSError as error:
        typer.echo(f"{error}: is the daemon running with `requests:` configured?", err=True)
        return RUNTIME
    found = explain(requests)
    if format == "json":
        typer.echo(json.dumps(as_json(requests, found, slowest), indent=1))
    else:
        typer.echo(as_text(requests, found, slowest))
    return OK


def _ask(url: str, token_file: Path | None, window_s: float) -> bytes:
    headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"} if token_file else {}
    query = urllib.parse.urlencode({"seconds": window_s})
    # No proxy from the environment: this is our own daemon, mostly on loopback, and the token is for it alone.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(
            urllib.request.Request(f"{url}/api/v1/requests?{query}", headers=headers), timeout=TIMEOUT_S
        ) as a:
            return bytes(a.read())
    except urllib.error.HTTPError as refused:
        with refused:
            raise OSError(f"HTTP {refused.code}: {refused.read(300).decode(errors='replace').strip()}") from None


def as_text(requests: list[Request], found: Explanation | None, most: int) -> str:
    """A table, slowest first, and what can be said of the slow ones."""
    if not requests:
        return "no finished requests in this time"
    lines = ["   e2e   TTFT  queue prefill decode  tokens        start (UTC)   replica           id"]
    excess = {s.request: s for s in found.slow} if found else {}
    for item in sorted(requests, key=lambda r: (-r.e2e, r.id))[:most]:
        times = " ".join(_time(v) for v in (item.e2e, item.ttft, item.queue, item.prefill, item.decode))
        tokens = f"{_count(item.prompt_tokens)}+{_count(item.completion_tokens)}"
        at = datetime.fromtimestamp(item.start, UTC).strftime("%H:%M:%S.%f")[:-3]
        lines.append(f"{times}  {tokens:12}  {at}  {item.replica.name[:16]:16}  {item.id}")
        if item in excess:
            lines.append(f"         {_why(excess[item])}")
    lines += ["", *_summary(requests, found)]
    return "\n".join(lines)


def _summary(requests: list[Request], found: Explanation | None) -> list[str]:
    if found is None:
        return [f"{len(requests)} requests: too few to know what is usual"]
    out = [f"{len(requests)} requests, {len(found.slow)} far slower than usual (pattern: {found.pattern})"]
    for burst in found.bursts[:5]:
        at = datetime.fromtimestamp(burst.at, UTC).strftime("%H:%M:%S")
        out.append(f"  {at}: {burst.hit} of {burst.in_flight} in flight lost about {burst.seconds:.2f} s together")
    if found.period_s:
        out.append(f"  these come every {found.period_s:.1f} s")
    giants = [s for s in found.slow if s.giant]
    if giants:
        out.append(f"  {len(giants)} giant prompts, {found.victims} slow requests beside their prefill")
    if found.retried:
        out.append(f"  {found.retried} had been tried before")
    return out + [f"  shared: {trait}" for trait in found.shared[:3]]


def _why(slow: Slow) -> str:
    if not slow.where:
        return f"{slow.excess:+.2f} s against {slow.matched} others"
    return (
        f"{slow.excess:+.2f} s, most in {slow.where.replace('_', ' ')}, against {slow.matched} fast ones ({slow.match})"
    )


def _time(value: float | None) -> str:
    return "     -" if value is None else f"{value:6.2f}"


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)


def as_json(requests: list[Request], found: Explanation | None, most: int) -> dict[str, Any]:
    """The same for programs."""
    excess = {s.request: s for s in found.slow} if found else {}
    rows = []
    for item in sorted(requests, key=lambda r: (-r.e2e, r.id))[:most]:
        slow = excess.get(item)
        rows.append({
            "id": item.id, "start": item.start, "e2e": item.e2e, "ttft": item.ttft, "queue": item.queue,
            "prefill": item.prefill, "decode": item.decode, "prompt_tokens": item.prompt_tokens,
            "completion_tokens": item.completion_tokens, "replica": item.replica.name, "trace": item.trace,
            "attempts": item.attempts, "gateway": item.gateway, "slow": slow is not None,
            "excess": slow.excess if slow else None, "where": slow.where if slow else None,
        })  # fmt: skip
    return {
        "count": len(requests),
        "requests": rows,
        "slow": len(found.slow) if found else None,
        "pattern": found.pattern if found else None,
        "bursts": [{"at": b.at, "seconds": b.seconds, "hit": b.hit} for b in found.bursts] if found else [],
        "period": found.period_s if found else None,
        "victims_of_giants": found.victims if found else None,
        "shared": list(found.shared) if found else [],
    }
