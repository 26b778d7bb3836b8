"""Whatever a file holds: an answer or a clear problem, never a crash, never more memory or time than allowed."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.traces.engine import run
from responder.traces.facts import facts_of
from responder.traces.page import page
from responder.traces.text import render
from responder.traces.verdicts import TraceReport
from tests.traces import real
from tests.traces.scene import LAYOUTS, Scene, transformer

SEEDS = {layout: transformer(2, 2).text(layout).encode() for layout in LAYOUTS}
HEADS = (
    b"",
    b"[",
    b'{"traceEvents": [',
    b'{"traceEvents": [\n  {\n    "ph": "X", "cat": "',
    b"SQLite format 3\0",
    b"Time (%),Total Time (ns),Instances,Name\n",
    b"a;b 1\n",
    b'{"shared": {"frames": []}, "profiles": [',
    b"\x1f\x8b",
    b"Name,Type,Start Time(us),Duration(us)\n",
)


def swallow(content: bytes, name: str = "t.json") -> TraceReport:
    """Read, and use the result in every way."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        report = run([path], [path])
        assert bool(report.ranks) != bool(report.problems)
        assert not [p for p in report.problems if "cannot be read" in p], "the net under the readers caught something"
        list(facts_of(report))
        assert render(report)
        assert page(report, path.parent).startswith("<!doctype html>")
        return report


@given(st.binary(max_size=3000), st.sampled_from(HEADS))
def test_garbage_is_a_problem_in_words(content: bytes, head: bytes) -> None:
    """Any bytes, behind any beginning that we recognise."""
    swallow(head + content)


@given(st.sampled_from(LAYOUTS), st.integers(0, 10_000), st.booleans())
def test_a_file_cut_anywhere_is_read_as_far_as_it_goes(layout: str, permille: int, packed: bool) -> None:
    """Plain and gzip."""
    text = SEEDS[layout]
    content = gzip.compress(text, 1) if packed else text
    swallow(content[: len(content) * permille // 10_000])


@given(
    st.sampled_from(LAYOUTS),
    st.lists(
        st.tuples(st.integers(0, 10**6), st.sampled_from(("flip", "drop", "double", "insert"))), min_size=1, max_size=12
    ),
    st.randoms(use_true_random=False),
)
def test_damaged_bytes_cost_the_events_they_are_in(
    layout: str, damages: list[tuple[int, str]], dice: random.Random
) -> None:
    """Flipped, dropped, doubled and inserted."""
    text = bytearray(SEEDS[layout])
    for place, kind in damages:
        at = place % len(text)
        span = dice.randint(1, 200)
        if kind == "flip":
            text[at] = dice.randint(0, 255)
        elif kind == "drop":
            del text[at : at + span]
        elif kind == "double":
            text[at:at] = text[at : at + span]
        else:
            text[at:at] = dice.choice((b'"', b"{", b"}", b"\n", b"\\", b"\0", b"  {\n", b"\n  },\n", b"1e999", b"-"))
    swallow(bytes(text))


numbers = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.none(), st.lists(st.integers(), max_size=2)
)
categories = ("kernel", "cpu_op", "cuda_runtime", "user_annotation", "gpu_memcpy", "python_function", "?")
arguments = st.dictionaries(st.sampled_from(("correlation", "grid", "bytes", "In msg nelems")), numbers)
event = st.fixed_dictionaries(
    {},
    optional={
        "ph": st.sampled_from(("X", "B", "M", "f", 7)),
        "cat": st.sampled_from(categories),
        "name": st.one_of(st.text(max_size=20), st.just("execute_context_9(9)_generation_9(9)"), numbers),
        "pid": numbers,
        "tid": numbers,
        "ts": numbers,
        "dur": numbers,
        "args": st.one_of(numbers, arguments),
    },
)
plausible = st.fixed_dictionaries(
    {
        "ph": st.just("X"),
        "cat": st.sampled_from(categories),
        "name": st.sampled_from(
            (
                "k",
                "nn.Module: DecoderLayer_1",
                "execute_context_0(0)_generation_9(9)",
                "cudaMemcpyAsync",
                "flash::",
                "norm",
            )
        ),
        "pid": st.integers(0, 2),
        "tid": st.integers(0, 2),
        "ts": st.one_of(st.integers(0, 50), st.integers(0, 2**52)),
        "dur": st.integers(0, 60),
    },
    optional={"args": st.fixed_dictionaries({"correlation": st.integers(0, 4)})},
)


@given(st.one_of(st.lists(event, max_size=12), st.lists(plausible, max_size=40)))
def test_events_of_any_shape(events: list[dict[str, object]]) -> None:
    """Valid JSON that means nothing: wrong types, huge numbers, times before time."""
    swallow(json.dumps({"traceEvents": events}).encode())


@pytest.mark.parametrize("name", [real.LLAMA, real.CPU])
def test_real_traces_damaged_in_many_places(name: str) -> None:
    """Every 200th of a real file."""
    content = (real.DATA / name).read_bytes()
    text = gzip.decompress(content)[:600_000]
    dice = random.Random(11)
    for _ in range(25):
        broken = bytearray(text)
        for _ in range(dice.randint(1, 40)):
            broken[dice.randrange(len(broken))] = dice.randint(0, 255)
        swallow(bytes(broken))
        swallow(content[: dice.randrange(len(content))])
        packed = bytearray(content)
        packed[dice.randrange(len(packed))] ^= 1 << dice.randrange(8)
        swallow(bytes(packed))


def test_an_endless_event_is_given_up_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A string that never closes does not fill the memory."""
    monkeypatch.setattr("responder.traces.kineto.EVENT_LIMIT", 3 << 20)
    path = tmp_path / "t.json.gz"
    head = Scene().text("multi").encode()[:-30]
    path.write_bytes(gzip.compress(head + b'  {\n    "ph": "X", "cat": "cpu_op", "name": "' + b"x" * (40 << 20), 1))
    tracemalloc.start()
    try:
        report = run([path])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20
    assert report.problems or report.ranks[0].partial


def test_a_bomb_of_compressed_blanks_ends_at_the_first_limit(tmp_path: Path) -> None:
    """A few kilobytes that unpack to gigabytes of nothing."""
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * (64 << 20), 9))
    report = run([path])
    assert "no trace events" in report.problems[0]


def test_many_different_grids_and_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered per distinct value has a limit."""
    monkeypatch.setattr("responder.traces.collect.MAX_GRIDS", 50)
    scene = Scene()
    for number in range(300):
        scene.gpu("k", number * 1000, 500, grid=(number, 1, 1))
    report = run([scene.write(tmp_path / "t.json")])
    assert report.ranks[0].gpu_events == 300


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"hello\n", "this is no profiler trace"),
        (b'{"a": 1}', "this is no profiler trace"),
        (b"\x1f\x8b\x08\x00", "nothing of it could be read"),
        (b"\x28\xb5\x2f\xfd rest", "zstd"),
        (b"%PDF-1.7 \x00\x01", "this is no profiler trace"),
    ],
)
def test_garbage_is_named(content: bytes, words: str) -> None:
    """The message is for the person who named the file."""
    (problem, *_) = swallow(content).problems
    assert words in problem


def test_an_empty_list_of_events_is_a_trace_of_nothing(tmp_path: Path) -> None:
    """A profiler that was started and stopped with nothing between."""
    for layout in LAYOUTS:
        path = Scene().write(tmp_path / f"{layout}.json", layout)
        report = run([path])
        assert report.problems or report.ranks[0].events == 0
