"""Where did the slow requests spend their time, and what sets them apart from fast ones like them? From their spans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar
from responder.requests.explain import Explanation, Slow, explain
from responder.requests.record import Request, restore

FILE = "requests.jsonl"
BEFORE_S = 600.0
SLOWEST = 5


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """The finished requests of the ten minutes before the onset until now, out of our ring, Tempo or Jaeger."""
    if scene.requests is None:
        return skipped("request traces are not switched on: set `requests:` and start vLLM with --otlp-traces-endpoint")
    try:
        rows = await scene.requests(scene.target, scene.inventory, scene.onset_at - BEFORE_S, scene.now)
    except LookupError as error:
        return Fetched(outcome=Outcome.SKIPPED, reason=str(error.args[0] if error.args else error))
    return Fetched({FILE: rows})


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """The explanation as facts."""
    if FILE not in files:
        return
    requests, head = restore(files[FILE])

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        return Fact(name=f"requests.{name}", value=value, unit=unit, step="request_traces", file=FILE, says=says)

    yield fact("source", str(head.get("source", "")))
    yield fact("count", len(requests))
    found = explain(requests)
    if found is None:
        return
    usual = {"ttft": (found.usual.ttft, "s"), "per_token": (found.usual.per_token, "s/token"),
             "prompt_tokens": (found.usual.prompt_tokens, "tokens"), "e2e": (found.usual.e2e, "s")}  # fmt: skip
    for name, (value, unit) in usual.items():
        yield fact(f"usual_{name}", _short(value), unit)
    yield fact("slow", len(found.slow))
    yield fact("slow_share", _short(len(found.slow) / len(requests)))
    yield fact("pattern", found.pattern, says=_pattern_in_words(found))
    yield fact("retried", found.retried)
    for name, told, unit, says in (*_of_slow(found), *_of_bursts(found), *_of_giants(found)):
        yield fact(name, told, unit, says)
    gateways = [max(0.0, r.gateway - r.e2e) for r in requests if r.gateway is not None]
    if gateways:
        yield fact("gateway_usual", _short(median(gateways)), "s")
        yield fact("gateway_longest", _short(max(gateways)), "s")


Row = tuple[str, Scalar, str, str]


def _of_slow(found: Explanation) -> Iterator[Row]:
    if not found.slow:
        return
    total = sum(max(0.0, v) for s in found.slow for k, v in s.phases.items() if k != "gateway") or 1.0
    for phase in ("before_queue", "queue", "prefill", "decode"):
        known = [max(0.0, s.phases[phase]) for s in found.slow if phase in s.phases]
        if known:
            yield f"{phase}_share", _short(sum(known) / total), "", ""
    places = [s.where for s in found.slow if s.where]
    if places:
        where = max(sorted(set(places)), key=places.count)
        yield "slow_where", where, "", f"{places.count(where)} of {len(found.slow)} slow requests lost most time there"
    near = [s for s in found.slow if s.match != "any"]
    yield "matched", len(near), "", f"slow requests with fast ones of the same prompt length: {len(near)}"
    yield "shared", "; ".join(found.shared[:3]), "", "what nearly all slow and few fast requests have"
    worst = found.slow[0]
    yield "slowest", worst.request.id, "", "; ".join(in_words(s) for s in found.slow[:SLOWEST])
    yield "slowest_excess", _short(worst.excess), "s", ""
    prompts = [s.request.prompt_tokens for s in found.slow if s.request.prompt_tokens is not None]
    if prompts and found.usual.prompt_tokens:
        yield "slow_prompt_ratio", _short(median(prompts) / found.usual.prompt_tokens), "", ""


def _of_bursts(found: Explanation) -> Iterator[Row]:
    hit = sum(b.hit for b in found.bursts)
    yield (
        "bursts",
        len(found.bursts),
        "",
        "; ".join(
            f"{b.hit} of {b.in_flight} in flight lost about {b.seconds:.1f} s ({', '.join(b.ids[:3])})"
            for b in found.bursts[:3]
        ),
    )
    yield "burst_share", _short(hit / len(found.slow)) if found.slow else None, "", "of the slow ones"
    if found.bursts:
        yield "burst_seconds", _short(median(b.seconds for b in found.bursts)), "s", ""
    yield "burst_period", _short(found.period_s), "s", "the distance of bursts that come regularly"


def _of_giants(found: Explanation) -> Iterator[Row]:
    giants = [s.request for s in found.slow if s.giant]
    yield (
        "giants",
        len(giants),
        "",
        "; ".join(f"{r.id}: {r.prompt_tokens} prompt tokens, prefill {r.prefill or 0:.1f} s" for r in giants[:3]),
    )
    yield "giant_victims", found.victims, "", "slow requests that ran beside a giant prompt's prefill"
    yield "giant_share", _short((len(giants) + found.victims) / len(found.slow)) if found.slow else None, "", ""
    if giants:
        yield "giant_tokens", max(r.prompt_tokens or 0 for r in giants), "tokens", ""


def in_words(slow: Slow) -> str:
    """One slow request in one line."""
    request: Request = slow.request
    parts = [f"{request.id or request.trace}: {request.e2e:.2f} s"]
    if request.prompt_tokens is not None:
        parts.append(f"{request.prompt_tokens}+{request.completion_tokens or 0} tokens")
    if slow.where:
        parts.append(f"{slow.phases[slow.where]:+.2f} s in {slow.where} against {slow.matched} fast ({slow.match})")
    if request.attempts > 1:
        parts.append(f"{request.attempts} attempts")
    return ", ".join(parts)


def _pattern_in_words(found: Explanation) -> str:
    return {
        "none": "no request was far slower than usual",
        "bursts": "slow together: nearly everything in flight at some moments was slow",
        "individuals": "slow alone: their neighbours were not",
        "mixed": "some slow together, some alone",
        "most": "most requests were slow: not a matter of a few",
        "unclear": "too few slow requests to tell",
    }[found.pattern]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


NUMBERS = {
    "count": ("", "finished requests looked at"),
    "usual_ttft": ("s", "median TTFT"),
    "usual_per_token": ("s/token", "median time per output token"),
    "usual_prompt_tokens": ("tokens", "median prompt length"),
    "usual_e2e": ("s", "median duration"),
    "slow": ("", "requests far slower than usual"),
    "slow_share": ("", "their share"),
    "retried": ("", "slow ones that a gateway had tried before"),
    "before_queue_share": ("", "share of the lost time before the queue (front end)"),
    "queue_share": ("", "share of the lost time in the queue"),
    "prefill_share": ("", "share of the lost time in prefill"),
    "decode_share": ("", "share of the lost time in decode"),
    "matched": ("", "slow requests compared with fast ones of the same prompt length"),
    "slowest_excess": ("s", "what the worst one lost"),
    "slow_prompt_ratio": ("", "median prompt length of slow ones over that of all"),
    "bursts": ("", "moments at which nearly everything in flight was slow"),
    "burst_share": ("", "share of the slow ones that such moments explain"),
    "burst_seconds": ("s", "what such a moment cost"),
    "burst_period": ("s", "distance of such moments when regular"),
    "giants": ("", "slow requests with a giant prompt"),
    "giant_victims": ("", "slow requests beside a giant prompt's prefill"),
    "giant_share": ("", "share of the slow ones that giant prompts explain"),
    "giant_tokens": ("tokens", "the longest giant prompt"),
    "gateway_usual": ("s", "median time in gateways and on the way"),
    "gateway_longest": ("s", "longest time in gateways and on the way"),
}
WORDS = {
    "source": "otlp, tempo or jaeger",
    "pattern": "none, bursts, individuals, mixed, most or unclear",
    "slow_where": "the phase in which most slow requests lost most: before_queue, queue, prefill, decode",
    "shared": "what nearly all slow and few fast requests have",
    "slowest": "id of the request that lost most",
}
STEP = Step(
    name="request_traces",
    rung=0,
    says="Reads the finished requests' spans from the OTLP receiver's memory, Tempo or Jaeger; asks vLLM nothing.",
    fetch=fetch,
    read=read,
    facts=(
        *(FactSpec(f"requests.{name}", unit, says) for name, (unit, says) in NUMBERS.items()),
        *(FactSpec(f"requests.{name}", "", says) for name, says in WORDS.items()),
    ),
    timeout_s=15.0,
    max_bytes=8 << 20,
    needs=("vLLM with --otlp-traces-endpoint, or Tempo, or Jaeger",),
)
