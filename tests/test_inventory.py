"""From a port to the processes of a server, their roles and its log; recycled numbers and secrets are handled."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from responder import proc
from responder.inventory import alive, discover, established, is_local, mask
from responder.model import ProcessInfo, Target
from responder.titles import Seen, is_vllm, name_processes, title_role

SERVER = """
import os, socket, subprocess, sys, time
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
engine = 'import subprocess, time; from subprocess import PIPE, Popen; one = Popen(["VLLM::Worker_TP1"], ' \\
    'executable="/bin/cat", stdin=PIPE); two = Popen(["VLLM::Worker_TP0"], executable="/bin/cat", stdin=PIPE); ' \\
    'time.sleep(600)'
print(listening.getsockname()[1], flush=True)
subprocess.Popen([sys.executable, "-c", engine + "  # spawn_main"])
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # resource_tracker"])
time.sleep(600)
"""
"""A server that looks like vLLM 0.10.0 and before: titles only for workers (`cat` under another name)."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    script = tmp_path / "vllm" / "entrypoints" / "openai" / "api_server.py"
    script.parent.mkdir(parents=True)
    script.write_text(SERVER)
    log = tmp_path / "server.log"
    environment = {**os.environ, "VLLM_LOG_STATS_INTERVAL": "1", "VLLM_API_KEY": "s3cret", "NCCL_DEBUG": "INFO"}
    argv = [sys.executable, str(script), "--api-key", "s3cret-1", "--port", "0"]
    with log.open("wb") as out:
        child = subprocess.Popen(argv, stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        # Between fork and exec a child still has its parent's command line, and looks like another API server.
        while not settled(child.pid) or not log.read_text().endswith("\n"):
            assert time.monotonic() < deadline, "the stand-in did not start"
            time.sleep(0.02)
        yield child, int(log.read_text()), log
    finally:
        for pid in family(child.pid):
            os.kill(pid, 9)
        child.wait()


def settled(top: int) -> bool:
    """Whether all five are there, each with a command line of its own."""
    lines = set()
    for pid in family(top):
        try:
            lines.add(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            return False
    return len(lines) == 5


def family(top: int) -> list[int]:
    found, running = [top], proc.processes()
    for pid in found:
        found += [other for other, seen in running.items() if seen.ppid == pid and seen.state != "Z"]
    return found


async def test_a_server_is_found_from_its_port(server: tuple[subprocess.Popen[bytes], int, Path]) -> None:
    """Roles by parentage and title, ranks, masked argv, allow-listed environment, log file; helpers are left out."""
    child, port, log = server
    found = await discover(Target(name="t", url=f"http://127.0.0.1:{port}"), 5.0)
    assert found.local
    assert found.why_not == ""
    assert found.at == 5.0
    assert [process.role for process in found.processes[:2]] == ["api_server", "engine_core"]
    assert found.processes[0].pid == child.pid
    workers = {process.name: process.rank for process in found.processes if process.role == "worker"}
    assert workers == {"VLLM::Worker_TP0": 0, "VLLM::Worker_TP1": 1}
    assert len(found.processes) == 4
    assert found.command[-4:] == ("--api-key", "[secret]", "--port", "0")
    assert found.environment["VLLM_LOG_STATS_INTERVAL"] == "1"
    assert found.environment["NCCL_DEBUG"] == "INFO"
    assert not any("KEY" in name for name in found.environment)
    assert found.log_file == str(log)
    assert alive(found.processes) == found.processes


async def test_death_and_recycled_numbers_are_noticed(server: tuple[subprocess.Popen[bytes], int, Path]) -> None:
    """A dead process is missed; another process under its number is not taken for it."""
    child, port, _ = server
    found = await discover(Target(name="t", url=f"http://localhost:{port}"), 5.0)
    recycled = tuple(process.model_copy(update={"started_at": process.started_at - 60}) for process in found.processes)
    assert alive(recycled) == ()
    (worker, _) = [process for process in found.processes if process.role == "worker"]
    os.kill(worker.pid, 9)
    deadline = time.monotonic() + 60
    while worker in alive(found.processes):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(alive(found.processes)) == 3


async def test_connections_of_a_port(server: tuple[subprocess.Popen[bytes], int, Path]) -> None:
    """Only the server's side counts; a port nobody listens on here is unknown, not zero."""
    _, port, _ = server
    assert established(port) == 0
    with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
        assert established(port) == 2
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert established(unused.getsockname()[1]) is None


async def test_reasons_in_words() -> None:
    """Another host, nobody there, somebody else there: each is said."""
    remote = await discover(Target(name="t", url="http://192.0.2.1:8000"), 1.0)
    assert not remote.local
    assert "another host" in remote.why_not
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        nobody = await discover(Target(name="t", url=f"http://127.0.0.1:{port}"), 1.0)
        assert nobody.local
        assert "nothing listens" in nobody.why_not
        held.listen()
        other = await discover(Target(name="t", url=f"http://127.0.0.1:{port}"), 1.0)
        assert "not vLLM" in other.why_not
    assert other.processes == nobody.processes == remote.processes == ()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "", socket.gethostname()])
