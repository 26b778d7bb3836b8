"""Which rank do the others wait for? Told by several ranks' traces of the same collectives.

A collective ends at about the same time everywhere, because nobody is done before the last has arrived. So ends align
the clocks, starts tell who came last, and the shortest duration over the ranks is the transfer itself; the rest of
every longer one is waiting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from responder.traces.busy import MS
from responder.traces.columns import Ints
from responder.traces.rank import Analysed, Collectives
from responder.traces.verdicts import Across, Collective, RankLateness

WORST_LISTED = 8
NOISE_NS = 1_000
"""Arrivals closer than this are together."""

STRAGGLER_SHARE = 0.6
"""Share of all waiting that one rank must cause to be called the straggler; half is chance with two ranks."""

MAX_SHIFT = 300
"""Collectives by which recordings may begin apart."""


@dataclass
class Matched:
    """The same collectives on every rank: rows are collectives, columns ranks."""

    start: Ints
    end: Ints
    row: Ints
    """Row in the first rank's own list."""
    unmatched: int


def across(analysed: list[Analysed]) -> list[Across]:
    """Compare the ranks of each run; runs with one rank are left out, but a lonely rank of several is not."""
    return [found for run in runs(analysed) if (found := _across(run)) is not None]


def runs(analysed: list[Analysed]) -> list[list[Analysed]]:
    """Traces that cover the same time, each rank once: a folder may hold several profiling sessions."""
    found: list[list[Analysed]] = []
    for one in sorted((a for a in analysed if a.view.rank is not None), key=lambda a: (a.begin_ns, a.view.rank or 0)):
        for run in found:
            first = run[0]
            together = min(first.end_ns, one.end_ns) - max(first.begin_ns, one.begin_ns)
            brief = min(first.end_ns - first.begin_ns, one.end_ns - one.begin_ns)
            fits = first.view.world_size == one.view.world_size and together * 2 >= brief
            if fits and all(other.view.rank != one.view.rank for other in run):
                run.append(one)
                break
        else:
            found.append([one])
    return found


def _across(ranks: list[Analysed]) -> Across | None:
    world = max((one.view.world_size or 0 for one in ranks), default=0)
    if len(ranks) < 2 and world < 2:
        return None
    ranks.sort(key=lambda one: one.view.rank or 0)
    labels = [one.view.label for one in ranks]
    missing = sorted(set(range(world)) - {one.view.rank or 0 for one in ranks})
    lists = [one.collectives for one in ranks]
    complete = len(lists) > 1 and all(one is not None for one in lists)
    matched = match([one for one in lists if one is not None]) if complete else None
    if matched is None or not len(matched.start):
        return Across(
            ranks=labels,
            missing=missing,
            matched=0,
            unmatched=sum(len(one.start) for one in lists if one is not None),
            transfer_ms=0.0,
            wait_ms=0.0,
            clock_offsets_us={},
            clock_error_us=0.0,
            lateness=[],
            worst=[],
            straggler="",
            says="the ranks share no collectives in these traces" if len(ranks) > 1 else "only one rank was recorded",
        )
    first = lists[0]
    assert first is not None
    return _compare(labels, missing, matched, first)


def match(lists: list[Collectives]) -> Matched:
    """Pair collectives by order and name; recordings may begin a few collectives apart."""
    numbers: dict[tuple[str, int], int] = {}
    codes = [
        np.array([numbers.setdefault((n, int(s)), len(numbers)) for n, s in zip(one.name, one.size, strict=True)])
        for one in lists
    ]
    shifts = [0] + [_shift(codes[0], other) for other in codes[1:]]
    row = np.arange(len(codes[0]))
    fine = np.ones(len(row), np.bool_)
    for code, shift in zip(codes, shifts, strict=True):
        place = row + shift
        inside = (place >= 0) & (place < len(code))
        fine &= inside
        fine[inside] &= code[place[inside]] == codes[0][inside]
    row = row[fine]
    start = np.stack([one.start[row + s] + one.epoch_ns for one, s in zip(lists, shifts, strict=True)], axis=1)
    end = np.stack([one.end[row + s] + one.epoch_ns for one, s in zip(lists, shifts, strict=True)], axis=1)
    return Matched(start, end, row, max(len(code) for code in codes) - len(row))


def _shift(one: Ints, other: Ints) -> int:
    """How many places later the same collective stands in `other`: the shift with most equal neighbours."""
    if len(one) == len(other) and float((one == other).mean()) > 0.99:
        return 0
    best, best_equal = 0, -1
    for shift in sorted(range(-MAX_SHIFT, MAX_SHIFT + 1), key=abs):
        low, high = max(0, -shift), min(len(one), len(other) - shift)
        if high <= low:
            continue
        equal = int((one[low:high] == other[low + shift : high + shift]).sum())
        if equal > best_equal:
            best, best_equal = shift, equal
    return best


def _compare(labels: list[str], missing: list[int], found: Matched, first: Collectives) -> Across:
    offset = np.median(found.end[:, :1] - found.end, axis=0)
    start, end = found.start + offset, found.end + offset
    error = float(np.median(np.abs(end - end.mean(axis=1, keepdims=True))))
    duration = (found.end - found.start).astype(np.float64)
    transfer = duration.min(axis=1)
    wait = duration - transfer[:, None]
    late = start - start.min(axis=1, keepdims=True)
    last = late.argmax(axis=1)
    apart = late.max(axis=1) > NOISE_NS
    total_wait = wait.sum(axis=1)
    rows = []
    for number, label in enumerate(labels):
        mine = apart & (last == number)
        rows.append(
            RankLateness(
                rank=label,
                last_share=float(mine.mean()),
                lateness_median_us=float(np.median(late[:, number])) / 1e3,
                lateness_p99_us=float(np.percentile(late[:, number], 99)) / 1e3,
                caused_wait_ms=float(total_wait[mine].sum()) / MS,
                waited_ms=float(wait[:, number].sum()) / MS,
            )
        )
    worst = [
        Collective(
            index=int(found.row[row]),
            name=first.name[int(found.row[row])],
            last_rank=labels[int(last[row])],
            wait_ms=float(wait[row].max()) / MS,
            transfer_us=float(transfer[row]) / 1e3,
            step=int(first.step[found.row[row]]) if first.step[found.row[row]] >= 0 else None,
        )
        for row in np.argsort(-wait.max(axis=1))[:WORST_LISTED].tolist()
    ]
    straggler, says = _verdict(rows, len(start))
    return Across(
        ranks=labels,
        missing=missing,
        matched=len(start),
        unmatched=found.unmatched,
        transfer_ms=float(transfer.sum()) / MS,
        wait_ms=float(wait.mean(axis=1).sum()) / MS,
        clock_offsets_us={label: float(value) / 1e3 for label, value in zip(labels, offset, strict=True)},
        clock_error_us=error / 1e3,
        lateness=rows,
        worst=worst,
        straggler=straggler,
        says=says,
    )


def _verdict(rows: list[RankLateness], collectives: int) -> tuple[str, str]:
    caused = sum(row.caused_wait_ms for row in rows)
    worst = max(rows, key=lambda row: row.caused_wait_ms)
    if not caused:
        return "", f"all ranks arrive together at {collectives} collectives"
    share = worst.caused_wait_ms / caused
    words = (
        f"{worst.rank} arrives last at {worst.last_share:.0%} of {collectives} collectives and causes "
        f"{worst.caused_wait_ms:.4g} ms of {caused:.4g} ms of waiting"
    )
    if share < STRAGGLER_SHARE:
        return "", f"no rank is the straggler: {words}"
    return worst.rank, words
