"""Where does every process stand, when py-spy may not look? The processes tell it themselves, on a signal.

For containers that forbid ptrace: with `RESPONDER_STACKS_SIGNAL` in vLLM's environment our plugin answers that signal
with the stacks of all threads. The signal would kill a process that does not catch it, so what it catches is read from
the kernel right before, every time.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from responder import proc
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, ProcessInfo
from responder.waiting import Dump, Frame, Thread, process_waits

ALLOWED = {"SIGUSR1": signal.SIGUSR1, "SIGUSR2": signal.SIGUSR2}
DEFAULT_FOLDER = "/dev/shm/responder-recorder"
ANSWER_S = 2.0
MAX_STACKS = 1 << 20
ROLES = ("api_server", "engine_core", "worker")
CAUGHT = re.compile(r"^SigCgt:\s*([0-9a-fA-F]+)", re.MULTILINE)
BOOTED = re.compile(rb"^btime (\d+)$", re.MULTILINE)
STATE = re.compile(r"^State:\s*(\S)", re.MULTILINE)
THREAD = re.compile(
    r"^(?:Current thread|Thread) 0x([0-9a-fA-F]+)(?: \[(.*?)\])? \(most recent call first\):", re.MULTILINE
)
FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
INSIDE = re.compile(r".*/(?:site-packages|dist-packages|python3\.\d+)/")


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Signal every process that catches it, once; bring what each appended to its file."""
    environment = scene.inventory.environment if scene.inventory is not None else {}
    number = ALLOWED.get(environment.get("RESPONDER_STACKS_SIGNAL", "").upper())
    if scene.inventory is None or number is None:
        return skipped(
            "vLLM answers no signal: install the recorder and start vLLM with RESPONDER_STACKS_SIGNAL=SIGUSR2"
        )
    setting = environment.get("RESPONDER_RECORDER", "")
    folder = setting if setting.startswith("/") else DEFAULT_FOLDER
    mine = [p for p in scene.inventory.processes if p.role in ROLES]
    found = await asyncio.gather(*(_ask(scene, process, number, folder) for process in mine))
    files = {f"{p.role}-{p.pid}.txt": body for p, (body, _) in zip(mine, found, strict=True) if body}
    why = "; ".join(f"{p.name} (pid {p.pid}): {words}" for p, (_, words) in zip(mine, found, strict=True) if words)
    outcome = Outcome.OK if files and not why else Outcome.PARTIAL if files else Outcome.FAILED
    return Fetched(files, outcome, why)


async def _ask(scene: Scene, process: ProcessInfo, number: signal.Signals, folder: str) -> tuple[bytes, str]:
    """What one process answered, or why it was not asked or did not answer."""
    try:
        status = (await scene.runner.read(f"/proc/{process.pid}/status", max_bytes=1 << 14)).decode(errors="replace")
    except OSError:
        return b"", "is gone"
    caught, state = CAUGHT.search(status), STATE.search(status)
    if caught is None or not int(caught[1], 16) >> (number - 1) & 1:
        return b"", f"does not catch {number.name}, which would kill it: not asked"
    if state is not None and state[1] in "Tt":
        return b"", "is stopped and cannot answer"
    if not await _the_same(scene, process):
        return b"", "is gone, and its number is another process's: not asked"
    path = f"/proc/{process.pid}/root{folder}/stacks-{_inner(status, process.pid)}.txt"
    before = len(await _stacks(scene, path))
    await scene.runner.run(["kill", f"-{number.value}", str(process.pid)], timeout=2.0)
    said = b""
    for _ in range(20):
        await asyncio.sleep(ANSWER_S / 20)
        now = (await _stacks(scene, path))[before:]
        if now and now == said:
            return now, ""
        said = now
    return said, "" if said else "did not answer the signal"


async def _the_same(scene: Scene, process: ProcessInfo) -> bool:
    """Whether the number still means this process: to somebody else's the signal may mean anything."""
    try:
        seen = proc.parse_stat(await scene.runner.read(f"/proc/{process.pid}/stat", max_bytes=1 << 12))
        shift = 0.0
        if scene.inventory is None or not scene.inventory.local:  # start times are told by the clock of that host
            booted = BOOTED.search(await scene.runner.read("/proc/stat", max_bytes=1 << 20))
            shift = float(booted[1]) - proc.BOOT_AT if booted else 0.0
    except OSError:
        return False
    return seen is not None and abs(seen.started_at + shift - process.started_at) < proc.SAME_START_S


async def _stacks(scene: Scene, path: str) -> bytes:
    try:
        return await scene.runner.read(path, max_bytes=MAX_STACKS)
    except OSError:
        return b""


def _inner(status: str, pid: int) -> str:
    """The process's number inside its container."""
    found = re.search(r"^NSpid:\s*(.+)$", status, re.MULTILINE)
    return found[1].split()[-1] if found else str(pid)


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """What every role waits for; ranks that stand elsewhere than most are named."""
    places: dict[str, list[tuple[str, str]]] = {role: [] for role in ROLES}
    for name in sorted(files):
        role, _, pid = name.removesuffix(".txt").rpartition("-")
        dump = parse(files[name].decode(errors="replace"), int(pid) if pid.isdigit() else 0)
        if role in places and dump.threads:
            places[role].append((name, process_waits(dump).category))

    def fact(name: str, value: str | int, says: str = "") -> Fact:
        return Fact(name=f"signal_stacks.{name}", value=value, step="signal_stacks", says=says)

    dumped = sum(len(found) for found in places.values())
    if not dumped:
        return
    yield fact("dumped", dumped)
    for role, found in places.items():
        kinds = [category for _, category in found]
        if kinds:
            most = max(sorted(set(kinds)), key=kinds.count)
            others = [f"{name}: {category}" for name, category in found if category != most]
            yield fact(f"{role.removesuffix('_core')}_waits_for", most, "; ".join(others[:5]))


def parse(text: str, pid: int) -> Dump:
    """faulthandler's text; it names the newest thread first and the main thread last."""
    heads = list(THREAD.finditer(text))
    threads = []
    for head, following in zip(heads, [*heads[1:], None], strict=False):
        body = text[head.end() : following.start() if following else len(text)]
        frames = tuple(Frame(f[3], INSIDE.sub("", f[1]), int(f[2])) for f in FRAME.finditer(body))
        last = following is None
        threads.append(Thread(pid if last else int(head[1], 16), "MainThread" if last else head[2] or "", True, frames))
    return Dump(pid, tuple(threads))


STEP = Step(
    name="signal_stacks",
    rung=1,
    says="asks every process for its Python stacks by a signal it catches; for hosts where py-spy may not look",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("signal_stacks.dumped", "", "processes that answered"),
        FactSpec("signal_stacks.api_server_waits_for", "", "what the API server waits for, as in stacks"),
        FactSpec("signal_stacks.engine_waits_for", "", "what EngineCore waits for"),
        FactSpec("signal_stacks.worker_waits_for", "", "what most workers wait for"),
    ),
    momentary=("*",),
    timeout_s=10.0,
    max_bytes=6 << 20,
    worst_pause_s=0.05,
    needs=("same host", "RESPONDER_STACKS_SIGNAL in vLLM's environment"),
)
