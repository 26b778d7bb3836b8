"""Kernel log lines around an incident: kills for memory, GPU errors; quotas and pressure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from responder.capture import kernel
from responder.capture.step import NoParams
from responder.model import Inventory, Outcome, ProcessInfo, Scalar
from responder.runner import LocalRunner
from tests.doubles import BRIEF, NOW, ONSET, Files, scene

UPTIME = 1_000_000.0
BOOT = NOW - UPTIME


def log(*lines: tuple[float, str]) -> bytes:
    """(unix seconds, text) as dmesg prints it."""
    return "".join(f"[{at - BOOT:12.6f}] {text}\n" for at, text in lines).encode()


def facts(raw: bytes | None, pids: tuple[int, ...] = (71,), **files: bytes) -> dict[str, Scalar]:
    index = {"uptime_s": UPTIME, "now": NOW, "pids": pids, "why_no_log": ""}
    every: Mapping[str, bytes] = {
        kernel.INDEX: json.dumps(index).encode(),
        **({kernel.LOG: raw} if raw is not None else {}),
        **{name.replace("__", "."): value for name, value in files.items()},
    }
    found = list(kernel.read(every, BRIEF))
    assert {fact.name for fact in found} <= {spec.name for spec in kernel.STEP.facts}
    return {fact.name.removeprefix("kernel."): fact.value for fact in found}


FALLEN = "NVRM: Xid (PCI:0000:00:06): 79, pid=71, name=VLLM::Worker_TP, GPU has fallen off the bus."
KERNEL_BUG = "NVRM: Xid (PCI:0000:00:06): 31, pid=71, name=python3, Ch 00000010, intr 00000000. MMU Fault"
KILL = "Memory cgroup out of memory: Killed process 71 (VLLM::Worker_TP) total-vm:1kB, anon-rss:2kB"


def test_quiet_log() -> None:
    """Readable and nothing in it: known to be none, not unknown."""
    found = facts(log((NOW - 5, "EXT4-fs (vda): mounted"), (NOW, "eth0: link up")))
    assert found == {"readable": True, "oom_killed": False, "xid": 0, "xid_count": 0, "nvlink_errors": 0}


def test_the_gravest_gpu_error_is_told() -> None:
    """A fault of the hardware outweighs the software errors that follow from it."""
    lines = log((ONSET - 1, FALLEN), (ONSET + 1, KERNEL_BUG), (ONSET + 2, FALLEN.replace("79", "74")))
    found = facts(lines)
    assert (found["xid"], found["xid_count"], found["nvlink_errors"]) == (74, 3, 1)


def test_old_errors_are_not_of_this_incident() -> None:
    """What happened an hour before the onset does not explain it."""
    found = facts(log((ONSET - 3600, FALLEN), (ONSET - 3600, KILL)))
    assert (found["xid"], found["oom_killed"]) == (0, False)


def test_only_kills_of_the_server_count() -> None:
    """By process number, or by title where a container has other numbers; not somebody else's process."""
    assert facts(log((NOW, KILL)))["oom_killed"] is True
    assert facts(log((NOW, KILL)), pids=(1,))["oom_killed"] is True
    other = KILL.replace("VLLM::Worker_TP", "chrome")
    assert facts(log((NOW, other)), pids=(1,))["oom_killed"] is False
    assert facts(log((NOW, other)), pids=(71,))["oom_killed"] is True


def test_time_of_the_fact_is_that_of_the_line() -> None:
    """When it happened in the world, not when we looked."""
    index = json.dumps({"uptime_s": UPTIME, "now": NOW, "pids": [], "why_no_log": ""}).encode()
    found = kernel.read({kernel.INDEX: index, kernel.LOG: log((ONSET - 7, FALLEN))}, BRIEF)
    assert {fact.name: fact.at for fact in found}["kernel.xid"] == ONSET - 7


def test_unreadable_log_says_nothing_about_errors() -> None:
    """Not permitted: readable is no, everything else of the log stays unknown."""
    assert facts(None) == {"readable": False}


def test_garbage_is_no_error() -> None:
    """Lines without time, cut lines, other bytes."""
    found = facts(b"\xff\xfe[ 12.\n[abc] NVRM: Xid (PCI): 79\nNVRM: Xid (PCI:0): 79, pid=1\n[")
    assert (found["xid"], found["oom_killed"]) == (0, False)


def test_counters_of_the_cgroup() -> None:
    """Both cgroup versions; throttling is the share of the periods between the two readings."""
    two = facts(
        b"", memory__events=b"low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n",
        cpu__stat=b"usage_usec 1\nnr_periods 100\nnr_throttled 10\nthrottled_usec 5\n",
        cpu__stat__later=b"usage_usec 9\nnr_periods 110\nnr_throttled 15\nthrottled_usec 9\n",
        pressure_memory__txt=b"some avg10=12.50 avg60=1.00 avg300=0.10 total=5\nfull avg10=0.00\n",
    )  # fmt: skip
    assert (two["cgroup_oom_kills"], two["cpu_throttled"], two["memory_pressure"]) == (2, 0.5, 0.125)
    one = facts(b"", memory__oom_control=b"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert one["cgroup_oom_kills"] == 1
    assert "cpu_throttled" not in one


ALIVE = Inventory(
    at=0, local=True, processes=(ProcessInfo(pid=71, ppid=1, started_at=1.0, role="worker", name="VLLM::Worker"),)
)


async def test_fetch_asks_dmesg_then_the_journal() -> None:
    """The first log that can be read is taken; both refused is partial evidence with the reason."""
    async with scene(inventory=ALIVE, runner=Files({"/proc/uptime": b"5.0 1\n"}, {"journalctl": b"log"})) as where:
        fetched = await kernel.fetch(where, NoParams())
    assert fetched.outcome is Outcome.OK
    assert fetched.files[kernel.LOG] == b"log"
    async with scene(inventory=ALIVE, runner=Files()) as where:
        fetched = await kernel.fetch(where, NoParams())
    assert fetched.outcome is Outcome.PARTIAL
    assert "dmesg is not installed" in fetched.reason


async def test_the_real_kernel_of_this_host() -> None:
    """Whatever this host allows: an answer, and facts that can be read."""
    async with scene(inventory=ALIVE, runner=LocalRunner()) as where:  # type: ignore[arg-type]
        fetched = await kernel.fetch(where, NoParams())
    assert fetched.outcome in (Outcome.OK, Outcome.PARTIAL)
    assert "kernel.readable" in {fact.name for fact in kernel.read(fetched.files, BRIEF)}


async def test_another_host_is_skipped() -> None:
    """Our kernel says nothing about another host's."""
    async with scene(inventory=Inventory(at=0, local=False)) as where:
        assert (await kernel.fetch(where, NoParams())).outcome is Outcome.SKIPPED
