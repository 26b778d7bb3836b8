"""A real PostgreSQL of the tests' own: a private cluster in a temporary folder, on a socket and a loopback port.

PostgreSQL refuses to run as root; as root the server runs as `nobody`, for whom the folder is made.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_S = 30.0
SETTINGS = {
    "listen_addresses": "127.0.0.1", "max_connections": "800", "shared_buffers": "32MB", "jit": "off",
    "fsync": "off", "log_timezone": "GMT", "timezone": "GMT", "log_min_messages": "warning",
}  # fmt: skip
"""Without fsync: the tests kill the server, never the machine."""


class PostgresMissing(Exception):
    """There is no server here to start; the message says what to do."""


def binaries() -> tuple[Path, dict[str, str]]:
    """Where initdb and postgres lie, and the environment they need. PostgresMissing in words."""
    own = ROOT / ".tools" / "postgres" / "usr" / "lib"
    system = glob.glob("/usr/lib/postgresql/*/bin")
    on_path = [str(Path(found).resolve().parent) for found in [shutil.which("initdb")] if found]
    for folder in (*on_path, *sorted(system, reverse=True), *glob.glob(str(own / "postgresql" / "*" / "bin"))):
        if (Path(folder) / "initdb").exists() and (Path(folder) / "postgres").exists():
            libraries = glob.glob(str(own / "*-linux-gnu")) if folder.startswith(str(own)) else []
            return Path(folder), {"LD_LIBRARY_PATH": os.pathsep.join(libraries)} if libraries else {}
    raise PostgresMissing("no PostgreSQL server here: scripts/setup-postgres brings it")


class Cluster:
    """One PostgreSQL server. `url(name)` names a database; `restart` is what `pg_ctl -m immediate` does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.bin, self._more = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="responder-pg-"))
        self._as: dict[str, int] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self._server: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make the cluster's files."""
        done = subprocess.run(
            [self.bin / "initdb", "-D", self.folder / "data", "-U", "responder", "--auth=trust", "--no-sync",
             "--encoding=UTF8", "--locale=C"],
            capture_output=True, text=True, timeout=120, cwd=self.folder, env=self._env(), check=False, **self._as,
        )  # fmt: skip
        if done.returncode != 0:
            raise PostgresMissing(f"initdb failed: {done.stderr.strip()[-300:]}")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        with open(self.folder / "log", "ab") as log:
            self._server = subprocess.Popen(
                [self.bin / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", self.folder, *settings],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=self._env(),
                start_new_session=True, **self._as,
            )  # fmt: skip
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            done = subprocess.run([self.bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)],
                                  env=self._env(), timeout=10, check=False)  # fmt: skip
            if done.returncode == 0:
                return
            if self._server.poll() is not None:
                break
            time.sleep(0.05)
        raise PostgresMissing(f"postgres did not start: {(self.folder / 'log').read_text()[-500:]}")

    def crash(self) -> None:
        """End it as `pg_ctl stop -m immediate` does: every connection is cut, the next start recovers."""
        if self._server is not None:
            self._server.send_signal(3)
            self._server.wait(20)
            self._server = None

    def restart(self) -> None:
        """Crash and come back."""
        self.crash()
        self.start()

    def close(self) -> None:
        """End it and remove everything."""
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        """URL of one database; `port`: that of a proxy before it."""
        return f"postgresql://responder@127.0.0.1:{port or self.port}/{database}"

    def new_database(self, name: str) -> str:
        """Make an empty database; its URL."""
        self.sql(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement from outside; its output, one row a line, columns parted by |."""
        done = subprocess.run(
            [self.bin / "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p",
             str(self.port), "-U", "responder", "-d", database, "-c", statement],
            capture_output=True, text=True, timeout=60, env=self._env(), check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC", "HOME": str(self.folder), **self._more}


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A running server. PostgresMissing when there is none to start."""
    from responder.prometheus_child import free_port

    made = Cluster(free_port())
    try:
        made.create()
        made.start()
        yield made
    finally:
        made.close()
