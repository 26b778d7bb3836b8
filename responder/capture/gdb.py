"""Where do native threads stand that Python cannot tell: below a C call, in the driver, in NCCL?

`gdb -batch`, reading only, on processes whose Python stack ends in C (a dump without stopping asks that first). gdb
stops every thread while it looks: 0.7 s with few threads, 4.9 s with sixty (measured), and killed in the middle it left
its target stopped 1 time in 20. So: one process, SIGKILL at a hard deadline, and the threads are looked at afterwards.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from responder import proc, ptrace
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, ProcessInfo, Scalar
from responder.waiting import classify, parse

META = "gdb.json"
DUMP_TIMEOUT_S = 3.0
WAITS_IN_C = frozenset({"gpu", "collective", "lock", "network", "unknown", "disk", "profiler"})
"""What a thread waits for below its last Python frame; the others are Python's own work."""


class Whom(BaseModel):
    """Whom to look into, and for how long at most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["worker", "engine_core", "api_server"] = "worker"
    rank: int | None = Field(default=None, ge=0)
    deadline_s: float = Field(default=10.0, gt=0, le=30)
    processes: int = Field(default=2, ge=1, le=8)


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """One process after the other, those first that wait below Python."""
    whom = Whom.model_validate(params.model_dump())
    if scene.inventory is None or not scene.inventory.processes or not scene.inventory.local:
        return skipped("no processes known: the server runs on another host, or was never seen alive")
    gdb = shutil.which("gdb")
    if gdb is None:
        return skipped("gdb is not installed: apt-get install gdb (libc6-dbg and the driver's symbols help)")
    meta: dict[str, object] = {"processes": []}
    files: dict[str, bytes] = {}
    notes: list[str] = []
    pause, asked = 0.0, 0
    for process in ptrace.candidates(scene.inventory, (whom.role,), whom.rank):
        why_not = await _why_not(scene, process)
        entry: dict[str, object] = {"pid": process.pid, "name": process.name, "skipped": why_not}
        meta["processes"].append(entry)  # type: ignore[attr-defined]
        if why_not or asked >= whom.processes:
            entry["skipped"] = why_not or "enough others were looked at"
            continue
        asked += 1
        raw, seconds, error = await _backtraces(scene, gdb, process, whom.deadline_s)
        entry |= {"seconds": seconds, "error": error}
        pause = max(pause, seconds)
        if raw:
            files[f"gdb-{process.pid}.txt"] = raw
        note = await ptrace.left_stopped(process)
        notes += [part for part in (f"{process.name}: {error}" if error else "", note) if part]
    files[META] = json.dumps(meta, indent=1, sort_keys=True).encode()
    if not asked:
        return Fetched(files, Outcome.SKIPPED, "no process of the server waits below its last Python frame")
    outcome = Outcome.OK if not notes else Outcome.PARTIAL if len(files) > 1 else Outcome.FAILED
    return Fetched(files, outcome, "; ".join(notes)[:500] + ptrace.hint(notes), round(pause, 3))


async def _why_not(scene: Scene, process: ProcessInfo) -> str:
    """Why this process is left alone, or nothing. One that py-spy cannot read is a case for gdb."""
    if ptrace.state_of(process) in proc.STOPPED:
        return "it is stopped, or another tracer has it"
    tool = ptrace.find_tool()
    if tool is None:
        return ""
    argv = [tool, "dump", "--nonblocking", "--pid", str(process.pid)]
    said = await scene.runner.run(argv, timeout=DUMP_TIMEOUT_S)
    dump = parse(said.stdout.decode("utf-8", "replace")) if said.code == 0 else None
    if dump is None or any(classify(thread).category in WAITS_IN_C for thread in dump.threads):
        return ""
    return "all its threads run Python code"


async def _backtraces(scene: Scene, gdb: str, process: ProcessInfo, deadline: float) -> tuple[bytes, float, str]:
    """(text, seconds it stood still at most, what went wrong). The runner kills gdb's whole tree at the deadline."""
    argv = [gdb, "-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"]
    argv += ["-ex", "set pagination off", "-ex", "set print frame-arguments none", "-ex", "set backtrace limit 64"]
    argv += ["-ex", f"attach {process.pid}", "-ex", "thread apply all bt", "-ex", "detach"]
    async with ptrace.looked_after(process):
        said = await scene.runner.run(argv, timeout=deadline, max_bytes=4 << 20)
    text = said.stdout
    if said.code is None:
        return text, said.seconds, f"gdb had not ended after {deadline:g} s and was killed"
    if b"#0 " not in text:
        return text, said.seconds, ptrace.complaint(said.code, said.stderr + said.stdout, deadline)
    return text, said.seconds, ""


