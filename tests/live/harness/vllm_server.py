"""How do we get a real vLLM? Starts one with the tiny model, knows its processes by role, ends all of them.

On CPU; where RESPONDER_LAB_DEVICE is `cuda`, on the GPU, with weights that vLLM makes up for RESPONDER_LAB_MODEL.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Self

import psutil

from tests.live.harness import find, processes

SERVED_AS = "tiny"
START_WITHIN_S = 400.0
"""Half a minute on a machine of two idle cores; a crowded one needs many times that."""
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOG_STATS_INTERVAL": "1",
    "PYTHONUNBUFFERED": "1",
}
DEVICES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    # The worker spins on its core between steps. One core for it, the rest for the front end, Prometheus, the daemon
    # and the load generator; otherwise they starve each other on a two-core machine. (The default also keeps one core
    # free, but takes all others, and starts with core 0 whoever is there already.)
    "cpu": (
        {"VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"},
        ("--enforce-eager",),
    ),
    # A worker process of its own, as with several GPUs, so that it can be stopped apart from the engine.
    "cuda": (
        {"VLLM_USE_FLASHINFER_SAMPLER": "0"},
        ("--load-format", "dummy", "--distributed-executor-backend", "mp"),
    ),
}
"""Environment and flags by device. FlashInfer's sampler would be compiled at the first start, which takes minutes."""
FAIR = pathlib.Path(__file__).parent / "fair"
"""First on vLLM's PYTHONPATH: with it a busy vLLM lets others onto its core, whatever the kernel."""


def fair(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment, its PYTHONPATH led by FAIR."""
    return over(environment, {"PYTHONPATH": str(FAIR)})


def over(environment: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Both; the PYTHONPATH of `more` leads the one that is there: on some machines vLLM itself is found by that."""
    paths = [given["PYTHONPATH"] for given in (more, environment) if given.get("PYTHONPATH")]
    return {**environment, **more} | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


class VllmServer:
    """One vLLM server: `with VllmServer(folder, flags) as server`."""

    def __init__(
        self,
        folder: pathlib.Path,
        flags: Sequence[str] = (),
        *,
        port: int | None = None,
        name: str = "vllm",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or find.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.flags = tuple(flags)
        self.environment = dict(environment or {})
        self.log = folder / f"{name}.log"
        self.started_in_s = 0.0
        self._device = DEVICES[os.environ.get("RESPONDER_LAB_DEVICE", "cpu")]
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def start(self, *, deadline_s: float = START_WITHIN_S) -> None:
        """Start and wait until it serves; RuntimeError with the log's end otherwise."""
        began = time.monotonic()
        self.launch()
        self.wait_until_up(deadline_s=deadline_s)
        self.started_in_s = time.monotonic() - began

    def launch(self) -> None:
        """Start without waiting; from the main thread, see `processes`."""
        argv = [
            find.vllm_python(),
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            str(find.model()),
            "--served-model-name",
            SERVED_AS,
        ]
        argv += [
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--disable-uvicorn-access-log",
            *self._device[1],
            *self.flags,
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("VLLM_", "OMP_"))} | ENVIRONMENT
        environment |= self._device[0]
        if "VLLM_CPU_KVCACHE_SPACE" in environment and (os.cpu_count() or 1) > 1:
            environment["VLLM_CPU_OMP_THREADS_BIND"] = _least_busy_core()
        self._child = processes.start(argv, self.log, env=fair(over(environment, self.environment)))

    def wait_until_up(self, *, deadline_s: float = START_WITHIN_S) -> None:
        """Poll until it serves; ends it if that does not happen."""
        limit = time.monotonic() + deadline_s
        try:
            while time.monotonic() < limit:
                if not self.alive():
                    raise RuntimeError(f"vLLM ended while starting:\n{self.log_end()}")
                if self.health() == 200 and self.completes(timeout_s=30):
                    return
                time.sleep(0.25)
            raise RuntimeError(f"vLLM was not up in time:\n{self.log_end()}")
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End every process of the server, orphans included."""
        if self._child is not None:
            processes.end(self._child)
            self._child = None

    def terminate(self, *, patience_s: float = 40.0) -> None:
        """End it the way a deploy does: SIGTERM to the API server, which takes the others along."""
        if self._child is not None:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(patience_s)
        self.end()

    # ------------------------------------------------------------------------------------------------- who is who

    @property
    def api_server(self) -> int:
        """Pid of the API server."""
        if self._child is None:
            raise RuntimeError("the server is not running")
        return self._child.pid

    @property
    def engine_core(self) -> int:
        """Pid of the EngineCore process."""
        return self._by_title("VLLM::EngineCor")[0]

    @property
    def worker(self) -> int:
        """Pid of the first worker process: of the only one, or of rank 0."""
        return self._by_title("VLLM::Worker")[0]

    @property
    def last_worker(self) -> int:
        """Pid of the worker that was started last: of the last rank."""
        return self._by_title("VLLM::Worker")[-1]

    def pids(self) -> list[int]:
        """Every living process of the server, orphans included."""
        return processes.session(self._child.pid) if self._child is not None else []

    def _by_title(self, title: str) -> list[int]:
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip().startswith(title[:15]):
                    found.append(pid)
        if not found:
            raise RuntimeError(f"the server has no process called {title}")
        return found

    # ------------------------------------------------------------------------------------------- does it serve on

    def alive(self) -> bool:
        """Whether the API server process exists."""
        return self._child is not None and self._child.poll() is None

    def health(self, *, timeout_s: float = 2.0) -> int:
        """HTTP status of /health; 0 when it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=timeout_s) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            refused.close()
            return refused.code
        except OSError:
            return 0

    def completes(self, *, timeout_s: float = 15.0) -> bool:
        """Whether a two-token completion comes back in time: the only proof that the server serves."""
        body = json.dumps(
            {"model": SERVED_AS, "prompt": " one two three", "max_tokens": 2, "ignore_eos": True}
        ).encode()
        request = urllib.request.Request(
            f"{self.url}/v1/completions", data=body, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return bool(json.load(answer)["usage"]["completion_tokens"] == 2)
        except (OSError, ValueError, KeyError):
            return False

    def metrics(self, *, timeout_s: float = 3.0) -> str:
        """The text of /metrics; OSError when it does not answer."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=timeout_s) as answer:
            return str(answer.read().decode())

    def log_end(self, size: int = 3000) -> str:
        """The last characters of the server's log."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else "(no log)"


def _least_busy_core() -> str:
    """The core with the least work right now: another server's worker may spin on the first one."""
    busy = psutil.cpu_percent(interval=0.5, percpu=True)
    return str(min(range(len(busy)), key=lambda core: busy[core]))
