"""Which moment does an operator mean? RFC 3339, unix seconds, `now`, or `7d` for that long ago. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_UNIX = re.compile(r"^\d{9,11}(\.\d+)?$")


def duration(text: str) -> float | None:
    """`30s`, `1h30m` as seconds; None for anything else."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def moment(text: str, now: float) -> float:
    """Unix seconds of a moment as people write it. ValueError in words for what is none."""
    plain = text.strip()
    if plain == "now":
        return now
    ago = duration(plain.removeprefix("now").removeprefix("-").strip())
    if ago is not None:
        return now - ago
    if _UNIX.match(plain):
        return float(plain)
    try:
        at = datetime.fromisoformat(plain)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 2026-11-20T10:05:00Z, unix seconds, `now`, or how long ago (7d, 90m)"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def rfc3339(at: float) -> str:
    """In UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
