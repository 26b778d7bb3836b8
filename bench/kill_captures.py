"""Does anything of ours stay behind when we are killed in the middle? Profiles, ptrace captures, commands that cling.

    python -m bench.kill_captures [profiles=20] [never=3] [daemon=10] [ptrace=100] [commands=20] [jobs=2]

profiles: `responder capture … --step torch_profiler` on a real vLLM (started here), SIGKILLed at a random moment
while a profile is owed; then the daemon starts. Counted: from its start to the stop arriving at the server.
never: the same, and nobody comes back: the guard.
daemon: the same, but the daemon itself makes the profile and is killed; the one started then is the next victim.
ptrace: py-spy dumps killed at a random moment; counted: targets left stopped two seconds later.
commands: each hostile pattern so many times; survivors two seconds after the deadline.
jobs: how many ptrace targets, and how many patterns, at a time. Profiles go one after another: one server, one profile.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import machine
from responder import proc
from responder.model import ProcessInfo
from responder.ptrace import find_tool, left_stopped
from responder.runner import LocalRunner
from tests.live.harness import find, scenarios
from tests.live.harness.vllm_server import VllmServer

ROOT = pathlib.Path(__file__).resolve().parents[1]
SAFE = {"profiler": "torch", "torch_profiler_with_stack": False, "ignore_frontend": True, "max_iterations": 5}
STARTED, STOPPED = "Starting profiler", "api_router.py.*Stopping profiler"
"""What vLLM logs."""
PATTERNS = {
    "ignores SIGTERM": ["sh", "-c", "trap '' TERM; while :; do sleep {mark}; done"],
    "setsid child": ["sh", "-c", "setsid sleep {mark} & sleep 600"],
    "double fork": ["sh", "-c", "(sleep {mark} & exec sleep {mark}) & (setsid sleep {mark} &) ; sleep 600"],
    "pipe held by a grandchild": ["sh", "-c", "(setsid sleep {mark} &) ; exit 0"],
    "fork loop": ["sh", "-c", "while :; do setsid sleep {mark} & sleep 0.02; done"],
    "10 GB of output": ["sh", "-c", "setsid sleep {mark} & head -c 10G /dev/zero"],
}
BUSY = "import threading\ndef spin():\n    while True: sum(range(2000))\n" \
       "for _ in range(3): threading.Thread(target=spin, daemon=True).start()\nspin()"  # fmt: skip


@dataclass
class Profiles:
    """What came of killed profiles."""

    rounds: int = 0
    owed: int = 0
    """Rounds in which the kill met an open obligation."""
    seconds: list[float] = field(default_factory=list)
    """From the daemon's start (or the kill, when nobody comes back) to the stop at the server."""
    lost: int = 0
    """No stop seen in time."""
    dead: int = 0
    """The server did not answer a completion afterwards."""


def settings(folder: pathlib.Path, url: str) -> pathlib.Path:
    """A configuration that allows a profile of a busy test machine's only replica."""
    file = folder / "responder.yaml"
    policy = {"max_rung": 2, "last_replica": True, "cpu_load": 1000.0, "abort_after": 60.0}
    file.write_text(json.dumps({"apiVersion": "responder/v1", "data_dir": str(folder / "data"),
                                "targets": [{"url": url, "name": "t", "capture": policy}]}))  # fmt: skip
    return file


def owed(folder: pathlib.Path) -> list[pathlib.Path]:
    """Obligations in force."""
    return list((folder / "data" / "obligations").glob("*.json"))


def killed_profile(folder: pathlib.Path, draw: random.Random, began: Callable[[], bool]) -> bool:
    """One capture, killed at a random moment after its start was asked for; whether an end was owed then."""
    argv = [sys.executable, "-m", "responder", "capture", "t", "--step", "torch_profiler", "--config",
            str(folder / "responder.yaml")]  # fmt: skip
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        limit = time.monotonic() + 90
        while not began() and child.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 1.5))
        child.kill()
        child.wait()
    return bool(owed(folder))


def restarted(folder: pathlib.Path, url: str, until: Callable[[], bool]) -> float | None:
    """Start the daemon; seconds until the stop arrived at the server, None if it never did."""
    argv = [sys.executable, "-m", "responder", "run", "--config", str(folder / "responder.yaml"), "--listen",
            f"127.0.0.1:{find.free_port()}"]  # fmt: skip
    began = time.monotonic()
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        took = waited(until, 60, began)
        waited(lambda: not owed(folder), 60, began)
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
    return took


def waited(until: Callable[[], bool], seconds: float, began: float) -> float | None:
    """Seconds since `began` when it happened."""
    while time.monotonic() < began + seconds:
        if until():
            return time.monotonic() - began
        time.sleep(0.01)
    return None


