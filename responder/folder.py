"""Where do an incident's files lie, and what may be deleted? Atomic writes, hashes, retention by age and size.

DATA_DIR/incidents/<id>/: manifest.json (what was done), content.json (the rules, playbooks and causes in force),
report.{md,html,json}, charts/, raw/<evidence id>/<file>.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from responder.killpoint import reach

PACKED = ".xz"
_making = threading.Lock()
"""Whoever finds a folder that another thread has just made finds it synced."""
SAFE = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}$")


def safe_name(name: str) -> str:
    """`name` as one path component; anything surprising becomes `_`, so data never chooses a path."""
    text = re.sub(r"[^A-Za-z0-9._@+-]", "_", name).lstrip(".")[:128] or "_"
    return text if SAFE.match(text) else "_" + text[:127]


def write_atomic(path: Path, data: bytes) -> None:
    """Write whole or not at all: temporary file, fsync, rename, fsync of its folder and of new ones above it."""
    with _making:
        _make(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o640)
        reach("artifact.write")
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _make(path: Path) -> None:
    """A new folder is there after a power cut only when the one it is in was synced; and so on up."""
    if not path.is_dir():
        _make(path.parent)
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """A new name is on disk only when its folder is."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class IncidentFolder:
    """One incident's folder. Nothing here raises for a missing file except `read`."""

    path: Path

    def write(self, name: str, data: bytes) -> Path:
        """Write a file at the top of the folder (or charts/NAME)."""
        path = self.path.joinpath(*[safe_name(part) for part in name.split("/")])
        write_atomic(path, data)
        return path

    def write_raw(self, evidence: str, files: Mapping[str, bytes]) -> dict[str, str]:
        """Write a step's redacted bytes; returns file name -> sha256."""
        out = {}
        for name, data in files.items():
            write_atomic(self.path / "raw" / safe_name(evidence) / safe_name(name), data)
            out[safe_name(name)] = hashlib.sha256(data).hexdigest()
        return out

    def read_raw(self, evidence: str) -> dict[str, bytes]:
        """File name -> bytes of one step, in name order. A kept folder's NAME.xz is read as NAME."""
        folder = self.path / "raw" / safe_name(evidence)
        if not folder.is_dir():
            return {}
        files = {p.name: p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")}
        return {name.removesuffix(PACKED): self._bytes(files[name]) for name in sorted(files)}

    def read_file(self, evidence: str, name: str) -> bytes:
        """One file of a step; nothing when it is not there."""
        path = self.path / "raw" / safe_name(evidence) / safe_name(name)
        for found in (path, path.with_name(path.name + PACKED)):
            if found.is_file():
                return self._bytes(found)
        return b""

    @staticmethod
    def _bytes(path: Path) -> bytes:
        data = path.read_bytes()
        return lzma.decompress(data) if path.name.endswith(PACKED) else data

    def drop_raw(self, evidence: str) -> None:
        """Throw away what an unfinished step left."""
        shutil.rmtree(self.path / "raw" / safe_name(evidence), ignore_errors=True)

    def remove(self) -> None:
        """Throw all of it away."""
        shutil.rmtree(self.path, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a crash left of unfinished writes."""
        for path in self.path.rglob(".tmp-*"):
            path.unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON with sorted keys, a line for each part of it: what is indented throughout is encoded in Python,
        and after a storm that would hold up whoever waits for an answer."""
        self.write(name, f"{_by_parts(value)}\n".encode())

    def read_json(self, name: str) -> Any:
        """OSError or ValueError when it is not there or broken."""
        return json.loads((self.path / name).read_bytes())


def _by_parts(value: Any) -> str:
    """An object: each of its values on a line of its own; a list in it or by itself: each of its items."""
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {_items(value[key])}" for key in sorted(value)) + "\n}"
    return _items(value)


def _items(value: Any) -> str:
    if isinstance(value, list | tuple) and value:
        return "[\n" + ",\n".join(_compact(item) for item in value) + "\n]"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def folder_of(data_dir: Path, incident: str) -> IncidentFolder:
    """The folder of an incident id."""
    return IncidentFolder(data_dir / "incidents" / safe_name(incident))


def expire(data_dir: Path, *, open_ids: Iterable[str], now: float, max_age_s: float, max_bytes: int) -> list[str]:
    """Delete the oldest closed incident folders past age or total size; returns their ids. Never an open one."""
    root = data_dir / "incidents"
    if not root.is_dir():
        return []
    aged = []
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            files = [p for p in path.rglob("*") if p.is_file() and not p.is_symlink()]
            newest = max((p.stat().st_mtime for p in files), default=path.stat().st_mtime)
            aged.append((newest, sum(p.stat().st_size for p in files), path.name))
    gone = outdated(aged, keep=open_ids, now=now, max_age_s=max_age_s, max_bytes=max_bytes)
    for name in gone:
        shutil.rmtree(root / name, ignore_errors=True)
    return gone


def outdated(
    aged: Iterable[tuple[float, int, str]], *, keep: Iterable[str], now: float, max_age_s: float, max_bytes: int
) -> list[str]:
    """Of (last written, bytes, incident) those to delete, oldest first: past age, or past the size of all; none of
    `keep`."""
    kept, rows, gone = {safe_name(name) for name in keep}, sorted(aged), list[str]()
    total = sum(size for _, size, _ in rows)
    for newest, size, name in rows:
        if name not in kept and (now - newest > max_age_s or total > max_bytes):
            total -= size
            gone.append(name)
    return gone
