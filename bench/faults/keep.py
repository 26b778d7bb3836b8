"""How does an incident become a test? Its folder without what can be made again, small, without this machine's paths.

The manifest and the raw bytes are kept: `responder replay --today` needs no more. Paths of the machine are replaced
before anything is hashed; raw files over a few KiB are xz-compressed, which replay reads as if they were not.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import pathlib
import re
import shutil
import socket
import sys
from typing import Any

from tests.live.harness import find

PACK_OVER = 2048
NEUTRAL = "/srv/lab"


def keep(folder: pathlib.Path, to: pathlib.Path, truth: dict[str, Any], *scratch: pathlib.Path) -> pathlib.Path:
    """Write `to` anew from an incident's folder; `scratch` are further folders whose paths are to be replaced."""
    shutil.rmtree(to, ignore_errors=True)
    manifest = json.loads(_neutral((folder / "manifest.json").read_bytes(), scratch))
    for entry in manifest["evidence"]:
        for name in entry["sha256"]:
            source = folder / "raw" / entry["evidence"]["id"] / name
            data = source.read_bytes() if _packed(name) else _neutral(source.read_bytes(), scratch)
            entry["sha256"][name] = hashlib.sha256(data).hexdigest()
            target = to / "raw" / entry["evidence"]["id"] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if len(data) > PACK_OVER and not _packed(name):
                target.with_name(f"{name}.xz").write_bytes(lzma.compress(data, preset=9))
            else:
                target.write_bytes(data)
    (to / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    (to / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    return to


def _packed(name: str) -> bool:
    return name.endswith((".gz", ".xz", ".zip"))


def _neutral(data: bytes, scratch: tuple[pathlib.Path, ...]) -> bytes:
    # Stacks name the standard library, too, which lies with the interpreter and not with its environment.
    places = {find.ROOT, pathlib.Path(sys.prefix), pathlib.Path(sys.base_prefix), find.CACHE, find.TOOLS.parents[1],
              pathlib.Path(find.vllm_python()).parents[1], pathlib.Path(find.vllm_python()).resolve().parents[1],
              *scratch}  # fmt: skip
    names = {str(place) for place in places} | {str(place.resolve()) for place in places}
    for name in sorted(names, key=len, reverse=True):
        data = data.replace(name.encode(), f"{NEUTRAL}/{pathlib.Path(name).name.strip('.')}".encode())
    host = re.escape(socket.gethostname().encode())
    return re.sub(rb"(?<![\w.])" + host + rb"(?![\w])", b"host", data)
