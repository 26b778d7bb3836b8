"""How much of a trace belongs into an incident report? Steps, kinds of work, top kernels and findings of each rank.

Made again from the stored `analysis.json` at every report and at replay; pure, and without the engine's libraries, so
that a folder can be replayed where they are not installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from responder.model import TraceRow, TraceStep, TraceView
from responder.traces.drawing import MAX_BARS
from responder.traces.kernels import short

ANALYSIS = "analysis.json"
MOST_RANKS = 4
MOST_KERNELS = 8
MOST_KINDS = 8
MOST_FINDINGS = 6
Kind = Literal["prefill", "decode", "mixed", "empty", "other"]
STEP_KINDS: tuple[Kind, ...] = ("prefill", "decode", "mixed", "empty")


def views(raw: bytes, evidence: str) -> tuple[TraceView, ...]:
    """The ranks of a stored analysis, at most four, those with the costliest finding first; () when it is unusable."""
    try:
        told = json.loads(raw)
        ranks = [_view(rank, evidence) for rank in told["ranks"]]
        found = [(_named(one), one["says"]) for one in told["findings"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()
    place = {view.label: next((n for n, (who, _) in enumerate(found) if view.label in who), len(found))
             for view in ranks}  # fmt: skip
    shown = sorted(ranks, key=lambda view: place[view.label])[:MOST_RANKS]
    return tuple(
        view.model_copy(update={"findings": _findings(view.label, n == 0, found, several=len(ranks) > 1)})
        for n, view in enumerate(shown)
    )


def _named(finding: Mapping[str, Any]) -> list[str]:
    return [who for who in finding["rank"].split(", ") if who]


def _findings(label: str, first: bool, found: list[tuple[list[str], str]], several: bool) -> tuple[str, ...]:
    """What is said at this rank: each finding once, at the first rank it is about, with all of them named."""
    mine = [(who, says) for who, says in found if (not who and first) or (who and who[0] == label)]
    return tuple(f"{', '.join(who)}: {says}" if who and several else says for who, says in mine[:MOST_FINDINGS])


def _view(rank: Mapping[str, Any], evidence: str) -> TraceView:
    on_gpu = bool(rank["categories"])
    busy = rank.get("busy") or {}
    steps = rank.get("steps") or {}
    slow = {one["step"]["index"]: one["says"] for one in steps.get("slow", ())}
    work = rank["categories"] or rank["operator_categories"]
    whole = 0.0 if on_gpu else sum(row["wall_ms"] for row in work)
    about = (rank.get("gpu", ""), f"vLLM {rank['vllm_version']}" if rank.get("vllm_version") else "")
    return TraceView(
        evidence=evidence,
        label=rank["label"],
        file=rank["file"].rpartition("/")[2],
        about=", ".join(filter(None, about)),
        on_gpu=on_gpu,
        span_ms=rank["span_ms"] or busy.get("span_ms", 0.0),
        idle_share=busy.get("idle_share") if busy.get("idle_reliable") else None,
        step_count=steps.get("count", 0),
        steps=tuple(_step(row, slow) for row in _shown(steps.get("rows", []))),
        kinds=tuple(
            TraceRow(name=_kind(row["kind"]), count=row["count"], ms=row["median_ms"]) for row in steps.get("kinds", ())
        ),
        work=tuple(
            TraceRow(
                name=row["name"], count=row["count"], ms=row["wall_ms"],
                share=row["wall_ms"] / whole if whole else row["share"],
            )
            for row in work if row["wall_ms"] > 0
        )[:MOST_KINDS],
        kernels=tuple(_kernels(rank, on_gpu))[:MOST_KERNELS],
        partial=tuple(rank.get("partial", ())),
    )  # fmt: skip


def _kernels(rank: Mapping[str, Any], on_gpu: bool) -> list[TraceRow]:
    if on_gpu:
        return [
            TraceRow(name=short(r["name"], 60), kind=r["category"], count=r["count"], ms=r["sum_ms"], share=r["share"])
            for r in rank["kernels"]
        ]
    whole = sum(r["self_ms"] for r in rank["operators"]) or 1.0
    return [
        TraceRow(name=r["name"], kind=r["category"], count=r["count"], ms=r["self_ms"], share=r["self_ms"] / whole)
        for r in rank["operators"]
    ]


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many steps as bars are drawn: those around the slowest one when there are more."""
    if len(rows) <= MAX_BARS:
        return rows
    worst = max(range(len(rows)), key=lambda n: rows[n]["ms"])
    start = min(max(0, worst - MAX_BARS // 2), len(rows) - MAX_BARS)
    return rows[start : start + MAX_BARS]


def _step(row: Mapping[str, Any], slow: Mapping[int, str]) -> TraceStep:
    return TraceStep(
        index=row["index"], kind=_kind(row["kind"]), ms=row["ms"], gpu_ms=row["gpu_ms"], slow=slow.get(row["index"], "")
    )


def _kind(kind: str) -> Kind:
    return next((known for known in STEP_KINDS if known == kind), "other")
