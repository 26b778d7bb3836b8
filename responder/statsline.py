"""What did vLLM's periodic stats line say? Every wording since 0.6, and the record prefix every log line carries.

Fields are looked for one by one, never by position: they come and go with versions and options. Absent is None, never
zero. Shares are 0..1 although the line prints per cent.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

# ------------------------------------------------------------------------------------------------------- stats line

_ANCHOR = re.compile(
    r"(?:Engine (?P<engine>\d+): |(?P<aggregated>\d+) Engines Aggregated: )?"
    r"Avg prompt throughput: (?P<prompt>[\d.]+) tokens/s, Avg generation throughput: (?P<generation>[\d.]+) tokens/s"
)
_NUMBER = r"(-?[\d.]+)"
_RUNNING = re.compile(rf"Running: {_NUMBER} reqs")
_WAITING = re.compile(rf"(?:Waiting|Pending): {_NUMBER} reqs")
_SWAPPED = re.compile(rf"Swapped: {_NUMBER} reqs")
_DEFERRED = re.compile(rf"Deferred: {_NUMBER} reqs")
_KV_USAGE = re.compile(rf"(\w+) KV cache usage: {_NUMBER}%")
_HIT_RATE = re.compile(rf"(?<!External )(?<!MM )Prefix cache hit rate: (?:GPU: )?{_NUMBER}%")
_EXTERNAL_HIT_RATE = re.compile(rf"External prefix cache hit rate: {_NUMBER}%")


@dataclass(frozen=True)
class Stats:
    """One periodic stats line. Throughputs are of the last interval, the rest is last known, not live."""

    engine: str | None
    """`000` for data-parallel rank 0; None before 0.8 and on aggregated lines."""
    engines: int | None
    """How many engines the line sums up (`N Engines Aggregated`); None otherwise."""
    prompt_rate: float
    generation_rate: float
    running: float | None
    waiting: float | None
    swapped: float | None
    deferred: float | None
    kv_usage: float | None
    """0..1, of the device the model runs on; the old second figure for swap space on the CPU is not it."""
    hit_rate: float | None
    external_hit_rate: float | None


def stats_of(line: str) -> Stats | None:
    """The stats line in this log line, or None when it is another line."""
    anchor = _ANCHOR.search(line)
    if anchor is None:
        return None
    prompt, generation = _float(anchor["prompt"]), _float(anchor["generation"])
    if prompt is None or generation is None:
        return None
    rest = line[anchor.end() :]
    return Stats(
        engine=anchor["engine"],
        engines=int(anchor["aggregated"]) if anchor["aggregated"] else None,
        prompt_rate=prompt,
        generation_rate=generation,
        running=_field(_RUNNING, rest),
        waiting=_field(_WAITING, rest),
        swapped=_field(_SWAPPED, rest),
        deferred=_field(_DEFERRED, rest),
        kv_usage=_kv_usage(rest),
        hit_rate=_share(_field(_HIT_RATE, rest)),
        external_hit_rate=_share(_field(_EXTERNAL_HIT_RATE, rest)),
    )


def hit_rate_of(line: str) -> float | None:
    """The hit rate where it stands on a line of its own, as the V0 engine printed it; None elsewhere."""
    return _share(_field(_HIT_RATE, line)) if line.startswith("Prefix cache hit rate: ") else None


def combined(lines: tuple[Stats, ...]) -> Stats | None:
    """The newest line of each engine as one statement about the server: sums, and the worst KV usage. The hit rate
    is left out when engines differ in it: their lines carry no weights."""
    if not lines:
        return None
    if len(lines) == 1:
        return lines[0]
    hit_rates = {line.hit_rate for line in lines}
    return replace(
        lines[0],
        engine=None,
        engines=len(lines),
        prompt_rate=sum(line.prompt_rate for line in lines),
        generation_rate=sum(line.generation_rate for line in lines),
        running=_sum(line.running for line in lines),
        waiting=_sum(line.waiting for line in lines),
        swapped=_sum(line.swapped for line in lines),
        deferred=_sum(line.deferred for line in lines),
        kv_usage=max((line.kv_usage for line in lines if line.kv_usage is not None), default=None),
        hit_rate=lines[0].hit_rate if len(hit_rates) == 1 else None,
        external_hit_rate=None,
    )


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _field(pattern: re.Pattern[str], text: str) -> float | None:
    match = pattern.search(text)
    return _float(match[1]) if match else None


def _share(percent: float | None) -> float | None:
    # Before 0.9 an engine without prefix caching printed -100 %: that means "not known".
    return None if percent is None or percent < 0 else percent / 100


def _kv_usage(rest: str) -> float | None:
    # V0 prints "GPU KV cache usage: …%, CPU KV cache usage: …%": the first is the device's, the second swap space.
    return _share(_float(match[2])) if (match := _KV_USAGE.search(rest)) else None


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


# ---------------------------------------------------------------------------------------------------- record prefix

_JOURNAL = re.compile(r"(?P<unix>\d{9,11}\.\d+) \S+ \S+?: ")
_PROCESS = re.compile(r"\((?P<role>[A-Za-z][\w-]*)(?: rank=(?P<rank>\d+))? pid=(?P<pid>\d+)\) ?")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CLASSIC = re.compile(
    r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<month>\d\d)-(?P<day>\d\d) "
    r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?P<fraction>\.\d+)? "
    r"(?:\[(?P<where>[^\]\s]+)\]|(?P<bare>[\w./-]+:\d+)\]) ?"
)
_ISO = re.compile(
    r"\[?(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)[T ](?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    r"(?P<fraction>[.,]\d+)?(?P<zone>Z|[+-]\d\d:?\d\d)?\]?"
)
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_UVICORN = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL): ")
_RANK = re.compile(r"_TP(\d+)")
DAY_S = 86400.0


@dataclass(frozen=True)
class Record:
    """One log line without its prefix."""

    role: str
    """Process role as printed: APIServer, EngineCore, EngineCore_DP1, Worker_TP0, VllmWorker-0; empty: not said."""
    pid: int | None
    rank: int | None
    level: str
    at: float | None
    """Unix seconds; None for lines without a stamp (uvicorn, progress bars, plain output)."""
    where: str
    """`loggers.py:335`."""
    message: str


def record_of(line: str, now: float, utc_offset_s: float = 0.0) -> Record:
    """Take the prefix off a line. vLLM prints local time without a year: `utc_offset_s` is that local time's offset,
    and the year is the one that puts the line nearest to `now`, so that December's lines are not next December's."""
    line = _COLOUR.sub("", line.rstrip("\n"))
    unix: float | None = None
    if journal := _JOURNAL.match(line):
        unix, line = float(journal["unix"]), line[journal.end() :]
    role, pid, rank = "", None, None
    if process := _PROCESS.match(line):
        role, pid = process["role"], int(process["pid"])
        rank = int(process["rank"]) if process["rank"] else _rank_of(role)
        line = line[process.end() :]
    if classic := _CLASSIC.search(line, 0, 160):
        at = unix if unix is not None else _classic_time(classic, now, utc_offset_s)
        return Record(role, pid, rank, classic["level"], at, classic["where"] or classic["bare"], line[classic.end() :])
    if iso := _ISO.match(line):
        level = _LEVEL.search(line, iso.end(), iso.end() + 60)
        at = unix if unix is not None else _iso_time(iso, utc_offset_s)
        return Record(role, pid, rank, level[1] if level else "", at, "", line[iso.end() :].lstrip(" -:"))
    # uvicorn says its level, too: what strangers ask for stands in its access log and is no statement of the server.
    plain = _UVICORN.match(line)
    return Record(role, pid, rank, plain[1] if plain else "", unix, "", line)


def _rank_of(role: str) -> int | None:
    match = _RANK.search(role) or re.fullmatch(r"VllmWorker-(\d+)", role)
    return int(match[1]) if match else None


def _classic_time(match: re.Match[str], now: float, utc_offset_s: float) -> float | None:
    clock = tuple(int(match[part]) for part in ("month", "day", "hour", "minute", "second"))
    fraction = float(match["fraction"] or 0)
    year = datetime.fromtimestamp(now, UTC).year
    stamps = [stamp for y in (year - 1, year, year + 1) if (stamp := _unix(y, *clock)) is not None]
    if not stamps:
        return None
    return min(stamps, key=lambda stamp: abs(stamp - utc_offset_s - now)) - utc_offset_s + fraction


def _iso_time(match: re.Match[str], utc_offset_s: float) -> float | None:
    parts = tuple(int(match[part]) for part in ("year", "month", "day", "hour", "minute", "second"))
    stamp = _unix(*parts)
    if stamp is None:
        return None
    fraction = float("0." + match["fraction"][1:]) if match["fraction"] else 0.0
    zone = match["zone"]
    if zone == "Z":
        utc_offset_s = 0.0
    elif zone:
        sign = -1 if zone[0] == "-" else 1
        utc_offset_s = sign * (int(zone[1:3]) * 3600 + int(zone[-2:]) * 60)
    return stamp + fraction - utc_offset_s


def _unix(year: int, month: int, day: int, hour: int, minute: int, second: int) -> float | None:
    try:
        return float(calendar.timegm(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timetuple()))
    except ValueError:
        # 29 February in a year that has none, or a line that only looks like a date.
        return None


def offset_of(stamped_as_utc: float, written_at: float, host_offset_s: float) -> float:
    """The UTC offset of a log's clock: a stamp read as if it were UTC, against the file's modification time.

    A container often runs in UTC on a host that does not. Of the two, the one that puts the last stamp closest before
    the last write is right; a stamp cannot be later than the write (5 s of slack: the file system rounds)."""
    candidates = (host_offset_s, 0.0)
    ages = [(written_at - (stamped_as_utc - offset), offset) for offset in candidates]
    possible = [(age, offset) for age, offset in ages if age >= -5.0]
    if possible:
        return min(possible, key=lambda pair: pair[0])[1]
    # A third zone: the nearest quarter of an hour that fits.
    return round((stamped_as_utc - written_at) / 900.0) * 900.0
