"""How long was nobody here, and may the clock be believed? By what no clock setting moves: this boot and its uptime.

Wall clocks are set: back by a boot with a flat battery, forward by a typing mistake. Uptime only ever grows with time.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import structlog

from responder.folder import write_atomic

log = structlog.get_logger()
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LATE_S = 3600.0
"""A clock that is further ahead than this of what uptime explains was set, or the machine was off."""
BELIEVED_AFTER_S = 86_400.0
"""Of our own life: whoever sees a clock that runs wrong for a day and leaves it so means it."""


class Uptime(NamedTuple):
    """A moment no setting of the clock moves."""

    boot: str
    seconds: float
    """Since that boot, suspended time included."""

    def text(self) -> str:
        """As it is remembered."""
        return f"{self.boot} {self.seconds:.3f}"


def uptime() -> Uptime:
    """Now. Without a boot id nothing of another life can be compared."""
    try:
        boot = BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    return Uptime(boot, time.clock_gettime(time.CLOCK_BOOTTIME))


def lasted(then: str, now: Uptime) -> float | None:
    """Seconds since a remembered moment of this boot; None when it was another one, or nobody knows."""
    boot, _, seconds = then.partition(" ")
    try:
        return now.seconds - float(seconds) if boot and boot == now.boot else None
    except ValueError:
        return None


class Patience:
    """Whether anything may be deleted for its age. Remembered in `path`, as {wall, uptime, doubt_s}."""

    def __init__(self, path: Path, moment: Callable[[], Uptime] = uptime) -> None:
        self.path, self.moment = path, moment

    def believes(self, wall: float) -> bool:
        """False for a day of our life after the clock ran ahead of what uptime explains, until it is put right."""
        now, known = self.moment(), self._known()
        doubt = 0.0
        if known is not None:
            was, then, doubt = known
            same = lasted(then, now)
            # Of another boot only this much is certain: that it ended before this one began.
            ahead = wall - was - (now.seconds if same is None else same)
            if ahead > LATE_S:
                log.warning("retention.put_off", ahead_s=round(ahead),
                            hint="the clock was set forward, or the machine was off: nothing is deleted for its age "
                            "for a day")  # fmt: skip
                doubt = BELIEVED_AFTER_S
            elif ahead < -LATE_S:
                doubt = 0.0  # put right
            else:
                doubt = max(0.0, doubt - max(0.0, same or 0.0))
        with contextlib.suppress(OSError):  # a full disk: what is deleted makes the room for it
            write_atomic(self.path, json.dumps({"wall": wall, "uptime": now.text(), "doubt_s": doubt}).encode())
        return not doubt

    def _known(self) -> tuple[float, str, float] | None:
        try:
            row = json.loads(self.path.read_bytes())
            return float(row["wall"]), str(row["uptime"]), float(row["doubt_s"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
