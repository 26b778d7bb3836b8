"""Are the other servers of this model in the same trouble? Their queues, against ours, out of Prometheus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar, Target

FILE = "siblings.json"
SIGNALS = ("up", "running", "waiting", "finish_rate")
QUERY_TIMEOUT_S = 8.0
BASELINE_S = 600.0
GUARD_S = 20.0
JUST_BEFORE_S = 80.0
"""What others lost when ours grew is told from the minute before, not from their usual: they have days of their own."""
RECENT_S = 30.0
MAX_POINTS = 400
"""Points per series: enough for a median, little enough for hundreds of servers in one answer."""
LEAST_RATE = 0.3
"""Answers per second of all others: of fewer, half a minute holds too few to compare."""
HAD_GROWN = 1.5
"""Ours, running just before the onset against its usual: a queue takes minutes to form, so onsets can be told late."""
QUEUE_GREW = 3.0
QUEUE_SLACK = 2.0
"""A sibling is affected when its queue is over three times its own usual one and two requests more: queues of one or
two come and go on every healthy server."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Three queries for all servers at once; only medians and the newest values are kept, per server and engine."""
    if scene.range_query is None:
        return skipped("no Prometheus: start the responder with `--prometheus URL`")
    start = scene.onset_at - BASELINE_S
    step = max(scene.scrape_interval_s, (scene.now - start) / MAX_POINTS)
    wanted = {name: scene.signals[name] for name in SIGNALS if name in scene.signals}
    answers: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, expr in wanted.items():
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                answers[name] = await scene.range_query(expr, start, scene.now, step)
        except Exception as error:  # Prometheus is the outside; and if it fails once there is no use in asking on.
            failed[name] = f"{type(error).__name__}: {error}"[:200]
            break
    servers = {
        target.name: _server(target, answers, scene.onset_at, scene.now) for target in (scene.target, *scene.siblings)
    }
    record = {"target": scene.target.name, "servers": servers, "failed": failed}
    files = {FILE: json.dumps(record, indent=1, sort_keys=True).encode()}
    if failed:
        why = "; ".join(f"{name}: {words}" for name, words in failed.items())
        return Fetched(files, Outcome.PARTIAL if answers else Outcome.FAILED, f"Prometheus did not answer: {why}")
    return Fetched(files)


