"""What is each process of a vLLM server for? Pure: titles and parentage in, roles and ranks out.

Titles since 0.10.1 (`VLLM::EngineCore`, `VLLM::Worker_TP1`, 0.10.1's own `DPEngineCore_0`); before, all processes look
like their parent and only who started whom tells: the API server starts engines, engines start workers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from responder.model import ProcessInfo

Role = Literal["launcher", "api_server", "engine_core", "worker", "coordinator", "other"]


@dataclass(frozen=True)
class Seen:
    """A process as /proc shows it."""

    pid: int
    ppid: int
    started_at: float
    comm: str
    argv: tuple[str, ...]


TITLES: tuple[tuple[str, Role], ...] = (
    (r"(DP)?EngineCore|MQLLMEngine", "engine_core"),
    (r"DPCoordinator|DP_Coordinator", "coordinator"),
    (r"APIServer|ApiServer", "api_server"),
    (r"(Vllm|RayWorkerWrapper|Ray)?Worker(Proc)?(Wrapper)?(?![a-z])", "worker"),
)
PREFIX = re.compile(r"(\w+::|ray::)\s*(?=\w)")
UNPREFIXED = re.compile(r"DPEngineCore|EngineCore|APIServer|DPCoordinator|VllmWorker")
RANK = re.compile(r"_(DP|PP|TP)(\d+)")
PYTHON = re.compile(r"(python|pypy)[\d.]*[a-z]?")
HELPERS = re.compile(r"resource_tracker|semaphore_tracker|forkserver|compile_worker|multiprocessing\.process")


def title_role(argv: Sequence[str]) -> Role | None:
    """The role a rewritten title claims; None for an ordinary command line."""
    if len([word for word in argv if word]) != 1:
        return None
    title = argv[0]
    prefix = PREFIX.match(title)
    bare = title[prefix.end() :] if prefix else title
    if "/" in bare or not (prefix or UNPREFIXED.match(bare)):
        return None
    for pattern, role in TITLES:
        if re.match(pattern, bare):
            return role
    return None


def is_vllm(argv: Sequence[str]) -> bool:
    """Whether a command line or title is vLLM's own; a program that merely lies in a directory of that name is not."""
    if title_role(argv):
        return True
    words = [word for word in argv if word]
    if not words:
        return False
    if words[0].rpartition("/")[2] == "vllm":
        return True
    if not PYTHON.fullmatch(words[0].rpartition("/")[2]):
        return False
    for at, word in enumerate(words[1:], start=1):
        if word == "-m":
            return at + 1 < len(words) and words[at + 1].split(".")[0] == "vllm"
        if not word.startswith("-"):
            return word.rpartition("/")[2] == "vllm" or "/vllm/entrypoints/" in word
        if word in ("-c", "-"):
            return False
    return False


def name_processes(top: int, family: Mapping[int, Seen], listening: set[int]) -> tuple[ProcessInfo, ...]:
    """The lasting processes of a server with role, name and rank; ordered as they were started."""
    roles: dict[int, Role] = {}
    pids = sorted(family, key=lambda pid: (family[pid].started_at, pid))
    servers = [pid for pid in pids if title_role(family[pid].argv) == "api_server"]
    for pid in pids:
        if role := title_role(family[pid].argv):
            roles[pid] = role
        elif pid == top:
            roles[pid] = "launcher" if servers or pid not in listening else "api_server"
        else:
            roles[pid] = _by_parent(family, pid, roles, listening)
    kept = [pid for pid in pids if roles[pid] != "other"]
    ranks = _ranks({pid: family[pid] for pid in kept}, roles)
    return tuple(
        ProcessInfo(
            pid=pid,
            ppid=family[pid].ppid,
            started_at=family[pid].started_at,
            role=roles[pid],
            name=_name(family[pid], roles[pid], ranks.get(pid)),
            rank=ranks.get(pid),
        )
        for pid in kept
    )


def _by_parent(family: Mapping[int, Seen], pid: int, roles: Mapping[int, Role], listening: set[int]) -> Role:
    """Without a title: a Python process that a process of the server started as its copy or by multiprocessing."""
    seen = family[pid]
    parent = roles.get(seen.ppid, "other")
    line = " ".join(seen.argv)
    spawned = "spawn_main" in line or seen.argv == family[seen.ppid].argv
    if is_vllm(seen.argv) and pid in listening and parent in ("launcher", "other"):
        return "api_server"  # `vllm serve` below a wrapper
    if HELPERS.search(line) or not (spawned or is_vllm(seen.argv)):
        return "other"
    if parent in ("launcher", "api_server"):
        return "engine_core"
    if parent == "engine_core":
        return "worker"
    return "other"


def _ranks(kept: Mapping[int, Seen], roles: Mapping[int, Role]) -> dict[int, int]:
    """Workers: the rank in the title, else the order of their start, which is vLLM's own. Engines: the DP number."""
    ranks: dict[int, int] = {}
    for engine in {seen.ppid for pid, seen in kept.items() if roles[pid] == "worker"}:
        workers = [pid for pid, seen in kept.items() if roles[pid] == "worker" and seen.ppid == engine]
        numbers = {pid: dict(RANK.findall(" ".join(kept[pid].argv))) for pid in workers}
        width = 1 + max((int(found.get("TP", 0)) for found in numbers.values()), default=0)
        for order, pid in enumerate(workers):
            found = numbers[pid]
            titled = "PP" in found or "TP" in found
            ranks[pid] = int(found.get("PP", 0)) * width + int(found.get("TP", 0)) if titled else order
    for pid, seen in kept.items():
        number = re.search(r"EngineCore_(?:DP)?(\d+)", " ".join(seen.argv))
        if roles[pid] == "engine_core" and number:
            ranks[pid] = int(number[1])
    return ranks


def _name(seen: Seen, role: Role, rank: int | None) -> str:
    if title_role(seen.argv):
        return next(word for word in seen.argv if word)
    plain = {"launcher": "launcher", "api_server": "APIServer", "engine_core": "EngineCore", "worker": "Worker"}
    suffix = "" if rank is None or role != "worker" else f"_{rank}"
    return plain.get(role, seen.comm) + suffix
