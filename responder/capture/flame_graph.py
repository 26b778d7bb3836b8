"""Where does one process of the server spend its time? `py-spy record` for some seconds, as speedscope and as SVG.

For a server that is busy, not for one that hangs. Without stopping the process by default: the samples of a busy thread
may then be torn now and then, which a flame graph does not mind.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from responder import flame, proc, ptrace
from responder.aside import aside
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, ProcessInfo

SPEEDSCOPE, SVG = "profile.speedscope.json", "flame.svg"
START_S = 12.0
"""To attach and to write the file; on a busy host it takes its time."""
MAX_BYTES = 16 << 20
TOP = 5


class What(BaseModel):
    """Whom to record, and how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["engine_core", "worker", "api_server"] = "api_server"
    rank: int | None = Field(default=None, ge=0)
    seconds: int = Field(default=5, ge=1, le=30)
    rate: int = Field(default=50, ge=1, le=200)
    """Samples per second; each costs a millisecond or two of another core."""
    blocking: bool = False
    """Stop the process for each sample: exact stacks, and a slower server."""
    native: bool = False
    """Native frames as well; py-spy can do that only with `blocking`."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """One recording; the process is looked after when the recorder had to be killed."""
    what = What.model_validate(params.model_dump())
    if scene.inventory is None or not scene.inventory.processes or not scene.inventory.local:
        return skipped("no processes known: the server runs on another host, or was never seen alive")
    tool = ptrace.find_tool()
    if tool is None:
        return skipped("py-spy is not installed: pip install py-spy, next to the responder or on PATH")
    found = ptrace.candidates(scene.inventory, (what.role,), what.rank)
    if not found:
        return skipped(f"no living process of the server is {what.role}")
    process = found[0]
    if ptrace.state_of(process) in proc.STOPPED:
        return skipped(f"{process.name} (pid {process.pid}) is stopped: there is nothing to record")
    with tempfile.TemporaryDirectory(prefix="responder-flame-") as folder:
        return await _record(scene, tool, process, what, Path(folder) / SPEEDSCOPE)


async def _record(scene: Scene, tool: str, process: ProcessInfo, what: What, file: Path) -> Fetched:
    argv = [tool, "record", "--format", "speedscope", "--output", str(file), "--pid", str(process.pid)]
    argv += ["--duration", str(what.seconds), "--rate", str(what.rate), "--threads"]
    argv += ["--nonblocking"] if not (what.blocking or what.native) else []
    argv += ["--native"] if what.native else []
    async with ptrace.looked_after(process):
        said = await scene.runner.run(argv, timeout=what.seconds + START_S, max_bytes=1 << 16)
    note = await ptrace.left_stopped(process)
    try:
        raw = await aside(lambda: _head(file), timeout=5.0)
    except OSError:
        why = ptrace.complaint(said.code, said.stderr + said.stdout, what.seconds + START_S)
        return Fetched(outcome=Outcome.FAILED, reason="; ".join(filter(None, [why + ptrace.hint([why]), note])))
    flames = flame.read_speedscope(raw)
    files = {SPEEDSCOPE: raw}
    if flames is None:
        return Fetched(files, Outcome.PARTIAL, "; ".join(filter(None, ["the recording holds no sample", note])))
    title = f"{process.name} (pid {process.pid}), {what.seconds} s, {flames.samples} samples"
    files[SVG] = flame.svg(flames, title)
    return Fetched(files, Outcome.PARTIAL if note else Outcome.OK, note)


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(min(MAX_BYTES, os.fstat(stream.fileno()).st_size))


# ------------------------------------------------------------------------------------------------------ reading

TOKENIZER = ("tokenizers/", "transformers/tokenization", "tiktoken/", "vllm/tokenizers", "chat_template", "jinja2/")


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """The functions most samples stand in, and the shares of what is known to eat a front end's time."""
    flames = flame.read_speedscope(files.get(SPEEDSCOPE, b""))
    if flames is None:
        return

    def fact(name: str, value: float | int | str, unit: str = "", says: str = "") -> Fact:
        name = f"flame_graph.{name}"
        return Fact(name=name, value=value, unit=unit, step="flame_graph", file=SVG, at=brief.now, says=says)

    yield fact("samples", flames.samples, "samples", f"{flames.threads} threads")
    words = "; ".join(f"{share:.0%} {name}" for name, share in flames.innermost[:TOP])
    top, share = flames.innermost[0] if flames.innermost else ("", 0.0)
    yield fact("top", re.sub(r"\s+", " ", top)[:200], says=words)
    yield fact("top_share", round(share, 4), "share", top[:200])
    yield fact("tokenizer_share", round(flame.share_of(flames, *TOKENIZER), 4), "share")
    yield fact("json_share", round(flame.share_of(flames, "json/", "pydantic", "msgspec", "orjson"), 4), "share")
    yield fact("scheduler_share", round(flame.share_of(flames, "vllm/v1/core/"), 4), "share")


async def ready(scene: Scene) -> str:
    """'' when py-spy could look at the server now."""
    return ptrace.cannot(scene.inventory, "py-spy")


STEP = Step(
    name="flame_graph",
    rung=2,
    says="samples one process of the server for some seconds with py-spy, by default without stopping it",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("flame_graph.samples", "samples", "stacks recorded"),
        FactSpec("flame_graph.top", "", "the function most samples stand in"),
        FactSpec("flame_graph.top_share", "share", "share of samples that stand in it"),
        FactSpec("flame_graph.tokenizer_share", "share", "share of samples inside tokenizers and templates"),
        FactSpec("flame_graph.json_share", "share", "share of samples inside JSON and validation"),
        FactSpec("flame_graph.scheduler_share", "share", "share of samples inside vLLM's scheduler"),
    ),
    momentary=("*",),
    timeout_s=30 + START_S + 8,
    max_bytes=MAX_BYTES + (8 << 20),
    worst_pause_s=0.05,
    needs=("same host", "py-spy", "root or CAP_SYS_PTRACE"),
    params=What,
    ready=ready,
)
