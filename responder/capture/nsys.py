"""What can Nsight Systems tell here, honestly? It cannot attach to a server that was not started under it.

Started under nsys: that is said, and whether `nsys_range` may open its capture range. A report that exists already is
read through `nsys stats`. Otherwise the exact command to start the server anew with, for nsys and layer-wise timing.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar
from responder.nsight import COMMAND_S, STATS, STATS_S, kernels, launcher, newest, relaunch, stats, why_not

META = "nsys.json"
HOW = "`responder capture TARGET --step nsys_range` opens the capture range of the server's nsys and closes it"
LAYERWISE = "--enable-layerwise-nvtx-tracing"


class Nsys(BaseModel):
    """Which finished report to read, if any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    report: str = Field(default="", pattern=r"^(/[\w./@:+-]+\.(nsys-rep|sqlite))?$")
    """Empty: the newest one in the folder of the server's own nsys."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """How the server was started, whether nsys runs, and the tables of a report."""
    chosen = Nsys.model_validate(params.model_dump()).report
    inventory = scene.inventory
    if inventory is None or not inventory.reachable or not inventory.command:
        return skipped("how the server was started is not known: it runs on another host, or was never seen alive")
    under = await launcher(scene, inventory)
    report = chosen or (await newest(scene, under) if under else "")
    meta: dict[str, object] = {"under": under, "command": list(inventory.command), "report": report}
    meta["relaunch"] = relaunch(inventory.command, under)
    meta["layerwise"] = layerwise(inventory.command)
    files: dict[str, bytes] = {}
    why = ""
    if report and inventory.local:
        why = await stats(scene, report, files)
    meta["stats"] = why or ("read" if report else "")
    files[META] = json.dumps(meta, indent=1, sort_keys=True).encode()
    return Fetched(files, Outcome.PARTIAL if why else Outcome.OK, why)


def layerwise(command: Sequence[str]) -> str:
    """The command for NVTX ranges per layer, to be read with nsys; offline: `vllm.profiler.layerwise_profile`."""
    argv = [*command, *([] if LAYERWISE in command else [LAYERWISE])]
    return f"{shlex.join(argv)}   # offline instead: from vllm.profiler.layerwise_profile import layerwise_profile"


# ------------------------------------------------------------------------------------------------------ reading


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """What could be captured, what to type, and the kernels of a report."""
    if META not in files:
        return
    meta = json.loads(files[META])

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", file: str = META) -> Fact:
        name = f"nsys.{name}"
        return Fact(name=name, value=value, unit=unit, step="nsys", file=file, at=brief.now, says=says)

    under = meta["under"]
    against = why_not(under, meta["command"])
    yield fact("under_nsys", bool(under), says=shlex.join(under)[:300] if under else "")
    yield fact("can_capture", not against, says=against or HOW)
    yield fact("relaunch", meta["relaunch"] or None, says="how to start this server under nsys")
    yield fact("layerwise", meta["layerwise"], says="how to start it with a range per layer")
    rows = kernels(files.get(STATS, b"").decode("utf-8", "replace"))
    if rows:
        name, share = rows[0]
        words = "; ".join(f"{part:.0%} {kernel[:60]}" for kernel, part in rows[:5])
        yield fact("top_kernel", name[:200], says=words, file=STATS)
        yield fact("top_kernel_share", round(share, 4), "share", name[:200], STATS)
        collective = sum(part for kernel, part in rows if "nccl" in kernel.lower() or "all_reduce" in kernel.lower())
        yield fact("collective_share", round(collective, 4), "share", file=STATS)


STEP = Step(
    name="nsys",
    rung=0,
    says="says what Nsight Systems can capture of this server and how to start it so; reads a report that exists",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("nsys.under_nsys", "", "whether the server was started under nsys"),
        FactSpec("nsys.can_capture", "", "whether its capture range can be opened from outside"),
        FactSpec("nsys.relaunch", "", "the command that starts this server under nsys"),
        FactSpec("nsys.layerwise", "", "the command that starts this server with a range per layer"),
        FactSpec("nsys.top_kernel", "", "the kernel with most GPU time in the report"),
        FactSpec("nsys.top_kernel_share", "share", "its share of the GPU time"),
        FactSpec("nsys.collective_share", "share", "share of the GPU time inside collectives"),
    ),
    timeout_s=STATS_S + 2 * COMMAND_S,
    max_bytes=6 << 20,
    needs=("same host", "nsys only for reading a report"),
    params=Nsys,
)
