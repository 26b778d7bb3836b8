"""Which silences lie in the data directory? A file each, written by whoever is on call, read in every round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from responder.folder import write_atomic
from responder.model import Silence

MOST = 1000
"""In one folder; what is over is thrown away after a day."""


def silences_in(folder: Path, unreadable: Callable[[Path], None] = lambda _: None) -> list[Silence]:
    """All of them, also those that are over; `unreadable` is told of each file that is none."""
    found = []
    for path in sorted(folder.glob("*.json"))[:MOST]:
        try:
            found.append(Silence.model_validate_json(path.read_bytes()))
        except (OSError, ValueError):
            unreadable(path)
    return found


def write_silence(folder: Path, silence: Silence) -> None:
    """Put it there, or in the place of the one with its id. OSError."""
    write_atomic(folder / f"{silence.id}.json", silence.model_dump_json().encode())
