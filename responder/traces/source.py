"""How do the bytes of a trace arrive? Decompressed pieces of a file, however it ends.

A profiler file may be gzip or plain, cut off by a full disk, or still being written while we read. None of these is an
error here: what could be read is handed out and `ended` says how it ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from isal import igzip, isal_zlib

PIECE = 1 << 20
"""Bytes handed out at once. Between 0.25 and 4 MB the speed is the same; memory is not."""

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

# isal is a C library without types
_gzip: Callable[..., object] = igzip.IGzipFile
_DAMAGED: type[Exception] = cast(type[Exception], isal_zlib.error)


class UnreadableTrace(Exception):
    """The file cannot be a trace we know; the message is for the person who named the file."""


class Source:
    """One trace file as decompressed pieces; after iterating, `ended` is empty or says why it ended early."""

    def __init__(self, path: Path, *, stop_at: float | None = None, progress: Callable[[float], None] | None = None):
        self.path = path
        self.ended = ""
        self.bytes = 0
        """Decompressed bytes handed out so far."""
        self._stop_at = stop_at
        self._progress = progress
        self.size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4)
        if not head:
            raise UnreadableTrace(f"{path}: the file is empty")
        if head == ZSTD_MAGIC:
            raise UnreadableTrace(f"{path}: zstd is not read here; unpack it first (zstd -d)")
        self.compressed = head[:2] == GZIP_MAGIC

    def __iter__(self) -> Iterator[bytes]:
        raw = self.path.open("rb")
        opened = cast(BinaryIO, _gzip(fileobj=raw, mode="rb")) if self.compressed else raw
        with raw, opened:
            while True:
                try:
                    piece = opened.read(PIECE)
                except EOFError:
                    self.ended = "the gzip file is cut off (still being written, or the disk was full)"
                    return
                except (_DAMAGED, OSError) as broken:
                    self.ended = f"the gzip data is damaged: {broken}"
                    return
                if not piece:
                    return
                self.bytes += len(piece)
                yield piece
                if self._progress is not None:
                    self._progress(raw.tell() / max(self.size, 1))
                if self._stop_at is not None and time.monotonic() > self._stop_at:
                    share = raw.tell() / max(self.size, 1)
                    self.ended = f"the time allowed for reading ran out at {share:.0%} of the file"
                    return
