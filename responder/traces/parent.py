"""How does the rest of the responder get facts out of traces? By a child process with a deadline and a memory limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from responder.traces.facts import TraceFact, facts_of

if TYPE_CHECKING:
    from responder.traces.verdicts import TraceReport

DEFAULT_MEMORY = 1 << 30
"""Address space of the child, bytes. Resident it needs about 150 MB for a 2 GB trace; libraries reserve the rest."""

NEEDS = ("isal", "msgspec", "numpy")


@dataclass(frozen=True)
class TraceFacts:
    """What traces told; `problems` says which files told nothing and why."""

    facts: tuple[TraceFact, ...] = ()
    problems: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    """Why facts come from incomplete files; empty when all were whole."""
    findings: tuple[str, ...] = ()
    """What cost most time, in words."""
    report_json: bytes = b""
    """The whole result, for the incident folder."""


async def analyse(
    paths: Sequence[str | Path],
    *,
    timeout: float,
    max_memory: int = DEFAULT_MEMORY,
    compare: Sequence[str | Path] = (),
) -> TraceFacts:
    """Facts of trace files and folders within `timeout` seconds and `max_memory` bytes of address space; never raises
    for what is in the files."""
    raw, problem = await run_child(paths, timeout=timeout, max_memory=max_memory, compare=compare)
    return from_json(raw, problem)


def from_json(raw: bytes, problem: str = "") -> TraceFacts:
    """Facts of a stored result; `problem` says why there is none."""
    missing = missing_libraries()
    if missing:
        return TraceFacts(problems=(missing,))
    import msgspec

    try:
        report = decode(raw) if raw else None
    except msgspec.DecodeError as broken:
        report, problem = None, problem or f"the analysis returned no usable result: {broken}"
    if report is None:
        return TraceFacts(problems=(problem or "the analysis returned nothing",))
    return TraceFacts(
        facts=tuple(facts_of(report)),
        problems=(*report.problems, *((problem,) if problem else ())),
        partial=tuple(f"{rank.label}: {why}" for rank in report.ranks for why in rank.partial),
        findings=tuple(f"{one.rank}: {one.says}" if one.rank else one.says for one in report.findings),
        report_json=raw,
    )


def decode(raw: bytes) -> TraceReport:
    """The child's result as typed views."""
    import msgspec

    from responder.traces.verdicts import TraceReport

    return msgspec.json.decode(raw, type=TraceReport)


def missing_libraries() -> str:
    """Empty, or which of the extra's libraries are absent and how to get them."""
    absent = [name for name in NEEDS if find_spec(name) is None]
    if not absent:
        return ""
    return f"trace analysis needs {', '.join(absent)}: pip install 'vllm-responder[traces]'"


async def run_child(
    paths: Sequence[str | Path],
    *,
    timeout: float,
    max_memory: int = DEFAULT_MEMORY,
    compare: Sequence[str | Path] = (),
    progress: Callable[[str], None] | None = None,
) -> tuple[bytes, str]:
    """(result JSON, problem); the child is dead when this returns, whatever happened."""
    missing = missing_libraries()
    if missing:
        return b"", missing
    arguments = ["--memory", str(max_memory), "--seconds", str(timeout)]
    for path in compare:
        arguments += ["--compare", str(path)]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "responder.traces.child",
        *arguments,
        "--",
        *map(str, paths),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        async with asyncio.timeout(timeout):
            out, complaint = await asyncio.gather(child.stdout.read(), _listen(child.stderr, progress))
            code = await child.wait()
    except TimeoutError:
        return b"", f"the analysis took longer than {timeout:g} s and was ended"
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if code < 0:
        return out, f"the analysis was killed by signal {-code} (memory?)"
    if not out:
        return b"", f"the analysis failed: {complaint or f'exit code {code}'}"
    return out, ""


async def _listen(stream: asyncio.StreamReader, progress: Callable[[str], None] | None) -> str:
    """Progress lines are passed on; the last line that is none is the complaint."""
    complaint = ""
    async for line in stream:
        text = line.decode("utf-8", "replace").strip()
        if text.startswith('{"file"'):
            if progress is not None:
                progress(text)
        elif text:
            complaint = text
    return complaint