def _server(target: Target, answers: Mapping[str, Any], onset_at: float, now: float) -> dict[str, Any]:
    """What one server's series say: models, and per signal the usual and the recent value, in all and per engine."""
    models: set[str] = {target.model} if target.model else set()
    found: dict[str, Any] = {"models": [], "engines": {}}
    for name, rows in answers.items():
        usual: list[float] = []
        just_before: list[float] = []
        recent: list[float] = []
        for labels, points in rows:
            if not all(labels.get(key) == value for key, value in target.match.items()):
                continue
            if "model_name" in labels:
                models.add(labels["model_name"])
            before = [v for at, v in points if v is not None and onset_at - BASELINE_S <= at <= onset_at - GUARD_S]
            since = [v for at, v in points if v is not None and at >= max(onset_at, now - RECENT_S)]
            usual += [median(before)] if before else []
            late = [v for at, v in points if v is not None and onset_at - JUST_BEFORE_S <= at <= onset_at - GUARD_S]
            just_before += [median(late)] if late else []
            if since:
                recent.append(median(since))
                if name == "running" and "engine" in labels:
                    found["engines"][labels["engine"]] = found["engines"].get(labels["engine"], 0) + median(since)
        found[name] = {
            "usual": sum(usual) if usual else None,
            "just_before": sum(just_before) if just_before else None,
            "recent": sum(recent) if recent else None,
        }
    found["models"] = sorted(models)
    return found


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts about the siblings that serve one of our models; about our own engines when there are several."""
    try:
        record = json.loads(files[FILE])
        servers: dict[str, Any] = record["servers"]
        ours = servers[record["target"]]
    except (KeyError, ValueError, TypeError):
        return

    def fact(name: str, value: Scalar, says: str = "") -> Fact:
        return Fact(name=f"siblings.{name}", value=value, step="siblings", file=FILE, at=brief.now, says=says)

    engines = list(ours["engines"].values())
    if len(engines) > 1:
        # Counting an idle engine as one request: the ratio stays a number, and says how lopsided the load is.
        yield fact("engine_imbalance", max(engines) / max(median(engines), 1.0))
    if record["failed"]:
        return
    others = [
        server
        for name, server in servers.items()
        if name != record["target"] and set(server["models"]) & set(ours["models"])
    ]
    yield fact("count", len(others), says="configured servers with a model of ours")
    if not others:
        return
    known = [server for server in others if _recent(server, "up") is not None]
    yield fact("healthy", sum(_recent(server, "up") == 1 for server in known) if known else None)
    told = [affected for server in others if (affected := _affected(server)) is not None]
    yield fact("affected_share", sum(told) / len(told) if told else None)
    for name, signal in (("waiting_ratio", "waiting"), ("running_ratio", "running")):
        yield fact(name, _ratio(ours, others, signal))
    yield fact("others_load_ratio", _others_now_and_before(ours, others))
    waiting = [value for server in others if (value := _recent(server, "waiting")) is not None]
    yield fact("idle", sum(value == 0 for value in waiting) if waiting else None)


def _recent(server: Mapping[str, Any], signal: str) -> float | None:
    value = (server.get(signal) or {}).get("recent")
    return float(value) if value is not None else None


def _affected(server: Mapping[str, Any]) -> bool | None:
    up, waiting = _recent(server, "up"), _recent(server, "waiting")
    if up is not None and up < 1:
        return True
    if waiting is None:
        return None
    usual = server["waiting"]["usual"] or 0.0
    return waiting > QUEUE_GREW * usual + QUEUE_SLACK


def _ratio(ours: Mapping[str, Any], others: Sequence[Mapping[str, Any]], signal: str) -> float | None:
    """Ours against the median of the others; an empty queue counts as one request so that the ratio is a number."""
    mine = _recent(ours, signal)
    theirs = [value for server in others if (value := _recent(server, signal)) is not None]
    if mine is None or not theirs:
        return None
    return mine / max(median(theirs), 1.0)


def _others_now_and_before(ours: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> float | None:
    """What all others do now against just before the onset; None where they did next to nothing.

    The larger of two: of requests that run at once there are too few to tell a loss from chance, and who answers less
    because it is in trouble itself runs more. Folders of older versions know only what runs, and what was usual.
    Where ours ran far more than usual just before already, the load had moved by then: against their usual instead.
    """
    mine = ours.get("running") or {}
    early, usual = mine.get("just_before"), mine.get("usual")
    had_moved = early is not None and usual is not None and early >= HAD_GROWN * max(usual, 1.0)
    ratios = []
    for signal, least in (("finish_rate", LEAST_RATE), ("running", 1.0)):
        told = []
        for server in others:
            seen = server.get(signal) or {}
            before, now = seen.get("usual" if had_moved else "just_before", seen.get("usual")), seen.get("recent")
            if before is not None and now is not None:
                told.append((before, now))
        if not told:
            continue
        before = sum(one for one, _ in told)
        if before < least:
            return None
        ratios.append(sum(now for _, now in told) / before)
    return max(ratios, default=None)


STEP = Step(
    name="siblings",
    rung=0,
    says="compares this server's load with that of the other servers of its model, out of Prometheus",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("siblings.count", "", "other configured servers of the same model"),
        FactSpec("siblings.healthy", "", "how many of them are up"),
        FactSpec("siblings.affected_share", "", "share of them that is down or has an unusual queue too"),
        FactSpec("siblings.waiting_ratio", "", "our queue against the median of theirs"),
        FactSpec("siblings.running_ratio", "", "our running requests against the median of theirs"),
        FactSpec("siblings.others_load_ratio", "", "answers per second of all of them, or requests, against before"),
        FactSpec("siblings.idle", "", "how many of them have no queue"),
        FactSpec("siblings.engine_imbalance", "", "busiest engine of this server against its median engine"),
    ),
    timeout_s=len(SIGNALS) * QUERY_TIMEOUT_S + 2,
    max_bytes=1 << 20,
    needs=("Prometheus", "other targets of the same model"),
)
