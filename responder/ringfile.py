"""What does a step ring file say, even when its writer was killed in the middle of a record? Pure: bytes in, steps out.

`responder.recorder` writes it inside vLLM. A record whose CRC is wrong is never used; the one that was being written
when the process died is told apart from damage elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from zlib import crc32

from responder.recorder import layout

COLUMNS = (
    "kind", "flags", "seq", "at", "mono", "running", "waiting", "deferred", "kv", "preempted", "prompt", "generated",
    "finished", "hits", "queries", "ttft", "itl", "worst_e2e", "worst_queue", "worst_prefill", "worst_decode",
    "worst_prompt", "worst_generated", "worst_preemptions", "worst_id",
)  # fmt: skip
FLOATS = {"kv", "ttft", "itl", "worst_e2e", "worst_queue", "worst_prefill", "worst_decode"}


class NotARing(ValueError):
    """The bytes are no step ring file; the message says why."""


class Record(NamedTuple):
    """One record. A SLEEP record carries asleep (1 or 0) in `running` and the level in `waiting`."""

    kind: int
    flags: int
    seq: int
    at: float
    """Unix seconds; for a step the moment its outputs reached the API server."""
    mono: float
    """Monotonic seconds of the same machine: differences are safe from clock steps."""
    running: int
    waiting: int
    deferred: int
    kv: float
    preempted: int
    prompt: int
    """Prompt tokens whose prefill was completed by this step, prefix hits included."""
    generated: int
    finished: int
    hits: int
    queries: int
    ttft: float
    """Longest of this step's first tokens, seconds; 0 when there was none."""
    itl: float
    """Longest inter-token time of this step by the engine's own clock, seconds; 0 when there was none."""
    worst_e2e: float
    worst_queue: float
    worst_prefill: float
    worst_decode: float
    worst_prompt: int
    worst_generated: int
    worst_preemptions: int
    worst_id: str
    """Of the finished request that suffered most; '' when none finished in this step."""

    @property
    def in_flight(self) -> int:
        """Requests the engine still owed after this step."""
        return self.running + self.waiting + self.deferred


@dataclass(frozen=True)
class Head:
    """Who wrote the ring."""

    pid: int
    engine: int
    capacity: int
    started_at: float
    tick_s: float
    boot: str
    vllm: str
    model: str


@dataclass(frozen=True)
class Ring:
    """A ring file's content, oldest record first."""

    head: Head
    records: tuple[Record, ...]
    torn_last: bool = False
    """The writer died (or was caught) in the middle of the record after the last one."""
    damaged: int = 0
    """Records elsewhere whose CRC is wrong."""
    lost: int = 0
    """Numbers missing between the first and the last record."""


def parse(data: bytes) -> Ring:
    """The ring in these bytes (a whole file or the head of one). NotARing when it is none."""
    if len(data) < layout.HEADER_BYTES:
        raise NotARing(f"{len(data)} bytes are too few for a ring file")
    size = layout.HEADER.size
    (stored,) = layout.CRC.unpack_from(data, size)
    magic, version, record_bytes, capacity, pid, engine, wall, _, tick_s, boot, vllm, model = layout.HEADER.unpack_from(
        data
    )
    if magic != layout.MAGIC:
        raise NotARing("not a step ring file")
    if crc32(data[:size]) != stored:
        raise NotARing("the header is damaged")
    if version != layout.VERSION or record_bytes != layout.RECORD_BYTES:
        raise NotARing(f"ring format {version}, records of {record_bytes} bytes; this reader knows {layout.VERSION}")
    records, bad = _slots(data, capacity)
    head = Head(pid, engine, capacity, wall, tick_s, _text(boot), _text(vllm), _text(model))
    if not records:
        return Ring(head, (), torn_last=bool(bad), damaged=max(0, len(bad) - 1))
    next_slot = (records[-1].seq + 1) % capacity
    return Ring(
        head,
        tuple(records),
        torn_last=next_slot in bad,
        damaged=len(bad - {next_slot}),
        lost=records[-1].seq - records[0].seq + 1 - len(records),
    )


def _slots(data: bytes, capacity: int) -> tuple[list[Record], set[int]]:
    """All sound records in order, and the slots that hold something else."""
    records: list[Record] = []
    bad: set[int] = set()
    size, whole = layout.RECORD.size, layout.RECORD_BYTES
    empty = bytes(whole)
    for slot in range(min(capacity, (len(data) - layout.HEADER_BYTES) // whole)):
        at = layout.HEADER_BYTES + slot * whole
        chunk = data[at : at + whole]
        if chunk == empty:
            continue
        body = chunk[:size]
        if crc32(body) != layout.CRC.unpack_from(chunk, size)[0]:
            bad.add(slot)
            continue
        kind, flags, _, seq, wall, mono, *rest, name = layout.RECORD.unpack(body)
        if seq % capacity != slot:
            bad.add(slot)
            continue
        records.append(Record._make((kind, flags, seq, wall, mono, *rest, _text(name))))
    records.sort(key=lambda r: r.seq)
    return records, bad


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


# ------------------------------------------------------------------------------------- as stored with an incident


def dump(ring: Ring, since: float, most: int = 40_000) -> bytes:
    """The newest records since then, as JSON that survives redaction and years."""
    kept = [r for r in ring.records if r.at >= since][-most:]
    lines = [json.dumps({"head": asdict(ring.head), "torn_last": ring.torn_last, "damaged": ring.damaged,
                         "lost": ring.lost, "columns": COLUMNS})]  # fmt: skip
    lines += [json.dumps([_short(n, v) for n, v in zip(COLUMNS, r, strict=True)], separators=(",", ":")) for r in kept]
    return ("\n".join(lines) + "\n").encode()


def _short(name: str, value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return 0.0
        return round(value, 6 if name in FLOATS else 5)
    return value


def restore(data: bytes) -> Ring:
    """What `dump` wrote. NotARing when it is something else; lines that were cut off are left out."""
    first, *rest = data.decode(errors="replace").splitlines() or [""]
    try:
        top = json.loads(first)
        head = Head(**top["head"])
        columns: Sequence[str] = top["columns"]
        places = [columns.index(name) for name in COLUMNS]
        return Ring(head, tuple(_rows(rest, places)), bool(top["torn_last"]), int(top["damaged"]), int(top["lost"]))
    except (ValueError, KeyError, TypeError) as error:
        raise NotARing(f"not a stored step ring: {error}") from error


def _rows(lines: Iterable[str], places: Sequence[int]) -> Iterable[Record]:
    for line in lines:
        try:
            row = json.loads(line)
            yield Record._make(row[place] for place in places)
        except (ValueError, IndexError, TypeError, KeyError):
            continue
