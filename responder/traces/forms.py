"""What kind of file is this, and who reads it? By content first, by name only where content cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from responder.traces import ascend, kineto, nsys_sqlite, nsys_tables, stacks, torch_table
from responder.traces.rank import Analysed, analyse_trace
from responder.traces.source import GZIP_MAGIC, Source, UnreadableTrace

HEAD = 1 << 16

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
            found += ascend.without_duplicates(inside)
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
    text = head.decode("utf-8", "replace")
    if head.startswith(b"SQLite format 3\0"):
        return nsys_sqlite.read(path)
    if ascend.is_kernel_details(text):
        return ascend.read_kernel_details(path)
    if ascend.is_communication(path, text):
        return ascend.read_communication(path)
    if ascend.is_trace_view(path, text):
        return ascend.read_trace_view(path, stop_at=stop_at, progress=progress)
    if nsys_tables.is_table(text):
        return nsys_tables.read(path)
    if torch_table.is_table(text):
        return torch_table.read(path)
    if stacks.is_speedscope(text):
        return stacks.read_speedscope(path)
    if stacks.is_folded(text):
        return stacks.read_folded(path)
    return analyse_trace(kineto.read(path, stop_at=stop_at, progress=progress), path)


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
