"""Is the plugin off unless asked for, and does it meet vLLM's interface without ever disturbing it?"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from responder.recorder import stacks
from responder.ringfile import parse
from tests.recorder.fakes import iteration, scheduler

ROOT = Path(__file__).resolve().parent.parent.parent


class Aggregate:
    """What vLLM 0.12 and later call AggregateStatLoggerBase."""


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module tree with just what the plugin imports."""
    for name in ("vllm", "vllm.v1", "vllm.v1.metrics", "vllm.v1.metrics.loggers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["vllm"].__version__ = "0.32.0"  # type: ignore[attr-defined]
    sys.modules["vllm.v1.metrics.loggers"].AggregateStatLoggerBase = Aggregate  # type: ignore[attr-defined]
    yield
    sys.modules.pop("responder.recorder.plugin", None)


def load() -> Any:
    """The plugin's class, as vLLM loads it."""
    sys.modules.pop("responder.recorder.plugin", None)
    return importlib.import_module("responder.recorder.plugin").StepRecorder


def config(name: Any = ("m", "n")) -> Any:
    """What it reads of VllmConfig."""
    return types.SimpleNamespace(model_config=types.SimpleNamespace(served_model_name=list(name)))


@pytest.mark.parametrize("value", [None, "", "0", "false", "off"])
def test_off_unless_asked_for(vllm: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None) -> None:
    """A logger that does nothing and opens nothing."""
    monkeypatch.delenv("RESPONDER_RECORDER", raising=False)
    if value is not None:
        monkeypatch.setenv("RESPONDER_RECORDER", value)
    made = load()(config(), [0])
    made.record(scheduler(), iteration())
    made.log()
    assert made.engines == {}


def test_it_is_what_vllm_asks_for(vllm: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A class under the aggregate base; one ring per engine; sleep is told."""
    monkeypatch.setenv("RESPONDER_RECORDER", str(tmp_path))
    monkeypatch.setenv("RESPONDER_RECORDER_STEPS", "2000")
    kind = load()
    assert issubclass(kind, Aggregate)
    made = kind(vllm_config=config(), engine_indexes=[0, 1])
    made.log_engine_initialized()
    made.record(scheduler(num_running_reqs=1), iteration(), mm_cache_stats=None, engine_idx=0)
    made.record(scheduler(num_running_reqs=2), None, mm_cache_stats=object(), engine_idx=1)
    made.record(scheduler(), None, engine_idx=7, something_new=1)
    made.record_sleep_state(1, 2)
    rings = {parse(p.read_bytes()).head.engine: parse(p.read_bytes()) for p in tmp_path.glob("*.ring")}
    assert [r.running for r in rings[0].records] == [0, 1, 1]
    assert [r.running for r in rings[1].records] == [0, 2, 1]
    assert (rings[0].head.model, rings[0].head.vllm, rings[0].head.capacity) == ("m", "0.32.0", 2000)


def test_no_ring_file_is_no_reason_not_to_serve(vllm: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder that cannot be made: a warning, and nothing is recorded."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESPONDER_RECORDER", str(tmp_path / "file" / "x"))
    made = load()(config(), [0])
    made.record(scheduler(), iteration())
    assert made.engines == {}


def test_installed_but_unwanted_beside_disabled_statistics(vllm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM would turn statistics on for any stat logger: then it is not loaded at all."""
    monkeypatch.delenv("RESPONDER_RECORDER", raising=False)
    monkeypatch.setattr(sys, "argv", ["vllm", "serve", "m", "--disable-log-stats"])
    with pytest.raises(ImportError, match="installed but off"):
        load()


def test_a_vllm_without_the_interface_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 0.12; vLLM logs this and serves on."""
    for name in ("vllm", "vllm.v1", "vllm.v1.metrics", "vllm.v1.metrics.loggers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    with pytest.raises(ImportError, match=r"needs 0\.12 or later"):
        load()


def test_stacks_on_a_signal(tmp_path: Path) -> None:
    """Opt-in; every thread of a process, while its main thread is blocked; the process goes on."""
    code = (
        "import threading, time, sys\n"
        "from responder.recorder.stacks import register\n"
        "register(); register()\n"
        "threading.Thread(target=time.sleep, args=(60,), name='other', daemon=True).start()\n"
        "def stuck_here():\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.readline()\n"
        "stuck_here()\n"
        "print('went on', flush=True)\n"
    )
    environment = {**os.environ, "RESPONDER_RECORDER": str(tmp_path), "RESPONDER_STACKS_SIGNAL": "SIGUSR2"}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGUSR2)
        path = tmp_path / f"stacks-{child.pid}.txt"
        while "stuck_here" not in path.read_text():
            assert child.poll() is None
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "went on\n"
    assert path.read_text().count("most recent call first") >= 2


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "nonsense"])
def test_other_signals_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """Only the two that mean nothing to vLLM; and never an exception."""
    monkeypatch.setenv("RESPONDER_STACKS_SIGNAL", name)
    monkeypatch.setenv("RESPONDER_RECORDER", str(tmp_path))
    stacks.register()
    assert list(tmp_path.iterdir()) == []
