"""Is what nsys can do said honestly, and the command to start with one that can be pasted?"""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from pydantic import ValidationError

from responder.capture import nsys
from responder.model import Inventory, Outcome, ProcessInfo
from tests.doubles import BRIEF, Files, scene

VLLM = ("/opt/venv/bin/vllm", "serve", "/models/llama 7b", "--port", "8000")
SERVER = ProcessInfo(pid=50, ppid=40, started_at=1, role="api_server", name="api")
STATS = b"""Processing [/tmp/r.sqlite] with [cuda_gpu_kern_sum.py]...

 Time (%),Total Time (ns),Instances,Avg (ns),Name
 60.0,600,5,120,"gemm<float, 4>"
 30.0,300,5,60,ncclDevKernel_AllReduce_Sum_bf16
 10.0,100,5,20,softmax
"""


def under(*argv: str) -> dict[str, bytes]:
    """The /proc of a server whose grandparent is this."""
    return {
        "/proc/40/cmdline": b"sh\0-c\0x\0",
        "/proc/40/stat": b"40 (sh) S 30 1 1",
        "/proc/30/cmdline": "\0".join(argv).encode() + b"\0",
        "/proc/30/stat": b"30 (a) b) S 1 1 1",
    }


async def run(files: Files, command: tuple[str, ...] = VLLM, **params: str) -> tuple[Any, dict[str, Any]]:
    known = Inventory(at=0, local=True, command=command, processes=(SERVER,))
    async with scene(inventory=known, runner=files) as where:
        fetched = await nsys.fetch(where, nsys.Nsys.model_validate(params))
    found = list(nsys.read(fetched.files, BRIEF))
    assert {fact.name for fact in found} <= {spec.name for spec in nsys.STEP.facts}
    return fetched, {fact.name.removeprefix("nsys."): (fact.value, fact.says) for fact in found}


async def test_a_plain_server_gets_the_command_to_start_with() -> None:
    """nsys cannot attach: the command keeps every argument, quoted."""
    _, said = await run(Files())
    assert said["under_nsys"][0] is False
    assert said["can_capture"] == (
        False,
        "the server was not started under nsys, and nsys cannot attach to a running process",
    )
    words = shlex.split(str(said["relaunch"][0]))
    assert words[1:3] == ["nsys", "profile"]
    assert words[words.index("/opt/venv/bin/vllm") :] == [*VLLM, '--profiler-config={"profiler":"cuda"}']
    assert "--sample=process-tree" not in words
    assert "--enable-layerwise-nvtx-tracing" in str(said["layerwise"][0])


async def test_a_server_under_nsys_with_a_range_can_be_captured() -> None:
    """Found among its parents; the range needs both sides."""
    argv = ("/usr/bin/nsys", "profile", "-c", "cudaProfilerApi", "--capture-range-end=stop", "-o", "/traces/run",
            *VLLM)  # fmt: skip
    _, said = await run(Files(under(*argv)), (*VLLM, '--profiler-config={"profiler":"cuda"}'))
    assert said["under_nsys"][0] is True
    assert said["can_capture"][0] is True
    assert said["relaunch"][0] is None
    _, said = await run(Files(under(*argv)))
    assert said["can_capture"][0] is False
    assert "lacks --profiler-config" in said["can_capture"][1]


async def test_a_report_is_read_through_nsys_stats() -> None:
    """The kernels with most time, and the share of collectives."""
    files = Files({}, {"nsys": STATS})
    _, said = await run(files, report="/traces/run.nsys-rep")
    assert said["top_kernel"][0] == "gemm<float, 4>"
    assert said["top_kernel_share"][0] == 0.6
    assert said["collective_share"][0] == 0.3
    assert files.ran[-1][-1] == "/traces/run.nsys-rep"


async def test_a_report_without_nsys_is_said() -> None:
    """What to do with it."""
    fetched, said = await run(Files(), report="/traces/run.nsys-rep")
    assert fetched.outcome is Outcome.PARTIAL
    assert "nsys is not installed" in fetched.reason
    assert "relaunch" in said


@pytest.mark.parametrize("report", ["run.nsys-rep", "/a;b.nsys-rep", "/etc/passwd", "-x.nsys-rep"])
def test_only_a_path_of_a_report(report: str) -> None:
    """Nothing else gets onto the command line."""
    with pytest.raises(ValidationError):
        nsys.Nsys(report=report)
