"""Where do bytes lie that several responders and agents share? One interface; here in a folder they all can reach."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from responder.folder import IncidentFolder, outdated, safe_name, write_atomic

WORK_KEPT_S = 86_400.0
"""What an agent brought and nobody fetched: its step has long been given up."""


class Stored(NamedTuple):
    """Something that lies there."""

    name: str
    bytes: int
    at: float
    """When it was put, unix seconds."""


class ArtifactsSilent(Exception):
    """The shared place does not answer; the message says what was tried."""


class Artifacts(Protocol):
    """Named bytes. Names are paths of safe parts: `incidents/ID/report.json`. All raise ArtifactsSilent."""

    async def put(self, name: str, data: bytes) -> None:
        """Whole or not at all; what had the name before is replaced."""

    async def get(self, name: str) -> bytes:
        """KeyError when there is nothing of this name."""

    async def names(self, below: str) -> list[str]:
        """All names below a path, sorted."""

    async def stored(self, below: str) -> list[Stored]:
        """The same with sizes and times."""

    async def drop(self, below: str) -> None:
        """Remove everything below a path."""


class FolderArtifacts:
    """A local folder, or a shared one mounted by all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    async def put(self, name: str, data: bytes) -> None:
        """See Artifacts."""
        try:
            await asyncio.to_thread(write_atomic, self._path(name), data)
        except OSError as error:
            raise ArtifactsSilent(f"{self.root}: {error.strerror or error}") from None

    async def get(self, name: str) -> bytes:
        """See Artifacts."""
        try:
            return await asyncio.to_thread(self._path(name).read_bytes)
        except FileNotFoundError:
            raise KeyError(name) from None
        except OSError as error:
            raise ArtifactsSilent(f"{self.root}: {error.strerror or error}") from None

    async def names(self, below: str) -> list[str]:
        """See Artifacts."""
        return [item.name for item in await self.stored(below)]

    async def stored(self, below: str) -> list[Stored]:
        """See Artifacts."""

        def walk() -> list[Stored]:
            found = []
            for path in self._path(below).rglob("*"):
                with contextlib.suppress(FileNotFoundError):  # another replica clears up as well
                    if path.is_file() and not path.name.startswith("."):
                        seen = path.stat()
                        found.append(Stored(path.relative_to(self.root).as_posix(), seen.st_size, seen.st_mtime))
            return sorted(found)

        return await asyncio.to_thread(walk)

    async def drop(self, below: str) -> None:
        """See Artifacts."""
        await asyncio.to_thread(shutil.rmtree, self._path(below), ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.root.joinpath(*(safe_name(part) for part in name.strip("/").split("/")))


class Mirror:
    """Incident folders as the others see them: pushed before anybody is told to use them, pulled at a takeover."""

    def __init__(self, artifacts: Artifacts) -> None:
        self.artifacts = artifacts
        self._pushed: dict[str, Mapping[str, tuple[int, int]]] = {}

    async def push(self, folder: IncidentFolder) -> None:
        """Everything in the folder that has changed since the last push."""
        incident = folder.path.name
        before = self._pushed.get(incident, {})
        now = await asyncio.to_thread(_files, folder.path)
        for name, stamp in now.items():
            if before.get(name) != stamp:
                data = await asyncio.to_thread((folder.path / name).read_bytes)
                await self.artifacts.put(f"incidents/{incident}/{name}", data)
        self._pushed[incident] = now

    async def pull(self, folder: IncidentFolder) -> None:
        """What others have pushed of this incident, over what lies here."""
        prefix = f"incidents/{folder.path.name}/"
        for name in await self.artifacts.names(prefix):
            try:
                data = await self.artifacts.get(name)
            except KeyError:  # removed by retention meanwhile
                continue
            parts = [safe_name(part) for part in name.removeprefix(prefix).split("/")]
            await asyncio.to_thread(write_atomic, folder.path.joinpath(*parts), data)
        self._pushed[folder.path.name] = await asyncio.to_thread(_files, folder.path)

    async def expire(
        self, unfinished: Callable[[], Awaitable[Collection[str]]], *, now: float, max_age_s: float, max_bytes: int
    ) -> list[str]:
        """By the rules for local folders, for all replicas' incidents; their ids. `unfinished` is asked after it was
        seen what lies there: what has been put since is not judged at all."""
        aged = _whole(await self.artifacts.stored("incidents/"))
        keep = await unfinished()
        gone = outdated(aged, keep=keep, now=now, max_age_s=max_age_s, max_bytes=max_bytes)
        there = {name for _, _, name in aged} - set(gone)
        # Also what another replica has thrown away, or what was never put there.
        self._pushed = {name: files for name, files in self._pushed.items() if name in there}
        for incident in gone:
            await self.artifacts.drop(f"incidents/{incident}/")
        for at, _, name in _whole(await self.artifacts.stored("work/")):
            if now - at > WORK_KEPT_S:
                await self.artifacts.drop(f"work/{name}/")
        return gone


def _whole(items: Iterable[Stored]) -> list[tuple[float, int, str]]:
    """(last written, bytes, second part of the name) of everything that has the same second part."""
    sums: dict[str, tuple[float, int]] = {}
    for item in items:
        key = item.name.split("/")[1]
        newest, size = sums.get(key, (item.at, 0))
        sums[key] = max(newest, item.at), size + item.bytes
    return [(newest, size, key) for key, (newest, size) in sums.items()]


def _files(root: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".tmp-"):
            seen = path.stat()
            found[path.relative_to(root).as_posix()] = (seen.st_mtime_ns, seen.st_size)
    return found
