"""What do NCCL's own log lines say: which way data goes, who warned first, whose collective timed out first?

Only where the server was started with NCCL_DEBUG (INFO or WARN), in its own log or in NCCL_DEBUG_FILE. Unlike torch's
flight recorder these lines also cover vLLM's PyNccl.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Inventory, Outcome, Scalar

META, LOG = "nccl_log.json", "nccl.txt"
MAX_BYTES = 4 << 20
MAX_FILES = 32
COMMAND_S = 5.0
WANTED = re.compile(rb"NCCL (?:INFO|WARN|ERROR)|ProcessGroupNCCL|ncclSystemError|ncclRemoteError|ncclInternalError")
HOW_TO = "start vLLM with NCCL_DEBUG=INFO (and NCCL_DEBUG_FILE=/folder/nccl.%h.%p to keep it out of the log)"


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """The lines of NCCL from the server's log and from NCCL's own files."""
    inventory = scene.inventory
    if inventory is None or not (inventory.reachable or scene.target.log_file):
        return skipped("the server runs on another host: run a responder there, or say `where:` for this target")
    paths = [path for path in (scene.target.log_file or inventory.log_file,) if path]
    paths += await _own_files(scene, inventory)
    lines: list[bytes] = []
    unread: list[str] = []
    for path in paths:
        try:
            raw = await scene.runner.read(path, max_bytes=MAX_BYTES, tail=path == paths[0])
        except OSError as error:
            unread.append(f"{path}: {error.strerror or error}")
            continue
        lines += [line for line in raw.splitlines() if WANTED.search(line)]
    if not paths:
        return skipped(f"no log file known; {HOW_TO}")
    if not lines and not unread:
        return skipped(f"no line of NCCL in {', '.join(paths)}: {HOW_TO}")
    meta = {"paths": paths, "debug": inventory.environment.get("NCCL_DEBUG", "")}
    files = {LOG: b"\n".join(lines), META: json.dumps(meta, sort_keys=True).encode()}
    return Fetched(files, Outcome.PARTIAL if unread else Outcome.OK, "; ".join(unread)[:300])


async def _own_files(scene: Scene, inventory: Inventory) -> list[str]:
    """Files of NCCL_DEBUG_FILE: %h is the host, %p the process."""
    pattern = inventory.environment.get("NCCL_DEBUG_FILE", "")
    folder, _, name = pattern.rpartition("/")
    if not name:
        return []
    try:
        said = await scene.runner.run(["ls", "-1", folder or "."], timeout=COMMAND_S, max_bytes=1 << 18)
    except OSError:
        return []
    wanted = re.compile(re.escape(name).replace("%h", r"[\w.-]+").replace("%p", r"\d+"))
    names = said.stdout.decode("utf-8", "replace").splitlines() if said.code == 0 else []
    return [f"{folder}/{found}" for found in names if wanted.fullmatch(found)][:MAX_FILES]


# ------------------------------------------------------------------------------------------------------ reading

VERSION = re.compile(r"NCCL version ([\d.]+)")
VIA = re.compile(r"NCCL INFO Channel .* via ([A-Za-z0-9]+(?:/[A-Za-z]+)?)")
WARN = re.compile(r"(?:\[(?P<device>\d+)\]\s+)?(?:\S+\s+)?NCCL (?:WARN|ERROR) (?P<words>.*)")
TIMEOUT = re.compile(r"Rank (\d+)\].*?(?:timeout|timed out).*?SeqNum=(\d+), OpType=(\w+)", re.IGNORECASE)
SLOWEST = ("NET/Socket", "NET/IB", "SHM", "P2P")
"""Of the ways NCCL can choose within one host; NVLS is the fastest."""


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Ways, warnings, timeouts."""
    if LOG not in files:
        return
    lines = files[LOG].decode("utf-8", "replace").splitlines()

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        name = f"nccl_log.{name}"
        return Fact(name=name, value=value, unit=unit, step="nccl_log", file=LOG, at=brief.now, says=says[:400])

    yield fact("lines", len(lines), "lines")
    if version := next((found[1] for line in lines if (found := VERSION.search(line))), ""):
        yield fact("version", version)
    ways = Counter(found[1] for line in lines if (found := VIA.search(line)))
    if ways:
        words = ", ".join(f"{count} channels via {way}" for way, count in ways.most_common())
        slowest = next((name for name in SLOWEST if any(way.startswith(name) for way in ways)), max(ways))
        yield fact("slowest_way", slowest, says=words)
        yield fact("over_sockets", any(way.startswith("NET/Socket") for way in ways), says=words)
    warned = [found for line in lines if (found := WARN.search(line))]
    yield fact("warnings", len(warned), "lines", warned[0]["words"] if warned else "")
    if warned and warned[0]["device"]:
        yield fact("first_to_warn", f"GPU {warned[0]['device']}", says=warned[0]["words"])
    late = sorted({(int(found[2]), int(found[1]), found[3]) for line in lines if (found := TIMEOUT.search(line))})
    yield fact("timeouts", len({rank for _, rank, _ in late}), "ranks")
    if late:
        number, rank, what = late[0]
        behind = [row for row in late if row[0] == number]
        alone = len(behind) < len(late) or len(behind) == 1
        words = "; ".join(f"rank {who} stands at {name} {at}" for at, who, name in late[:16])
        yield fact("first_diverging_rank", f"rank {rank}" if alone else "", says=words)


STEP = Step(
    name="nccl_log",
    rung=0,
    says="reads NCCL's lines in the server's log and in NCCL_DEBUG_FILE",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("nccl_log.lines", "lines", "lines of NCCL found"),
        FactSpec("nccl_log.version", "", "NCCL's version"),
        FactSpec("nccl_log.slowest_way", "", "the slowest transport NCCL chose: NET/Socket, NET/IB, SHM, P2P, NVLS"),
        FactSpec("nccl_log.over_sockets", "", "GPUs talk to each other over plain TCP"),
        FactSpec("nccl_log.warnings", "lines", "warnings and errors of NCCL"),
        FactSpec("nccl_log.first_to_warn", "", "the GPU whose rank warned first"),
        FactSpec("nccl_log.timeouts", "ranks", "ranks whose watchdog saw a collective time out"),
        FactSpec("nccl_log.first_diverging_rank", "", "the rank whose timed-out collective has the lowest number"),
    ),
    timeout_s=30.0,
    max_bytes=MAX_BYTES * 2,
    needs=("the server's log", "NCCL_DEBUG=INFO or WARN"),
)
