"""How do the bytes of a trace arrive? Decompressed pieces of a file, however it ends.

A profiler file may be gzip or plain, cut off by a full disk, or still being written while we read. None of these is an
error here: what could be read is handed out and `ended` says how it ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from isal import igzip_lib

PIECE = 1 << 20
"""Bytes handed out at once. Between 0.25 and 4 MB the speed is the same; memory is not."""

PACKED = 1 << 16
"""Compressed bytes read at most at once; as many as have so far become a little less than one PIECE, so that no small
rest of one is handed out behind each."""

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

# isal is a C library without types
_gzip: Callable[..., Any] = igzip_lib.IgzipDecompressor
_DAMAGED: type[Exception] = cast(type[Exception], igzip_lib.error)


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
        with self.path.open("rb") as file:
            for piece in self._unpacked(file) if self.compressed else iter(lambda: file.read(PIECE), b""):
                self.bytes += len(piece)
                yield piece
                share = file.tell() / max(self.size, 1)
                if self._progress is not None:
                    self._progress(min(share, 1.0))
                if self._stop_at is not None and time.monotonic() > self._stop_at:
                    self.ended = f"the time allowed for reading ran out at {share:.0%} of the file"
                    return

    def _unpacked(self, file: BinaryIO) -> Iterator[bytes]:
        """All that a gzip file gives, up to its last whole byte. The file-like readers drop the piece before a cut."""
        unpacker = _gzip(flag=igzip_lib.DECOMP_GZIP)
        packed = b""
        taken, given = 1, 16
        while True:
            if unpacker.eof:  # another member may follow: gzip files can be joined
                packed = unpacker.unused_data or file.read(PACKED)
                if packed.lstrip(b"\0")[:1] != GZIP_MAGIC[:1]:
                    return
                unpacker = _gzip(flag=igzip_lib.DECOMP_GZIP)
            elif unpacker.needs_input:
                packed = file.read(min(max(PIECE * taken // given * 15 // 16, 4096), PACKED))
                if not packed:
                    self.ended = "the gzip file is cut off (still being written, or the disk was full)"
                    return
            try:
                piece = unpacker.decompress(packed, PIECE)
            except (_DAMAGED, EOFError) as broken:
                self.ended = f"the gzip data is damaged: {broken}"
                return
            taken, given = taken + len(packed), given + len(piece)
            packed = b""
            if piece:
                yield piece
