"""What should an engineer look at first? The facts that cost most time, in words, largest first.

No judgement of good or bad: every sentence names an amount of time that went somewhere unusual or avoidable.
"""

from __future__ import annotations

import re

import msgspec

from responder.traces.kernels import COLLECTIVE, short
from responder.traces.verdicts import Across, Diff, Finding
from responder.traces.views import Outlier, Rank, SlowStep

LISTED = 10
WORTH_SAYING = 0.002
"""Share of the span that a single kernel must take to be a sentence of its own."""
LONG_GAP_MS = 5.0
"""A single gap of this length is worth a sentence even outside slow steps."""


def findings(ranks: list[Rank], across: list[Across], diff: Diff | None) -> list[Finding]:
    """At most ten sentences."""
    rows: list[Finding] = []
    compared = {label for run in across if run.matched for label in run.ranks}
    for rank in ranks:
        rows += _slow_steps(rank)
        rows += _kernels(rank, collectives=rank.label not in compared)
        rows += _waiting(rank)
        if rank.layers and rank.layers.unlike:
            worst = max(
                (row for row in rank.layers.layers if row.index in rank.layers.unlike), key=lambda r: r.total_us
            )
            lost = worst.total_us / 1e3 * (1 - 1 / worst.ratio) * rank.layers.steps if worst.ratio > 1 else 0.0
            rows.append(Finding(lost_ms=lost, says=rank.layers.says, rank=rank.label))
    rows = _once(rows)
    rows.sort(key=lambda row: (-row.lost_ms, row.says))
    head = []
    if diff is not None:
        head.append(Finding(lost_ms=0.0, says=diff.says))
    for run in across:
        if run.straggler:
            head.append(Finding(lost_ms=run.wait_ms, says=run.says))
        if run.missing:
            missing = ", ".join(map(str, run.missing))
            says = (
                f"no trace of rank {missing} beside {', '.join(run.ranks)}: the comparison across ranks is incomplete"
            )
            head.append(Finding(lost_ms=0.0, says=says))
    return head + rows[: LISTED - len(head)]


def _once(rows: list[Finding]) -> list[Finding]:
    """What several ranks show alike (same step, same component) is said once, of the rank where it cost most."""
    found: dict[str, Finding] = {}
    for row in sorted(rows, key=lambda row: -row.lost_ms):
        subject = re.sub(r"[\d.,]+ (ms|us|%)|\d+%|[+-][\d.e-]+", "", row.says.split(" (one ")[0].split(", GPU idle")[0])
        known = found.get(subject)
        if known is None:
            found[subject] = row
        elif row.rank not in known.rank.split(", "):
            found[subject] = msgspec.structs.replace(known, rank=f"{known.rank}, {row.rank}")
    return list(found.values())


def _slow_steps(rank: Rank) -> list[Finding]:
    if not rank.steps:
        return []
    return [
        Finding(lost_ms=slow.excess_ms, says=f"{slow.says}{_culprit(rank, slow)}", rank=rank.label)
        for slow in rank.steps.slow[:5]
    ]


def _culprit(rank: Rank, slow: SlowStep) -> str:
    """The single kernel, copy or gap behind a slow step, if there is one."""
    main = next(iter(slow.because), "")
    if main.startswith("idle: ") and rank.gaps:
        for gap in rank.gaps.longest:
            if gap.step == slow.step.index and gap.ms > 0.3 * slow.excess_ms:
                where = f", in {gap.frame[:120]}" if gap.frame else ""
                return f" (one gap of {gap.ms:.3g} ms at {gap.at_ms:.4g} ms{where})"
        return ""
    for one in rank.singles + rank.outliers:
        if one.step == slow.step.index and one.category == main and one.duration_us / 1e3 > 0.3 * slow.excess_ms:
            return f" (one {_what(one)})"
    return ""


