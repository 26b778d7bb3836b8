"""How do we say a value, a time or somebody else's text so that a person just woken reads it right?"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from responder.model import Fact, Scalar, Status

ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")
SPACE = re.compile(r"\s+")
QUANTILE = re.compile(r"_p\d\d+(?:\.|$)")

CLASS_WORDS = {
    "hang_or_crash": "the server makes no progress or is gone",
    "wrong_output": "the server generates wrong output",
    "high_ttft": "the first token comes late",
    "slow_decode": "tokens come slowly",
    "low_throughput": "far less work is done than expected",
    "sporadic_slow": "a few requests are far slower than the rest",
}
STATUS_RULES = {
    Status.CONFIRMED: "at least 90 % of the weight, every piece of evidence that only this cause leaves was found, "
    "and nothing disproves it",
    Status.PROBABLE: "at least 60 % of the weight",
    Status.POSSIBLE: "at least 5 % of the weight, or among the best three",
    Status.UNKNOWN: "what is left when no known cause fits",
}

OUTCOME_WORDS = {"timed_out": "timed out", "denied": "refused", "pending": "still to run"}

SHARE_UNITS = {"share", "fraction", "0..1", "ratio01"}
TIMES_UNITS = {"x", "×", "ratio", "times", "factor"}
SECOND_UNITS = {"s", "sec", "second", "seconds"}
BYTE_UNITS = {"b", "byte", "bytes"}
UNIX_UNITS = {"unix", "unix_s", "unix s", "unix seconds", "timestamp"}
UNIT_WORDS = {"celsius": "°C", "degc": "°C", "watt": "W", "watts": "W", "w": "W"}
RATIO = (".ratio", "_ratio")
PLAIN_UNITS = {"", "state", "1", "count", "bool", "str", "text", "n"}


def clean(text: object, limit: int = 4000) -> str:
    """Foreign text as one printable line: no escape codes, control, direction-changing or invisible characters."""
    line = ANSI.sub("", str(text)[: limit * 4])
    line = SPACE.sub(" ", line).strip()
    line = "".join(char if _visible(char) else "\ufffd" for char in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _visible(char: str) -> bool:
    point = ord(char)
    if 0xD800 <= point <= 0xDFFF or 0x7F <= point <= 0x9F or point in (0xFEFF, 0x2028, 0x2029, 0x061C):
        return False
    return point >= 0x20 and not (0x200B <= point <= 0x200F or 0x202A <= point <= 0x202E or 0x2060 <= point <= 0x206F)


def code(text: object, limit: int = 300) -> str:
    """Foreign text as a code span of our one-line markup (only backticks mean anything in it)."""
    body = clean(text, limit).replace("`", "'")
    return f"`{body}`" if body else "`(empty)`"


def plain(text: object, limit: int = 4000) -> str:
    """Foreign text without any markup."""
    return clean(text, limit).replace("`", "'")


def authored(text: object, limit: int = 1000) -> str:
    """Text of a playbook: its code spans stay, if they are closed."""
    line = clean(text, limit)
    return line if line.count("`") % 2 == 0 else line.replace("`", "'")


def rfc3339(at: float | None) -> str | None:
    """UTC with milliseconds: 2026-11-20T03:12:40.000Z."""
    if at is None:
        return None
    return datetime.fromtimestamp(round(at, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(at: float, day: bool = False) -> str:
    """03:12:40, or 2026-11-20 03:12:40 UTC with the day."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC" if day else "%H:%M:%S")


def duration(seconds: float) -> str:
    """340 ms, 2.4 s, 42 s, 4 min 10 s, 2 h 5 min, 3 d 4 h."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds == 0:
        return "0 s"
    if seconds < 0.0005:
        return f"{number(seconds * 1e6)} µs"
    if seconds < 0.9995:
        return f"{number(seconds * 1e3)} ms"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    for size, big, small_size, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {big}" + (f" {rest} {small}" if rest else "")
    raise AssertionError(whole)


def number(value: float) -> str:
    """Three significant digits, thousands separated: 0.042, 1.3, 87, 15,234."""
    if not math.isfinite(value):
        return "unknown"
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 3 - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(digits, 12)}f}".rstrip("0").rstrip(".")


def percent(share: float) -> str:
    """87 %, 0.4 %; never rounded up to 100 %, never down to 0 %."""
    hundredths = share * 100
    if 99.5 <= hundredths < 100:
        return "over 99 %"
    if 0 < hundredths < 1:
        return "under 1 %" if hundredths < 0.1 else f"{hundredths:.1f} %"
    return f"{hundredths:.0f} %"


def size(count: float) -> str:
    """1.5 GiB, 12 KiB, 300 B."""
    if not math.isfinite(count):
        return "unknown"
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if abs(count) >= 1 << power:
            return f"{number(count / (1 << power))} {unit}"
    return f"{number(count)} B"


def measured(value: Scalar, unit: str = "") -> str:
    """A value with its unit as people say it; None is *unknown*, never zero."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return plain(value, 200) or "(empty)"
    if not math.isfinite(value):
        return "unknown"
    key = unit.strip().lower()
    if key in SECOND_UNITS:
        return duration(value)
    if key in SHARE_UNITS:
        return percent(value)
    if key in TIMES_UNITS:
        return f"{number(value)}×"
    if key in BYTE_UNITS:
        return size(value)
    if key in UNIX_UNITS:
        return clock(value, day=True)
    if key in PLAIN_UNITS:
        return number(value)
    if key == "%":
        return f"{number(value)} %"
    if key.startswith("share of "):
        return f"{percent(value)} {plain(unit.strip()[6:], 30)}"
    if key == "http status":
        return f"HTTP {value:.0f}"
    word = UNIT_WORDS.get(key, plain(unit, 24))
    return f"{number(value)}{'' if word.startswith('/') else ' '}{word}"


def limit(value: float, unit: str) -> str:
    """A limit somebody wrote: 1.25 s stays 1.25 s."""
    if unit.strip().lower() in SECOND_UNITS and 1 <= value < 60:
        return f"{value:g} s"
    return measured(value, unit)


def honest(fact: Fact, others: dict[str, Fact]) -> str:
    """A fact's value in words. Histogram quantiles are only known to a bucket: say the bucket, or that it is about."""
    said = measured(fact.value, fact.unit or ("x" if fact.name.endswith(RATIO) else ""))
    if not QUANTILE.search(fact.name) or isinstance(fact.value, str | bool) or fact.value is None:
        return said
    signal, _, aspect = fact.name.rpartition(".")
    bucket = others.get(f"{signal}.bucket")
    if aspect in ("now", "last") and bucket is not None and isinstance(bucket.value, str):
        return plain(bucket.value, 80)
    return said if aspect in ("ratio", "change", "bucket") else f"about {said}"


def outcome_words(outcome: str) -> str:
    """How a capture ended, in words."""
    return OUTCOME_WORDS.get(str(outcome), str(outcome))
