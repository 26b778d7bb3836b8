"""Do hundreds of threads become the few lines an expert would say?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from responder.model import Fact, Scalar
from responder.stackfacts import INDEX, read_stacks, specs
from tests.doubles import BRIEF

DATA = Path(__file__).parent / "data" / "stacks"
AT_GPU = (DATA / "hang_VLLM_Worker_TP0_992.txt").read_bytes()
BUSY = (DATA / "busy_Worker_TP0_992.txt").read_bytes()


def facts(rounds: list[dict[int, dict[str, Any]]], **files: bytes) -> list[Fact]:
    pids = sorted({pid for one in rounds for pid in one})
    processes = [
        {"pid": pid, "ppid": 1, "started_at": 1.0, "role": "worker", "name": f"TP{pid}", "rank": pid} for pid in pids
    ]
    index = {"processes": processes, "rounds": [{str(pid): how for pid, how in one.items()} for one in rounds]}
    made = {INDEX: json.dumps(index).encode(), **{f"{name}.txt": text for name, text in files.items()}}
    found = list(read_stacks(made, BRIEF.now, "stacks"))
    assert {fact.name for fact in found} <= {name for name, _, _ in specs("stacks")}
    return found


def value(found: list[Fact], name: str) -> Scalar:
    return next(fact.value for fact in found if fact.name == f"stacks.{name}" and not fact.subject)


def says(found: list[Fact], name: str, subject: str = "") -> str:
    return next(fact.says for fact in found if fact.name == f"stacks.{name}" and fact.subject == subject)


def test_the_dominant_group_comes_first_and_the_outlier_is_named() -> None:
    """Three of four ranks wait at the GPU in one place, the fourth runs Python: that is the line."""
    one = {pid: {"state": "S", "file": "gpu.txt"} for pid in (0, 1, 3)} | {2: {"state": "R", "file": "busy.txt"}}
    found = facts([one, one], gpu=AT_GPU, busy=BUSY)
    words = says(found, "groups")
    assert value(found, "groups") == 2
    assert words.startswith("3 of 4: waits for work on the GPU to end in ")
    assert "synchronize (torch/cuda/streams.py:254)" in words
    assert "; TP2 (pid 2): runs a model step" in words
    assert value(found, "outlier") == "TP2 (pid 2)"


def test_ranks_that_all_stand_alike_are_one_group() -> None:
    """No outlier where there is none."""
    one = {pid: {"state": "S", "file": "gpu.txt"} for pid in range(8)}
    found = facts([one, one], gpu=AT_GPU)
    assert (value(found, "groups"), value(found, "outlier")) == (1, "")
    assert says(found, "groups").startswith("8 of 8: ")


def test_every_thread_is_told_in_words() -> None:
    """Threads that matter by name, the crowd that waits for locks as a number."""
    found = facts([{0: {"state": "S", "file": "gpu.txt"}}], gpu=AT_GPU)
    words = says(found, "waits_for", "TP0 (pid 0)")
    assert "WorkerAsyncOutputCopy waits for work on the GPU to end" in words
    assert "MainThread" in words
    assert "more thread" in words


def test_one_look_in_the_middle_that_differs_is_a_move() -> None:
    """Stuck or busy is decided over all looks, not only the first and the last."""
    stuck, busy = {0: {"state": "S", "file": "gpu.txt"}}, {0: {"state": "R", "file": "busy.txt"}}
    assert value(facts([stuck, stuck, stuck], gpu=AT_GPU), "unchanged") is True
    assert value(facts([stuck, busy, stuck], gpu=AT_GPU, busy=BUSY), "unchanged") is False


def test_a_single_look_does_not_tell_stuck_from_busy() -> None:
    """One dump is a photograph: whether anything moves is unknown."""
    assert value(facts([{0: {"state": "S", "file": "gpu.txt"}}], gpu=AT_GPU), "unchanged") is None
