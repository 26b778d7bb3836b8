"""The analysis beside the daemon: in a child process, with a deadline and a memory limit."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from responder.traces import FACTS, TraceFacts, analyse
from responder.traces.facts import ACROSS
from responder.traces.parent import from_json
from tests.traces import real
from tests.traces.scene import transformer


def children() -> set[str]:
    """Processes of ours."""
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


async def test_facts_of_real_traces_come_back_named_and_with_units() -> None:
    """Every fact is in the table; the result can be stored and read again."""
    told = await analyse([real.DATA / real.GRAPH, real.DATA / real.GRAPH_1], timeout=100)
    assert told.problems == ()
    units = {row.name: row.unit for row in FACTS} | {name: unit for name, unit, _ in ACROSS}
    assert all(units[fact.name] == fact.unit for fact in told.facts)
    whole = {fact.name: fact.value for fact in told.facts if not fact.subject}
    assert whole["trace.slow_step_why"] == "memcpy_d2h"
    assert whole["trace.ranks"] == 2
    assert from_json(told.report_json) == told


async def test_a_comparison_gives_facts_of_what_grew(tmp_path: Path) -> None:
    """Sick against healthy."""
    well = transformer(4, 8).write(tmp_path / "well.json")
    sick = transformer(4, 8, slow_layer=1).write(tmp_path / "sick.json")
    told = await analyse([sick], timeout=100, compare=[well])
    whole = {fact.name: fact.value for fact in told.facts if not fact.subject}
    assert whole["trace.diff_grown"] == "gemm"
    assert whole["trace.layer_unlike"] == 1


async def test_at_the_deadline_the_child_is_dead_and_the_problem_said(tmp_path: Path) -> None:
    """A pipe that never delivers."""
    pipe = tmp_path / "never.json"
    os.mkfifo(pipe)
    before = children()
    told = await analyse([pipe], timeout=1.0)
    assert told.facts == ()
    assert "longer than 1 s" in told.problems[0]
    assert children() <= before


async def test_cancelling_ends_the_child(tmp_path: Path) -> None:
    """The daemon stops while a trace is analysed."""
    pipe = tmp_path / "never.json"
    os.mkfifo(pipe)
    before = children()
    task = asyncio.create_task(analyse([pipe], timeout=60.0))
    while children() <= before:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() <= before


async def test_the_memory_limit_is_a_problem_not_a_crash() -> None:
    """The child meets it, and says so or is reported dead."""
    told = await analyse([real.DATA / real.GRAPH], timeout=100, max_memory=70 << 20)
    assert told.facts == ()
    assert told.problems


async def test_missing_files_and_folders_without_traces_are_problems(tmp_path: Path) -> None:
    """Beside them the others are read."""
    told = await analyse([tmp_path / "none.json", tmp_path, real.DATA / real.CPU], timeout=100)
    assert any("no such file" in problem for problem in told.problems)
    assert any("no trace files in this folder" in problem for problem in told.problems)
    assert any(fact.name == "trace.steps" for fact in told.facts)


async def test_a_partial_trace_says_so(tmp_path: Path) -> None:
    """In words and as a fact."""
    path = tmp_path / "t.json.gz"
    path.write_bytes((real.DATA / real.LLAMA).read_bytes()[:100_000])
    told = await analyse([path], timeout=100)
    assert "cut off" in told.partial[0]
    assert {fact.name: fact.value for fact in told.facts}["trace.partial"] is True


def test_a_result_of_another_version_is_a_problem() -> None:
    """Stored results outlive programs."""
    assert from_json(b'{"ranks": [{"nonsense": 1}]}').problems
    assert from_json(b"not json").problems
    assert from_json(b"", "why").problems == ("why",)
    assert isinstance(from_json(msgspec.json.encode({"ranks": []})), TraceFacts)


def test_importing_the_package_loads_no_numpy() -> None:
    """The daemon pays for traces when one is analysed, not before."""
    code = (
        "import sys, responder.traces as t; t.analyse; t.FACTS; print('numpy' in sys.modules, 'msgspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_child_is_nice_and_collects_no_garbage() -> None:
    """It is beside a production server; and nothing it makes lives longer than it."""
    code = (
        "import gc, os, sys; sys.argv = ['child', sys.argv[1]]; from responder.traces.child import main; main(); "
        "print(); print(os.nice(0), gc.isenabled())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(real.DATA / real.CPU)], capture_output=True, text=True, check=True
    )
    niceness, collects = done.stdout.split()[-2:]
    assert (int(niceness) >= min(10, os.nice(0) + 10), collects) == (True, "False")
    assert gc.isenabled()


def test_every_fact_has_one_name_a_unit_and_words() -> None:
    """Playbooks write these names."""
    names = [row.name for row in FACTS] + [name for name, _, _ in ACROSS]
    assert len(names) == len(set(names))
    assert all(name.startswith("trace.") for name in names)
    assert all(row.says for row in FACTS)
    assert all(row.of in names for row in FACTS if row.of)
