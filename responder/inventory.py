"""Which processes serve this target, and where is its log?

Asked while the server is healthy, kept for when it is not: from the port to the listening processes, up to the topmost
one that is vLLM, down to all descendants. Only processes that live as long as the server are kept (no compilers, no
resource trackers), so that a missing one means something.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from responder import proc, redact
from responder.aside import aside
from responder.model import Inventory, ProcessInfo, Target
from responder.titles import Seen, is_vllm, name_processes

TIMEOUT_S = 8.0

ALLOWED = re.compile(
    r"(VLLM|NCCL|CUDA|TORCH|PYTORCH|HIP|ROCR|GLOO|RAY|OMP)_\w+|RESPONDER_(RECORDER|STACKS)\w*"
    r"|(NVIDIA|ASCEND)_VISIBLE_DEVICES"
)
FORBIDDEN = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|HEADERS|DSN", re.IGNORECASE)
SECRET_FLAG = re.compile(r"--?(?:\w+[-_])*(?:key|keys|token|password|passwd|secret|credentials)", re.IGNORECASE)
MASKED = "[secret]"


async def discover(target: Target, now: float) -> Inventory:
    """What serves `target` now. Never raises for what the host hides: `why_not` says it in words."""
    try:
        return await aside(lambda: _discover(target, now), timeout=TIMEOUT_S)
    except TimeoutError:
        return Inventory(at=now, local=True, why_not=f"/proc gave no answer within {TIMEOUT_S:g} s")


def established(port: int) -> int | None:
    """Connections that stand open on a port of this host; None when nothing listens there, or it cannot be seen."""
    found = proc.all_sockets(port)
    return len(found.get(proc.ESTABLISHED, [])) if found and proc.LISTEN in found else None


def alive(processes: Sequence[ProcessInfo]) -> tuple[ProcessInfo, ...]:
    """Those of these processes that still run; a zombie, or another process under the same number, does not count."""
    return tuple(process for process in processes if proc.is_alive(process.pid, process.started_at))


def _discover(target: Target, now: float) -> Inventory:
    address = urlsplit(target.url)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    if not is_local(host):
        return Inventory(at=now, local=False, why_not=f"{host} is another host: run a responder there to see processes")
    found = _find(port)
    if not found.processes:
        return Inventory(at=now, local=True, why_not=found.why_not)
    main = next((p.pid for p in found.processes if p.role == "api_server"), found.processes[0].pid)
    environment = {
        name: redact.scrub(value.encode(), ())[0].decode("utf-8", "replace")
        for name, value in sorted(proc.environment(main).items())
        if ALLOWED.fullmatch(name) and not FORBIDDEN.search(name)
    }
    log_file, why_not = (target.log_file, "") if target.log_file else find_log(main)
    return Inventory(
        at=now,
        local=True,
        processes=found.processes,
        command=mask(proc.command(found.command_of)),
        environment=environment,
        log_file=log_file,
        why_not=why_not,
    )


@dataclass(frozen=True)
class _Found:
    processes: tuple[ProcessInfo, ...] = ()
    command_of: int = 0
    """The process whose argv says how the server was started."""
    why_not: str = ""


def _find(port: int) -> _Found:
    inodes = proc.sockets(port, proc.LISTEN)
    if inodes is None:
        return _Found(why_not="/proc/net/tcp cannot be read")
    if not inodes:
        return _Found(why_not=f"nothing listens on port {port} in this network namespace")
    running = proc.processes()
    listening = {f"socket:[{inode}]" for inode in inodes}
    holders = [pid for pid in running if any(what in listening for _, what in proc.open_files(pid))]
    if not holders:
        return _Found(
            why_not=f"the process that listens on port {port} is not visible: it belongs to another user or another "
            "PID namespace (run the responder as the same user or root, in the server's PID namespace)"
        )
    tree = {
        pid: Seen(pid, it.ppid, it.started_at, it.comm, tuple(proc.command(pid)))
        for pid, it in running.items()
        if it.state not in proc.DEAD
    }
    top = climb(holders[0], tree)
    family = descendants(top, tree)
    named = name_processes(top, {pid: tree[pid] for pid in family}, set(holders))
    if not any(is_vllm(tree[pid].argv) for pid in family):
        return _Found(why_not=f"port {port} is held by {tree[top].comm} (pid {top}), which is not vLLM")
    return _Found(processes=named, command_of=top)


def climb(pid: int, tree: dict[int, Seen]) -> int:
    """The topmost ancestor that is vLLM, through parents without a break; the process itself if none is."""
    while (parent := tree[pid].ppid) in tree and is_vllm(tree[parent].argv):
        pid = parent
    return pid


def descendants(top: int, tree: dict[int, Seen]) -> set[int]:
    """The process and everything below it."""
    family, fresh = {top}, {top}
    while fresh:
        fresh = {pid for pid, seen in tree.items() if seen.ppid in fresh} - family
        family |= fresh
    return family


def is_local(host: str) -> bool:
    """Whether a URL's host means this host: loopback, our name, or an address of one of our interfaces."""
    if host in ("localhost", "", socket.gethostname(), socket.getfqdn()):
        return True
    try:
        addresses = {item[4][0] for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    own = {nic.address.partition("%")[0] for nics in psutil.net_if_addrs().values() for nic in nics}
    return any(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in addresses) or bool(
        addresses & own
    )


def mask(argv: Iterable[str]) -> tuple[str, ...]:
    """argv without secrets: every value of a flag named after one, and whatever else looks like one."""
    masked, hiding = [], False
    for word in argv:
        flag, equals, _ = word.partition("=")
        if word.startswith("-") and word != "-":  # a flag ends the values of the flag before it
            hiding = bool(SECRET_FLAG.fullmatch(flag)) and not equals
            masked.append(f"{flag}={MASKED}" if equals and SECRET_FLAG.fullmatch(flag) else _plain(word))
        else:
            masked.append(MASKED if hiding else _plain(word))
    return tuple(masked)


def _plain(word: str) -> str:
    return redact.scrub(word.encode("utf-8", "replace"), ())[0].decode("utf-8", "replace")


def find_log(pid: int) -> tuple[str | None, str]:
    """The regular file the process writes its output to, and why there is none."""
    reasons = []
    for fd, name in ((1, "stdout"), (2, "stderr")):
        link = f"/proc/{pid}/fd/{fd}"
        try:
            path, there = os.readlink(link), os.stat(link)
        except PermissionError:
            return None, "the server's output is not ours to see (another user's process); name its log file"
        except OSError:
            reasons.append(f"{name} is closed")
            continue
        if not stat.S_ISREG(there.st_mode):
            reasons.append(f"{name} is {path}")
        elif not _same_file(path, there):
            reasons.append(f"{name} is {path}, deleted or in another mount namespace")
        else:
            return path, ""
    return None, f"no log file: {', '.join(dict.fromkeys(reasons))}; name one for this target to have log evidence"


def _same_file(path: str, there: os.stat_result) -> bool:
    try:
        here = Path(path).stat()
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
