"""How is Python set for a daemon whose threads judge and write while its loop answers?"""

from __future__ import annotations

import gc
import sys

SWITCH_S = 0.001
"""How long a thread that judges or writes reports may keep the loop waiting at a time; Python's own 5 ms, three times
for each alert, is what most of its acknowledgement would be."""
YOUNGEST, MIDDLE, ALL = 50_000, 20, 50
"""A round over a thousand servers makes a hundred thousand values that hold no cycles: with Python's own thresholds
looking for some took a fifth of the daemon's time."""


def settle() -> None:
    """For this process; done again it changes nothing."""
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(YOUNGEST, MIDDLE, ALL)