class Log:
    """How often the server has said something; each look reads only what was added."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path, self._at, self._rest = path, 0, ""
        self._counts = {STARTED: 0, STOPPED: 0}

    def seen(self, words: str) -> int:
        """Lines so far with STARTED or STOPPED."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        self._at += len(new)
        *lines, self._rest = (self._rest + new.decode(errors="replace")).split("\n")
        for line in lines:
            for pattern in self._counts:
                self._counts[pattern] += re.search(pattern, line) is not None
        return self._counts[words]


def profiles(url: str, log: pathlib.Path, folder: pathlib.Path, count: int, never: int,
             completes: Callable[[], bool]) -> tuple[Profiles, Profiles]:  # fmt: skip
    """Kill `count` profiles and come back, kill `never` and do not."""
    draw, back, gone = random.Random(7), Profiles(), Profiles()
    settings(folder, url)

    seen = Log(log).seen
    for number in range(count + never):
        result = back if number < count else gone
        starts, stops = seen(STARTED), seen(STOPPED)
        result.rounds += 1
        open_end = killed_profile(folder, draw, lambda n=starts: seen(STARTED) > n)  # type: ignore[misc]
        if open_end:
            result.owed += 1
            already = seen(STOPPED) > stops
            stops = seen(STOPPED) if already else stops
            arrived: Callable[[], bool] = lambda n=stops: seen(STOPPED) > n  # type: ignore[misc]  # noqa: E731
            took = restarted(folder, url, arrived) if result is back else waited(arrived, 100, time.monotonic())
            if took is None:
                result.lost += 1
            else:
                result.seconds.append(took)
            if result is gone:
                waited(lambda: not owed(folder), 60, time.monotonic())
        result.dead += not completes()
        print(f"  {number + 1}/{count + never}: owed {open_end}, {result.seconds[-1:]}", flush=True)
    return back, gone


class Daemon:
    """`responder run` in a process of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.url = f"http://127.0.0.1:{find.free_port()}"
        argv = [sys.executable, "-m", "responder", "run", "--config", str(folder / "responder.yaml"), "--listen",
                self.url.removeprefix("http://")]  # fmt: skip
        self.began = time.monotonic()
        self.child = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ready(self) -> bool:
        """Whether it takes requests."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def profile(self) -> threading.Thread:
        """Ask it for a profile; the answer comes when it is done, or never."""

        def ask() -> None:
            body = json.dumps({"target": "t", "step": "torch_profiler", "params": {}}).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{self.url}/api/v1/captures", data=body, headers=headers)
            with contextlib.suppress(OSError, http.client.HTTPException):
                urllib.request.urlopen(request, timeout=120).close()

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        return thread

    def kill(self) -> None:
        """SIGKILL, no last words."""
        self.child.kill()
        self.child.wait()


def daemons(url: str, log: pathlib.Path, folder: pathlib.Path, count: int, completes: Callable[[], bool]) -> Profiles:
    """Kill the daemon in the middle of its own profile, start it again, see the stop arrive; `count` times."""
    draw, result = random.Random(11), Profiles()
    settings(folder, url)
    seen = Log(log).seen
    daemon = Daemon(folder)
    try:
        for number in range(count):
            waited(daemon.ready, 60, time.monotonic())
            starts, stops = seen(STARTED), seen(STOPPED)
            asked = daemon.profile()
            waited(lambda n=starts: seen(STARTED) > n, 60, time.monotonic())  # type: ignore[misc]
            time.sleep(draw.uniform(0.0, 1.5))
            daemon.kill()
            open_end = bool(owed(folder))
            asked.join(10)
            daemon = Daemon(folder)
            result.rounds += 1
            result.owed += open_end
            if open_end:
                took = waited(lambda n=stops: seen(STOPPED) > n, 60, daemon.began)  # type: ignore[misc]
                result.lost += took is None
                result.seconds += [] if took is None else [took]
                waited(lambda: not owed(folder), 60, time.monotonic())
            result.dead += not completes()
            print(f"  daemon {number + 1}/{count}: owed {open_end}, {result.seconds[-1:]}", flush=True)
    finally:
        daemon.kill()
    return result


