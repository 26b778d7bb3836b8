"""Where do the captures of each target run, and which processes serve it there?

The wiring of runners to targets. An inventory over a runner is what two reads of the far /proc give: enough for the
steps that only run commands and read files; the steps that look into processes need a responder on that host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import aiohttp

from responder import inventory as inventories
from responder import proc, redact
from responder.capture.step import Command, Runner
from responder.config import Config, TargetPart
from responder.model import Inventory, Target
from responder.runner_pod import Pod, PodRunner
from responder.titles import Seen, is_vllm, name_processes

TIMEOUT_S = 8.0
MAX_BYTES = 8 << 20
TICKS = 100
"""USER_HZ of every Linux that runs GPUs."""
PART = re.compile(rb"^==> /proc/(\d+)/\w+ <==\n", re.MULTILINE)


@runtime_checkable
class Closes(Protocol):
    """A runner that holds a connection."""

    async def close(self) -> None:
        """Idempotent."""


class AgentsNode:
    """A node whose captures its agent does as a whole: nothing of it is run or read from here."""

    def __init__(self, node: str) -> None:
        self.via = f"agent on {node}"

    async def run(self, argv: Sequence[str], *, timeout: float, max_bytes: int = 1 << 20) -> Command:
        """See Runner."""
        raise FileNotFoundError(2, f"not run from here: {self.via}", argv[0])

    async def read(self, path: str, *, max_bytes: int, tail: bool = False) -> bytes:
        """See Runner."""
        raise FileNotFoundError(2, f"not read from here: {self.via}", path)


def runners(config: Config, http: aiohttp.ClientSession) -> dict[str, Runner]:
    """Target -> runner, for the targets that are not on this host."""
    made = {part.name or urlsplit(part.url).netloc: runner_of(part, http) for part in config.targets}
    return {name: runner for name, runner in made.items() if runner is not None}


def runner_of(part: TargetPart, http: aiohttp.ClientSession) -> Runner | None:
    """The runner of one target; None for this host."""
    if part.node is not None:
        return AgentsNode(part.node)
    if part.where == "local":
        return None
    if part.where.pod is not None:
        pod = part.where.pod
        return PodRunner(Pod(**{name: getattr(pod, name) for name in type(pod).model_fields}), http)
    assert part.where.ssh is not None
    # Only who asks for it needs the library, and pays for its memory.
    from responder.runner_ssh import SshHost, SshRunner

    ssh = part.where.ssh
    return SshRunner(SshHost(ssh.host, ssh.user, ssh.key_file, ssh.known_hosts, ssh.port))


async def close(made: Mapping[str, Runner]) -> None:
    """Close their connections, which ends what still runs over them."""
    for runner in made.values():
        if isinstance(runner, Closes):
            await runner.close()


async def discover_there(target: Target, runner: Runner, now: float) -> Inventory:
    """What serves `target` on the runner's host; `why_not` says in words what could not be seen."""
    via = str(getattr(runner, "via", "another host"))
    try:
        stats = await _glob(runner, "stat")
        lines = await _glob(runner, "cmdline")
        booted = re.search(rb"^btime (\d+)$", await runner.read("/proc/stat", max_bytes=1 << 20), re.MULTILINE)
    except OSError as error:
        return Inventory(at=now, local=False, why_not=f"{via}: {error.strerror or error}")
    shift = float(booted[1]) - proc.BOOT_AT if booted else 0.0
    tree = dict(_tree(stats, lines, shift))
    port = str(urlsplit(target.url).port or 8000)
    tops = sorted({inventories.climb(pid, tree) for pid, seen in tree.items() if is_vllm(seen.argv)})
    tops = [pid for pid in tops if _serves(tree[pid].argv, port)] or tops
    if len(tops) != 1:
        why = (
            "no process of vLLM is visible there" if not tops else f"{len(tops)} servers run there, none on port {port}"
        )
        return Inventory(at=now, local=False, via=via, why_not=f"{via}: {why}")
    top = tops[0]
    family = inventories.descendants(top, tree)
    processes = name_processes(top, {pid: tree[pid] for pid in family}, {top})
    return Inventory(
        at=now,
        local=False,
        via=via,
        processes=processes,
        command=inventories.mask(tree[top].argv),
        environment=_allowed(await _bytes(runner, f"/proc/{top}/environ")),
        log_file=target.log_file or await _log_of(runner, top),
    )


async def _glob(runner: Runner, file: str) -> bytes:
    """That file of every process, each under a header line: one command, whatever runs there."""
    script = f"exec head -v -c 16384 /proc/[0-9]*/{file}"
    said = await runner.run(["sh", "-c", script], timeout=TIMEOUT_S, max_bytes=MAX_BYTES)
    if not said.stdout:
        raise OSError(5, said.stderr.decode("utf-8", "replace").strip()[:200] or "/proc gave no answer")
    return said.stdout


def _parts(raw: bytes) -> dict[int, bytes]:
    heads = list(PART.finditer(raw))
    ends = [head.start() for head in heads[1:]] + [len(raw)]
    return {int(head[1]): raw[head.end() : end] for head, end in zip(heads, ends, strict=True)}


def _tree(stats: bytes, lines: bytes, shift: float):  # type: ignore[no-untyped-def]
    argvs = _parts(lines)
    for pid, raw in _parts(stats).items():
        seen = proc.parse_stat(raw)
        if seen is not None and seen.state not in proc.DEAD:
            words = argvs.get(pid, b"").strip(b"\n").rstrip(b"\0 ").split(b"\0")
            argv = tuple(word.decode("utf-8", "replace") for word in words if words != [b""])
            yield pid, Seen(pid, seen.ppid, round(seen.started_at + shift, 2), seen.comm, argv)


def _serves(argv: tuple[str, ...], port: str) -> bool:
    """Whether a command line names this port; one without any listens on 8000."""
    pairs = dict(zip(argv, argv[1:], strict=False))
    named = pairs.get("--port") or next((word[7:] for word in argv if word.startswith("--port=")), "8000")
    return named == port


def _allowed(raw: bytes) -> dict[str, str]:
    pairs = (part.decode("utf-8", "replace").partition("=") for part in raw.split(b"\0") if b"=" in part)
    clean: Callable[[str], str] = lambda value: redact.scrub(value.encode(), ())[0].decode("utf-8", "replace")  # noqa: E731
    return {
        name: clean(value)
        for name, _, value in sorted(pairs)
        if inventories.ALLOWED.fullmatch(name) and not inventories.FORBIDDEN.search(name)
    }


async def _bytes(runner: Runner, path: str) -> bytes:
    try:
        return await runner.read(path, max_bytes=1 << 20)
    except OSError:
        return b""


async def _log_of(runner: Runner, pid: int) -> str | None:
    try:
        said = await runner.run(["readlink", f"/proc/{pid}/fd/1"], timeout=TIMEOUT_S)
    except OSError:
        return None
    path = said.stdout.decode("utf-8", "replace").strip()
    return path if said.code == 0 and path.startswith("/") and not path.startswith("/dev/") else None
