"""Do `responder requests`, `steps` and `recorder` say what there is, in words and for programs?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.recorder.unpack import ENTRY_POINTS, FILES
from responder.requests.stepchart import draw
from responder.ringfile import restore
from responder.stepstory import series
from tests.requests.otlp import stored


def run(*argv: str) -> tuple[int, str]:
    """Exit code and everything printed."""
    done = CliRunner().invoke(app, list(argv))
    return done.exit_code, done.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recorded rows and steps as files."""
    for name in ("stall_0.32", "giant_0.32", "stall_steps_0.32", "frozen_steps_0.32", "preempt_steps_0.32"):
        (tmp_path / f"{name}.jsonl").write_bytes(stored(name))
    return tmp_path


def test_the_slowest_requests_in_words(folder: Path) -> None:
    """Slowest first, with their ids, and why."""
    code, said = run("requests", "--file", str(folder / "stall_0.32.jsonl"), "--slowest", "3")
    assert code == 0
    assert said.count("cmpl-") == 3
    assert "pattern: bursts" in said
    assert "4 of 4 in flight" in said


def test_the_slowest_requests_for_programs(folder: Path) -> None:
    """The same as JSON."""
    code, said = run("requests", "--file", str(folder / "giant_0.32.jsonl"), "--slowest", "5", "--format", "json")
    tree = json.loads(said)
    assert code == 0
    assert [r["e2e"] for r in tree["requests"]] == sorted((r["e2e"] for r in tree["requests"]), reverse=True)
    assert tree["victims_of_giants"] >= 5


def test_what_cannot_be_shown_is_said(folder: Path) -> None:
    """No daemon, no file, no duration, other files."""
    assert run("requests", "--url", "http://127.0.0.1:9")[0] == 1
    assert run("requests", "--file", str(folder / "none"))[0] == 1
    assert run("requests", "--file", str(folder / "stall_0.32.jsonl"), "--since", "soon")[0] == 2
    (folder / "junk").write_bytes(b"junk")
    assert run("requests", "--file", str(folder / "junk"))[0] == 2
    assert run("steps", str(folder / "junk"))[0] == 2
    assert run("steps", str(folder))[0] == 1


def test_steps_in_words(folder: Path) -> None:
    """A freeze with its time, stalls, preemptions."""
    assert "frozen" in run("steps", str(folder / "frozen_steps_0.32.jsonl"))[1]
    assert "every 8.0 s" not in run("steps", str(folder / "frozen_steps_0.32.jsonl"))[1]
    said = run("steps", str(folder / "preempt_steps_0.32.jsonl"))[1]
    assert "8 in 5 steps" in said
    code, said = run("steps", str(folder / "stall_steps_0.32.jsonl"), "--format", "json", "--last", "2")
    assert code == 0
    assert len(json.loads(said)["last"]) == 2


def test_a_chart_of_single_steps(folder: Path) -> None:
    """Well-formed SVG with a row per signal."""
    import xml.etree.ElementTree as ET

    out = folder / "chart.svg"
    assert run("steps", str(folder / "stall_steps_0.32.jsonl"), "--chart", str(out))[0] == 0
    root = ET.parse(out).getroot()
    assert any(e.tag.endswith("polyline") for e in root)
    titles = [e.text or "" for e in root if e.tag.endswith("text")]
    assert {"running", "waiting", "KV cache usage", "preempted", "prompt tokens"} <= set(titles)
    assert ET.fromstring(draw(())).tag.endswith("svg")
    ring = restore(stored("stall_steps_0.32"))
    assert draw(series(ring, 0, 1e10)) == out.read_text()


def test_the_recorder_as_a_folder(tmp_path: Path) -> None:
    """A Python that has nothing of ours finds the plugin there, and its modules import the standard library alone."""
    code, said = run("recorder", str(tmp_path))
    assert code == 0
    assert f"PYTHONPATH={tmp_path}" in said
    probe = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from importlib.metadata import entry_points\n"
        "print(*(e.value for g in ('stat_logger', 'general') for e in entry_points(group=f'vllm.{g}_plugins')))\n"
        "import responder.recorder.steps, responder.recorder.writer, responder.recorder.stacks as s\n"
        "s.register(); print(responder.recorder.steps.__file__)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", probe, str(tmp_path)], capture_output=True, text=True,
                          check=True, env={"PATH": os.environ["PATH"]})  # fmt: skip
    values, where = done.stdout.splitlines()
    assert values.split() == ["responder.recorder.plugin:StepRecorder", "responder.recorder.stacks:register"]
    assert where.startswith(str(tmp_path))


def test_the_package_and_the_folder_announce_the_same() -> None:
    """pip or PYTHONPATH: the same entry points; the folder has every file of the recorder."""
    import tomllib

    root = Path(__file__).resolve().parent.parent.parent
    announced = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    for group in ("vllm.stat_logger_plugins", "vllm.general_plugins"):
        for name, value in announced[group].items():
            assert f"{name} = {value}" in ENTRY_POINTS
    there = {p.name for p in (root / "responder" / "recorder").glob("*.py")} - {"unpack.py"}
    assert there == set(FILES)
