"""Profiler traces to facts: `analyse` runs the engine in a child process; `FACTS` is the table of what it can tell.

Importing this package imports neither numpy nor msgspec: the daemon pays for traces only when one is analysed.
"""

from responder.traces.analyse import TraceFacts, analyse
from responder.traces.facts import ACROSS, FACTS, TraceFact

__all__ = ["ACROSS", "FACTS", "TraceFact", "TraceFacts", "analyse"]
