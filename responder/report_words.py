"""How do we say a value, a time or somebody else's text so that a person just woken reads it right?"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from responder.model import Fact, Incident, Scalar
from responder.words import known, say, told, unit_word

ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")
SPACE = re.compile(r"\s+")
QUANTILE = re.compile(r"_p\d\d+(?:\.|$)")

COUNTED = re.compile(r"([A-Za-z]{3,}?)(es(?<=sses)|s)(/.*)?")
"""An English word for several things: 1 requests is 1 request, 1 tokens/s is 1 token/s."""

REFUSED = re.compile(r"Cannot connect to host \S+ ssl:\S+ \[Connect call failed [^\]]*\]")
"""How the HTTP client says that a connection was refused."""

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
    return f"`{body}`" if body else f"`{say('empty')}`"


def plain(text: object, limit: int = 4000) -> str:
    """Foreign text without any markup."""
    return clean(text, limit).replace("`", "'")


def phrase(text: object, limit: int = 4000) -> str:
    """What the daemon itself says in whole sentences, in the language spoken; without any markup."""
    return plain(told(REFUSED.sub("nobody listens on the port", str(text))), limit)


def authored(text: object, limit: int = 1000) -> str:
    """Text of a playbook, in the language spoken: its code spans stay, if they are closed."""
    line = clean(told(str(text)), limit)
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
        return say("unknown")
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds == 0:
        return say("time.s", n=0)
    if seconds < 0.0005:
        return say("time.us", n=number(seconds * 1e6))
    if seconds < 0.9995:
        return say("time.ms", n=number(seconds * 1e3))
    if seconds < 9.95:
        return say("time.s", n=f"{seconds:.1f}".removesuffix(".0"))
    if round(seconds) < 60:
        return say("time.s", n=f"{seconds:.0f}")
    whole = round(seconds)
    for size, big, small_size, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small_size
            return say(f"time.{big}", n=whole // size) + (f" {say(f'time.{small}', n=rest)}" if rest else "")
    raise AssertionError(whole)


def number(value: float) -> str:
    """Three significant digits, thousands separated: 0.042, 1.3, 87, 15,234."""
    if not math.isfinite(value):
        return say("unknown")
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
        return say("over_99")
    if 0 < hundredths < 1:
        return say("under_1") if hundredths < 0.1 else f"{hundredths:.1f} %"
    return f"{hundredths:.0f} %".removeprefix("-") if abs(hundredths) < 0.5 else f"{hundredths:.0f} %"


def size(count: float) -> str:
    """1.5 GiB, 12 KiB, 300 B."""
    if not math.isfinite(count):
        return say("unknown")
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if abs(count) >= 1 << power:
            return f"{number(count / (1 << power))} {unit}"
    return f"{number(count)} B"


def measured(value: Scalar, unit: str = "") -> str:
    """A value with its unit as people say it; None is *unknown*, never zero."""
    if value is None:
        return say("unknown")
    if isinstance(value, bool):
        return say("yes") if value else say("no")
    if isinstance(value, str):
        return phrase(value, 200) or say("empty")
    if not math.isfinite(value):
        return say("unknown")
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
    word = UNIT_WORDS.get(key) or plain(unit_word(unit), 24)
    word = one_of(word) if value == 1 else word
    return f"{number(value)}{'' if word.startswith('/') else ' '}{word}"


def one_of(unit: str) -> str:
    """The unit of a single thing."""
    got = COUNTED.fullmatch(unit) if unit != "times" else None
    return got[1] + (got[3] or "") if got else unit


def limit(value: float, unit: str) -> str:
    """A limit somebody wrote: 1.25 s stays 1.25 s."""
    if unit.strip().lower() in SECOND_UNITS and 1 <= value < 60:
        return f"{value:g} s"
    return measured(value, unit)


def honest(fact: Fact, others: dict[str, Fact]) -> str:
    """A fact's value in words. Histogram quantiles are only known to a bucket: say the bucket, or that it is about."""
    if fact.name.endswith(".change") and fact.unit in SHARE_UNITS and isinstance(fact.value, int | float):
        return say("points", n=f"{fact.value * 100:+.0f}")  # not a share of what it was: 90 % to 60 % is 30 points
    said = measured(fact.value, fact.unit or ("x" if fact.name.endswith(RATIO) else ""))
    if not QUANTILE.search(fact.name) or isinstance(fact.value, str | bool) or fact.value is None:
        return said
    signal, _, aspect = fact.name.rpartition(".")
    bucket = others.get(f"{signal}.bucket")
    if aspect in ("now", "last") and bucket is not None and isinstance(bucket.value, str):
        return phrase(bucket.value, 80)
    return said if aspect in ("ratio", "change", "bucket") else say("about", value=said)


def outcome_words(outcome: str) -> str:
    """How a capture ended, in words."""
    return named("outcome", outcome)


def named(kind: str, value: object) -> str:
    """A state, status, outcome, class or kind in words; one nobody has words for is its own name."""
    key = f"{kind}.{value}"
    return say(key) if known(key) else plain(value, 60).replace("_", " ")


def trouble(incident: Incident, over: bool = False) -> str:
    """What is wrong, or was, in plain words: the incident's class; or what all alerts of that class saw, where that has
    words of its own: of a server that works as ever, clients that leave it are no lack of work."""
    alerts = [s.alert for s in incident.symptoms if s.incident_class == incident.incident_class]
    seen = {alert.removesuffix("LowTraffic") for alert in alerts}
    what = seen.pop() if len(seen) == 1 else ""
    key = what if known(f"class.{what}") else incident.incident_class
    return named("was" if over and known(f"was.{key}") else "class", key)


def sentence(words: str) -> str:
    """Words without their full stop, to go on after them."""
    return words.rstrip(".。")
