"""How does a short real trace become a long one? Its events again and again, later each time, with new correlations."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

_TIME = re.compile(rb'("ts": )(\d+)(\.\d{3})')
_NUMBER = re.compile(rb'("correlation": |"id": )(\d+)')


def repeat(source: Path, target: Path, times: int) -> Path:
    """Write `times` copies of a line-wise trace's events into one file; a real trace's mix of events at any length."""
    text = gzip.decompress(source.read_bytes())
    begin = text.index(b"\n  {\n", text.index(b'"traceEvents"')) + 1
    end = text.rindex(b"\n  }\n  ]")
    body = text[begin:end]
    stamps = [int(match.group(2)) for match in _TIME.finditer(body)]
    span = max(stamps) - min(stamps) + 100_000
    numbers = max((int(match.group(2)) for match in _NUMBER.finditer(body)), default=0) + 1
    with gzip.open(target, "wb", 6) as out:
        out.write(text[:begin])
        for turn in range(times):
            later = _TIME.sub(lambda m, t=turn: m.group(1) + b"%d" % (int(m.group(2)) + t * span) + m.group(3), body)
            out.write(_NUMBER.sub(lambda m, t=turn: m.group(1) + b"%d" % (int(m.group(2)) + t * numbers), later))
            out.write(b"\n  },\n" if turn < times - 1 else text[end:])
    return target
