"""How is Python set for a daemon whose threads judge and write while its loop answers?"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

SWITCH_S = 0.001
"""How long a thread that judges or writes reports may keep the loop waiting at a time; Python's own 5 ms, three times
for each alert, is what most of its acknowledgement would be."""
YOUNGEST, MIDDLE, ALL = 50_000, 5, 50
"""A round over a thousand servers makes a hundred thousand values that hold no cycles: with Python's own thresholds
looking for some took a fifth of the daemon's time."""
ARENAS = 2
"""glibc keeps a heap of its own for each thread, and what a thread frees in it stays: in a storm of alerts 207 MB were
resident with all of them, 182 MB with two."""
M_ARENA_MAX = -8
"""The name of that limit in glibc's malloc.h."""


def settle() -> None:
    """For this process, before it has many threads; done again it changes nothing."""
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(YOUNGEST, MIDDLE, ALL)
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such limit, and none of these heaps
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
