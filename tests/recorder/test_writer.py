"""Does the recorder's file survive everything, and does recording never disturb?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from responder.recorder import layout
from responder.recorder.steps import GIVE_UP_AFTER, Steps
from responder.recorder.writer import KEEP_DEAD, RingWriter, tidy
from responder.ringfile import parse
from tests.recorder.fakes import finished, iteration, scheduler

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_thousand_kills(tmp_path: Path) -> None:
    """kill -9 at random moments, before and after the ring has wrapped: every file tells all steps up to the last."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.recorder.kills", "1000", str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    words = done.stdout.split()
    assert int(words[1]) == 1000
    assert 50 < int(words[5]) < 1000


def test_a_step_is_written_as_it_was(tmp_path: Path) -> None:
    """Every number, and the finished request that suffered most."""
    writer = RingWriter(str(tmp_path), 3, capacity=10, tick_s=5.0, vllm="0.32.0", model="m")
    steps = Steps(writer)
    queue = scheduler(
        num_running_reqs=4, num_waiting_reqs=2, num_skipped_waiting_reqs=1, kv_cache_usage=0.25, hits=3, queries=9
    )
    many = [
        finished(e2e_latency=9.0, request_id="slow"),
        finished(e2e_latency=3.0, num_preemptions=2, request_id="hurt"),
    ]
    steps.record(queue, iteration(
        num_generation_tokens=4, num_prompt_tokens=17, num_preempted_reqs=1, finished_requests=many,
        time_to_first_tokens_iter=[0.1, 0.4], inter_token_latencies_iter=[0.02, 0.5, 0.01],
    ))  # fmt: skip
    steps.tick()
    steps.sleep(1, 2)
    ring = parse(Path(writer.path).read_bytes())
    step, tick, sleep = ring.records
    assert (step.kind, tick.kind, sleep.kind) == (layout.STEP, layout.TICK, layout.SLEEP)
    assert step.at == 1_800_000_000.0
    assert (step.running, step.waiting, step.deferred, step.in_flight) == (4, 2, 1, 7)
    assert (step.preempted, step.prompt, step.generated, step.finished, step.hits, step.queries) == (1, 17, 4, 2, 3, 9)
    assert (step.kv, step.ttft, step.itl) == pytest.approx((0.25, 0.4, 0.5))
    assert (step.worst_id, step.worst_preemptions, step.worst_e2e) == ("hurt", 2, 3.0)
    assert tick.in_flight == 7
    assert (sleep.running, sleep.waiting) == (1, 2)
    assert (ring.head.engine, ring.head.vllm, ring.head.model, ring.head.tick_s) == (3, "0.32.0", "m", 5.0)
    assert ring.head.pid == os.getpid()
    writer.close()


@pytest.mark.parametrize("version", ["0.12", "0.16", "0.20", "0.32"])
def test_every_version_since_the_interface_exists(tmp_path: Path, version: str) -> None:
    """What a version lacks is zero; the rest is there."""
    writer = RingWriter(str(tmp_path), 0, capacity=10)
    steps = Steps(writer)
    steps.record(scheduler(version, num_running_reqs=4), iteration(version, num_generation_tokens=4,
                                                                  finished_requests=[finished(version)]))  # fmt: skip
    assert steps.failures == 0
    (step,) = parse(Path(writer.path).read_bytes()).records
    assert (step.running, step.generated, step.finished, step.worst_prompt) == (4, 4, 1, 10)
    writer.close()


@pytest.mark.parametrize(
    ("queue", "step"),
    [(None, None), (scheduler(), None), (None, iteration()), (scheduler(prefix_cache_stats=None), None)],
)
def test_what_is_missing_is_no_failure(tmp_path: Path, queue: Any, step: Any) -> None:
    """A step without outputs, outputs without scheduler statistics."""
    writer = RingWriter(str(tmp_path), 0, capacity=10)
    steps = Steps(writer)
    steps.record(queue, step)
    assert steps.failures == 0
    assert len(parse(Path(writer.path).read_bytes()).records) == 1
    writer.close()


@pytest.mark.parametrize(
    ("queue", "step"),
    [
        (object(), None),
        (scheduler(num_running_reqs="x"), None),
        (scheduler(num_running_reqs=-1), None),
        (None, iteration(num_generation_tokens=1 << 40)),
        (None, iteration(finished_requests=[object()])),
        (None, object()),
    ],
)
def test_nothing_vllm_passes_can_raise(tmp_path: Path, queue: Any, step: Any) -> None:
    """An exception would end the engine: three failures end the recording instead, and a good step stays readable."""
    writer = RingWriter(str(tmp_path), 0, capacity=10)
    steps = Steps(writer)
    steps.record(scheduler(), iteration())
    for _ in range(GIVE_UP_AFTER + 2):
        steps.record(queue, step)
    assert steps.failures == GIVE_UP_AFTER
    steps.tick()
    assert len(parse(Path(writer.path).read_bytes()).records) == 1
    writer.close()


def test_a_full_disk_is_an_error_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a SIGBUS later; nothing is left behind."""

    def full(fd: int, at: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        RingWriter(str(tmp_path), 0, capacity=10)
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_dead_are_kept_for_a_while(tmp_path: Path) -> None:
    """The newest eight; those of the living and what is not ours stay."""
    gone = [tmp_path / f"steps-0-{k}-{4_000_000 + k}.ring" for k in range(12)]
    mine = [tmp_path / f"steps-0-1-{os.getpid()}.ring", tmp_path / "notes.txt", tmp_path / "steps-x.ring"]
    for path in gone + mine:
        path.touch()
    tidy(str(tmp_path))
    left = set(tmp_path.iterdir())
    assert set(mine) <= left
    assert left - set(mine) == set(gone[-KEEP_DEAD:])
