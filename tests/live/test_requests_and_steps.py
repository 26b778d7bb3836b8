"""Does a real vLLM with our plugin and our OTLP receiver tell its requests and steps, also after kill -9?

One server for all of it: traces over gRPC, stacks on a signal, a worker stopped for two seconds, then every process
killed while the worker is stopped again.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal
import threading
import time
import urllib.request

import pytest

from responder.recorder.layout import STEP
from responder.recorder.unpack import unpack
from responder.requests.otlp import Receiver, build
from responder.requests.steps import newest
from responder.ringfile import Ring, parse
from responder.stepstory import tell
from tests.live.harness.vllm_server import SERVED_AS, VllmServer

pytestmark = [pytest.mark.live, pytest.mark.unhurried, pytest.mark.timeout(600)]
STOP_S = 2.0
TICK_S = 1.0
"""VLLM_LOG_STATS_INTERVAL of the harness."""


def ask(server: VllmServer, tokens: int) -> int:
    """One completion; its prompt tokens."""
    body = json.dumps({"model": SERVED_AS, "prompt": " one two three", "max_tokens": tokens, "ignore_eos": True})
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/v1/completions", data=body.encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return int(json.load(answer)["usage"]["prompt_tokens"])


def ring(folder: pathlib.Path) -> Ring:
    """What the recorder has written so far."""
    return parse(newest(folder).read_bytes())


async def until(condition: object, seconds: float = 30.0) -> None:
    """Wait for a condition (a callable) to hold."""
    limit = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit, "it did not happen in time"
        await asyncio.sleep(0.05)


async def test_requests_and_steps_of_a_real_server(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first span to the last step before the end."""
    rings = tmp_path / "rings"
    receiver = build(time.time, grpc=("127.0.0.1", 0), http=None, capacity=10_000, max_age_s=3600)
    await receiver.start()
    monkeypatch.setenv("PYTHONPATH", str(unpack(tmp_path / "plugin")), prepend=os.pathsep)
    monkeypatch.setenv("RESPONDER_RECORDER", str(rings))
    monkeypatch.setenv("RESPONDER_STACKS_SIGNAL", "SIGUSR2")
    endpoint = f"http://127.0.0.1:{receiver.ports['grpc']}"
    server = VllmServer(tmp_path, ["--max-model-len", "4096", "--otlp-traces-endpoint", endpoint])
    server.launch()  # from the main thread: see the harness' processes
    try:
        await asyncio.to_thread(server.wait_until_up, deadline_s=400)
        await traces(server, receiver)
        await stacks(server, rings)
        await stall(server, rings)
        await freeze_and_kill(server, rings)
    finally:
        server.end()
        await receiver.stop()


async def traces(server: VllmServer, receiver: Receiver) -> None:
    """Every finished request arrives with its phases; nothing of what was asked or answered."""
    before = len(receiver.ring)
    prompt = (await asyncio.gather(*(asyncio.to_thread(ask, server, 20) for _ in range(4))))[0]
    await until(lambda: len(receiver.ring) >= before + 4)
    got = receiver.ring.between(0, time.time(), now=time.time())[-4:]
    assert all(r.id.startswith("cmpl-") and r.completion_tokens == 20 and r.prompt_tokens == prompt for r in got)
    assert all(r.queue is not None and r.prefill and r.decode and r.ttft for r in got)
    assert {r.replica.pid for r in got} == {str(server.api_server)}


async def stacks(server: VllmServer, rings: pathlib.Path) -> None:
    """All processes answer the signal with the stacks of all their threads, and serve on."""
    pids = (server.api_server, server.engine_core, server.worker)
    for pid in pids:
        os.kill(pid, signal.SIGUSR2)
    for pid in pids:
        path = rings / f"stacks-{pid}.txt"
        await until(lambda path=path: "most recent call first" in path.read_text())
    assert server.completes()


def keep_asking(server: VllmServer, enough: threading.Event) -> None:
    """One long request after another: whenever the worker is stopped, one is in flight."""
    while not enough.is_set():
        ask(server, 3000)


async def under_way(server: VllmServer, rings: pathlib.Path, enough: threading.Event) -> asyncio.Task[None]:
    """Requests of which the ring tells some steps already; the last record before may count one that is over."""
    before = ring(rings).records[-1].seq
    asked = asyncio.create_task(asyncio.to_thread(keep_asking, server, enough))
    await until(lambda: sum(r.kind == STEP and r.running > 0 and r.seq > before for r in ring(rings).records) > 20)
    return asked


async def stall(server: VllmServer, rings: pathlib.Path) -> None:
    """A worker stopped for two seconds under load is one stall of the engine, dated to a step."""
    enough = threading.Event()
    asked = await under_way(server, rings, enough)
    os.kill(server.worker, signal.SIGSTOP)
    await asyncio.sleep(STOP_S)
    os.kill(server.worker, signal.SIGCONT)
    enough.set()
    await asked
    worst = max(tell(ring(rings)).stalls, key=lambda s: s.seconds)
    assert worst.seconds > 0.8 * STOP_S
    assert (worst.kind, worst.place) == ("unexplained", "engine")


async def freeze_and_kill(server: VllmServer, rings: pathlib.Path) -> None:
    """Frozen with a request in flight: the tick goes on. After kill -9 of everything the file tells so."""
    asked = await under_way(server, rings, threading.Event())
    os.kill(server.worker, signal.SIGSTOP)
    await until(lambda: tell(ring(rings)).silent_in_flight_s > 3 * TICK_S)
    for pid in server.pids():
        os.kill(pid, signal.SIGKILL)
    await asyncio.gather(asked, return_exceptions=True)
    left = ring(rings)
    story = tell(left)
    assert story.silent_in_flight_s > 3 * TICK_S
    assert story.last_step is not None
    assert story.last_step.running == 1
    assert left.damaged == 0
