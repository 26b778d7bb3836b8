"""How is a command made that another host's shell cannot misread, and that dies there when we go away?

Two guards, each enough alone for the ordinary case: `timeout` there ends the command at its deadline, and a reader of
the connection's standard input kills its whole process group as soon as that ends - which it does when we are killed,
when the network breaks, or when we close it. (Measured with a plain `ssh host cmd`: the command survives its client.)
"""

from __future__ import annotations

import errno
import math
import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from responder.capture.step import Command

KILL_AFTER_S = 1
READ_S = 5.0
TIMED_OUT = (124, 137)

GUARD = (
    'exec 3<&0; "$@" </dev/null 3<&- & c=$!; '
    "(cat <&3 >/dev/null; kill -9 -$c; kill -9 $c) >/dev/null 2>&1 & g=$!; "
    "exec 3<&-; wait $c; r=$?; kill -9 $g 2>/dev/null; exit $r"
)
"""Constant text for sh: the command in the background, its group (made by `timeout`) killed when input ends."""


def guarded(argv: Sequence[str], timeout: float) -> list[str]:
    """argv that runs `argv` under both guards."""
    limit = str(max(1, math.ceil(timeout)))
    return ["sh", "-c", GUARD, "guard", "timeout", "-k", str(KILL_AFTER_S), limit, *argv]


def quoted(argv: Sequence[str]) -> str:
    """One line for a shell, every item quoted."""
    return " ".join(shlex.quote(item) for item in argv)


def reading(path: str, max_bytes: int, tail: bool) -> list[str]:
    """The command that reads a file's head or tail."""
    return ["tail" if tail else "head", "-c", str(max_bytes), "--", path]


@dataclass(frozen=True)
class Ended:
    """How a far command ended."""

    code: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    truncated: bool


def missing(ended: Ended, argv: Sequence[str]) -> FileNotFoundError | None:
    """The program is not there: what `timeout` says then."""
    if ended.code == 127 and ended.stderr.startswith((b"timeout:", b"sh:", b"guard:")):
        return FileNotFoundError(errno.ENOENT, "no such program there", argv[0])
    return None


def timed_out(ended: Ended, timeout: float) -> bool:
    """`timeout` ended it there before we noticed here."""
    return ended.code in TIMED_OUT and ended.seconds >= timeout * 0.9


REFUSALS = (
    (b"No such file or directory", errno.ENOENT),
    (b"Permission denied", errno.EACCES),
    (b"Is a directory", errno.EISDIR),
)


def read_error(ended: Ended, path: str) -> OSError | None:
    """As open() would raise it; None when the file was read."""
    if ended.code == 0 or (ended.truncated and ended.stdout):
        return None
    if ended.code is None:
        return OSError(errno.ETIMEDOUT, "no answer in time", path)
    for words, number in REFUSALS:
        if words in ended.stderr:
            return OSError(number, words.decode(), path)
    return OSError(errno.EIO, ended.stderr.decode("utf-8", "replace").strip()[:200], path)


class FarRunner(ABC):
    """Commands and files of another host (`capture.step.Runner`), whatever the way there."""

    async def run(self, argv: Sequence[str], *, timeout: float, max_bytes: int = 1 << 20) -> Command:
        """Run argv there. FileNotFoundError if it is missing there; OSError when there is no way there."""
        ended = await self._run(argv, timeout, max_bytes)
        if error := missing(ended, argv):
            raise error
        code = None if timed_out(ended, timeout) else ended.code
        return Command(code, ended.stdout, ended.stderr, ended.seconds, ended.truncated)

    async def read(self, path: str, *, max_bytes: int, tail: bool = False) -> bytes:
        """Read a file's head or tail there; OSError as open() raises it."""
        ended = await self._run(reading(path, max_bytes, tail), READ_S, max_bytes)
        if error := read_error(ended, path):
            raise error
        return ended.stdout

    @abstractmethod
    async def _run(self, argv: Sequence[str], timeout: float, max_bytes: int) -> Ended:
        """One command, ended there at its deadline; OSError when there is no way there."""
