"""What do these files say together? Sniff, read and analyse one after another, then compare."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from responder.traces.diff import diff
from responder.traces.findings import findings
from responder.traces.forms import expand, read_any
from responder.traces.rank import Analysed
from responder.traces.ranks import across
from responder.traces.source import UnreadableTrace
from responder.traces.verdicts import TraceReport
from responder.traces.views import Rank

Progress = Callable[[str, float], None]


def run(
    paths: Sequence[Path],
    compare: Sequence[Path] = (),
    *,
    stop_at: float | None = None,
    progress: Progress | None = None,
) -> TraceReport:
    """Analyse files and folders; files that cannot be read become problems, never an exception."""
    begun = time.monotonic()
    problems: list[str] = []
    one = _all(paths, problems, stop_at, progress)
    other = _all(compare, problems, stop_at, progress)
    one = _named_apart(one)
    ranks = [item.view for item in one]
    together = across(one)
    changed = None
    if other and ranks:
        changed = diff(_like(other, ranks[0]), ranks[0])
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return TraceReport(
        ranks=ranks,
        across=together,
        diff=changed,
        findings=findings(ranks, together, changed),
        problems=problems,
        seconds=time.monotonic() - begun,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss * 1024 / 1e6,
    )


def _named_apart(analysed: list[Analysed]) -> list[Analysed]:
    """Two sessions of the same rank are told apart by their files."""
    labels = [item.view.label for item in analysed]
    for item in analysed:
        if labels.count(item.view.label) > 1:
            name = Path(item.view.file).name.split(".")[0]
            item.view = msgspec.structs.replace(item.view, label=f"{item.view.label} ({name})")
    return analysed


def _like(others: list[Analysed], wanted: Rank) -> Rank:
    """The other side's trace of the same rank, else its first."""
    same = [item.view for item in others if item.view.rank == wanted.rank]
    return same[0] if same else others[0].view


def _all(
    paths: Sequence[Path], problems: list[str], stop_at: float | None, progress: Progress | None
) -> list[Analysed]:
    analysed: list[Analysed] = []
    for path in expand(paths, problems):
        report = (lambda share, name=path.name: progress(name, share)) if progress else None
        try:
            analysed += read_any(path, stop_at=stop_at, progress=report)
        except UnreadableTrace as unreadable:
            problems.append(str(unreadable))
        except (OSError, MemoryError, ValueError, LookupError, ArithmeticError, AssertionError) as trouble:
            # a file from outside may be anything; what it does to a reader is a problem of that file alone
            problems.append(f"{path}: cannot be read: {type(trouble).__name__}: {trouble}")
    analysed.sort(key=lambda item: (item.view.rank is None, item.view.rank or 0))
    return analysed
