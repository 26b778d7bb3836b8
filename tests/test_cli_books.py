"""The books on the command line: readable while the daemon runs, changing nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.model import Delivery, Obligation
from responder.store_sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Open all the time, as a running daemon has it."""
    made = SqliteStore(tmp_path)
    made.open()
    yield made
    made.close()


def said(tmp_path: Path, *args: str) -> Any:
    return CliRunner().invoke(app, [*args, "--data-dir", str(tmp_path)])


def test_dead_letters_are_seen_with_their_reason(store: SqliteStore, tmp_path: Path) -> None:
    """And only those, when only those are asked for."""
    dead = Delivery(id="i.1.a", incident="i", revision=1, receiver="a", stage="first", state="dead", error="HTTP 410")
    waits = Delivery(id="i.1.b", incident="i", revision=1, receiver="b", stage="first", doubtful=True)
    asyncio.run(store.add_deliveries([dead, waits]))
    text = said(tmp_path, "deliveries").output
    assert "HTTP 410" in text
    assert "perhaps twice" in text
    rows = json.loads(said(tmp_path, "deliveries", "--state", "dead", "--format", "json").output)
    assert [row["receiver"] for row in rows] == ["a"]


def test_what_is_owed(store: SqliteStore, tmp_path: Path) -> None:
    """Open ones; settled ones when asked for."""
    owed = Obligation(id="o", target="t", url="http://t", step="torch_profiler", opened_at=1.0, due_at=61.0)
    settled = owed.model_copy(update={"id": "p", "state": "settled", "note": "stopped", "by": "guard"})
    asyncio.run(store.save_obligation(settled))
    assert "nothing is owed" in said(tmp_path, "obligations").output
    assert "by guard" in said(tmp_path, "obligations", "--all").output
    asyncio.run(store.save_obligation(owed))
    assert "torch_profiler" in said(tmp_path, "obligations").output


def test_who_allowed_what(store: SqliteStore, tmp_path: Path) -> None:
    """The newest line first."""
    entry = {"what": "step begins", "step": "stacks", "target": "t", "rules": ["A"], "allowed_by": "ann, by approval"}
    asyncio.run(store.add_audit(1.0, "i", entry))
    asyncio.run(store.add_audit(2.0, "j", {**entry, "step": "later"}))
    text = said(tmp_path, "audit").output
    assert text.index("later") < text.index("stacks")
    assert "ann, by approval" in text
    assert "later" not in said(tmp_path, "audit", "--incident", "i").output


def test_no_data_directory_is_said_in_words(tmp_path: Path) -> None:
    """Exit 1, and which option to give."""
    done = said(tmp_path / "nowhere", "audit")
    assert done.exit_code == 1
    assert "--data-dir" in done.output
