"""How does a browser get a file of an incident, and only that? By directory handles, never through a link."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from pathlib import Path

from aiohttp import web

from responder.folder import SAFE, folder_of

CHUNK = 1 << 18
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MAX_FILES = 2000


def listing(data_dir: Path, incident: str) -> list[dict[str, object]]:
    """Raw files of an incident: evidence, name, bytes."""
    root = folder_of(data_dir, incident).path / "raw"
    found: list[dict[str, object]] = []
    if root.is_symlink() or not root.is_dir():
        return found
    for folder in sorted(root.iterdir()):
        if folder.is_symlink() or not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if SAFE.match(path.name) and path.is_file() and not path.is_symlink():
                found.append({"evidence": folder.name, "name": path.name, "bytes": path.stat().st_size})
    return found[:MAX_FILES]


async def send(request: web.Request, data_dir: Path, *parts: str, kind: str | None = None) -> web.StreamResponse:
    """The file at incident / folder / … / name: as what it is, without a `kind` as an attachment of bytes.

    404 for whatever is not a plain file of this incident.
    """
    try:
        handle = await asyncio.to_thread(_open, data_dir, *parts)
    except (OSError, ValueError):
        raise web.HTTPNotFound from None
    try:
        size = os.fstat(handle).st_size
        saved = {"Content-Disposition": f'attachment; filename="{parts[-1]}"'}
        response = web.StreamResponse(headers={
            "Content-Type": kind or "application/octet-stream", "Content-Length": str(size), **({} if kind else saved),
        })  # fmt: skip
        await response.prepare(request)
        left = size
        while left > 0 and (data := await asyncio.to_thread(os.read, handle, min(CHUNK, left))):
            await response.write(data)
            left -= len(data)
        await response.write_eof()
        return response
    finally:
        os.close(handle)


def _open(data_dir: Path, *parts: str) -> int:
    """A handle of a regular file with one name. ValueError for a name that is no file name of ours, OSError as open."""
    if not all(SAFE.match(part) for part in parts):
        raise ValueError(parts)
    with contextlib.ExitStack() as stack:
        at = os.open(data_dir / "incidents", FOLDER)
        stack.callback(os.close, at)
        for part in parts[:-1]:
            at = os.open(part, FOLDER, dir_fd=at)
            stack.callback(os.close, at)
        handle = os.open(parts[-1], FILE, dir_fd=at)
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
        os.close(handle)
        raise ValueError(parts)
    return handle
