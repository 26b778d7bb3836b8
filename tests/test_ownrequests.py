"""Requests of our own stand in the audit log: when they begin and how many they were, not each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from responder import ownrequests as module
from responder.model import Target
from responder.ownrequests import DAY_S, OwnRequests
from responder.store_db import StoreSilent
from responder.store_sqlite import SqliteStore

TARGET = Target(name="t", url="http://h:1")


class World:
    """A clock we turn, incidents we open, and an audit log that can fall silent."""

    def __init__(self) -> None:
        self.now, self.silent = 1000.0, False
        self.ill: dict[str, str] = {}
        self.lines: list[tuple[str, Mapping[str, Any]]] = []
        self.own = OwnRequests(self.write, lambda: self.now, lambda: self.ill)

    async def write(self, _: float, whose: str, entry: Mapping[str, Any]) -> None:
        if self.silent:
            raise StoreSilent("away")
        self.lines.append((whose, entry))

    async def ask(self, times: int, every: float = 10.0) -> None:
        for _ in range(times):
            self.own.sending(TARGET, "canary")
            self.now += every

    def told(self) -> list[tuple[str, str, object]]:
        return [(whose, entry["what"].split()[-1], entry.get("requests")) for whose, entry in self.lines]


async def test_a_hang_has_a_line_when_it_is_first_asked_and_one_with_the_number() -> None:
    """Those before the incident are told apart from those within it."""
    world = World()
    await world.ask(2)
    world.ill = {"t": "i1"}
    await world.ask(9)
    world.ill = {}
    await world.own.settle()
    assert world.told() == [("probe", "begin", None), ("probe", "ended", 2), ("i1", "begin", None), ("i1", "ended", 9)]
    assert world.lines[0][1]["where"] == "http://h:1"
    assert world.lines[-1][1]["within_s"] == 80.0


async def test_an_idle_server_has_two_lines_a_day() -> None:
    """Asked every ten seconds all night, it does not fill a log that is never cut."""
    world = World()
    for _ in range(256):
        await world.ask(4, every=DAY_S / 1024)
        await world.own.settle()
    assert [row[1:] for row in world.told()] == [("begin", None), ("ended", 1024)]


async def test_a_database_that_is_away_for_weeks_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest lines are kept for when it is back."""
    monkeypatch.setattr(module, "MOST_WAIT", 5)
    world = World()
    world.silent = True
    for number in range(20):
        world.ill = {"t": f"i{number}"}
        await world.ask(1)
        await world.own.settle()
    world.silent = False
    await world.own.settle(all=True)
    assert [whose for whose, _ in world.lines] == ["i17", "i18", "i18", "i19", "i19"]


async def test_a_database_that_is_away_holds_no_request_up_and_loses_no_line() -> None:
    """A request that waits for our own database would look like a hang of the server."""
    world = World()
    world.silent = True
    await world.ask(3)
    await world.own.settle()
    assert world.lines == []
    world.silent = False
    await world.own.settle(all=True)
    assert world.told() == [("probe", "begin", None), ("probe", "ended", 3)]


async def test_the_lines_are_in_the_audit_log_that_the_command_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`responder audit` shows them like the others."""
    from responder.cli_books import audit

    store = SqliteStore(tmp_path)
    store.open()
    try:
        own = OwnRequests(store.add_audit, lambda: 1000.0, dict)
        own.sending(TARGET, "canary")
        await own.settle(all=True)
        assert len(await store.audit()) == 2
    finally:
        store.close()
    with pytest.raises(typer.Exit):
        await asyncio.to_thread(audit, None, 10, tmp_path, "text")
    assert "requests of our own ended: canary on t (requests 1" in capsys.readouterr().out
