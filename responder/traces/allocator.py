"""How does memory that is free again go back to the system? glibc keeps it, and the peak of a process counts it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import cast


def give_back() -> None:
    """Return free pages, those between used ones included; nothing happens where the C library cannot do it."""
    trim = cast("Callable[[int], int] | None", getattr(ctypes.CDLL(None), "malloc_trim", None))
    if trim is not None:
        trim(0)