async def ptraces(count: int, jobs: int) -> tuple[int, int, int]:
    """Of all jobs together: what `_ptraces` counts."""
    parts = [count // jobs + (k < count % jobs) for k in range(jobs)]
    told = await asyncio.gather(*(_ptraces(part, seed) for seed, part in enumerate(parts, 3)))
    return sum(t[0] for t in told), sum(t[1] for t in told), sum(t[2] for t in told)


async def _ptraces(count: int, seed: int) -> tuple[int, int, int]:
    """Until so many kills met a running tracer: (dumps begun, targets stopped two seconds later, set going by us)."""
    tool, draw, runner = find_tool(), random.Random(seed), LocalRunner()
    if tool is None:
        raise SystemExit("py-spy is not installed")
    with subprocess.Popen([sys.executable, "-c", BUSY]) as child:  # noqa: ASYNC220 - a benchmark may wait
        try:
            await asyncio.sleep(1.0)
            seen = proc.stat(child.pid)
            assert seen is not None
            target = ProcessInfo(pid=child.pid, ppid=0, started_at=seen.started_at, role="worker", name="busy")
            whole = (await runner.run([tool, "dump", "--pid", str(child.pid)], timeout=20)).seconds
            dumps = met = stopped = helped = 0
            while met < count:
                dumps += 1
                soon = draw.uniform(0.05, 0.6) * whole
                said = await runner.run([tool, "dump", "--pid", str(child.pid)], timeout=soon)
                met += said.code is None
                helped += bool(await left_stopped(target))
                limit = time.monotonic() + 2.0
                while any(t.state in proc.STOPPED for t in proc.threads(child.pid).values()):
                    if time.monotonic() > limit:
                        stopped += 1
                        os.kill(child.pid, signal.SIGCONT)
                        break
                    await asyncio.sleep(0.02)
            return dumps, stopped, helped
        finally:
            child.kill()


async def commands(count: int, jobs: int, deadline_s: float = 0.3) -> dict[str, tuple[int, float]]:
    """Pattern -> (survivors two seconds after the deadline, longest time the call took)."""
    room = asyncio.Semaphore(jobs)

    async def one(name: str, tag: int) -> tuple[int, float]:
        async with room:
            return await _command(PATTERNS[name], count, tag, deadline_s)

    told = await asyncio.gather(*(one(name, tag) for tag, name in enumerate(PATTERNS, 1)))
    return dict(zip(PATTERNS, told, strict=True))


async def _command(pattern: list[str], count: int, tag: int, deadline_s: float) -> tuple[int, float]:
    runner, survivors, longest = LocalRunner(), 0, 0.0
    for number in range(count):
        mark = f"{600 + number}.{tag}{os.getpid() % 100000:05d}"
        began = time.monotonic()
        await runner.run([part.replace("{mark}", mark) for part in pattern], timeout=deadline_s)
        longest = max(longest, time.monotonic() - began)
        while (left := living(mark)) and time.monotonic() < began + deadline_s + 2.0:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        survivors += left
    return survivors, longest


def living(mark: str) -> int:
    """How many processes carry this mark in their command line."""
    return sum(any(mark in word for word in proc.command(pid)) for pid in proc.processes() if pid != os.getpid())


def say(what: str, result: Profiles, unit: str) -> None:
    """One line."""
    took = result.seconds
    spread = f"{statistics.median(took):.2f} s median, {max(took):.2f} s worst" if took else "none"
    print(f"{what}: {result.rounds} kills, {result.owed} with an end owed; stop {unit}: {spread}; "
          f"{result.lost} never stopped; server dead after {result.dead}")  # fmt: skip


def main(argv: list[str]) -> None:
    """Run what is asked for and print the figures."""
    asked = {"profiles": "20", "never": "3", "daemon": "10", "ptrace": "100", "commands": "20", "jobs": "2"} | dict(
        a.split("=", 1) for a in argv
    )
    print(machine.describe())
    count, never, through, jobs = (int(asked[name]) for name in ("profiles", "never", "daemon", "jobs"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        if count + never + through:
            options = json.dumps({**SAFE, "torch_profiler_dir": str(folder / "traces")})
            with VllmServer(folder, (*scenarios.ROOMY, "--profiler-config", options)) as server:
                back, gone = profiles(server.url, server.log, folder, count, never, server.completes)
                killed = daemons(server.url, server.log, folder, through, server.completes) if through else Profiles()
            say("profile, daemon restarted", back, "after the daemon's start")
            say("the daemon's own profile, daemon restarted", killed, "after the daemon's start")
            say("profile, nobody comes back", gone, "after the kill, by the guard")
    if int(asked["ptrace"]):
        dumps, stopped, helped = asyncio.run(ptraces(int(asked["ptrace"]), jobs))
        print(f"ptrace: {asked['ptrace']} killed in flight, of {dumps} dumps begun; left stopped over 2 s: {stopped}; "
              f"set going by us: {helped}")  # fmt: skip
    if int(asked["commands"]):
        for name, (left, longest) in asyncio.run(commands(int(asked["commands"]), jobs)).items():
            print(f"command, {name}: {asked['commands']} times, survivors {left}, longest call {longest:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