def test_local_hosts(host: str) -> None:
    """Every way to write this host."""
    assert is_local(host)


def test_masked_arguments() -> None:
    """Values of secret flags, in every form; look-alikes stay."""
    argv = ["vllm", "serve", "m", "--api-key", "a", "b", "--hf-token=c", "--ssl-keyfile", "/k", "--max-num-seqs", "8"]
    assert mask(argv) == (
        "vllm", "serve", "m", "--api-key", "[secret]", "[secret]", "--hf-token=[secret]", "--ssl-keyfile", "/k",
        "--max-num-seqs", "8",
    )  # fmt: skip
    assert mask(["--tokenizer", "t", "--ssl_keyfile_password", "x"])[1::2] == ("t", "[secret]")
    assert "hunter2" not in " ".join(mask(["--config", '{"api_key": "hunter2"}']))


VLLM = [
    ["VLLM::EngineCore"],
    ["VLLM::Worker_TP1"],
    ["VLLM::APIServer_0"],
    ["VLLM::DPCoordinator"],
    ["prod::EngineCore_DP1"],
    ["DPEngineCore_0"],
    ["ray::RayWorkerWrapper.execute_method"],
    ["/opt/venv/bin/python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "m"],
    ["/usr/bin/python3.12", "/opt/venv/bin/vllm", "serve", "m"],
    ["/opt/venv/bin/vllm", "serve", "m"],
    ["python", "-O", "/x/vllm/entrypoints/openai/api_server.py"],
]
OTHERS = [
    [],
    [""],
    ["/opt/vllm/bin/python", "train.py"],
    ["/opt/vllm/bin/python", "-m", "pytest", "vllm"],
    ["bash", "-c", "vllm serve m"],
    ["grep", "VLLM::Worker"],
    ["tail", "-f", "/var/log/vllm.log"],
    ["/usr/sbin/nginx"],
]


@pytest.mark.parametrize("argv", VLLM, ids=" ".join)
def test_is_vllm(argv: list[str]) -> None:
    """Titles and command lines of every version."""
    assert is_vllm(argv)


@pytest.mark.parametrize("argv", OTHERS, ids=" ".join)
def test_is_not_vllm(argv: list[str]) -> None:
    """Programs that only lie in a directory of that name, or speak of it."""
    assert not is_vllm(argv)
    assert title_role(argv) is None


def tree(*processes: tuple[int, int, str]) -> dict[int, Seen]:
    """(pid, parent, argv as a line) -> family; started in the order given."""
    return {
        pid: Seen(pid, parent, 100.0 + at, "python", (argv,) if "::" in argv else tuple(argv.split()))
        for at, (pid, parent, argv) in enumerate(processes)
    }


def roles(found: tuple[ProcessInfo, ...]) -> list[tuple[int, str, int | None]]:
    return [(process.pid, process.role, process.rank) for process in found]


def test_several_api_servers_and_engines() -> None:
    """`--api-server-count 2 --data-parallel-size 2`: the launcher holds the port too."""
    family = tree(
        (1, 0, "python -m vllm serve m"), (2, 1, "VLLM::DPCoordinator"), (3, 1, "VLLM::EngineCore_DP0"),
        (4, 1, "VLLM::EngineCore_DP1"), (5, 3, "VLLM::Worker"), (6, 4, "VLLM::Worker"), (7, 1, "VLLM::APIServer_0"),
        (8, 1, "VLLM::APIServer_1"), (9, 1, "python -c from multiprocessing.resource_tracker import main"),
    )  # fmt: skip
    assert roles(name_processes(1, family, {1, 7, 8})) == [
        (1, "launcher", None), (2, "coordinator", None), (3, "engine_core", 0), (4, "engine_core", 1), (5, "worker", 0),
        (6, "worker", 0), (7, "api_server", None), (8, "api_server", None),
    ]  # fmt: skip


def test_pipeline_and_tensor_ranks() -> None:
    """The rank counts tensor ranks inside pipeline ranks; two-digit ranks do not sort as text."""
    workers = [(10 + n, 3, f"VLLM::Worker_PP{n // 12}_TP{n % 12}") for n in range(24)]
    family = tree((1, 0, "vllm serve m"), (3, 1, "VLLM::EngineCore"), *workers)
    found = [process for process in name_processes(1, family, {1}) if process.role == "worker"]
    assert {process.name: process.rank for process in found} == {
        f"VLLM::Worker_PP{n // 12}_TP{n % 12}": n for n in range(24)
    }


def test_versions_without_titles() -> None:
    """0.8 to 0.10.0: forked copies with the parent's command line, or spawned; ranks in order of start."""
    line = "python -m vllm.entrypoints.openai.api_server --model m"
    spawned = "python -c from_multiprocessing.spawn_import_spawn_main"
    family = tree((1, 0, line), (2, 1, line), (4, 2, spawned), (3, 2, spawned), (5, 2, "gcc -c x.c"))
    assert roles(name_processes(1, family, {1, 2})) == [
        (1, "api_server", None), (2, "engine_core", None), (4, "worker", 0), (3, "worker", 1),
    ]  # fmt: skip
