"""Where were the samples of py-spy taken? Folded stacks and speedscope files to frames with their shares."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from responder.traces.rank import Analysed
from responder.traces.source import UnreadableTrace
from responder.traces.views import Rank, Stack

MAX_BYTES = 256 << 20
LISTED = 60
_FOLDED = re.compile(r"^\S.*\S* \d+$")


class _Frame(msgspec.Struct):
    name: str = ""
    file: str | None = None
    line: int | None = None


class _Shared(msgspec.Struct):
    frames: list[_Frame] = []


class _Profile(msgspec.Struct):
    type: str = ""
    name: str = ""
    samples: list[list[int]] = []
    weights: list[float] = []


class _Speedscope(msgspec.Struct):
    shared: _Shared
    profiles: list[_Profile]


def is_speedscope(text: str) -> bool:
    """Whether this looks like a speedscope file."""
    return text.lstrip().startswith("{") and (
        "speedscope" in text[:2000] or ('"shared"' in text and '"frames"' in text)
    )


def is_folded(text: str) -> bool:
    """Whether this looks like folded stacks: frames joined by semicolons, then a count."""
    lines = [line for line in text.splitlines()[:20] if line.strip()][:-1] or text.splitlines()[:1]
    return bool(lines) and all(_FOLDED.match(line) for line in lines) and any(";" in line for line in lines)


def read_folded(path: Path) -> list[Analysed]:
    """Folded stacks (`py-spy record --format raw`)."""
    _check_size(path)
    counts: dict[str, float] = {}
    leaves: dict[str, float] = {}
    total = 0.0
    bad = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            stack, _, number = line.rstrip("\n").rpartition(" ")
            if not stack or not number.isascii() or not number.isdigit() or len(number) > 15:
                bad += bool(line.strip())
                continue
            _add(counts, leaves, stack.split(";"), float(number))
            total += float(number)
    return _view(path, "folded stacks", counts, leaves, total, bad)


def read_speedscope(path: Path) -> list[Analysed]:
    """speedscope's sampled profiles (`py-spy record --format speedscope`)."""
    _check_size(path)
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Speedscope)
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise UnreadableTrace(f"{path}: not a readable speedscope file: {broken}") from broken
    frames = document.shared.frames
    names = [f"{f.name} ({f.file}:{f.line})" if f.file and f.line else f.name for f in frames]
    counts: dict[str, float] = {}
    leaves: dict[str, float] = {}
    total = 0.0
    bad = 0
    for profile in document.profiles:
        weights = profile.weights or [1.0] * len(profile.samples)
        for sample, weight in zip(profile.samples, weights, strict=False):
            if any(not 0 <= number < len(names) for number in sample) or not sample:
                bad += 1
                continue
            _add(counts, leaves, [names[number] for number in sample], weight)
            total += weight
    return _view(path, "speedscope", counts, leaves, total, bad)


def _check_size(path: Path) -> None:
    if path.stat().st_size > MAX_BYTES:
        raise UnreadableTrace(f"{path}: stacks of more than {MAX_BYTES >> 20} MB")


def _add(counts: dict[str, float], leaves: dict[str, float], stack: list[str], weight: float) -> None:
    for frame in set(stack):  # recursion counts once
        counts[frame] = counts.get(frame, 0.0) + weight
    leaves[stack[-1]] = leaves.get(stack[-1], 0.0) + weight


def _view(
    path: Path, form: str, counts: dict[str, float], leaves: dict[str, float], total: float, bad: int
) -> list[Analysed]:
    if not total:
        raise UnreadableTrace(f"{path}: no samples in it")
    rows = [
        Stack(frame=frame, samples=count, share=count / total, leaf_share=leaves.get(frame, 0.0) / total)
        for frame, count in counts.items()
    ]
    rows.sort(key=lambda row: (-row.leaf_share, -row.share, row.frame))
    view = Rank(
        file=str(path),
        format=form,
        label=path.name.split(".")[0],
        bytes=path.stat().st_size,
        events=int(min(total, 2**53)),
        bad_events=bad,
        stacks=rows[:LISTED],
    )
    return [Analysed(view, None)]
