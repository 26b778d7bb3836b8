"""Against a real sshd: does a command run quoted, bounded, and never outlive us?"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from responder.runner_ssh import SshHost, SshRunner

UNPACKED = Path(__file__).resolve().parents[1] / ".tools" / "usr"
SSHD = shutil.which("sshd") or next(
    (p for p in ("/usr/sbin/sshd", str(UNPACKED / "sbin" / "sshd")) if os.path.exists(p)), ""
)
pytestmark = pytest.mark.skipif(not SSHD, reason="no sshd: scripts/setup-sshd could not bring it")
USER = os.environ.get("USER") or subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()


def environment(folder: Path) -> dict[str, str]:
    """For an sshd that was only unpacked: its libraries, and the user it drops to, which nobody installed."""
    libraries = UNPACKED / "lib" / f"{os.uname().machine}-linux-gnu"
    wrapper = libraries / "libnss_wrapper.so"
    if not SSHD.startswith(str(UNPACKED)) or not wrapper.exists():
        return dict(os.environ)
    known = Path("/etc/passwd").read_text()
    (folder / "passwd").write_text(known + "sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n")
    return {
        **os.environ, "LD_LIBRARY_PATH": str(libraries), "LD_PRELOAD": str(wrapper),
        "NSS_WRAPPER_PASSWD": str(folder / "passwd"), "NSS_WRAPPER_GROUP": "/etc/group",
    }  # fmt: skip


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    """An sshd of our own on a free loopback port, with its own keys."""
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o700)
    for name in ("host", "user"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(str(folder / name))
        key.write_public_key(str(folder / f"{name}.pub"))
        (folder / name).chmod(0o600)
    shutil.copy(folder / "user.pub", folder / "authorized")
    (folder / "authorized").chmod(0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    said = folder / "sshd.log"
    daemon = subprocess.Popen(
        [os.path.abspath(SSHD), "-D", "-f", str(folder / "config"), "-E", str(said)], env=environment(folder)
    )
    deadline = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        if daemon.poll() is not None or time.monotonic() > deadline:
            daemon.kill()
            daemon.wait()
            pytest.skip(f"sshd does not start here: {said.read_text()[-300:]}")
        time.sleep(0.02)
    yield SshHost("127.0.0.1", USER, folder / "user", folder / "known_hosts", port)
    daemon.kill()
    daemon.wait()


def alive(mark: str) -> list[int]:
    """Processes that carry the mark on their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in words and int(pid) != os.getpid():
            found.append(int(pid))
    return found


async def gone(mark: str, within: float = 30.0) -> bool:
    deadline = time.monotonic() + within
    while alive(mark):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def test_a_command_and_its_ending(there: SshHost) -> None:
    """Output, error output and exit code arrive; the items stay what they are."""
    runner = SshRunner(there)
    hostile = ["a b", "$(touch /tmp/x)", "'; echo no; '", "*", "", "ä\n"]
    said = await runner.run(["printf", "%s|", *hostile], timeout=20)
    assert (said.code, said.stdout.decode()) == (0, "".join(f"{item}|" for item in hostile))
    said = await runner.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=20)
    assert (said.code, said.stdout, said.stderr) == (3, b"out\n", b"err\n")
    with pytest.raises(FileNotFoundError):
        await runner.run(["no-such-program"], timeout=20)
    await runner.close()


async def test_files(there: SshHost, tmp_path: Path) -> None:
    """Head, tail, and the errors of open()."""
    runner = SshRunner(there)
    (tmp_path / "a file").write_bytes(b"0123456789")
    assert await runner.read(str(tmp_path / "a file"), max_bytes=4) == b"0123"
    assert await runner.read(str(tmp_path / "a file"), max_bytes=4, tail=True) == b"6789"
    with pytest.raises(FileNotFoundError):
        await runner.read(str(tmp_path / "none"), max_bytes=4)
    with pytest.raises(IsADirectoryError):
        await runner.read(str(tmp_path), max_bytes=4)
    await runner.close()


async def test_output_is_capped(there: SshHost) -> None:
    """An endless writer is cut, and ends."""
    runner = SshRunner(there)
    said = await runner.run(["yes", "capped-mark"], timeout=30, max_bytes=10_000)
    assert (said.truncated, len(said.stdout)) == (True, 10_000)
    assert await gone("capped-mark")
    await runner.close()


@pytest.mark.parametrize("script", ["sleep 600", "trap '' TERM HUP INT; sleep 600; sleep 600", "sleep 600 & wait"])
async def test_nothing_outlives_its_deadline(there: SshHost, script: str) -> None:
    """Also what ignores signals, and what it started itself."""
    runner = SshRunner(there)
    mark = f"deadline-{time.monotonic_ns()}"
    said = await runner.run(["sh", "-c", f": {mark}; {script}", mark], timeout=1.0)
    assert said.code is None
    assert await gone(mark)
    await runner.close()


async def test_nothing_outlives_us(there: SshHost) -> None:
    """The responder is killed with SIGKILL: its command over there ends by itself, long before its deadline."""
    mark = f"orphan-{time.monotonic_ns()}"
    code = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from responder.runner_ssh import SshHost, SshRunner
        there = SshHost({there.host!r}, {there.user!r}, Path({str(there.key_file)!r}), Path({str(there.known_hosts)!r}),
                        {there.port})
        script = "trap '' HUP TERM; sleep 600; sleep 600"
        asyncio.run(SshRunner(there).run(["sh", "-c", script, "orphan-" + "{mark[7:]}"], timeout=500))
    """)
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not [pid for pid in alive(mark) if pid != child.pid]:
        assert child.poll() is None
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert await gone(mark)


async def test_an_unknown_host_is_not_talked_to(there: SshHost, tmp_path: Path) -> None:
    """Only keys in our own known_hosts; said as what it is."""
    empty = tmp_path / "known_hosts"
    empty.write_text("")
    runner = SshRunner(SshHost(there.host, there.user, there.key_file, empty, there.port))
    with pytest.raises(OSError, match="Host key is not trusted"):
        await runner.run(["true"], timeout=5)


async def test_a_host_that_is_down_is_an_oserror(there: SshHost) -> None:
    """The step fails with words."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        runner = SshRunner(SshHost(there.host, there.user, there.key_file, there.known_hosts, free.getsockname()[1]))
        with pytest.raises(OSError):  # noqa: PT011 - the words are the kernel's
            await runner.run(["true"], timeout=5)


async def test_the_connection_is_made_anew(there: SshHost) -> None:
    """A broken one costs one command at most."""
    runner = SshRunner(there)
    assert (await runner.run(["true"], timeout=20)).code == 0
    assert runner._connection is not None
    runner._connection.abort()
    await runner._connection.wait_closed()
    assert (await runner.run(["true"], timeout=20)).code == 0
    await runner.close()
