"""Who waited through the time in which no scrape was answered, by the server's own histograms, once it answers again?

The API server keeps the time from arrival to the last token, the engine its own part of it. Of a front end that was
frozen those who were inside have waited for as long as it was silent, and nobody for a part of that, for it took in
nobody; one that is let run at moments made everybody wait for a part; one that nobody could reach made nobody wait.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import ceil

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar

FILE = "aftermath.json"
QUERY_TIMEOUT_S = 8.0
BEFORE_S = 120.0
FAILED = 2
"""One scrape may have been lost on the way."""
ENGINE = ("queue", "prefill", "decode")
IN_FLIGHT = "sum(vllm:num_requests_running{{{pairs}}}) + sum(vllm:num_requests_waiting{{{pairs}}})"
OF_THE_ENGINE = 0.5
"""Where the engine knows of so much of what they waited, it was the engine that stood still."""
MOST_POINTS = 2000


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """The last silence that is over, and what counters grew by from the last answer before it to the first after it."""
    if scene.range_query is None:
        return skipped("no Prometheus: start the responder with `--prometheus URL`")
    pairs = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(scene.target.match.items()))
    step = max(scene.scrape_interval_s, (scene.now - scene.onset_at + BEFORE_S) / MOST_POINTS)
    # The grid ends now: the answer that ended the silence may be the last one there is.
    start = scene.now - step * ceil((scene.now - scene.onset_at + BEFORE_S) / step)
    try:
        async with asyncio.timeout(QUERY_TIMEOUT_S):
            rows = await scene.range_query(f"max(up{{{pairs}}})", start, scene.now, step)
            gap = _silence([point for _, points in rows[:1] for point in points])
            if gap is None:
                return skipped("no scrapes failed in a row, or none has been answered since")
            since, until, failed_s = gap
            grew = {}
            for name, expr in _queries(pairs).items():
                found = await scene.range_query(expr, since, until, until - since)
                grew[name] = {labels.get("le", ""): _growth(points) for labels, points in found}
            found = await scene.range_query(IN_FLIGHT.format(pairs=pairs), since, since, 1.0)
    except Exception as error:  # Prometheus is the outside
        return Fetched(
            outcome=Outcome.FAILED, reason=f"Prometheus did not answer: {type(error).__name__}: {error}"[:200]
        )
    inside = next((value for _, points in found for _, value in points), None)
    record = {"since": since, "until": until, "failed_s": failed_s, "inside": inside, "grew": grew}
    return Fetched({FILE: json.dumps(record, indent=1, sort_keys=True).encode()})


def _silence(points: Sequence[tuple[float, float | None]]) -> tuple[float, float, float] | None:
    """(last answer before, first answer after, seconds from the first failed scrape to the last) of the last one."""
    answered = [at for at, value in points if value == 1]
    gaps = [
        (before, after, failed[-1] - failed[0])
        for before, after in pairwise(answered)
        if len(failed := [at for at, value in points if before < at < after and value == 0]) >= FAILED
    ]
    return gaps[-1] if gaps else None


def _queries(pairs: str) -> dict[str, str]:
    sums = {name: f"sum(vllm:request_{name}_time_seconds_sum{{{pairs}}})" for name in ENGINE}
    return {
        "e2e": f"sum by (le) (vllm:e2e_request_latency_seconds_bucket{{{pairs}}})",
        "cpu": f"sum(process_cpu_seconds_total{{{pairs}}})",
        "started": f"max(process_start_time_seconds{{{pairs}}})",
        **sums,
    }


def _growth(points: Sequence[tuple[float, float | None]]) -> float | None:
    known = [value for _, value in points if value is not None]
    return known[-1] - known[0] if len(known) >= 2 else None


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Who waited for all of it, who for a part, and whether the API server computed meanwhile."""
    try:
        record = json.loads(files[FILE])
        grew: dict[str, dict[str, float | None]] = record["grew"]
        span, failed_s = float(record["until"]) - float(record["since"]), float(record["failed_s"])
        buckets = _buckets(grew["e2e"])
        engine = [grew[name].get("") for name in ENGINE]
        cpu, started, before = grew["cpu"].get(""), grew["started"].get(""), record["inside"]
    except (KeyError, ValueError, TypeError, AttributeError):
        return

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        return Fact(
            name=f"aftermath.{name}", value=value, unit=unit, step="aftermath", file=FILE, at=brief.now, says=says
        )

    yield fact("silent_s", failed_s, "s")
    yield fact("cpu_share", None if cpu is None else round(cpu / span, 4), "share")
    known = [seconds for seconds in engine if seconds is not None]
    if started is None or started > 1 or not buckets or len(known) < len(ENGINE) or failed_s <= 0:
        return  # another process, whose counters began at 0, or nobody finished
    inside, finished = sum(known), sum(count for *_, count in buckets)
    through = [(low, count) for low, high, count in buckets if high > failed_s and low < span]
    others = [(low, count) for low, high, count in buckets if high <= failed_s or low >= span]
    held = sum(count for _, count in through)
    if inside >= OF_THE_ENGINE * sum(low * count for low, count in through):
        held = 0.0
    yield fact("held", held, "requests")
    yield fact("held_for_each_inside", None if before is None else round(held / max(before, 1.0), 4), "ratio")
    yield fact("finished", finished, "requests")
    yield fact("part_s", round(max(0.0, sum(low * count for low, count in others) - inside) / finished, 4), "s")
    yield fact("engine_share", round(inside / finished / failed_s, 4), "share")


def _buckets(grew: Mapping[str, float | None]) -> list[tuple[float, float, float]]:
    """(lower edge, upper edge, how many finished in it) of a histogram's cumulative growth; empty when one fell."""
    edges = sorted((float(edge), count) for edge, count in grew.items() if edge and count is not None)
    out, low, below = [], 0.0, 0.0
    for edge, count in edges:
        if count > below:
            out.append((low, edge, count - below))
        low, below = edge, max(below, count)
    return out if not any(count < 0 for _, count in edges) else []


STEP = Step(
    name="aftermath",
    rung=0,
    says="asks Prometheus who waited through a time without answers, once it is over; the server is not touched",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec(
            "aftermath.silent_s", "s", "from the first scrape that failed to the last, of the last row that is over"
        ),
        FactSpec("aftermath.cpu_share", "share", "cores that the API server used from its last answer to the next"),
        FactSpec("aftermath.held", "requests", "finished ones that took as long as that, mostly outside of the engine"),
        FactSpec("aftermath.held_for_each_inside", "ratio", "those against who was inside at the last answer"),
        FactSpec("aftermath.finished", "requests", "finished from the last answer to the next"),
        FactSpec("aftermath.part_s", "s", "what all others waited outside of the engine, for each that finished"),
        FactSpec("aftermath.engine_share", "share", "what a finished one took in the engine, of the silence"),
    ),
    timeout_s=QUERY_TIMEOUT_S + 2,
    max_bytes=1 << 18,
    needs=("Prometheus",),
)
