"""What kind of file is this, and who reads it? By content first, by name only where content cannot tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from responder.traces import kineto
from responder.traces.layout import find_start
from responder.traces.rank import Analysed, analyse_trace
from responder.traces.source import GZIP_MAGIC, Source, UnreadableTrace

HEAD = 1 << 16

_ASCEND = re.compile(rb"Ascend Hardware|Overlap Analysis|\bCANN\b")
"""Names of processes in Ascend's timeline."""

KNOWN_ENDINGS = (
    ".json", ".json.gz", ".trace", ".gz", ".sqlite", ".csv", ".txt", ".folded", ".speedscope", ".raw", ".collapsed"
)  # fmt: skip

SIDE_FILES = ("info.json", "profiler_info", "profiler_metadata.json", ".truth.json", "api_statistic.csv")
"""Files that lie beside traces and are none."""


def expand(paths: Sequence[Path], problems: list[str]) -> list[Path]:
    """Files to read: those named, and in folders those that can be traces."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob("*")
                if p.is_file() and p.name.endswith(KNOWN_ENDINGS) and not p.name.endswith(SIDE_FILES)
            )
            if not inside:
                problems.append(f"{path}: no trace files in this folder")
            found += _without_duplicates(inside)
        elif path.exists():
            found.append(path)
        else:
            problems.append(f"{path}: no such file")
    return list(dict.fromkeys(found))


def read_any(
    path: Path, *, stop_at: float | None = None, progress: Callable[[float], None] | None = None
) -> list[Analysed]:
    """Read a file of any kind we know; UnreadableTrace if it is none of them."""
    head = _head(path)
    # torch's own traces first, and every other reader imported only when needed: imports cost as much as a small trace
    if find_start(head) is not None and not _ASCEND.search(head) and not path.name.startswith("trace_view"):
        return analyse_trace(kineto.read(path, stop_at=stop_at, progress=progress), path)
    reader = _other_reader(path, head)
    if reader is not None:
        return reader(path)
    if _ASCEND.search(head) or path.name.startswith("trace_view"):
        from responder.traces.ascend_view import read_trace_view

        return read_trace_view(path, stop_at=stop_at, progress=progress)
    return analyse_trace(kineto.read(path, stop_at=stop_at, progress=progress), path)


def _other_reader(path: Path, head: bytes) -> Callable[[Path], list[Analysed]] | None:
    """The reader of a table, database or profile; None if it is none of these."""
    from responder.traces import ascend, nsys_sqlite, nsys_tables, stacks, torch_table

    text = head.decode("utf-8", "replace")
    if head.startswith(b"SQLite format 3\0"):
        return nsys_sqlite.read
    readers: tuple[tuple[bool, Callable[[Path], list[Analysed]]], ...] = (
        (ascend.is_kernel_details(text), ascend.read_kernel_details),
        (ascend.is_communication(path, text), ascend.read_communication),
        (nsys_tables.is_table(text), nsys_tables.read),
        (torch_table.is_table(text), torch_table.read),
        (stacks.is_speedscope(text), stacks.read_speedscope),
        (stacks.is_folded(text), stacks.read_folded),
    )
    return next((read for matches, read in readers if matches), None)


def _without_duplicates(paths: Sequence[Path]) -> list[Path]:
    """Ascend's kernel_details.csv repeats the kernels of the trace_view.json beside it, without the CPU side."""
    folders = {path.parent for path in paths if path.name.startswith("trace_view")}
    return [path for path in paths if not (path.name == "kernel_details.csv" and path.parent in folders)]


def _head(path: Path) -> bytes:
    """The first bytes, decompressed."""
    with path.open("rb") as file:
        raw = file.read(HEAD)
    if not raw:
        raise UnreadableTrace(f"{path}: the file is empty")
    if raw[:2] != GZIP_MAGIC:
        return raw
    for piece in Source(path):
        return piece[:HEAD]
    return b""
