"""Is a ring readable after `kill -9` at any instant? Forks a writer, kills it at random, reads, again and again.

python -m tests.recorder.kills KILLS FOLDER prints how many were torn; exits 1 at the first file that says less than it
should.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import sys
import time

from responder.recorder.steps import Steps
from responder.recorder.writer import RingWriter
from responder.ringfile import parse
from tests.recorder.fakes import finished, iteration, scheduler

CAPACITY = 300


def _engine(folder: str, progress: mmap.mmap, parent: int) -> None:
    """A loop that records steps as fast as it can and says, after each, how many there are; for its parent only."""
    writer = RingWriter(folder, 0, capacity=CAPACITY)
    steps, queue = Steps(writer), scheduler(num_running_reqs=7, kv_cache_usage=0.5)
    step = iteration(num_generation_tokens=7, finished_requests=[finished()], inter_token_latencies_iter=[0.01] * 7)
    while os.getppid() == parent:
        steps.record(queue, step)
        progress[:8] = struct.pack("<Q", writer.seq)


def once(folder: str, rng: random.Random) -> tuple[bool, int]:
    """One writer's life; whether its last record was torn, and how many it had written."""
    progress, parent = mmap.mmap(-1, 8), os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _engine(folder, progress, parent)
        finally:
            os._exit(1)
    while not struct.unpack("<Q", progress[:8])[0]:
        time.sleep(0.0001)
    time.sleep(rng.uniform(0.0, 0.004))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    acknowledged = struct.unpack("<Q", progress[:8])[0]
    name = next(n for n in os.listdir(folder) if n.endswith(f"-{child}.ring"))
    with open(os.path.join(folder, name), "rb") as file:
        ring = parse(file.read())
    os.unlink(os.path.join(folder, name))
    last = ring.records[-1].seq
    # Killed between the copy and the progress note there is one more; torn while being copied there is none more.
    assert last in (acknowledged - 1, acknowledged), f"{acknowledged} steps written, the last in the file is {last}"
    assert ring.damaged == 0, f"{ring.damaged} records damaged"
    whole = min(last + 1, CAPACITY) - (ring.torn_last and last + 1 >= CAPACITY)
    assert len(ring.records) == whole, f"{len(ring.records)} records of {whole}"
    assert ring.records[-1].running == 7
    return ring.torn_last, last


def main() -> None:
    """Kill so often."""
    kills, folder = int(sys.argv[1]), sys.argv[2]
    rng, torn, wrapped = random.Random(1), 0, 0
    for _ in range(kills):
        was_torn, last = once(folder, rng)
        torn += was_torn
        wrapped += last >= CAPACITY
    sys.stdout.write(f"kills {kills} torn {torn} wrapped {wrapped}\n")


if __name__ == "__main__":
    main()
