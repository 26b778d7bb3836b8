"""Where do the processes stand below Python: in the driver, in NCCL, in a lock of C code?

Native frames between the Python ones. Each process stands still for 0.2 to 0.6 s (measured; users saw a TTFT of 184 ms
instead of 65). py-spy refuses to do this without stopping.
Never with local variables: they hold prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from responder import halting
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step
from responder.model import Fact
from responder.stackfacts import read_stacks, specs

DUMP_TIMEOUT_S = 6.0


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """One process after the other."""
    return await halting.read_each(
        scene, halting.Which.model_validate(params.model_dump()), ("--native",), DUMP_TIMEOUT_S
    )


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the dumps."""
    return read_stacks(files, brief.now, "stacks_native")


STEP = Step(
    name="stacks_native",
    rung=2,
    says="stops each process of the server for up to 0.6 s to read its stack with native frames",
    fetch=fetch,
    read=read,
    facts=tuple(FactSpec(*spec) for spec in specs("stacks_native")),
    momentary=("*",),
    timeout_s=halting.LONGEST_S,
    max_bytes=8 << 20,
    worst_pause_s=0.8,
    needs=("same host", "py-spy", "root or CAP_SYS_PTRACE"),
    params=halting.Which,
    ready=halting.ready,
)
