"""Are the host's counters read as rates of now?"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from responder import proc
from responder.capture import system
from responder.capture.step import NoParams
from responder.model import Inventory, Outcome, ProcessInfo, Scalar
from responder.runner import LocalRunner
from tests.doubles import BRIEF, scene

STAT = "cpu  {user} 0 100 {idle} {iowait} 0 0 {steal} 0 0\ncpu0 1\ncpu1 1\nbtime 1\n"
DISK = (
    "   8       0 sda {reads} 0 0 {read_ms} {writes} 0 0 {write_ms} 0 {busy_ms} 0 0\n"
    "   7 0 loop0 1 0 0 9 1 0 0 9 0 9 0 0\n"
)
SNMP = "Ip: A\nIp: 1\nTcp: ActiveOpens EstabResets OutSegs RetransSegs\nTcp: 1 {resets} {sent} {again}\n"


def facts(files: dict[str, bytes]) -> dict[str, Scalar]:
    found = list(system.read(files, BRIEF))
    assert {fact.name for fact in found} <= {spec.name for spec in system.STEP.facts}
    return {fact.name.removeprefix("system."): fact.value for fact in found}


def looks() -> dict[str, bytes]:
    """Two looks 2 s apart: 30 % steal, a disk at 50 ms, 2 % retransmits, a process near its limit."""
    processes = [
        {"name": "api", "pid": 1, "fds": 100, "limit": 1024},
        {"name": "engine", "pid": 2, "fds": 900, "limit": 1000},
        {"name": "hidden", "pid": 3, "fds": None, "limit": None},
    ]
    disks = [
        {"path": "/tmp", "free_share": 0.5, "free_kib": 9},
        {"path": "/dev/shm", "free_share": 0.01, "free_kib": 1},
    ]
    meta = {"apart_s": 2.0, "processes": processes, "disks": disks, "log": None}
    texts = {
        "stat": STAT.format(user=1000, idle=1000, iowait=0, steal=0),
        "stat.later": STAT.format(user=1100, idle=1150, iowait=50, steal=130),
        "diskstats": DISK.format(reads=10, read_ms=100, writes=10, write_ms=100, busy_ms=0),
        "diskstats.later": DISK.format(reads=30, read_ms=600, writes=30, write_ms=1600, busy_ms=1000),
        "snmp": SNMP.format(resets=0, sent=1000, again=5),
        "snmp.later": SNMP.format(resets=3, sent=2000, again=25),
        "vmstat": "pswpin 10\npswpout 10\n",
        "vmstat.later": "pswpin 30\npswpout 10\n",
        "meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  250 kB\n",
        "loadavg": "6.00 1 1 1/1 1\n",
        "pressure_io": "some avg10=12.50 avg60=0 avg300=0 total=1\nfull avg10=1 avg60=0 avg300=0 total=1\n",
    }
    return {system.META: json.dumps(meta).encode(), **{name: text.encode() for name, text in texts.items()}}


def test_rates_and_levels() -> None:
    """Each number by hand."""
    said = facts(looks())
    assert said["cpu_steal"] == round(130 / 430, 4)
    assert said["cpu_iowait"] == round(50 / 430, 4)
    assert said["cpu_busy"] == round(1 - 200 / 430, 4)
    assert said["load_per_core"] == 3.0
    assert said["memory_available_share"] == 0.25
    assert said["io_pressure"] == 0.125
    assert said["swap_rate"] == 10.0
    assert said["disk_latency"] == 0.05
    assert said["disk_busy"] == 0.5
    assert said["disk_free_share_min"] == 0.01
    assert said["tcp_retransmits"] == 0.02
    assert said["tcp_resets"] == 3
    assert said["fds_share_max"] == 0.9
    assert said["fds"] == 1000


def test_what_the_kernel_does_not_tell_is_left_out() -> None:
    """No pressure file, no second look: no fact, not a zero."""
    files = looks()
    for name in ("pressure_io", "stat.later", "snmp.later", "diskstats.later", "vmstat.later"):
        del files[name]
    said = facts(files)
    assert not {"io_pressure", "cpu_steal", "tcp_retransmits", "disk_latency", "swap_rate"} & set(said)


async def test_on_this_host(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Against the real /proc: the descriptors counted are those the process has."""
    monkeypatch.setattr(system, "APART_S", 0.05)
    code = "import os,time; x=[os.dup(0) for _ in range(40)]; print(1, flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, close_fds=True)
    assert child.stdout is not None
    child.stdout.readline()
    try:
        seen = proc.stat(child.pid)
        assert seen is not None
        worker = ProcessInfo(pid=child.pid, ppid=1, started_at=seen.started_at, role="worker", name="W", rank=0)
        known = Inventory(at=0, local=True, processes=(worker,))
        async with scene(inventory=known, runner=LocalRunner()) as where:  # type: ignore[arg-type]
            fetched = await system.fetch(where, NoParams())
        assert fetched.outcome is Outcome.OK
        said = facts(dict(fetched.files))
        assert said["fds"] == len(os.listdir(f"/proc/{child.pid}/fd"))
        assert said["fds"] >= 40  # type: ignore[operator]
        assert 0 < said["memory_available_share"] <= 1  # type: ignore[operator]
        assert "cpu_busy" in said
    finally:
        child.kill()
        child.communicate()


async def test_another_host_is_said() -> None:
    """Not ours to read."""
    async with scene(inventory=Inventory(at=0, local=False)) as where:
        assert "another host" in (await system.fetch(where, NoParams())).reason
