"""What is left when the disk is full? A file of nothing, given back to the file system when the first write fails."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

NAME = "reserve"
RESERVE_BYTES = 32 << 20
SHARE = 16
"""On a small file system at most one part in so many of it."""


class Reserve:
    """The file `reserve` in `folder`; real blocks, not a hole."""

    def __init__(self, folder: Path, size: int = RESERVE_BYTES) -> None:
        self.path = folder / NAME
        self.size = size

    def hold(self) -> bool:
        """Take it, unless it is there; False where there is no room for twice of it."""
        if self.path.exists():
            return True
        usage = shutil.disk_usage(self.path.parent)
        size = min(self.size, usage.total // SHARE)
        if usage.free < 2 * size:
            return False
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.posix_fallocate(handle, 0, size)
            os.fsync(handle)
        except OSError:
            with contextlib.suppress(OSError):
                self.path.unlink()
            return False
        finally:
            os.close(handle)
        return True

    def release(self) -> bool:
        """Give it back; whether there was one."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True
