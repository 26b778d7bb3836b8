"""What of a long incident is thrown away, and when? What a report no longer rests on, once that report is on disk."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from pathlib import Path

from responder.case import Case, Kit
from responder.kept import noted, old_revisions, surplus


def take_out(kit: Kit, case: Case) -> tuple[str, ...]:
    """Leave the surplus captures out of the case; their ids. The timeline says how many there have been."""
    out = {item.id for item in surplus(case.evidence)}
    if out:
        case.evidence = [item for item in case.evidence if item.id not in out]
        case.manifest = {name: entry for name, entry in case.manifest.items() if name not in out}
        case.set_aside -= out
        timeline = noted(case.incident.timeline, len(out), kit.clock())
        case.incident = case.incident.model_copy(update={"timeline": timeline})
    return tuple(sorted(out))


async def throw_away(kit: Kit, case: Case, out: Collection[str]) -> None:
    """Their files and their rows, and old revisions of the report that nobody has still to be sent."""
    for name in out:
        await kit.store.drop_step(case.incident.id, name)
        await asyncio.to_thread(case.folder.drop_raw, name)
    root = case.folder.path / "revisions"
    there = await asyncio.to_thread(_numbers, root)
    if old_revisions(there, ()):
        waiting = await kit.store.deliveries(state="pending")
        wanted = {item.revision for item in waiting if item.incident == case.incident.id}
        for number in old_revisions(there, wanted):
            await asyncio.to_thread(shutil.rmtree, root / str(number), ignore_errors=True)


def _numbers(root: Path) -> list[int]:
    return [int(path.name) for path in root.iterdir() if path.name.isdigit()] if root.is_dir() else []
