"""No Prometheus at hand? Start a private one: a real engine as the embedded default, no home-made PromQL."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import structlog

from responder.model import Target

log = structlog.get_logger()
LOG_MAX, LOG_KEPT = 8 << 20, 1 << 20
"""Bytes of its log, and of its end that is kept when it has become too long."""
RETENTION = "2h"
READY_TIMEOUT_S = 30.0
PR_SET_PDEATHSIG = 1


class PrometheusMissing(Exception):
    """No prometheus binary; the message says how to get one."""


def find_binary(name: str = "prometheus") -> str:
    """Path of the binary: $RESPONDER_PROMETHEUS, PATH, or .tools/usr/bin beside us. PrometheusMissing otherwise."""
    places = [os.environ.get(f"RESPONDER_{name.upper()}", ""), shutil.which(name) or ""]
    places += [str(base / ".tools/usr/bin" / name) for base in (Path.cwd(), Path(__file__).resolve().parent.parent)]
    for place in places:
        if place and os.access(place, os.X_OK):
            return place
    raise PrometheusMissing(
        f"no `{name}` binary found: install it (Debian: apt-get install prometheus), set RESPONDER_{name.upper()} to "
        "its path, or give the URL of a running one with --prometheus"
    )


def configuration(targets: Sequence[Target], scrape_interval_s: float) -> str:
    """prometheus.yml that scrapes every target's /metrics and labels the series instance=host:port."""
    lines = ["global:", f"  scrape_interval: {scrape_interval_s:g}s", f"  scrape_timeout: {scrape_interval_s:g}s"]
    lines += ["scrape_configs:"]
    for index, target in enumerate(targets):
        url = urlsplit(target.url)
        lines += [
            f"  - job_name: vllm-{index}",
            f"    scheme: {url.scheme}",
            f"    metrics_path: {url.path.rstrip('/')}/metrics",
            "    static_configs:",
            f"      - targets: ['{url.netloc.rsplit('@', 1)[-1]}']",
            "    metric_relabel_configs:",
            "      - {source_labels: [__name__], regex: '.*_created', action: drop}",
        ]
    return "\n".join(lines) + "\n"


def free_port() -> int:
    """A loopback TCP port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
"""Looked up before there are threads: between fork and exec as little as possible may be asked of Python."""


def _die_with_parent() -> None:
    # Without this a SIGKILLed daemon leaves a scraping orphan behind.
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _shorten(path: Path) -> None:
    """Its log is bounded: over LOG_MAX the end of it is kept beside, and it begins anew (the child appends, so it goes
    on at the new end)."""
    if path.stat().st_size <= LOG_MAX:
        return
    with path.open("rb") as log_file:
        log_file.seek(-LOG_KEPT, os.SEEK_END)
        with contextlib.suppress(OSError):  # on a full disk the room is worth more than the words
            path.with_suffix(".log.1").write_bytes(log_file.read(LOG_KEPT))
    os.truncate(path, 0)


class PrivatePrometheus:
    """A child Prometheus with its data in `folder`; `url` is where it answers once `start` has returned."""

    def __init__(
        self, folder: Path, targets: Sequence[Target], scrape_interval_s: float, *, retention: str = RETENTION
    ) -> None:
        self.folder = folder
        self.retention = retention
        self.targets = targets
        self.scrape_interval_s = scrape_interval_s
        self.url = ""
        self._child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready. PrometheusMissing without a binary; RuntimeError if it dies."""
        binary = find_binary()
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "prometheus.yml"
        config.write_text(configuration(self.targets, self.scrape_interval_s))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        said = (self.folder / "prometheus.log").open("ab")
        try:
            self._child = await asyncio.create_subprocess_exec(
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={self.folder / 'tsdb'}",
                f"--storage.tsdb.retention.time={self.retention}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--web.enable-lifecycle",
                "--log.level=warn",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                preexec_fn=_die_with_parent,
            )
        finally:
            said.close()
        await self._wait_ready()

    async def reload(self, targets: Sequence[Target]) -> None:
        """Scrape these targets from now on."""
        self.targets = targets
        (self.folder / "prometheus.yml").write_text(configuration(targets, self.scrape_interval_s))
        if self._child and self._child.returncode is None:
            self._child.send_signal(signal.SIGHUP)

    async def ensured(self) -> str:
        """Where it answers; started again if it died. Never raises: rounds of detection go on without it."""
        with contextlib.suppress(OSError):
            _shorten(self.folder / "prometheus.log")
        if self._child is not None and self._child.returncode is not None:
            hint = str(self.folder / "prometheus.log")
            try:
                await self.start()
                log.error("prometheus.restarted", hint=hint)
            except (PrometheusMissing, RuntimeError, OSError) as error:
                log.error("prometheus.not_started", reason=str(error), hint=hint)
        return self.url

    async def stop(self) -> None:
        """End it: TERM, three seconds, KILL."""
        child = self._child
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(3.0):
                await child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    async def _wait_ready(self) -> None:
        assert self._child is not None
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        timeout = aiohttp.ClientTimeout(total=1.0)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while asyncio.get_running_loop().time() < deadline:
                if self._child.returncode is not None:
                    raise RuntimeError(
                        f"the private Prometheus ended with status {self._child.returncode}; "
                        f"see {self.folder / 'prometheus.log'}"
                    )
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(f"{self.url}/-/ready") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)
        raise RuntimeError(f"the private Prometheus was not ready after {READY_TIMEOUT_S:.0f} s")
