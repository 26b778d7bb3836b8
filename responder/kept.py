"""How much is kept of an incident that flaps for weeks? The first and the newest, and how much there was between."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from responder.model import Evidence, TimelineEntry

FIRST, NEWEST = 200, 400
"""Entries of a timeline."""
FIRST_LOOKS, NEWEST_LOOKS = 2, 10
"""Runs of each capture step."""
FIRST_REVISIONS, NEWEST_REVISIONS = 10, 50
"""Of the report, as it was sent."""
ENTRIES = re.compile(r"(\d+) entries are left out here")
LOOKS = re.compile(r"(\d+) captures are left out: of each step the first \d+ and the newest \d+ are kept")


def shortened(timeline: Sequence[TimelineEntry]) -> tuple[TimelineEntry, ...]:
    """The first and the newest entries, in their order; between them one says how many are left out, and carries the
    time of the last of those."""
    real = [entry for entry in timeline if not ENTRIES.fullmatch(entry.says)]
    notes = [entry for entry in timeline if ENTRIES.fullmatch(entry.says)]
    out = real[FIRST:-NEWEST]
    if not out:
        return tuple(timeline)
    count = sum(_number(ENTRIES, note) for note in notes) + len(out)
    note = TimelineEntry(at=out[-1].at, kind="note", says=f"{count} entries are left out here")
    return (*real[:FIRST], note, *real[-NEWEST:])


def both(ours: Sequence[TimelineEntry], theirs: Sequence[TimelineEntry]) -> tuple[TimelineEntry, ...]:
    """One timeline of two that have entries in common, by time. What ours has left out does not come back."""
    until = max((entry.at for entry in ours if ENTRIES.fullmatch(entry.says)), default=None)
    known = set(ours)
    new = [
        entry for entry in theirs
        if entry not in known and (until is None or entry.at > until)
        and not (until is not None and ENTRIES.fullmatch(entry.says)) and not LOOKS.fullmatch(entry.says)
    ]  # fmt: skip
    return shortened(sorted((*ours, *new), key=lambda entry: entry.at))


def surplus(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Runs of a step that are neither among its first nor among its newest; `evidence` in the order they ran."""
    runs: dict[str, list[Evidence]] = {}
    for item in evidence:
        runs.setdefault(item.step, []).append(item)
    return tuple(item for items in runs.values() for item in items[FIRST_LOOKS:-NEWEST_LOOKS])


def noted(timeline: Sequence[TimelineEntry], count: int, at: float) -> tuple[TimelineEntry, ...]:
    """The timeline with how many captures are left out in all."""
    count += sum(_number(LOOKS, entry) for entry in timeline)
    says = f"{count} captures are left out: of each step the first {FIRST_LOOKS} and the newest {NEWEST_LOOKS} are kept"
    rest = (entry for entry in timeline if not LOOKS.fullmatch(entry.says))
    return (*rest, TimelineEntry(at=at, kind="note", says=says))


def old_revisions(there: Iterable[int], wanted: Iterable[int]) -> list[int]:
    """Revisions to throw away of those that are there; none of `wanted`, which somebody has still to be sent."""
    ordered, needed = sorted(there), set(wanted)
    return [number for number in ordered[FIRST_REVISIONS:-NEWEST_REVISIONS] if number not in needed]


def _number(pattern: re.Pattern[str], entry: TimelineEntry) -> int:
    found = pattern.fullmatch(entry.says)
    return int(found[1]) if found else 0
