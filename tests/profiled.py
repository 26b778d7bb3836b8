"""What do tests of obligations share? A fake vLLM in a process of its own, and a daemon's life that can be killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.live.harness.find import free_port

ROOT = Path(__file__).resolve().parents[1]
LIFE = """
import asyncio, sys
from pathlib import Path
import aiohttp, structlog
structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
from responder.model import Target
from responder.obligations import Obligations
from responder.store_sqlite import SqliteStore
async def main(folder, url, act):
    store = SqliteStore(folder); store.open()
    async with aiohttp.ClientSession() as http:
        duties = Obligations(store, http, folder / "obligations", keys=lambda: {"t": "sesame"})
        await duties.restore()
        if act == "begin":
            target = Target(name="t", url=url)
            within = float(sys.argv[4])
            await duties.owe(target, "torch_profiler", incident="i", within_s=within, repeat_safe=True)
            async with http.post(url + "/start_profile") as answer:
                print("begun", answer.status, flush=True)
            await asyncio.sleep(3600)
        while duties.open:
            await asyncio.sleep(0.01)
        print("settled", flush=True)
        await duties.stop()
    store.close()
asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
"""


@dataclass
class Fake:
    """The fake server, from outside."""

    url: str
    folder: Path
    pid: int

    def order(self, **orders: Any) -> None:
        """How it is to behave from now on."""
        (self.folder / "orders.json").write_text(json.dumps(orders))

    def asked(self, what: str) -> list[float]:
        """When it was asked to start or stop."""
        try:
            lines = (self.folder / "asked.txt").read_text().splitlines()
        except OSError:
            return []
        return [float(line.split()[0]) for line in lines if line.split()[1] == what]


@contextmanager
def fake_vllm(folder: Path) -> Iterator[Fake]:
    """One fake server."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "tests.fake_vllm", str(port), str(folder)], cwd=ROOT) as child:
        try:
            until(lambda: (folder / "up").exists(), 30)
            yield Fake(f"http://127.0.0.1:{port}", folder, child.pid)
        finally:
            child.kill()


def life(folder: Path, fake: Fake, act: str, within_s: float = 60.0) -> subprocess.Popen[str]:
    """A daemon's life as far as obligations go: `begin` a profile, or `settle` what is open."""
    argv = [sys.executable, "-c", LIFE, str(folder), fake.url, act, str(within_s)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(done: Callable[[], Any], seconds: float) -> None:
    """Wait for something that happens in another process."""
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.02)