# ------------------------------------------------------------------------------------------------------ reading

THREAD = re.compile(r"^Thread (\d+) \((?:Thread 0x[0-9a-f]+ )?\(?LWP (\d+)\)?\s*(?:\"([^\"]*)\")?.*$", re.MULTILINE)
FRAME = re.compile(r"^#\d+\s+(?:0x[0-9a-f]+ in )?([^\s(]+)", re.MULTILINE)
PLACES = (
    ("nccl", re.compile(r"^p?nccl", re.IGNORECASE)),
    ("driver", re.compile(r"^(?:cu[A-Z]|cuda[A-Z])|libcuda|^ioctl$|__ioctl")),
    ("network", re.compile(r"^(?:__)?(?:epoll_|poll|ppoll|select|recv|accept|zmq_|ibv_)")),
    ("lock", re.compile(r"pthread_(?:cond|mutex|rwlock)|futex|sem_|PyThread_acquire|take_gil")),
    ("disk", re.compile(r"^(?:__)?(?:f?sync|fdatasync|open|pread|pwrite|write)(?:64)?$")),
    ("sleep", re.compile(r"nanosleep|usleep|sched_yield")),
)


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """What native threads stand in: the most specific place on each stack."""
    if META not in files:
        return

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", subject: str = "", file: str = META) -> Fact:
        name = f"gdb.{name}"
        return Fact(name=name, value=value, unit=unit, step="gdb", file=file, at=brief.now, says=says, subject=subject)

    total: Counter[str] = Counter()
    for process in json.loads(files[META])["processes"]:
        name = f"gdb-{process['pid']}.txt"
        if name not in files:
            continue
        stacks = _stacks(files[name].decode("utf-8", "replace"))
        places = Counter(_place(stack) for _, stack in stacks)
        total += places
        words = ", ".join(f"{count} {place}" for place, count in places.most_common())
        label = f"{process['name']} (pid {process['pid']})"
        yield fact("threads", len(stacks), "threads", words, label, name)
    if not total:
        return
    yield fact("in_nccl", total["nccl"], "threads")
    yield fact("in_driver", total["driver"], "threads")
    waiting = {place: count for place, count in total.items() if place in ("nccl", "driver", "disk")}
    yield fact("stands_in", max(waiting, key=lambda place: waiting[place]) if waiting else total.most_common(1)[0][0])


def _stacks(text: str) -> list[tuple[str, list[str]]]:
    """(thread name, functions innermost first)."""
    heads = list(THREAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [(head[3] or "", FRAME.findall(text[head.end() : end])) for head, end in zip(heads, ends, strict=True)]


def _place(stack: list[str]) -> str:
    for place, pattern in PLACES:
        if any(pattern.search(function) for function in stack):
            return place
    return "other"


async def ready(scene: Scene) -> str:
    """'' when gdb could look at the server now."""
    return ptrace.cannot(scene.inventory, "gdb")


STEP = Step(
    name="gdb",
    rung=2,
    says="stops a process of the server for up to seconds and reads all its native threads with gdb",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("gdb.threads", "threads", "native threads, and where they stand (facts per process)"),
        FactSpec("gdb.in_nccl", "threads", "threads inside NCCL"),
        FactSpec("gdb.in_driver", "threads", "threads inside the CUDA driver or runtime"),
        FactSpec("gdb.stands_in", "", "the place that speaks: nccl, driver, disk, network, lock, sleep, other"),
    ),
    momentary=("*",),
    timeout_s=58.0,
    max_bytes=16 << 20,
    worst_pause_s=5.0,
    needs=("same host", "gdb", "root or CAP_SYS_PTRACE"),
    params=Whom,
    ready=ready,
)
