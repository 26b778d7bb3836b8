"""An agent takes stock of what serves its targets for as long as it lives, whatever one look at one of them does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from responder import agent as module
from responder.agent import Agent
from responder.artifacts import FolderArtifacts
from responder.model import Inventory, Target


async def test_a_fault_with_one_target_ends_the_look_at_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug while looking at the first: the second is seen, and the first again the next time."""
    targets = {name: Target(name=name, url="http://127.0.0.1:1", node="n") for name in ("broken", "well")}
    database: Any = None
    agent = Agent(database, FolderArtifacts(tmp_path / "artifacts"), "n", tmp_path, targets)
    looked: list[str] = []
    enough = asyncio.Event()

    async def discover(target: Target, at: float) -> Inventory:
        looked.append(target.name)
        if looked == ["broken"]:
            raise ZeroDivisionError
        if len(looked) == 4:
            enough.set()
        return Inventory(at=at, local=True)

    async def save(name: str, found: Inventory) -> None:
        """Kept."""

    monkeypatch.setattr(module.inventories, "discover", discover)
    monkeypatch.setattr(module, "STOCK_EVERY_S", 0.0)
    monkeypatch.setattr(agent.shelf, "save_inventory", save)
    task = asyncio.create_task(agent._take_stock())
    async with asyncio.timeout(10):
        await enough.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert looked[:4] == ["broken", "well", "broken", "well"]
    assert set(agent.inventories) == {"broken", "well"}
