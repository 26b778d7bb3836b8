"""How does a record reach the file? One memory copy into a mapped page: no system call, nothing to flush.

A mapped page belongs to the kernel the moment it is written, so it outlives `kill -9` of the process. The blocks are
allocated before the first write: a full disk is an error at the start, never a SIGBUS in the middle of serving.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from typing import Any
from zlib import crc32

from responder.recorder import layout

KEEP_DEAD = 8
"""Files of processes that are gone: evidence of the last crashes, older ones are removed."""

# Looked up once, not once per step.
_front, _worst, _crc = layout.FRONT.pack_into, layout.WORST.pack_into, layout.CRC.pack_into
_FRONT_BYTES, _BODY_BYTES, _WHOLE_BYTES = layout.FRONT.size, layout.RECORD.size, layout.RECORD_BYTES
_FIRST = layout.HEADER_BYTES
_NOBODY = bytes(layout.WORST.size)
_monotonic = time.monotonic


class RingWriter:
    """One ring file of one engine, written by one thread. OSError from the constructor when it cannot be had."""

    def __init__(
        self, folder: str, engine: int, *, capacity: int = layout.CAPACITY, tick_s: float = 10.0, vllm: str = "",
        model: str = "",
    ) -> None:  # fmt: skip
        os.makedirs(folder, mode=0o755, exist_ok=True)
        tidy(folder)
        wall = time.time()
        self.path = os.path.join(folder, f"steps-{engine}-{int(wall * 1000)}-{os.getpid()}{layout.SUFFIX}")
        self.capacity = capacity
        self.seq = 0
        size = layout.file_bytes(capacity)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(fd, 0, size)
            self._map = mmap.mmap(fd, size)
        except (OSError, ValueError):
            os.unlink(self.path)
            raise
        finally:
            os.close(fd)
        # One record is made in place, over and over: no step allocates memory, and one copy brings it into the file.
        self._scratch = bytearray(_WHOLE_BYTES)
        self._body = memoryview(self._scratch)[:_BODY_BYTES]
        self._dirty = False
        self._at = _FIRST
        self._map[: layout.HEADER_BYTES] = layout.header(
            capacity=capacity, pid=os.getpid(), engine=engine, wall=wall, mono=time.monotonic(), tick_s=tick_s,
            boot=_boot(), vllm=vllm, model=model,
        )  # fmt: skip
        # Touch every page now: a first-touch page fault belongs to the start, not to a step.
        for at in range(layout.HEADER_BYTES, size, mmap.PAGESIZE):
            self._map[at] = 0

    def put(
        self, kind: int, flags: int, wall: float, running: int, waiting: int, deferred: int, kv: float, preempted: int,
        prompt: int, generated: int, finished: int, hits: int, queries: int, ttft: float, itl: float,
        worst: tuple[Any, ...] | None = None,
    ) -> None:  # fmt: skip
        """Append a record, its values in the order of `layout.RECORD`; `worst`: those of `layout.WORST`, None when
        nobody finished. struct.error when one of them does not fit: then nothing has been written."""
        seq, scratch = self.seq, self._scratch
        _front(scratch, 0, kind, flags, 0, seq, wall, _monotonic(), running, waiting, deferred, kv, preempted, prompt,
               generated, finished, hits, queries, ttft, itl)  # fmt: skip
        if worst is not None:
            self._dirty = True
            _worst(scratch, _FRONT_BYTES, *worst)
        elif self._dirty:
            scratch[_FRONT_BYTES:_BODY_BYTES] = _NOBODY
            self._dirty = False
        _crc(scratch, _BODY_BYTES, crc32(self._body))
        at = self._at
        self._map[at : at + _WHOLE_BYTES] = scratch
        self.seq = seq = seq + 1
        self._at = at + _WHOLE_BYTES if seq % self.capacity else _FIRST

    def close(self) -> None:
        """Unmap; the file stays."""
        self._map.close()


def tidy(folder: str) -> None:
    """Remove the oldest files of processes that no longer exist, all but the newest `KEEP_DEAD`."""
    dead = []
    for name in os.listdir(folder):
        _, _, started, pid = (name.removesuffix(layout.SUFFIX).split("-") + [""] * 4)[:4]
        ring = name.endswith(layout.SUFFIX) and started.isdigit() and pid.isdigit()
        if ring and not os.path.exists("/proc/" + pid):
            dead.append((int(started), name))
    for _, name in sorted(dead, reverse=True)[KEEP_DEAD:]:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""
