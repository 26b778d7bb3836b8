"""What does the step recorder cost the server it runs in? Switched on and off in one server, under the same load.

    python -m bench.recorder_cost --micro                  (record() alone, no server: nanoseconds a step)
    python -m bench.recorder_cost [PAIRS] [SECONDS]        (here, on CPU, with the tiny model)
    python bench/recorder_cost.py --python python3 --model DIR --site SITE --streams 32 -- --load-format dummy …

Standard library only, so that it runs wherever vLLM does, also on a machine without network. A plugin of this
benchmark wraps the recorder and looks at one byte of a shared file for every step: 1 records, 0 does not. So both
halves of a pair are the same process, the same caches, the same minute; which half comes first is drawn. Printed: what
record() itself took (CPU time), and the paired differences of tokens/s and of ITL with their 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import random
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from responder.recorder.unpack import unpack  # noqa: E402 - a script that is run from anywhere

SETTLE_S = 1.0
FEWEST = 200
"""Tokens a half needs: on a machine that others use a half may see none at all."""
PLUGIN = '''
import mmap, os, struct, time
from responder.recorder.plugin import StepRecorder

_file = open(os.environ["RECORDER_SWITCH"], "r+b")
_shared = mmap.mmap(_file.fileno(), 32)
_now = time.thread_time_ns
_looks = [-(_now() - _now()) for _ in range(2001)]
LOOK = sorted(_looks)[1000]
"""What looking at the clock takes, which is not the recorder's."""

class Switched(StepRecorder):
    """The recorder, on while the first byte is 1; counts its calls and its nanoseconds."""
    calls = nanos = 0
    def record(self, *args, **kwargs):
        if not _shared[0]:
            return
        before = _now()
        super().record(*args, **kwargs)
        Switched.nanos += max(0, _now() - before - LOOK)
        Switched.calls += 1
        _shared[8:24] = struct.pack("<QQ", Switched.calls, Switched.nanos)
