"""Where does every process of the server stand, and what does it wait for?

py-spy reads the Python stacks from outside without stopping the process (`--nonblocking`, 10 ms each), three times over
two seconds: a stack that has not moved is the evidence. A stopped process is recorded as stopped and left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from responder import ptrace
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact
from responder.pyspy import Dumping, dump_all
from responder.stackfacts import INDEX, read_stacks, specs

__all__ = ["INDEX", "STEP", "fetch", "read"]

ROUNDS, APART_S = 3, 1.0
BUDGET_S = 18.0
DUMP_TIMEOUT_S = 3.0
TRIES = 2
"""A dump of a busy process now and then catches it half-way through a change (measured: 1 of 4)."""
SIDE_BY_SIDE = 4


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Rounds of dumps of all living processes of the server."""
    found = ptrace.ready(scene.inventory)
    if isinstance(found, str):
        return skipped(found)
    inventory, tool = found
    how = Dumping(
        runner=scene.runner, tool=tool, flags=("--nonblocking",), rounds=ROUNDS, apart_s=APART_S, budget_s=BUDGET_S,
        timeout_s=DUMP_TIMEOUT_S, tries=TRIES, side_by_side=SIDE_BY_SIDE, stops=False,
    )  # fmt: skip
    return Fetched(**vars(await dump_all(how, inventory.processes)))


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the dumps."""
    return read_stacks(files, brief.now, "stacks")


STEP = Step(
    name="stacks",
    rung=1,
    says="reads the Python stacks of the server's processes with py-spy, without stopping them, three times over 2 s",
    fetch=fetch,
    read=read,
    facts=tuple(FactSpec(*spec) for spec in specs("stacks")),
    momentary=("*",),
    timeout_s=BUDGET_S + APART_S * ROUNDS + 6,
    max_bytes=6 << 20,
    worst_pause_s=0.02,
    needs=("same host", "py-spy", "root or CAP_SYS_PTRACE"),
)
