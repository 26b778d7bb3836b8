"""What do the direct peers say of the same moments? vllm-doctor and inference-doctor, as published on PyPI.

Each is asked as its own documentation says, against a Prometheus that holds that server's history alone and whose
clock is the moment's: a small proxy moves the times of their queries. SLOs for inference-doctor, which needs them:
2 s to the first token, 200 ms per token.
"""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence

from bench.scoring.histories import prometheus

Answers = dict[str, list[tuple[str, frozenset[str], str, str]]]
"""Peer -> (moment, truth, cause it was taken to say, its findings in its own words)."""
PACKAGES = ("vllm-doctor", "inference-doctor")
MEANS = {
    "vllm-doctor": {
        "kv_cache": "kv_pressure_preemption", "preemption": "kv_pressure_preemption", "queue": "capacity_exceeded",
        "ttft": "capacity_exceeded", "tpot": "slow_accelerator", "prefix": "prefix_cache_collapse",
        "imbalance": "routing_imbalance", "error": "engine_crash", "throughput": "insufficient_load",
    },
    "inference-doctor": {
        "kv": "kv_pressure_preemption", "queue": "capacity_exceeded", "prefill": "long_prompt_blocking",
        "decode": "slow_accelerator",
    },
}  # fmt: skip
"""A word in the name of a finding -> the cause it is taken for; in this order, the first that any finding has."""


def install(folder: pathlib.Path) -> dict[str, str]:
    """Package -> version, in an environment of its own; '' with the reason printed where it cannot be installed."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    out = {}
    for name in PACKAGES:
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", name],
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        asked = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=60)
        out[name] = asked.stdout.strip() if asked.returncode == 0 else ""
        if not out[name]:
            print(f"{name} could not be installed: {done.stderr.strip()[-300:]}")
    return out


def ask(
    moments: Sequence[tuple[str, frozenset[str], pathlib.Path, float]], folder: pathlib.Path, scratch: pathlib.Path,
    versions: dict[str, str], after_s: float = 15.0,
) -> Answers:  # fmt: skip
    """Peer -> (moment, truth, cause it was taken to say, its findings in its own words)."""
    out: Answers = {name: [] for name, version in versions.items() if version}
    for number, (name, causes, history, at) in enumerate(moments):
        text = _only(gzip.decompress(history.read_bytes()).decode(), name)
        with prometheus(text, scratch / f"peer{number}") as url, _shifted(url, at + after_s) as shifted:
            for peer in out:
                said = _run(peer, folder, shifted)
                out[peer].append((name, causes, _meant(peer, said), ", ".join(said) or "nothing"))
    return out


def _only(text: str, target: str) -> bytes:
    keep = f'instance="{target}"'
    return "\n".join(line for line in text.splitlines() if line.startswith("#") or keep in line).encode() + b"\n"


def _run(peer: str, folder: pathlib.Path, url: str) -> list[str]:
    """The names of its findings; `failed: …` when it ended without any."""
    tool = str(folder / "bin" / peer)
    if peer == "vllm-doctor":
        argv = [tool, "diagnose", url, "--output", "json"]
    else:
        argv = [tool, "diagnose", "--prometheus", url, "--window", "5m", "--fail-on", "never", "--json"]
        argv += ["--ttft-slo-ms", "2000", "--tpot-slo-ms", "200"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=folder)
    except subprocess.TimeoutExpired:
        return ["failed: no end within 120 s"]
    try:
        return _findings(json.loads(done.stdout))
    except ValueError:
        return [f"failed: {(done.stderr or done.stdout).strip()[-120:]}"]


def _findings(told: object) -> list[str]:
    """Ids of what its JSON says was found: vllm-doctor lists all checks, inference-doctor findings only."""
    if not isinstance(told, dict):
        return []
    checks = [row["id"] for row in told.get("checks", ()) if row.get("finding")]
    return checks + [row["id"] for row in told.get("findings", ())]


def _meant(peer: str, said: Sequence[str]) -> str:
    for word, cause in MEANS[peer].items():
        if any(word in re.sub(r"[\s-]", "_", name.lower()) and not name.startswith("failed") for name in said):
            return cause
    return "unknown"


@contextlib.contextmanager
def _shifted(url: str, at: float) -> Iterator[str]:
    """A proxy for which it is `at` now."""
    offset = at - time.time()

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._pass(dict(urllib.parse.parse_qsl(body.decode())))

        def _pass(self, form: dict[str, str]) -> None:
            parts = urllib.parse.urlsplit(self.path)
            asked = dict(urllib.parse.parse_qsl(parts.query)) | form
            for name in ("time", "start", "end"):
                if name in asked:
                    asked[name] = f"{_seconds(asked[name]) + offset:.3f}"
            if parts.path.endswith("/query"):
                asked.setdefault("time", f"{time.time() + offset:.3f}")
            query = urllib.parse.urlencode(asked)
            try:
                with urllib.request.urlopen(f"{url}{parts.path}?{query}", timeout=60) as answer:
                    status, kind, body = answer.status, answer.headers.get("Content-Type", ""), answer.read()
            except urllib.error.HTTPError as error:
                status, kind, body = error.code, error.headers.get("Content-Type", ""), error.read()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _seconds(text: str) -> float:
    from responder.backtest.times import moment

    return moment(text, time.time())
