"""How are processes read that must stand still for it? One after the other, so that never more than one of them does.

Never with local variables: they hold prompts.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from responder import ptrace
from responder.capture.step import Fetched, Scene, skipped
from responder.pyspy import Dumping, dump_all

APART_S = 1.0
BUDGET_S = 20.0
LONGEST_S = BUDGET_S + 5 * APART_S + 6
"""Deadline of a step that reads like this."""


class Which(BaseModel):
    """Which processes to look at; fewer of them cost less."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["all", "worker", "engine_core", "api_server"] = "all"
    rank: int | None = Field(default=None, ge=0)
    rounds: int = Field(default=1, ge=1, le=5)


async def read_each(scene: Scene, which: Which, flags: tuple[str, ...], timeout_s: float) -> Fetched:
    """The stacks of the processes `which` names, by py-spy with `flags`; at most `timeout_s` seconds for each."""
    found = ptrace.ready(scene.inventory)
    if isinstance(found, str):
        return skipped(found)
    inventory, tool = found
    roles = ("worker", "engine_core", "api_server") if which.role == "all" else (which.role,)
    processes = ptrace.candidates(inventory, roles, which.rank)
    if not processes:
        return skipped(f"no living process of the server is {which.role}, rank {which.rank}")
    how = Dumping(
        runner=scene.runner, tool=tool, flags=flags, rounds=which.rounds, apart_s=APART_S, budget_s=BUDGET_S,
        timeout_s=timeout_s,
    )  # fmt: skip
    return Fetched(**vars(await dump_all(how, processes)))


async def ready(scene: Scene) -> str:
    """'' when py-spy could look at the server now."""
    return ptrace.cannot(scene.inventory, "py-spy")
