"""How is one seed made and scored? In a process of its own, so that several go on at once."""

from __future__ import annotations

import pathlib
import tempfile

from bench.faults.drawn.history import write
from bench.faults.drawn.table import Sheet
from bench.scoring.histories import about_of, add
from responder.capture import STEPS
from responder.config import Config
from responder.content import load


def one(seed: int, to: pathlib.Path, remake: bool, score: bool, kind: str = "seed") -> tuple[str, Sheet]:
    """Make this seed where it is not there yet, and lay its verdicts beside the truth."""
    path, sheet = to / f"{kind}{seed}.om.gz", Sheet()
    if remake or not about_of(path):
        write(seed, path, kind)
    made = about_of(path)
    if score:
        content = load(Config(), STEPS)
        with tempfile.TemporaryDirectory() as scratch:
            add(sheet.told, path, content, pathlib.Path(scratch))
            sheet.note(content)
    rejected = ", ".join(made["rejected"]) or "none"
    return f"seed {seed} ({made['part']}): {len(made['targets'])} targets, rejected: {rejected}", sheet