'''


def plugin_folder(folder: Path) -> Path:
    """The recorder's code with this benchmark's entry point instead of its own."""
    unpack(folder)
    for info in folder.glob("*.dist-info"):
        (info / "entry_points.txt").write_text("[vllm.stat_logger_plugins]\nswitched = bench_switch:Switched\n")
    (folder / "bench_switch.py").write_text(PLUGIN)
    return folder


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Server:
    """vLLM with the switched recorder."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.port = free_port()
        switch = folder / "switch"
        # Where it is by default: memory. On a disk, write-back makes pages read-only and every re-use a page fault.
        rings = Path(tempfile.mkdtemp(prefix="recorder-cost-", dir="/dev/shm"))
        self.rings = rings
        switch.write_bytes(bytes(32))
        with switch.open("r+b") as file:
            self.shared = mmap.mmap(file.fileno(), 32)
        path = [str(plugin_folder(folder / "plugin")), *([options.site] if options.site else [])]
        environment = {
            **os.environ,
            "PYTHONPATH": ":".join(path),
            "RECORDER_SWITCH": str(switch),
            "RESPONDER_RECORDER": str(rings),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        }
        argv = [
            options.python,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            options.model,
            "--served-model-name",
            "m",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--disable-uvicorn-access-log",
            *options.flags,
        ]
        self.log = folder / "vllm.log"
        with self.log.open("wb") as out:
            self.child = subprocess.Popen(argv, env=environment, stdout=out, stderr=out, start_new_session=True)

    def wait(self, seconds: float = 420.0) -> None:
        """Until it serves."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and self.child.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2):
                    return
            except OSError:
                time.sleep(1)
        raise SystemExit(f"vLLM did not come up:\n{self.log.read_text(errors='replace')[-3000:]}")

    def switch(self, on: bool) -> None:
        """Record from now on, or not."""
        self.shared[0] = int(on)

    def spent(self) -> tuple[int, int]:
        """Calls and nanoseconds of record() so far."""
        calls, nanos = struct.unpack("<QQ", self.shared[8:24])
        return calls, nanos

    def end(self) -> None:
        """Every process of it."""
        os.killpg(self.child.pid, signal.SIGTERM)
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.child.pid, signal.SIGKILL)
        shutil.rmtree(self.rings, ignore_errors=True)


class Half:
    """What the client saw in one half."""

    def __init__(self) -> None:
        self.tokens = 0
        self.gaps: list[float] = []


class Load:
    """So many endless streams, one after the other on each connection; every token's arrival is dated."""

    def __init__(self, port: int, streams: int, output: int) -> None:
        self.port, self.output = port, output
        self.half: Half | None = None
        self.tasks = [asyncio.create_task(self._stream(k)) for k in range(streams)]

    async def _stream(self, number: int) -> None:
        rng = random.Random(number)
        while True:
            body = json.dumps(
                {
                    "model": "m",
                    "prompt": [rng.randrange(5, 200) for _ in range(32)],
                    "max_tokens": self.output,
                    "stream": True,
                    "ignore_eos": True,
                    "temperature": 0,
                }
            ).encode()
            head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            head += "Content-Type: application/json\r\n"
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            last = None
            while line := await reader.readline():
                if line.startswith(b"data: {"):
                    now = time.monotonic()
                    if self.half is not None:
                        self.half.tokens += 1
                        if last is not None:
                            self.half.gaps.append(now - last)
                    last = now
            writer.close()

    def stop(self) -> None:
        """End all streams."""
        for task in self.tasks:
            task.cancel()


async def measure(server: Server, options: argparse.Namespace) -> list[dict[bool, Half]]:
    """All pairs."""
    load, draw, pairs = Load(server.port, options.streams, options.output), random.Random(11), []
    await asyncio.sleep(5)
    for number in range(options.pairs):
        pair = {}
        for on in draw.sample([False, True], 2):
            server.switch(on)
            await asyncio.sleep(SETTLE_S)
            load.half = pair[on] = Half()
            await asyncio.sleep(options.seconds)
            load.half = None
        pairs.append(pair)
        if number % 5 == 4:
            print(f"  pair {number + 1} of {options.pairs}", flush=True)
    load.stop()
    return pairs


def interval(values: list[float]) -> tuple[float, float, float]:
    """Median and its 95 % bootstrap interval."""
    rng = random.Random(5)
    drawn = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(4000))
    return statistics.median(values), drawn[100], drawn[3899]


def report(pairs: list[dict[bool, Half]], server: Server, seconds: float) -> None:
    """The figures."""

    def change(name: str, of: dict[bool, list[float]]) -> None:
        middle, low, high = interval([100 * (a / b - 1) for a, b in zip(of[True], of[False], strict=True)])
        was = statistics.median(of[False])
        print(f"{name}: {was:.5g} without; with the recorder {middle:+.3f} % (95 %: {low:+.3f} … {high:+.3f})")

    calls, nanos = server.spent()
    each = nanos / max(1, calls) / 1e3
    step = (seconds + SETTLE_S) * len(pairs) / max(1, calls) * 1e3
    share = each / 10 / step
    print(f"record(): {each:.2f} us of CPU a step over {calls:,} steps, {share:.4f} % of a step of {step:.2f} ms")
    whole = [p for p in pairs if all(len(h.gaps) >= FEWEST for h in p.values())]
    print(f"{len(whole)} of {len(pairs)} pairs have {FEWEST} tokens or more in both halves")
    if len(whole) < 2:
        return
    halves = {on: [p[on] for p in whole] for on in (False, True)}
    change("tokens/s", {on: [h.tokens / seconds for h in hs] for on, hs in halves.items()})
    change("ITL median, s", {on: [statistics.median(h.gaps) for h in hs] for on, hs in halves.items()})
    change("ITL p99, s", {on: [statistics.quantiles(h.gaps, n=100)[98] for h in hs] for on, hs in halves.items()})


def micro(rounds: int = 200, steps: int = 1000) -> None:
    """record() alone, into a ring in memory: CPU nanoseconds a step, hot caches, by the number of running requests."""
    from types import SimpleNamespace

    from responder.recorder.steps import Steps
    from responder.recorder.writer import RingWriter

    queue = SimpleNamespace(num_running_reqs=7, num_waiting_reqs=1, num_skipped_waiting_reqs=0, kv_cache_usage=0.5,
                            prefix_cache_stats=SimpleNamespace(hits=3, queries=9))  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="recorder-micro-", dir="/dev/shm") as folder:
        writer = RingWriter(folder, 0)
        recorder = Steps(writer)
        for streams in (1, 8, 32, 256):
            step = SimpleNamespace(
                iteration_timestamp=time.time(), num_preempted_reqs=0, num_prompt_tokens=0,
                num_generation_tokens=streams, finished_requests=[], time_to_first_tokens_iter=[],
                inter_token_latencies_iter=[0.01 + k * 1e-6 for k in range(streams)],
            )  # fmt: skip
            took = []
            for _ in range(rounds):
                before = time.thread_time_ns()
                for _ in range(steps):
                    recorder.record(queue, step)
                took.append((time.thread_time_ns() - before) / steps)
            assert not recorder.failures
            middle, low, high = interval(took)
            print(f"record() alone, {streams:3} running: {middle:,.0f} ns a step (95 %: {low:,.0f} … {high:,.0f}), "
                  f"fastest of {rounds} rounds {min(took):,.0f}")  # fmt: skip
        writer.close()


def arguments() -> argparse.Namespace:
    """Of the command line; without --model the tiny one of the live tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=int, nargs="?", default=20)
    parser.add_argument("seconds", type=float, nargs="?", default=10.0)
    parser.add_argument("--python", help="the Python that can import vLLM")
    parser.add_argument("--model", help="model folder or name")
    parser.add_argument("--site", help="folder to add to PYTHONPATH (an unpacked vLLM)")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--output", type=int, default=256, help="tokens per request")
    parser.add_argument("flags", nargs="*", help="after --: more options for vLLM")
    argv, _, flags = " ".join(sys.argv[1:]).partition(" -- ")
    options = parser.parse_args(argv.split())
    options.flags = flags.split()
    if options.model is None:
        from bench import machine
        from tests.live.harness import find
        from tests.live.harness.vllm_server import ENVIRONMENT

        print(machine.describe())
        os.environ.update(ENVIRONMENT | {"VLLM_CPU_OMP_THREADS_BIND": "0"})
        options.python, options.model = options.python or find.vllm_python(), str(find.model())
        options.flags = ["--enforce-eager", *options.flags]
    return options


def main() -> None:
    """Start, measure, print, end."""
    if sys.argv[1:] == ["--micro"]:
        micro()
        return
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(options, Path(scratch))
        try:
            server.wait()
            print(
                f"{options.streams} streams of {options.output} tokens, {options.pairs} pairs of {options.seconds:g} s"
            )
            report(asyncio.run(measure(server, options)), server, options.seconds)
        finally:
            server.end()


if __name__ == "__main__":
    main()
