"""What do `nsys stats --format csv` tables say? Kernel, copy, call and range sums, and the GPU event list.

One file may hold several reports one after another, with `Processing […]` lines between them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from responder.traces.collect import Collector, key_of
from responder.traces.rank import Analysed, analyse_trace
from responder.traces.source import UnreadableTrace
from responder.traces.tabular import Sum, table_rank
from responder.traces.views import Annotation

_UNIT_NS = {"ns": 1.0, "us": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9}
_TOTAL = re.compile(r"^Total Time(?: \((\w+)\))?$")
_START = re.compile(r"^Start(?: \((\w+)\))?$")
MAX_BYTES = 512 << 20


def is_table(text: str) -> bool:
    """Whether this looks like an nsys CSV report."""
    return any(_is_header(line) for line in text.splitlines()[:40])


def _is_header(line: str) -> bool:
    sums = "Total Time" in line and "," in line and ("Name" in line or "Operation" in line or "Range" in line)
    events = line.startswith("Start") and "Duration" in line and "CorrId" in line and "," in line
    return sums or events


def _reports(path: Path) -> Iterator[tuple[list[str], list[list[str]]]]:
    """(header, rows) of every report in the file."""
    if path.stat().st_size > MAX_BYTES:
        raise UnreadableTrace(f"{path}: an nsys table of more than {MAX_BYTES >> 20} MB; use the SQLite export")
    header: list[str] = []
    rows: list[list[str]] = []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.reader(line.replace("\0", "") for line in file):
            if _is_header(",".join(row)):
                if header:
                    yield header, rows
                header, rows = [cell.strip() for cell in row], []
            elif header and len(row) == len(header):
                rows.append(row)
    if header:
        yield header, rows


def read(path: Path) -> list[Analysed]:
    """Every report of the file together, in one view; an event list is analysed as a timeline."""
    gpu: list[Sum] = []
    calls: list[Sum] = []
    ranges: list[Annotation] = []
    try:
        reports = list(_reports(path))
    except csv.Error as broken:
        raise UnreadableTrace(f"{path}: not a readable CSV table: {broken}") from broken
    for header, rows in reports:
        if _START.match(header[0]):
            return _events(path, header, rows)
        sums = list(_sums(header, rows))
        if "Operation" in header or "Instances" in header and "Name" in header:
            gpu += sums
        elif "Range" in header:
            ranges += [
                Annotation(name=row.name.lstrip(":"), count=row.count, cpu_ms=row.total_ns / 1e6, gpu_ms=None)
                for row in sums
            ]
        elif "Name" in header:
            calls += sums
    if not gpu and not calls and not ranges:
        raise UnreadableTrace(f"{path}: an nsys table without rows")
    return [table_rank(path, "nsys stats", gpu=gpu, calls=calls, annotations=ranges)]


def _sums(header: list[str], rows: list[list[str]]) -> Iterator[Sum]:
    label = next(name for name in ("Name", "Operation", "Range") if name in header)
    total = next(column for column in header if _TOTAL.match(column))
    match = _TOTAL.match(total)
    scale = _UNIT_NS.get(match.group(1) or "ns", 1.0) if match else 1.0
    count = next((column for column in ("Instances", "Count", "Num Calls") if column in header), None)
    median = next((column for column in header if column.startswith("Med")), None)
    longest = next((column for column in header if column.startswith("Max")), None)
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        spent = _number(cells[total])
        if spent is None:
            continue
        middle, top = _number(cells.get(median or "", "")), _number(cells.get(longest or "", ""))
        yield Sum(
            name=cells[label],
            count=int(_number(cells.get(count or "", "")) or 0),
            total_ns=spent * scale,
            median_ns=middle * scale if middle is not None else None,
            max_ns=top * scale if top is not None else None,
        )


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return value if -1e18 < value < 1e18 else None


def _events(path: Path, header: list[str], rows: list[list[str]]) -> list[Analysed]:
    """`cuda_gpu_trace`: one row per GPU event."""
    into = Collector()
    at = {name.split(" (")[0]: place for place, name in enumerate(header)}
    unit = re.search(r"\((\w+)\)", header[0])
    scale = _UNIT_NS.get(unit.group(1) if unit else "ns", 1.0)
    table = []
    for row in rows:
        start, duration = _number(row[at["Start"]]), _number(row[at["Duration"]])
        if start is None or duration is None or duration < 0:
            into.bad_events += 1
            continue
        name = row[at["Name"]].replace("[CUDA memcpy Host-to-Device]", "Memcpy HtoD")
        name = name.replace("[CUDA memcpy Device-to-Host]", "Memcpy DtoH")
        name = name.replace("[CUDA memcpy Device-to-Device]", "Memcpy DtoD").replace("[CUDA memset]", "Memset")
        device, stream = row[at["Device"]] if "Device" in at else "0", row[at["Strm"]] if "Strm" in at else "0"
        grid = ", ".join(row[at[c]] for c in ("GrdX", "GrdY", "GrdZ") if c in at).encode()
        known = into.grid_numbers.get(grid)
        size = _number(row[at["Bytes"]]) if "Bytes" in at else None
        table.append(
            (
                int(start * scale),
                int(duration * scale),
                into.keys.number(key_of(name, device, stream)),
                int(_number(row[at["CorrId"]]) or -1),
                (into.grid_number(grid) if known is None else known) if grid.strip(b", ") else -1,
                int((size or 0.0) * 1e6),
            )
        )
    if not table:
        raise UnreadableTrace(f"{path}: an nsys event list without rows")
    into.gpu(*(np.array(column, np.int64) for column in zip(*table, strict=True)))
    into.count("gpu_trace", len(table))
    trace = into.finish()
    trace.bytes = path.stat().st_size
    return analyse_trace(trace, path, "nsys cuda_gpu_trace")
