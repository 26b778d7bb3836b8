"""What does this /metrics text say?

Tolerant on purpose: what answers on a metrics port may be vLLM, a proxy's error page, half an answer or noise. What can
be read is read, what cannot is counted, and nothing raises. NaN and infinities become None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

MAX_BYTES = 8 << 20
"""A busy vLLM with every option on stays under 1 MB; more than this is not an exposition we want to hold."""
MAX_READINGS = 100_000

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_ESCAPE = re.compile(r"\\(.)")


class Reading(NamedTuple):
    """One line of an exposition."""

    name: str
    labels: Mapping[str, str]
    value: float | None
    """None: the line is there and says NaN or infinity."""


@dataclass(frozen=True)
class Exposition:
    """What could be read of one scrape."""

    readings: tuple[Reading, ...]
    malformed: int
    """Lines that are no sample: 0 for a real exposition, nearly all lines of an HTML page."""
    truncated: bool
    """Cut at a cap, or the last line had no end; that last line is not read, half a number is a wrong number."""

    def named(self, *names: str) -> tuple[Reading, ...]:
        """Readings of the first of `names` that exists: names of one thing through the versions, newest first."""
        for name in names:
            found = tuple(reading for reading in self.readings if reading.name == name)
            if found:
                return found
        return ()

    def total(self, *names: str) -> float | None:
        """Sum over all label sets; None when absent or when nothing but NaN is there."""
        values = [reading.value for reading in self.named(*names) if reading.value is not None]
        return math.fsum(values) if values else None

    def highest(self, *names: str) -> float | None:
        """Maximum over all label sets; None like `total`."""
        return max((reading.value for reading in self.named(*names) if reading.value is not None), default=None)

    def label_values(self, label: str, prefix: str = "vllm:") -> tuple[str, ...]:
        """Distinct values of a label on metrics whose name starts with `prefix`, sorted."""
        mine = (reading.labels for reading in self.readings if reading.name.startswith(prefix))
        return tuple(sorted({labels[label] for labels in mine if label in labels}))


def parse(raw: bytes | str, wanted: Callable[[str], bool] | None = None, max_bytes: int = MAX_BYTES) -> Exposition:
    """Read an exposition (Prometheus text or OpenMetrics). `wanted` decides by metric name, before labels are read:
    a light scrape of five names costs a fraction of a whole one."""
    text = raw[:max_bytes].decode("utf-8", "replace") if isinstance(raw, bytes) else raw[:max_bytes]
    truncated = len(raw) > max_bytes
    lines = text.split("\n")
    tail = lines.pop()
    if tail.strip() and not tail.startswith("#"):
        truncated = True
    return _read(lines, wanted, truncated)


def _read(lines: Iterable[str], wanted: Callable[[str], bool] | None, truncated: bool) -> Exposition:
    readings: list[Reading] = []
    malformed = 0
    known: dict[str, bool] = {}
    for line in lines:
        if not line or line[0] == "#":
            continue
        brace = line.find("{")
        name = line[:brace] if brace >= 0 else line.partition(" ")[0]
        keep = known.get(name)
        if keep is None:
            # Bounded: noise could make every line a new name.
            keep = known[name] = bool(_NAME.match(name)) and (wanted is None or wanted(name))
            if len(known) > MAX_READINGS:
                known.clear()
        if not keep:
            malformed += not _NAME.match(name)
            continue
        reading = _sample(line, name, brace)
        if reading is None:
            malformed += bool(line.strip())
            continue
        readings.append(reading)
        if len(readings) >= MAX_READINGS:
            truncated = True
            break
    return Exposition(tuple(readings), malformed, truncated)


def _sample(line: str, name: str, brace: int) -> Reading | None:
    labels: dict[str, str] = {}
    rest = line[len(name) :]
    if brace >= 0:
        inside, end = _labels(line, brace + 1)
        if inside is None:
            return None
        labels, rest = inside, line[end:]
    # What follows is: value [timestamp] [# exemplar]
    words = rest.split(None, 1)
    if not words:
        return None
    try:
        value = float(words[0])
    except ValueError:
        return None
    return Reading(name, labels, value if math.isfinite(value) else None)


def _labels(line: str, start: int) -> tuple[dict[str, str] | None, int]:
    """Labels from `start` to the closing brace, and the position after it. Values may hold braces and commas."""
    found: dict[str, str] = {}
    at, size = start, len(line)
    while at < size:
        char = line[at]
        if char == "}":
            return found, at + 1
        if char in ", \t":
            at += 1
            continue
        match = _LABEL.match(line, at)
        if match is None:
            return None, at
        value = match[2]
        found[match[1]] = _ESCAPE.sub(_unescape, value) if "\\" in value else value
        at = match.end()
    return None, at


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
