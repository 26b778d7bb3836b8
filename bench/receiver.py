"""What does the OTLP receiver take, and what does it cost? 5,000 spans a second for a minute, then more than it can.

    python -m bench.receiver [SECONDS] [SPANS_PER_SECOND]

The receiver runs in a process of its own, as in the daemon, with an event loop beside it whose lag is measured; the
sender sends what vLLM's exporter sends, batches of 512 request spans over gRPC. Then it sends as fast as it can, and
last the ring is filled with 100,000 requests. Printed: cores, memory, export times, what was dropped.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from bench import machine

BATCH = 512
OVERLOAD_S = 10.0
SENDERS = 4
RING = 100_000


async def serve() -> None:
    """The receiver's process: prints its port, then answers every line on stdin with its numbers."""
    from responder.requests.otlp import build

    receiver = build(time.time, grpc=("127.0.0.1", 0), http=None, capacity=RING, max_age_s=3600)
    await receiver.start()
    print(json.dumps({"port": receiver.ports["grpc"]}), flush=True)
    loop, worst = asyncio.get_running_loop(), 0.0
    lines: asyncio.Queue[str] = asyncio.Queue()
    threading.Thread(
        target=lambda: [loop.call_soon_threadsafe(lines.put_nowait, x) for x in sys.stdin], daemon=True
    ).start()
    while True:
        before = loop.time()
        await asyncio.sleep(0.05)
        worst = max(worst, loop.time() - before - 0.05)
        if not lines.empty():
            if lines.get_nowait().strip() == "end":
                break
            print(json.dumps({**receiver.numbers(), "ring": len(receiver.ring), "lag": worst}), flush=True)
            worst = 0.0
    await receiver.stop()


def batch(number: int) -> bytes:
    """512 spans of one vLLM with ids of their own."""
    from tests.requests.otlp import FULL, message, span

    now = time.time()
    return message(*(
        span(start=now - 3, end=now - 1, own=number * BATCH + k + 1, trace=number * BATCH + k + 1,
             attributes={**FULL, "gen_ai.request.id": f"chatcmpl-{number * BATCH + k:032x}"})
        for k in range(BATCH)
    ))  # fmt: skip


class Child:
    """The receiver's process, asked over its pipes."""

    def __init__(self) -> None:
        argv = [sys.executable, "-m", "bench.receiver", "--serve"]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line()["port"])
        self.seen = psutil.Process(self.process.pid)

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        got: dict[str, Any] = json.loads(self.process.stdout.readline())
        return got

    def numbers(self) -> dict[str, Any]:
        """Its counters."""
        self._say("numbers")
        return self._line()

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def cpu(self) -> float:
        """CPU seconds so far."""
        times = self.seen.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> float:
        """MiB."""
        return float(self.seen.memory_info().rss) / (1 << 20)

    def end(self) -> None:
        """Let it go."""
        self._say("end")
        assert self.process.stdin is not None
        self.process.stdin.close()  # its reading thread ends with it
        self.process.wait(60)


def send(port: int, messages: list[bytes], rate: float | None, seconds: float) -> list[float]:
    """Export batches for so long, at a rate (batches a second) or as fast as they are taken; seconds of each."""
    import grpc

    from responder.requests.forward import METHOD

    took: list[float] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
        start = time.monotonic()
        number = 0
        while (now := time.monotonic()) - start < seconds:
            if rate is not None and now < (due := start + number / rate):
                time.sleep(due - now)
            before = time.monotonic()
            call(messages[number % len(messages)], timeout=30)
            took.append(time.monotonic() - before)
            number += 1
    return took


def accounted(numbers: dict[str, Any]) -> int:
    """Spans whose end is known."""
    return sum(int(numbers[name]) for name in ("requests", "dropped_spans", "bad_spans", "around", "start_up"))


def main(seconds: float, spans_per_second: float) -> None:
    """All three parts."""
    os.nice(10)
    print(machine.describe())
    messages = [batch(k) for k in range(40)]
    child = Child()
    idle = child.rss()
    child.numbers()
    before, began = child.cpu(), time.monotonic()
    took = send(child.port, messages, spans_per_second / BATCH, seconds)
    lasted, used = time.monotonic() - began, child.cpu() - before
    time.sleep(1)
    got = child.numbers()
    spans, size = BATCH * len(took), len(messages[0]) >> 10
    print(f"{spans / lasted:,.0f} spans/s for {lasted:.0f} s in batches of {BATCH} ({size} KiB):")
    print(f"  {used / lasted:.2f} cores, {1e6 * used / spans:.1f} us a span; RSS {idle:.0f} -> {child.rss():.0f} MiB")
    print(f"  export median {1e3 * statistics.median(took):.1f} ms, longest {1e3 * max(took):.0f} ms")
    print(f"  kept {got['requests']:,}, dropped {got['dropped_spans']:,}; loop lag {1e3 * got['lag']:.0f} ms at worst")

    before, began = child.cpu(), time.monotonic()
    threads = [threading.Thread(target=send, args=(child.port, messages, None, OVERLOAD_S)) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    highest = 0.0
    while any(thread.is_alive() for thread in threads):
        highest = max(highest, child.rss())
        time.sleep(0.2)
    lasted, used = time.monotonic() - began, child.cpu() - before
    end = child.numbers()
    while not (settled := accounted(end) == end["spans"]) and time.monotonic() - began < 60:
        time.sleep(0.5)  # what waits in the queue
        end = child.numbers()
    offered, dropped = end["spans"] - got["spans"], end["dropped_spans"] - got["dropped_spans"]
    print(f"as fast as {SENDERS} senders can: {offered / lasted:,.0f} spans/s offered, {used / lasted:.2f} cores,")
    print(f"  {dropped / max(1, offered):.0%} dropped, RSS at most {highest:.0f} MiB, lag {1e3 * end['lag']:.0f} ms")
    print(f"every span accounted for: {settled} ({end['spans']:,} = {end['requests']:,} kept, "
          f"{end['dropped_spans']:,} dropped, {end['bad_spans']:,} bad)")  # fmt: skip
    print(f"ring: {end['ring']:,} requests, RSS {child.rss():.0f} MiB, {child.rss() - idle:.0f} MiB more than empty")
    child.end()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    if "--serve" in sys.argv:
        asyncio.run(serve())
    else:
        main(*(float(a) for a in (sys.argv[1:] + ["60", "5000"][len(sys.argv) - 1 :])))
