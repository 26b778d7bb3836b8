"""What a round has decided and the disk has no room for is as if it had not been decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.known import Known
from responder.model import Change
from responder.store_db import StoreFull
from responder.store_sqlite import SqliteStore
from tests.flow import incident


async def test_an_incident_that_comes_back_on_a_full_disk_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over, and known: the next round must find it, or it opens another one for the same trouble."""
    store = SqliteStore(tmp_path)
    store.open()
    book = Known(store)
    over = incident(id="i", state="resolved", resolved_at=200.0)
    await book.put(Change.OPENED, incident(id="i"))
    await book.put(Change.RESOLVED, over)
    assert [change for change, _ in book.take()] == [Change.OPENED, Change.RESOLVED]

    async def no_room(*_: object, **__: object) -> None:
        raise StoreFull("no room")

    monkeypatch.setattr(store, "save_incident", no_room)
    await book.put(Change.GREW, incident(id="i"))
    await book.put(Change.OPENED, incident(id="new"))
    assert (book.incidents, book.take(), book.no_room) == ({"i": over}, [], True)
    store.close()
