"""Does one token come back, how fast, and is it a number? One streamed completion of one token (or of a few)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

from responder.canary import send_canary
from responder.capture.step import NOT_ALLOWED, Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar

DEADLINE_S = 8.0
FILE = "canary.json"
SERVER_TTFT_TIMEOUT_S = 2.0
SERVER_TTFT_WINDOW_S = 60.0


class CanaryParams(BaseModel):
    """What a playbook may ask of the canary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int = Field(default=1, ge=1, le=32)
    """More than one: the time between tokens is measured as a client sees it."""
    logprobs: bool = False
    """Also tell NaN logits. Only where wrong output is suspected: a server's first request for log-probabilities can
    stop all others while a kernel is compiled (12.7 s measured on a CPU server)."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Send it; the server's own TTFT median of the last minute goes beside it, for the time before vLLM's clock."""
    params = CanaryParams.model_validate(params.model_dump())
    if not scene.target.canary:
        return skipped(NOT_ALLOWED)
    result, server_ttft = await asyncio.gather(
        send_canary(
            scene.http,
            scene.target,
            scene.target.model,
            DEADLINE_S,
            token_ids=True,
            logprobs=params.logprobs,
            tokens=params.tokens,
        ),  # fmt: skip
        _server_ttft(scene),
    )
    record = asdict(result) | {"ok": result.ok, "asked": result.asked, "server_ttft_p50": server_ttft}
    raw = json.dumps(record, indent=1, sort_keys=True).encode()
    if result.ok or result.asked or result.reach != "ok":
        return Fetched({FILE: raw})
    return Fetched({FILE: raw}, Outcome.PARTIAL, f"the server turned the request down: {result.error}")


async def _server_ttft(scene: Scene) -> float | None:
    expr = scene.signals.get("ttft_p50")
    if scene.range_query is None or expr is None:
        return None
    try:
        async with asyncio.timeout(SERVER_TTFT_TIMEOUT_S):
            step = max(1.0, scene.scrape_interval_s)
            rows = await scene.range_query(expr, scene.now - SERVER_TTFT_WINDOW_S, scene.now, step)
    except Exception:  # Prometheus is the outside: whatever it does, the canary's own answer stands.
        return None
    mine = [points for labels, points in rows if all(labels.get(k, v) == v for k, v in scene.target.match.items())]
    last = [value for points in mine for _, value in points[-1:] if value is not None]
    return max(last) if last else None


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of one canary. `canary.ok` stays unknown when the front end refused the request by itself (4xx): that
    proves nothing about the engine."""
    if FILE not in files:
        return
    try:
        got = json.loads(files[FILE])
    except ValueError:
        return
    if not isinstance(got, dict) or "reach" not in got:
        return

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        return Fact(name=f"canary.{name}", value=value, unit=unit, step="canary", file=FILE, at=brief.now, says=says)

    decided = got["ok"] or got["asked"] or got["reach"] != "ok"
    yield fact("ok", got["ok"] if decided else None, says=_words(got))
    yield fact("status", got["status"])
    yield fact("seconds", got["seconds"], "s")
    yield fact("ttft_s", got["ttft_s"], "s")
    yield fact("error", got["error"] or ("" if got["ok"] else None))
    yield fact("token_id", got["token_id"])
    yield fact("text_empty", got["text"] == "" if got["ok"] else None)
    yield fact("nan", got["nan"])
    over = None
    if got["ok"] and got["server_ttft_p50"] is not None:
        over = got["ttft_s"] - got["server_ttft_p50"]
    yield fact("ttft_over_server", over, "s")
    if gaps := got.get("gaps_s"):
        yield fact("itl_s", round(fmean(gaps), 5), "s", f"over {len(gaps)} gaps")
        yield fact("itl_max_s", max(gaps), "s")


def _words(got: Mapping[str, object]) -> str:
    if got["ok"]:
        return f"{'one token' if not got.get('gaps_s') else 'all tokens'} came back after {got['seconds']:.2f} s"
    if got["reach"] == "timeout":
        return f"no token came back within {DEADLINE_S:.0f} s"
    return f"the canary request ended with: {got['error'] or got['reach']}"


STEP = Step(
    name="canary",
    rung=1,
    says="sends one completion of one token and waits at most 8 s; says whether the engine still answers",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("canary.ok", "", "whether one token came back in time"),
        FactSpec("canary.status", "", "HTTP status of the canary request"),
        FactSpec("canary.seconds", "s", "how long the canary request took, or was waited for"),
        FactSpec("canary.ttft_s", "s", "time to the canary's first token as a client sees it"),
        FactSpec("canary.text_empty", "", "whether the token has no text; with token id 0 a sign of NaN logits"),
        FactSpec("canary.token_id", "", "the token that came back (servers that return ids: since 0.10.2)"),
        FactSpec(
            "canary.nan",
            "",
            "whether the token's log-probability is not a number; asked for with `logprobs: true` only",
        ),
        FactSpec("canary.error", "", "what the server said instead of a token; empty when all was well"),
        FactSpec("canary.itl_s", "s", "mean time between tokens as a client sees it, where several were asked for"),
        FactSpec("canary.itl_max_s", "s", "the longest time between two of its tokens"),
        FactSpec("canary.ttft_over_server", "s", "the canary's TTFT minus the server's own TTFT median"),
    ),
    timeout_s=DEADLINE_S + 4,
    max_bytes=64 << 10,
    params=CanaryParams,
)
