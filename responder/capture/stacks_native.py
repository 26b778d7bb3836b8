"""Where do the processes stand below Python: in the driver, in NCCL, in a lock of C code?

Native frames between the Python ones. Each process stands still for 0.2 to 0.6 s (measured; users saw a TTFT of 184 ms
instead of 65). py-spy refuses to do this without stopping.
Never with local variables: they hold prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from responder import ptrace
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact
from responder.pyspy import Dumping, dump_all
from responder.stackfacts import read_stacks, specs

APART_S = 1.0
BUDGET_S = 20.0
DUMP_TIMEOUT_S = 6.0


class Which(BaseModel):
    """Which processes to look at; fewer of them cost less."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["all", "worker", "engine_core", "api_server"] = "all"
    rank: int | None = Field(default=None, ge=0)
    rounds: int = Field(default=1, ge=1, le=5)


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """One process after the other, so that never more than one of them stands still."""
    which = Which.model_validate(params.model_dump())
    found = ptrace.ready(scene.inventory)
    if isinstance(found, str):
        return skipped(found)
    inventory, tool = found
    roles = ("worker", "engine_core", "api_server") if which.role == "all" else (which.role,)
    processes = ptrace.candidates(inventory, roles, which.rank)
    if not processes:
        return skipped(f"no living process of the server is {which.role}, rank {which.rank}")
    how = Dumping(
        runner=scene.runner, tool=tool, flags=("--native",), rounds=which.rounds, apart_s=APART_S, budget_s=BUDGET_S,
        timeout_s=DUMP_TIMEOUT_S,
    )  # fmt: skip
    return Fetched(**vars(await dump_all(how, processes)))


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the dumps."""
    return read_stacks(files, brief.now, "stacks_native")


async def ready(scene: Scene) -> str:
    """'' when py-spy could look at the server now."""
    return ptrace.cannot(scene.inventory, "py-spy")


STEP = Step(
    name="stacks_native",
    rung=2,
    says="stops each process of the server for up to 0.6 s to read its stack with native frames",
    fetch=fetch,
    read=read,
    facts=tuple(FactSpec(*spec) for spec in specs("stacks_native")),
    timeout_s=BUDGET_S + 5 * APART_S + 6,
    max_bytes=8 << 20,
    worst_pause_s=0.8,
    needs=("same host", "py-spy", "root or CAP_SYS_PTRACE"),
    params=Which,
    ready=ready,
)