def _what(one: Outlier) -> str:
    size = ""
    if one.size_bytes and one.category.startswith("mem"):
        size = f" of {one.size_bytes / 1e6:.4g} MB"
    elif one.size_bytes:
        size = f" of {one.size_bytes} elements"
    usual = f", usually {one.median_us:.4g} us" if one.median_us is not None else ", the only one of its kind"
    grid = f", grid [{one.grid}]" if one.grid else ""
    return f"{short(one.name)}{size} of {one.duration_us / 1e3:.4g} ms{usual}{grid}"


def _kernels(rank: Rank, *, collectives: bool) -> list[Finding]:
    """The worst instance of each kernel that no slow step accounts for already."""
    explained = {slow.step.index for slow in rank.steps.slow} if rank.steps else set()
    rows = []
    said: set[str] = set()
    for one in rank.outliers + rank.singles:
        if one.step in explained or (one.phase == "prefill" and one.median_us is None) or one.name in said:
            continue
        if one.category == COLLECTIVE and not collectives:
            continue  # the comparison across ranks tells who was waited for
        if one.duration_us / 1e3 < WORTH_SAYING * (rank.busy.span_ms if rank.busy else 0.0):
            continue
        said.add(one.name)
        lost = (one.duration_us - (one.median_us or 0.0)) / 1e3
        where = f" in step {one.step} ({one.phase})" if one.step is not None else f" at {one.at_ms:.4g} ms"
        waits = "; a collective's time includes waiting for other ranks" if one.category == COLLECTIVE else ""
        rows.append(Finding(lost_ms=lost, says=f"{_what(one)}{where}{waits}", rank=rank.label))
    return rows


def _waiting(rank: Rank) -> list[Finding]:
    rows = []
    explained = {slow.step.index for slow in rank.steps.slow} if rank.steps else set()
    for gap in rank.gaps.longest[:3] if rank.gaps and rank.busy and rank.busy.idle_reliable else []:
        if gap.ms >= LONG_GAP_MS and gap.step not in explained:
            where = f" in step {gap.step}" if gap.step is not None else ""
            inside = f", in {(gap.frame or gap.call)[:120]}" if gap.frame or gap.call else ""
            doing = _doing(next(iter(gap.causes), "unknown"))
            says = f"one gap of {gap.ms:.4g} ms without GPU work at {gap.at_ms:.4g} ms{where}, the CPU {doing}{inside}"
            rows.append(Finding(lost_ms=gap.ms, says=says, rank=rank.label))
    if rank.blocked and rank.blocked.copy_ms > 0.05 * (rank.busy.span_ms if rank.busy else rank.span_ms):
        rows.append(
            Finding(
                lost_ms=0.0,
                says=f"the CPU stood in blocking copies for {rank.blocked.copy_ms:.4g} ms "
                f"({rank.blocked.copy_ms / max(rank.blocked.total_ms, 1e-9):.0%} of its waiting for the GPU): "
                "copies to pageable host memory return only when all earlier GPU work is done",
                rank=rank.label,
            )
        )
    if rank.gaps and rank.busy and rank.busy.idle_reliable and rank.busy.idle_share > 0.1 and rank.gaps.causes:
        cause = rank.gaps.causes[0]
        rows.append(
            Finding(
                lost_ms=rank.busy.idle_ms,
                says=f"the GPU idled {rank.busy.idle_share:.0%} of {rank.busy.span_ms:.4g} ms, "
                f"{cause.share:.0%} of that with the CPU {_doing(cause.cause)}",
                rank=rank.label,
            )
        )
    if rank.unknown_share > 0.05:
        names = ", ".join(short(row.name, 40) for row in rank.unknown[:3])
        rows.append(
            Finding(
                lost_ms=0.0,
                says=f"{rank.unknown_share:.0%} of GPU time is in kernels of unknown kind: {names}",
                rank=rank.label,
            )
        )
    return rows


def _doing(cause: str) -> str:
    words = {
        "host sync": "waiting for the GPU",
        "operators": "in PyTorch operators",
        "Python": "in Python",
        "launching": "in CUDA calls",
        "between steps": "between steps (scheduling or waiting for input)",
        "unknown": "unobserved",
        "sampling": "sampling",
        "input preparation": "preparing input",
        "bookkeeping": "handling the step's output",
    }
    return words[cause]
