"""Silences on the command line: seen, ended, and doubted where they would match nothing."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from responder.__main__ import app
from responder.model import Inventory, Silence
from responder.store_sqlite import SqliteStore


def silence(folder: Path, *args: str) -> Any:
    return CliRunner().invoke(app, ["silence", *args, "--data-dir", str(folder)])


def test_silences_are_listed_and_ended(tmp_path: Path) -> None:
    """With the id that ends them; what has ended is gone from the list."""
    (tmp_path / "silences").mkdir()  # as a daemon does when it starts
    assert "no silences" in silence(tmp_path, "list").output
    added = silence(tmp_path, "add", "target=a:1", "--for", "2h").output
    name = re.search(r"silence (\w+):", added)
    assert name
    listed = silence(tmp_path, "list").output
    assert listed.startswith(f"{name[1]}  target=a:1  ends in 2 h")
    assert json.loads(silence(tmp_path, "list", "--format", "json").output)[0]["match"] == {"target": "a:1"}
    assert silence(tmp_path, "end", name[1]).exit_code == 0
    assert "no silences" in silence(tmp_path, "list").output
    again = silence(tmp_path, "end", name[1])
    assert again.exit_code == 1
    assert "silence list" in again.output


def test_a_silence_that_may_match_nothing_is_taken_with_a_warning(tmp_path: Path) -> None:
    """A misspelt field; a target no daemon has seen here."""
    (tmp_path / "silences").mkdir()
    store = SqliteStore(tmp_path)
    store.open()
    asyncio.run(store.save_inventory("chat-a", Inventory(at=1.0, local=False)))
    asyncio.run(store.save_silence(Silence(id="kept", match={"target": "x"}, starts_at=1.0, ends_at=9e9)))
    store.close()
    assert "did you mean `target`?" in silence(tmp_path, "add", "tarhet=chat-a").output
    assert "no target here is called 'chat-zzz'; there are chat-a" in silence(tmp_path, "add", "target=chat-zzz").output
    fine = silence(tmp_path, "add", "target=chat-.*", "team=search")
    assert "warning" not in fine.output
    assert "kept  target=x" in silence(tmp_path, "list").output
