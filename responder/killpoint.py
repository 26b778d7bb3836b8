"""Where does a fault test kill us? Named places in the flow; without the environment variable they are nothing.

RESPONDER_KILL_POINT=name[:n][,name[:n]...] sends SIGKILL to this process when a named place is reached the n-th time.
"""

from __future__ import annotations

import os
import signal

NAMES = (
    "intake.before_commit", "intake.after_commit", "store.before_commit", "store.after_commit",
    "incident.before_save", "incident.saved", "step.planned", "step.started", "step.effect", "step.done",
    "aftermath.asked", "aftermath.told",
    "artifact.write", "publish.written", "publish.committed", "outbox.sending", "outbox.sent", "outbox.acked",
    "obligation.before", "obligation.written", "obligation.settled",
)  # fmt: skip
"""Every place there is."""
_left: dict[str, int] = {}


def arm(wanted: str) -> None:
    """Set the places from a variable's text. ValueError for a name that is none."""
    _left.clear()
    for part in filter(None, wanted.split(",")):
        name, _, count = part.partition(":")
        if name not in NAMES:
            raise ValueError(f"RESPONDER_KILL_POINT: {name!r} is none of {', '.join(NAMES)}")
        _left[name] = int(count or 1)


def reach(name: str) -> None:
    """Die here if a test wants it."""
    if name in _left:
        _left[name] -= 1
        if _left[name] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("RESPONDER_KILL_POINT", ""))
