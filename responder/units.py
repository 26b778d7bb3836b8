"""Which units may an author give a fact? Those reports know how to write; a count is named by what it counts."""

from __future__ import annotations

import re

SYMBOLS = (
    "", "%", "share", "ratio", "x", "1", "ns", "us", "ms", "s", "min", "h", "d", "s/token", "W", "kW", "J", "V", "A",
    "°C", "Hz", "MHz", "GHz", "rpm", "B", "KiB", "MiB", "GiB", "TiB", "B/s", "KiB/s", "MiB/s", "GiB/s", "bytes",
    "bytes/s", "bit/s", "Mbit/s", "Gbit/s", "GT/s", "FLOP/s",
)  # fmt: skip
COUNTED = re.compile(r"[a-z]+(?: [a-z]+)?(?:/s|/min|/h)?")
"""errors, tokens/s, dropped packets."""
SPELLED = {
    "watt": "W", "watts": "W", "percent": "%", "percentage": "%", "pct": "%", "second": "s", "seconds": "s",
    "sec": "s", "secs": "s", "millisecond": "ms", "milliseconds": "ms", "msec": "ms", "microseconds": "us",
    "µs": "us", "minute": "min", "minutes": "min", "hour": "h", "hours": "h", "day": "d", "days": "d", "volt": "V",
    "volts": "V", "ampere": "A", "amperes": "A", "amps": "A", "celsius": "°C", "degrees": "°C", "c": "°C",
    "hertz": "Hz", "mhz": "MHz", "ghz": "GHz", "khz": "Hz", "byte": "bytes", "b": "bytes", "kb": "KiB", "kib": "KiB",
    "mb": "MiB", "mib": "MiB", "gb": "GiB", "gib": "GiB", "tb": "TiB", "tib": "TiB", "w": "W", "v": "V", "joule": "J",
    "joules": "J", "times": "x",
}  # fmt: skip
"""How people write a unit that has a symbol."""


def known_unit(unit: str) -> str:
    """The unit as it is. ValueError says what to write instead of one that no report knows."""
    if unit in SYMBOLS:
        return unit
    if symbol := SPELLED.get(unit.strip().lower()):
        raise ValueError(f"`{unit}` is no unit here; write {symbol}")
    if not COUNTED.fullmatch(unit):
        known = ", ".join(symbol for symbol in SYMBOLS if symbol)
        raise ValueError(f"`{unit}` is no unit here; there are {known}; a count is named by what it counts: errors")
    return unit
