"""Where do the processes stand that could not be read without stopping them?

Each process stands still while it is read: 16 to 28 ms measured on a GPU server, up to 0.5 s on two busy cores.
Never with local variables: they hold prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, Field

from responder import halting
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step
from responder.model import Fact
from responder.stackfacts import read_stacks, specs

DUMP_TIMEOUT_S = 4.0


class Which(halting.Which):
    """Which processes to look at; fewer of them cost less."""

    rounds: int = Field(default=2, ge=1, le=5)


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """One process after the other."""
    return await halting.read_each(scene, Which.model_validate(params.model_dump()), (), DUMP_TIMEOUT_S)


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the dumps."""
    return read_stacks(files, brief.now, "stacks_blocking")


STEP = Step(
    name="stacks_blocking",
    rung=2,
    says="stops each process of the server for some 20 ms to read its Python stack, twice",
    fetch=fetch,
    read=read,
    facts=tuple(FactSpec(*spec) for spec in specs("stacks_blocking")),
    momentary=("*",),
    timeout_s=halting.LONGEST_S,
    max_bytes=8 << 20,
    worst_pause_s=0.5,
    needs=("same host", "py-spy", "root or CAP_SYS_PTRACE"),
    params=Which,
    ready=halting.ready,
)
