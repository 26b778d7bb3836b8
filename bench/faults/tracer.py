"""Who looks into a process as a debugger does? It stops threads by ptrace, holds them, lets them go; again and again.

    python -m bench.faults.tracer PID PREFIX HOLD_S PERIOD_S

Only threads whose names begin with PREFIX, all where it is empty; for good where HOLD_S is no shorter than PERIOD_S.
When it ends, however it ends, the kernel lets go whoever it held.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pathlib
import sys
import time
from collections.abc import Sequence

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
ANY_THREAD = 0x40000000
STOPPED_WITHIN_S = 0.3
POLL_S = 0.001
LONGEST_S = 600.0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def threads(pid: int, prefix: str) -> list[int]:
    """The process's threads of such a name."""
    found = []
    for entry in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # threads come and go
            if (entry / "comm").read_text().startswith(prefix):
                found.append(int(entry.name))
    return sorted(found)


class Tracer:
    """Holds threads; those that are slow to stop are let go when they do."""

    def __init__(self) -> None:
        self.seized: set[int] = set()
        self.held: dict[int, int] = {}
        """With the signal that is still to be delivered."""

    def hold(self, wanted: Sequence[int]) -> None:
        """Stop them, waiting a little."""
        for thread in wanted:
            if thread not in self.seized and self._ask(SEIZE, thread):
                self.seized.add(thread)
                self._ask(INTERRUPT, thread)
        limit = time.monotonic() + STOPPED_WITHIN_S
        while self.seized - set(self.held) and time.monotonic() < limit:
            if not self.wait():
                time.sleep(POLL_S)

    def release(self) -> None:
        """Let go whoever is held."""
        for thread, number in self.held.items():
            self._ask(DETACH, thread, number)
            self.seized.discard(thread)
        self.held.clear()

    def wait(self) -> bool:
        """Whether one more stopped or ended."""
        try:
            thread, status = os.waitpid(-1, ANY_THREAD | os.WNOHANG)
        except ChildProcessError:
            self.seized.clear()
            return False
        if thread and os.WIFSTOPPED(status):
            self.held[thread] = 0 if status >> 16 else os.WSTOPSIG(status)
        elif thread:
            self.seized.discard(thread)
            self.held.pop(thread, None)
        return thread != 0

    def _ask(self, request: int, thread: int, data: int = 0) -> bool:
        if _libc.ptrace(request, thread, None, data) == 0:
            return True
        if (number := ctypes.get_errno()) == errno.ESRCH:
            return False
        raise OSError(number, f"ptrace: {os.strerror(number)}")


def main(pid: int, prefix: str, hold_s: float, period_s: float) -> None:
    """Until somebody ends it, or the process is gone."""
    tracer, limit = Tracer(), time.monotonic() + LONGEST_S
    while time.monotonic() < limit:
        began = time.monotonic()
        tracer.hold(threads(pid, prefix))
        print(f"holding {len(tracer.held)}", flush=True)
        time.sleep(LONGEST_S if hold_s >= period_s else hold_s)
        while True:
            tracer.release()
            if time.monotonic() >= began + period_s:
                break
            tracer.wait()
            time.sleep(POLL_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
