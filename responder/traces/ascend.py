"""What do Ascend's summary files say? `kernel_details.csv` and `communication.json` of an `*_ascend_pt` folder."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import msgspec
import numpy as np

from responder.traces.collect import Collector, key_of
from responder.traces.rank import Analysed, analyse_trace
from responder.traces.source import UnreadableTrace
from responder.traces.views import Communication

MAX_JSON = 512 << 20


def is_kernel_details(text: str) -> bool:
    """Whether this is a kernel_details.csv."""
    header = text.split("\n", 1)[0]
    return "Duration(us)" in header and "Start Time(us)" in header and "Name" in header


def read_kernel_details(path: Path) -> list[Analysed]:
    """One row per kernel: device times, and the step it belongs to."""
    into = Collector()
    rows: list[tuple[int, int, int, int, int, int]] = []
    steps: dict[str, tuple[int, int]] = {}
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        table = csv.DictReader(line.replace("\0", "") for line in file)
        try:
            for row in table:
                start, duration = _micros(row.get("Start Time(us)")), _micros(row.get("Duration(us)"))
                name = (row.get("Type") or "").strip()
                name = (row.get("Name") or "").strip() if name in ("", "N/A") else name
                if start is None or duration is None or duration < 0 or not name:
                    into.bad_events += 1
                    continue
                grid = (row.get("Input Shapes") or "").strip().strip('"').encode()
                known = into.grid_numbers.get(grid)
                number = (into.grid_number(grid) if known is None else known) if grid else -1
                device = (row.get("Device_id") or row.get("Device ID") or "0").strip()
                stream = (row.get("Stream ID") or row.get("Accelerator Core") or "0").strip()
                rows.append((start, duration, into.keys.number(key_of(name, device, stream)), -1, number, 0))
                step = (row.get("Step Id") or row.get("Step ID") or "").strip()
                if step:
                    low, high = steps.get(step, (start, start))
                    steps[step] = (min(low, start), max(high, start + duration))
        except csv.Error as broken:
            into.bad_events += 1
            if not rows:
                raise UnreadableTrace(f"{path}: not a readable CSV table: {broken}") from broken
    if not rows:
        raise UnreadableTrace(f"{path}: a kernel table without rows")
    into.gpu(*(np.array(column, np.int64) for column in zip(*rows, strict=True)))
    into.count("kernel", len(rows))
    if steps:
        marks = [(low, high - low, into.keys.number(key_of(_step(n), "0", "0"))) for n, (low, high) in steps.items()]
        into.plain("marks", *(np.array(column, np.int64) for column in zip(*sorted(marks), strict=True)))
    trace = into.finish()
    trace.bytes = path.stat().st_size
    trace.meta = rank_beside(path)
    return analyse_trace(trace, path, "Ascend kernel_details")


def _step(text: str) -> str:
    digits = re.sub(r"\D", "", text)
    return f"ProfilerStep#{digits or 0}"


def _micros(text: str | None) -> int | None:
    """Microseconds as text, exactly, to nanoseconds; Ascend writes unix time with three decimals and a tab."""
    whole, _, part = (text or "").strip().partition(".")
    if not whole.isdigit() or not whole.isascii() or len(whole) > 16 or (part and not part.isdigit()):
        return None
    return int(whole) * 1000 + int((part + "000")[:3])


def rank_beside(path: Path) -> dict[str, object]:
    """Ascend names the rank in a file beside: profiler_info_3.json."""
    for folder in (path.parent, path.parent.parent):
        for found in sorted(folder.glob("profiler_info_*.json")):
            number = re.search(r"profiler_info_(\d+)", found.name)
            if number:
                return {"distributedInfo": {"rank": int(number.group(1))}}
    return {}


def is_communication(path: Path, text: str) -> bool:
    """Whether this is a communication.json."""
    return path.name.startswith("communication") and text.lstrip().startswith("{") and (
        "Communication Time Info" in text or '"collective"' in text
    )  # fmt: skip


def read_communication(path: Path) -> list[Analysed]:
    """Elapsed, transit, wait and synchronisation time of every collective."""
    if path.stat().st_size > MAX_JSON:
        raise UnreadableTrace(f"{path}: more than {MAX_JSON >> 20} MB of communication data")
    try:
        document = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise UnreadableTrace(f"{path}: not a readable communication.json: {broken}") from broken
    into = Collector()
    rows: list[tuple[int, int, int, int, int, int]] = []
    sums: dict[str, list[float]] = {}
    for operation, info in _operations(document):
        times = info.get("Communication Time Info")
        if operation.startswith("Total Op Info") or not isinstance(times, dict):
            continue
        kind = re.split(r"__|@|_\d", operation)[0]
        values = [_float(times.get(f"{part}(ms)")) for part in ("Elapse Time", "Transit Time", "Wait Time")]
        values.append(_float(times.get("Synchronization Time(ms)")))
        mine = sums.setdefault(kind, [0.0] * 5)
        mine[0] += 1
        for place, value in enumerate(values):
            mine[place + 1] += value
        start = _micros(str(times.get("Start Timestamp(us)", "")))
        if start is not None:
            rows.append((start, int(values[0] * 1e6), into.keys.number(key_of(kind, "0", "communication")), -1, -1, 0))
    if not sums:
        raise UnreadableTrace(f"{path}: no communication operations in it")
    if rows:
        into.gpu(*(np.array(column, np.int64) for column in zip(*rows, strict=True)))
        into.count("communication", len(rows))
    trace = into.finish()
    trace.bytes = path.stat().st_size
    table = [
        Communication(name=name, count=int(n), elapsed_ms=e, transit_ms=t, wait_ms=w, synchronization_ms=s)
        for name, (n, e, t, w, s) in sums.items()
    ]
    table.sort(key=lambda row: -row.elapsed_ms)
    found = analyse_trace(trace, path, "Ascend communication")
    notes = ["communication only: idle time here is time without a collective"]
    view = msgspec.structs.replace(found[0].view, communication=table, notes=notes, busy=None, gaps=None)
    return [Analysed(view, found[0].collectives)]


def _operations(document: object) -> list[tuple[str, dict[str, object]]]:
    """(operation, its data) of every step, collective and point-to-point."""
    found: list[tuple[str, dict[str, object]]] = []
    for step in document.values() if isinstance(document, dict) else ():
        for group in step.values() if isinstance(step, dict) else ():
            for operation, info in group.items() if isinstance(group, dict) else ():
                if isinstance(info, dict):
                    found.append((str(operation), info))
    return found


def _float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e15 else 0.0
