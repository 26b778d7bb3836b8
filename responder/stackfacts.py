"""What do dumps of all processes of a server say together? Who stands where, who stands apart, who moves.

Pure. Hundreds of threads become a few lines: ranks that wait in the same place are one group, the largest group is
what "the workers" do, and the smaller ones are the ones to look at.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from responder.model import Fact, Scalar
from responder.waiting import Dump, Waits, classify, parse, process_waits, same_place

INDEX = "index.json"
STOPPED = frozenset("Tt")
MAX_WORDS = 600


class Stand:
    """One process over all rounds."""

    def __init__(self, process: Mapping[str, Any], rounds: list[dict[str, Any]], files: Mapping[str, bytes]) -> None:
        self.role: str = process["role"]
        self.name: str = process["name"]
        self.label = f"{self.name} (pid {process['pid']})"
        self.rank: int = process["rank"] if process["rank"] is not None else -1
        self.last: dict[str, Any] = rounds[-1].get(str(process["pid"]), {"state": "gone"})
        self.dumps: list[Dump | None] = []
        self.file = INDEX
        for turn in rounds:
            name = turn.get(str(process["pid"]), {}).get("file", "")
            self.dumps.append(parse(files[name].decode("utf-8", "replace")) if name in files else None)
            self.file = name if self.dumps[-1] else self.file
        self.newest = next((dump for dump in reversed(self.dumps) if dump), None)

    @property
    def gone(self) -> bool:
        return bool(self.last["state"] == "gone")

    @property
    def stopped(self) -> bool:
        return self.last["state"] in STOPPED

    @property
    def waits(self) -> Waits:
        if self.stopped:
            return Waits("stopped", 0, "is stopped by a signal")
        return process_waits(self.newest) if self.newest else Waits("unknown")

    @property
    def unchanged(self) -> bool | None:
        """Whether it stood in the same place in all rounds; None when that cannot be told.

        A round that failed between others tells nothing; one look alone tells nothing either.
        """
        if self.stopped:
            return True
        known = [dump for dump in self.dumps if dump]
        if any(not same_place(first, later) for first, later in zip(known, known[1:], strict=False)):
            return False
        if self.waits.category == "unknown" or not (self.dumps[0] and self.dumps[-1]) or len(known) < 2:
            return None
        return True

    @property
    def place(self) -> str:
        """The frame that says what it waits for: `Event.synchronize (torch/cuda/streams.py:254)`."""
        if self.stopped or not self.newest:
            return ""
        waits = self.waits
        for thread in self.newest.threads:
            told = classify(thread)
            if told.category == waits.category and thread.frames:
                frame = thread.frames[min(told.at, len(thread.frames) - 1)]
                return f"{frame.function} ({frame.file}:{frame.line})" if frame.line else frame.function
        return ""

    def any_thread(self, category: str) -> bool:
        return any(classify(thread).category == category for thread in (self.newest.threads if self.newest else ()))

    @property
    def threads(self) -> str:
        """What each thread waits for, in words; the many that just wait for a lock or a socket are counted."""
        told: list[str] = []
        quiet = 0
        for thread in self.newest.threads if self.newest else ():
            waits = classify(thread)
            main = thread.name == "MainThread"
            if not main and waits.category in ("lock", "network", "unknown", "new_requests"):
                quiet += 1
                continue
            name = thread.name or f"thread {thread.tid}"
            told.append(f"{name} {waits.says or 'stands where we know no name for'}")
        if quiet:
            told.append(f"{quiet} more thread{'s wait' if quiet > 1 else ' waits'} for locks or sockets")
        return "; ".join(told)[:MAX_WORDS]


@dataclass(frozen=True)
class Group:
    """Processes that wait for the same thing in the same place."""

    category: str
    place: str
    says: str
    labels: tuple[str, ...]

    def words(self, of: int) -> str:
        """`3 of 4 workers wait for work on the GPU to end in …` or the name, of one alone."""
        who = f"{len(self.labels)} of {of}" if len(self.labels) > 1 else self.labels[0]
        where = f" in {self.place}" if self.place else ""
        return f"{who}: {self.says or self.category}{where}"


def groups(stands: Sequence[Stand]) -> tuple[Group, ...]:
    """The largest group first; groups of the same size by their lowest rank."""
    found: dict[tuple[str, str], list[Stand]] = {}
    for stand in sorted(stands, key=lambda one: (one.rank, one.label)):
        found.setdefault((stand.waits.category, stand.place), []).append(stand)
    made = [
        Group(category, place, members[0].waits.says, tuple(member.label for member in members))
        for (category, place), members in found.items()
    ]
    return tuple(sorted(made, key=lambda group: -len(group.labels)))


def read_stacks(files: Mapping[str, bytes], now: float, step: str) -> Iterator[Fact]:
    """Facts of the dumps; `step` is also the prefix of their names."""
    if INDEX not in files:
        return
    index = json.loads(files[INDEX])
    stands = [Stand(process, index["rounds"], files) for process in index["processes"]]
    alive = [stand for stand in stands if not stand.gone]

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", subject: str = "", file: str = INDEX) -> Fact:
        name = f"{step}.{name}"
        return Fact(name=name, value=value, unit=unit, step=step, file=file, at=now, says=says, subject=subject)

    dumped = [stand for stand in alive if stand.newest]
    yield fact("dumped", len(dumped), "processes")
    failed = [stand for stand in alive if not stand.newest and not stand.stopped]
    yield fact("failed", len(failed), "processes", "; ".join(f"{s.label}: {s.last.get('error', '')}" for s in failed))
    for role, name in (("api_server", "api_server"), ("engine_core", "engine"), ("worker", "worker")):
        if told := _told([stand for stand in alive if stand.role == role]):
            yield fact(f"{name}_waits_for", told.waits.category, says=told.waits.says, file=told.file)
    workers = [stand for stand in alive if stand.role == "worker" and (stand.newest or stand.stopped)]
    outlier = _outlier(workers)
    label = outlier.label if outlier else "" if len(workers) > 1 else None
    yield fact("outlier", label, says=outlier.waits.category if outlier else "")
    together = groups(workers)
    words = "; ".join(group.words(len(workers)) for group in together)[:MAX_WORDS]
    yield fact("groups", len(together) if workers else None, "groups", words)
    inner = [stand for stand in alive if stand.role in ("engine_core", "worker")]
    moved = [stand.unchanged for stand in inner]
    yield fact("unchanged", False if False in moved else None if None in moved or not moved else True)
    known = bool(dumped) or None
    yield fact("profiler", known and any(stand.any_thread("profiler") for stand in alive))
    yield fact("in_collective", known and any(stand.any_thread("collective") for stand in inner))
    yield fact("summary", "; ".join(f"{stand.name}: {stand.waits.category}" for stand in alive) or None)
    for stand in alive:
        says = stand.waits.says + (f"; threads: {stand.threads}" if stand.threads else "")
        yield fact("waits_for", stand.waits.category, says=says, subject=stand.label, file=stand.file)


def _told(stands: list[Stand]) -> Stand | None:
    """The one that speaks for its role: of what most of them wait for, the lowest rank. None when none is known."""
    known = [stand for stand in stands if stand.newest or stand.stopped]
    if not known:
        return None
    counts = Counter(stand.waits.category for stand in known)
    most = max(counts.values())
    return min((s for s in known if counts[s.waits.category] == most), key=lambda s: (s.stopped, s.rank, s.label))


def _outlier(workers: list[Stand]) -> Stand | None:
    """The one worker that waits for something else than the others: of two, the one that is stopped."""
    counts = Counter(stand.waits.category for stand in workers)
    if len(counts) < 2:
        return None
    alone = [stand for stand in workers if counts[stand.waits.category] == 1]
    stopped = [stand for stand in alone if stand.stopped]
    if len(alone) == 1 or len(stopped) == 1:
        return (stopped or alone)[0]
    return None


def specs(step: str) -> tuple[tuple[str, str, str], ...]:
    """What a step that reads dumps declares: name, unit, words."""
    return (
        (f"{step}.dumped", "processes", "processes whose stacks could be read"),
        (f"{step}.failed", "processes", "living processes whose stacks could not be read"),
        (f"{step}.api_server_waits_for", "", "what the API server waits for"),
        (f"{step}.engine_waits_for", "", "what the engine waits for"),
        (f"{step}.worker_waits_for", "", "what most of the workers wait for"),
        (f"{step}.outlier", "", "the one worker that stands elsewhere than the others; empty: none"),
        (f"{step}.groups", "groups", "groups of workers that wait in the same place; 1: all alike"),
        (f"{step}.unchanged", "", "engine and workers stood in the same places in all looks"),
        (f"{step}.profiler", "", "a thread is starting, stopping or writing a profile"),
        (f"{step}.in_collective", "", "an engine or worker thread stands in a collective operation"),
        (f"{step}.summary", "", "what every process waits for"),
        (f"{step}.waits_for", "", "what one process waits for, and each of its threads (facts per process)"),
    )
