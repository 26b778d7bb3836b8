"""How is Python set for a daemon whose threads judge and write while its loop answers?"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import sys

SWITCH_S = 0.001
"""How long a thread that judges or writes reports may keep the loop waiting at a time; Python's own 5 ms, three times
for each alert, is what most of its acknowledgement would be."""
UNATTENDED = (500_000, 5, 1000)
"""A round over a thousand servers makes hundreds of thousands of values that hold no cycles and are gone at its end:
with Python's own thresholds looking for some took a fifth of the daemon's time, and each look in the middle of a round
up to 120 ms. It is done after a round instead; this is for work that no round ends."""
MIDDLE_EVERY, ALL_EVERY = 10, 200
"""Rounds."""
ARENAS = 2
"""glibc keeps a heap of its own for each thread, and what a thread frees in it stays: in a storm of alerts 207 MB were
resident with all of them, 182 MB with two."""
LARGE = 128 * 1024
"""Bytes from which on a piece of memory goes back to the system when it is freed. glibc raises this by itself to the
size of what it sees: reports of megabytes."""
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""The names of these limits in glibc's malloc.h."""


def settle() -> None:
    """For this process, before it has many threads; done again it changes nothing."""
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(*UNATTENDED)
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such limit, and none of these heaps
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, ARENAS)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)


_rounds = itertools.count(1)


def started() -> None:
    """What is there when the daemon has started stays until its end, and is not looked through again."""
    gc.collect()
    gc.freeze()


def sweep() -> None:
    """After a round: look for cycles in what it left."""
    number = next(_rounds)
    gc.collect(2 if number % ALL_EVERY == 0 else 1 if number % MIDDLE_EVERY == 0 else 0)
