"""Which pictures besides curves does a report need? Who waits for whom in a hang, and where a trace's time went.

Plain JSON for `charts_draw`, in the language spoken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from responder.model import Evidence, Fact, Report
from responder.report_words import percent, phrase, plain
from responder.words import say

HANG = "hang_or_crash"
MOST_WORKERS = 8
MOST_BARS = 8
SMALLEST_BAR = 0.005
SUBJECT = re.compile(r"(?P<name>.+?)(?: \(pid (?P<pid>\d+)\))?")
STOPPED = ("T", "t")
NOT_WORK = {"trace.gpu_idle_share"}
BESIDE_WORK = re.compile(
    r"trace\.(idle_\w+|memory|collective_overlap|exposed_collective|blocked|synchronize|blocking_copy|launch_bound|"
    r"short_kernel|graph_kernel|top_kernel|straggler_wait|collective_wait)_share"
)
"""Shares of something else than all GPU work."""


def scenes(report: Report) -> list[dict[str, Any]]:
    """The pictures this report has facts for."""
    return [scene for scene in (ranks(report), trace(report)) if scene is not None]


def ranks(report: Report) -> dict[str, Any] | None:
    """Clients, API server, engine and workers with what each waits for; None where it is no hang or nothing is known.

    The look at which most stood still is drawn: later ones may show the server recovered.
    """
    if report.incident.incident_class != HANG:
        return None
    looks = [item for item in report.evidence if item.step == "processes" and list(_of(item, "processes.state"))]
    if not looks:
        return None
    look = max(looks, key=lambda item: sum(fact.value in STOPPED for fact in _of(item, "processes.state")))
    waits = {fact.subject: fact for fact in _about(report, look, "stacks", "stacks.waits_for")}
    boxes = [_box(fact, waits.get(fact.subject)) for fact in _of(look, "processes.state")]
    workers = [box for box in boxes if box["role"] == "worker"]
    for box, gpu in zip(workers, _about(report, look, "gpu", "gpu.state"), strict=False):
        box["lines"].append(f"{plain(gpu.subject, 12)}: {_gpu(gpu)}")
    shown = [*(b for b in boxes if b["role"] != "worker"), *_most_telling(workers)]
    left = len(workers) - MOST_WORKERS
    return {
        "kind": "ranks",
        "name": "0-ranks",
        "title": say("h.ranks"),
        "clients": say("ranks.clients"),
        "waits": say("ranks.waits"),
        "boxes": shown,
        "edges": list(_edges(shown)),
        "more": say("ranks.more", count=left) if left > 0 else "",
    }


def _of(item: Evidence, name: str) -> Iterator[Fact]:
    return (fact for fact in item.facts if fact.name == name and fact.subject)


def _about(report: Report, look: Evidence, step: str, name: str) -> list[Fact]:
    """Facts of another step, from its run nearest in time to this look."""
    runs = [item for item in report.evidence if item.step == step and list(_of(item, name))]
    if not runs:
        return []
    return list(_of(min(runs, key=lambda item: abs(item.started_at - look.started_at)), name))


def _box(state: Fact, waits: Fact | None) -> dict[str, Any]:
    got = SUBJECT.fullmatch(state.subject)
    name = plain(got["name"] if got else state.subject, 40).removeprefix("VLLM::")
    stopped = state.value in STOPPED
    gone = state.value in ("Z", "gone")
    doing = plain(state.says.partition(",")[0], 40)
    if waits is not None and waits.says:
        doing = waits.says.partition(";")[0].partition(" in ")[0]
    role = "worker" if "worker" in name.lower() else "engine" if "engine" in name.lower() else "api_server"
    return {
        "role": role,
        "name": name,
        "pid": got["pid"] if got and got["pid"] else "",
        "tone": "stopped" if stopped else "gone" if gone else "fine",
        "for": str(waits.value) if waits is not None else "",
        "lines": [say("ranks.stopped") if stopped else say("ranks.gone") if gone else phrase(doing, 44)],
    }


def _gpu(fact: Fact) -> str:
    return say(f"ranks.{fact.value}") if fact.value in ("spinning", "idle") else plain(fact.value, 16)


def _most_telling(workers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All of a few workers; of many those that stand out, then the first ones, in rank order."""
    chosen = sorted(range(len(workers)), key=lambda n: (workers[n]["tone"] == "fine", n))[:MOST_WORKERS]
    return [workers[n] for n in sorted(chosen)]


def _edges(boxes: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
    """[from, to, loud]: who waits for whom; -1 are the clients. Loud where somebody waits for one that stands."""
    place = {role: [n for n, box in enumerate(boxes) if box["role"] == role] for role in ("api_server", "engine")}
    workers = [n for n, box in enumerate(boxes) if box["role"] == "worker"]
    standing = {n for n, box in enumerate(boxes) if box["tone"] != "fine"}
    yield from ([-1, n, n in standing] for n in place["api_server"])
    for server in place["api_server"]:
        yield from ([server, n, n in standing] for n in place["engine"] if server not in standing)
    for engine in place["engine"]:
        if engine not in standing and boxes[engine]["for"] in ("worker_response", ""):
            yield from ([engine, n, n in standing] for n in workers)
    culprits = [n for n in workers if n in standing]
    for worker in workers:
        if worker not in standing and boxes[worker]["for"] in ("gpu", "collective"):
            yield from ([worker, n, True] for n in culprits[:1])


def trace(report: Report) -> dict[str, Any] | None:
    """Where the GPU's time went, by kind of work; None where no trace was taken."""
    facts: dict[str, Fact] = {}
    for item in report.evidence:
        facts |= {f.name: f for f in item.facts if f.name.startswith("trace.") and not f.subject}
    rows = [
        (fact.value, name.removeprefix("trace.").removesuffix("_share").replace("_", " "))
        for name, fact in facts.items()
        if name.endswith("_share") and name not in NOT_WORK and not BESIDE_WORK.fullmatch(name)
        and isinstance(fact.value, int | float) and fact.value >= SMALLEST_BAR
    ]  # fmt: skip
    if not rows:
        return None
    rows.sort(key=lambda row: (-row[0], row[1]))
    idle = facts.get("trace.gpu_idle_share")
    under = ""
    if idle is not None and isinstance(idle.value, int | float):
        under = say("trace.idle", share=percent(idle.value))
    return {
        "kind": "bars",
        "name": "9-trace",
        "title": say("h.trace"),
        "rows": [[plain(name, 30), value, percent(value)] for value, name in rows[:MOST_BARS]],
        "under": under,
    }
