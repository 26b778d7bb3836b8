"""How do the bytes of a step ring file lie? Shared by the writer inside vLLM and by the reader.

One header page, then `capacity` records of one size. Record number `seq` lies at slot `seq % capacity`. Every record
carries its number and a CRC over everything else in it, so a record that a kill cut in half is recognised as such.
"""

from __future__ import annotations

import struct
from zlib import crc32

MAGIC = b"RSPSTEPS"
VERSION = 1
HEADER_BYTES = 4096
HEADER = struct.Struct("<8sHHIIIddf40s24s96s")
"""magic, version, record bytes, capacity, pid, engine, started (unix), started (monotonic), seconds between ticks,
boot id, vLLM version, model. A CRC of it follows."""
RECORD = struct.Struct("<BBHQddIIIfIIIIIIffffffIII44s")
"""kind, flags, -, seq, unix time, monotonic time; running, waiting, deferred, KV usage; preempted, prompt tokens,
generated tokens, finished, prefix tokens hit, prefix tokens asked; longest TTFT and inter-token time in the step; of
the finished request that suffered most: e2e, queue, prefill, decode seconds; its prompt tokens, generated tokens,
preemptions; its id."""
FRONT = struct.Struct("<BBHQddIIIfIIIIIIff")
WORST = struct.Struct("<ffffIII44s")
"""The two halves of RECORD. The second is zero where nobody finished: then the writer leaves it alone."""
CRC = struct.Struct("<I")
RECORD_BYTES = RECORD.size + CRC.size
ID_BYTES = 44

STEP, TICK, SLEEP = 1, 2, 3
SCHEDULER_KNOWN, OUTPUTS_KNOWN = 1, 2
"""Flags: whether vLLM gave scheduler statistics / iteration statistics with this step."""
CAPACITY = 65536
"""Records: 100 steps a second for eleven minutes, in 11 MiB."""
SUFFIX = ".ring"


def header(
    *, capacity: int, pid: int, engine: int, wall: float, mono: float, tick_s: float, boot: str, vllm: str, model: str
) -> bytes:
    """The first page."""
    body = HEADER.pack(
        MAGIC, VERSION, RECORD_BYTES, capacity, pid, engine, wall, mono, tick_s,
        boot.encode()[:40], vllm.encode()[:24], model.encode()[:96],
    )  # fmt: skip
    return (body + CRC.pack(crc32(body))).ljust(HEADER_BYTES, b"\0")


def file_bytes(capacity: int) -> int:
    """Size of a ring of so many records."""
    return HEADER_BYTES + capacity * RECORD_BYTES
