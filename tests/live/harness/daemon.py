"""How does the real daemon run in an experiment? As its users start it: a subprocess, `responder run …`."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Self

from tests.live.harness import find, processes


class Daemon:
    """One `responder run`: `with Daemon(folder, server.url, prometheus.url, receiver.url) as daemon`.

    `prometheus` None lets it start its own. Starting it again after `end` or `kill` uses the same data directory.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        target: str,
        prometheus: str | None,
        webhook: str | None,
        *,
        thresholds: Mapping[str, float] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.log = folder / "responder.log"
        self.url = f"http://127.0.0.1:{find.free_port()}"
        self.started_in_s = 0.0
        self._target = target
        self._prometheus = prometheus
        self._webhook = webhook
        self._config = {
            "apiVersion": "responder/v1",
            "targets": [{"url": target, "thresholds": dict(thresholds or {})}],
            **(settings or {}),
        }
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def start(self, *, deadline_s: float = 20.0) -> None:
        """Start and wait until /readyz answers 200; RuntimeError with its log otherwise."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "responder.yaml"
        config.write_text(json.dumps(self._config))  # JSON is YAML
        argv = [sys.executable, "-m", "responder", "run", "--target", self._target, "--data-dir", str(self.data_dir)]
        argv += ["--config", str(config), "--listen", self.url.removeprefix("http://")]
        argv += ["--prometheus", self._prometheus] if self._prometheus else []
        argv += ["--webhook", self._webhook] if self._webhook else []
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RESPONDER_")}
        began = time.monotonic()
        self._child = processes.start(argv, self.log, env=environment, cwd=find.ROOT)
        while time.monotonic() < began + deadline_s:
            if self._child.poll() is not None:
                raise RuntimeError(f"responder ended with {self._child.returncode} while starting:\n{self.log_end()}")
            if self._get("/readyz")[0] == 200:
                self.started_in_s = time.monotonic() - began
                return
            time.sleep(0.02)
        self.end()
        raise RuntimeError(f"responder was not ready within {deadline_s:.0f} s:\n{self.log_end()}")

    def end(self) -> int | None:
        """SIGTERM; gives the exit status. It has promised to leave within ten seconds."""
        if self._child is None:
            return None
        child, self._child = self._child, None
        processes.end(child, patience_s=10)
        return child.returncode

    def kill(self) -> None:
        """kill -9: what a crash looks like to the next start."""
        if self._child is not None:
            os.kill(self._child.pid, signal.SIGKILL)
            processes.end(self._child)
            self._child = None

    @property
    def pid(self) -> int:
        """Pid of the running daemon."""
        if self._child is None:
            raise RuntimeError("the daemon is not running")
        return self._child.pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self._child is not None and self._child.poll() is None

    def metric(self, name: str) -> dict[str, float]:
        """Its own metric, label set -> value; empty when it has none of that name."""
        found = {}
        for line in self._get("/metrics")[1].splitlines():
            series, _, value = line.rpartition(" ")
            if series == name or series.startswith(name + "{"):
                found[series.removeprefix(name)] = float(value)
        return found

    def folders(self) -> list[pathlib.Path]:
        """Incident folders, oldest first."""
        place = self.data_dir / "incidents"
        return sorted(place.iterdir(), key=lambda p: p.stat().st_mtime) if place.is_dir() else []

    def log_end(self, size: int = 4000) -> str:
        """The last characters of its log."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else "(no log)"

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=2) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode(errors="replace")
        except OSError:
            return 0, ""
