"""Where are vLLM, Prometheus and the model on this machine? `make setup` puts them there; nothing is fetched here."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
TOOLS = ROOT / ".tools" / "usr" / "bin"
CACHE = ROOT / ".cache"
MODEL_SCRIPT = pathlib.Path(__file__).with_name("make_model.py")


class NotInstalled(RuntimeError):
    """Something `make setup` installs is not there; the message says what and how to get it."""


def binary(name: str) -> str:
    """Path of `prometheus`, `promtool` or `prometheus-alertmanager`: PATH first, then .tools/."""
    found = shutil.which(name) or shutil.which(name, path=str(TOOLS))
    if found is None:
        raise NotInstalled(f"{name} is neither on PATH nor in {TOOLS}; `make setup` puts it there")
    return found


def vllm_python() -> str:
    """The Python that can import vLLM: RESPONDER_VLLM_PYTHON, or the environment `make setup` made."""
    named = os.environ.get("RESPONDER_VLLM_PYTHON")
    path = pathlib.Path(named) if named else ROOT / ".venv-vllm" / "bin" / "python"
    if not path.exists():
        raise NotInstalled(f"{path} does not exist; `make setup` makes it, RESPONDER_VLLM_PYTHON names another")
    return str(path)


def model() -> pathlib.Path:
    """The folder of the tiny model, made on first use; the script's own text is part of the folder's name.

    RESPONDER_LAB_MODEL names another folder; it needs a `words.json`, see `bench.faults.large_model`.
    """
    if named := os.environ.get("RESPONDER_LAB_MODEL"):
        return pathlib.Path(named)
    folder = CACHE / f"tiny-llama-{_fingerprint(MODEL_SCRIPT.read_bytes())}"
    if (folder / "config.json").exists():
        return folder
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        made = pathlib.Path(scratch) / "model"
        subprocess.run(
            [vllm_python(), str(MODEL_SCRIPT), str(made)], check=True, timeout=300, stdout=subprocess.DEVNULL
        )
        with contextlib.suppress(OSError):  # another run renamed its own copy into place first: theirs is as good
            made.rename(folder)
    return folder


def free_port() -> int:
    """A loopback port nobody uses right now; vLLM and Prometheus cannot be asked which one they got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fingerprint(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()[:10]
