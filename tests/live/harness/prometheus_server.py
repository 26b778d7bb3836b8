"""How do we get a real Prometheus? Starts one that scrapes the given servers, and asks it questions."""

from __future__ import annotations

import json
import pathlib
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Self

from tests.live.harness import find, processes


class PrometheusServer:
    """One Prometheus with an empty history: `with PrometheusServer(folder, [server.url]) as prometheus`."""

    def __init__(self, folder: pathlib.Path, targets: Sequence[str], *, scrape_interval_s: float = 1.0,
                 exporters: Sequence[str] = ()) -> None:  # fmt: skip
        self.folder = folder
        self.targets = tuple(targets)
        self.exporters = tuple(exporters)
        self.scrape_interval_s = scrape_interval_s
        self.port = find.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "prometheus.log"
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def start(self, *, deadline_s: float = 30.0) -> None:
        """Start and wait until it is ready and every target has been scraped once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "prometheus.yml"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        argv = [find.binary("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={self.folder / 'tsdb'}"]
        argv += [f"--web.listen-address=127.0.0.1:{self.port}", "--storage.tsdb.retention.time=2h", "--log.level=warn"]
        self._child = processes.start(argv, self.log)
        limit = time.monotonic() + deadline_s
        while time.monotonic() < limit:
            if self._child.poll() is not None:
                break
            if self._ready() and len(self.query('up{job="vllm"}')) == len(self.targets):
                return
            time.sleep(0.1)
        end = self.log.read_text()[-2000:]
        self.end()
        raise RuntimeError(f"Prometheus did not come up:\n{end}")

    def _config(self) -> dict[str, object]:
        hosts = [t.removeprefix("http://") for t in self.targets]
        interval = f"{int(self.scrape_interval_s * 1000)}ms"
        # A scrape that hangs (a frozen API server) must not take longer than the interval.
        jobs = {"vllm": hosts, **({"dcgm": list(self.exporters)} if self.exporters else {})}
        return {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": t}]} for job, t in jobs.items()],
        }

    def end(self) -> None:
        """Stop it."""
        if self._child is not None:
            processes.end(self._child, patience_s=5)
            self._child = None

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def query(self, promql: str) -> list[dict[str, object]]:
        """Instant query; the result vector."""
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}", timeout=5
            ) as answer:
                return list(json.load(answer)["data"]["result"])
        except OSError:
            return []
