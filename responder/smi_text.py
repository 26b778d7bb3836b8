"""What do nvidia-smi's `pmon`, `dmon`, `nvlink -s/-e/-gt d` and `topo -m` say? Pure: text in, numbers by GPU out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, median

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def samples(text: str) -> list[dict[str, str]]:
    """Rows of `pmon` or `dmon` by the names of their own header line; `-` (not told) is left out."""
    names: list[str] = []
    rows = []
    for line in text.splitlines():
        if line.startswith("# gpu"):
            names = line[1:].split()
        elif names and line[:1] == " " and line.split():
            cells = line.split(None, len(names) - 1)
            rows.append({name: cell.strip() for name, cell in zip(names, cells, strict=False) if cell.strip() != "-"})
    return rows


def means(rows: list[dict[str, str]], column: str) -> dict[int, float]:
    """Mean of a column by GPU."""
    found: dict[int, list[float]] = {}
    for row in rows:
        value = row.get(column, "")
        if re.fullmatch(r"-?\d+(?:\.\d+)?", value) and row.get("gpu", "").isdigit():
            found.setdefault(int(row["gpu"]), []).append(float(value))
    return {gpu: fmean(values) for gpu, values in found.items()}


def _by_link(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int, re.Match[str]]]:
    gpu = None
    for line in text.splitlines():
        if head := re.match(r"GPU (\d+):", line):
            gpu = int(head[1])
        elif gpu is not None and (link := re.match(r"\s*Link (\d+): (.*)", line)) and (got := pattern.match(link[2])):
            yield gpu, int(link[1]), got


def link_errors(text: str) -> dict[int, dict[str, int]]:
    """`nvlink -e`: GPU -> kind of error -> count over its links."""
    found: dict[int, dict[str, int]] = {}
    for gpu, _, got in _by_link(text, re.compile(r"(.*\S) Errors: (\d+)")):
        kinds = found.setdefault(gpu, {})
        kinds[got[1].lower()] = kinds.get(got[1].lower(), 0) + int(got[2])
    return found


def link_speeds(text: str) -> dict[int, list[float]]:
    """`nvlink -s`: GPU -> GB/s of each link; an inactive one has 0."""
    found: dict[int, list[float]] = {}
    for gpu, _, got in _by_link(text, re.compile(r"(?:([\d.]+) GB/s|.*inactive.*)", re.IGNORECASE)):
        found.setdefault(gpu, []).append(float(got[1] or 0))
    return found


def link_bytes(text: str) -> dict[int, int]:
    """`nvlink -gt d`: GPU -> bytes sent and received so far over all links."""
    found: dict[int, int] = {}
    for gpu, _, got in _by_link(text, re.compile(r"Data [TR]x: (\d+) KiB")):
        found[gpu] = found.get(gpu, 0) + int(got[1]) * 1024
    return found


@dataclass(frozen=True)
class Topology:
    """How each pair of GPUs is connected: NV18, NV#, PIX, PXB, PHB, NODE, SYS."""

    pairs: Mapping[tuple[int, int], str]

    def between(self, gpus: list[int]) -> set[str]:
        chosen = set(gpus)
        return {how for (one, other), how in self.pairs.items() if one in chosen and other in chosen}


SLOW_PATHS = ("SYS", "NODE", "PHB", "PXB", "PIX")
"""Slowest first; anything that starts with NV is NVLink."""


def topology(text: str) -> Topology:
    """`topo -m`."""
    columns: list[int] = []
    pairs: dict[tuple[int, int], str] = {}
    for line in ANSI.sub("", text).splitlines():
        cells = [cell.strip() for cell in line.split("\t")]
        if not columns and any(re.fullmatch(r"GPU\d+", cell) for cell in cells):
            columns = [int(cell[3:]) for cell in cells if re.fullmatch(r"GPU\d+", cell)]
        elif columns and (row := re.fullmatch(r"GPU(\d+)", cells[0])):
            for column, how in zip(columns, cells[1:], strict=False):
                if how != "X":
                    pairs[int(row[1]), column] = how
    return Topology(pairs)


def odd_one(values: Mapping[int, float], least: float, share: float = 0.25) -> tuple[int, float, float] | None:
    """The one GPU that differs most from its peers: (GPU, its value, the others' median); None when all are alike.

    Differing means by more than `share` of the others' median and by more than `least` in the value's own unit.
    """
    if len(values) < 2:
        return None
    told = []
    for gpu, value in values.items():
        others = median(other for peer, other in values.items() if peer != gpu)
        away = abs(value - others)
        if away > least and away > share * abs(others):
            told.append((away, -gpu, gpu, value, others))
    if not told or (len(told) == len(values) > 2):
        return None
    if len(values) == 2:
        # Two peers differ by the same amount; the one that works less is the odd one.
        gpu = min(values, key=lambda index: (values[index], index))
        return gpu, values[gpu], max(values.values())
    _, _, gpu, value, others = max(told)
    return gpu, value, others
