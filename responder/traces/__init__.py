"""Profiler traces to facts: `analyse` runs the engine in a child process; `FACTS` is the table of what it can tell.

Importing this package imports neither numpy nor msgspec: the daemon pays for traces only when one is analysed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from responder.traces.facts import ACROSS, FACTS, TraceFact
    from responder.traces.parent import TraceFacts, analyse

__all__ = ["ACROSS", "FACTS", "TraceFact", "TraceFacts", "analyse"]


def __getattr__(name: str) -> object:
    """Imported when asked for: the child process needs neither asyncio nor the table of facts."""
    if name in ("ACROSS", "FACTS", "TraceFact"):
        return getattr(importlib.import_module("responder.traces.facts"), name)
    if name in ("TraceFacts", "analyse"):
        return getattr(importlib.import_module("responder.traces.parent"), name)
    raise AttributeError(name)
