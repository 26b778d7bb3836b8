"""A capture by hand stands in the audit log before it acts, with who allowed it; how it ended, too."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from responder.byhand import Hand, capture
from responder.capture.step import Fetched, Scene
from responder.model import Outcome, Target
from responder.store_sqlite import SqliteStore
from tests.flow import NOW, NoRunner, step


async def test_what_a_person_has_run_is_in_the_audit_log(tmp_path: Path) -> None:
    """The line that it begins is on disk when the step acts; both carry the name of the folder with the files."""
    store = SqliteStore(tmp_path)
    store.open()
    seen_by_the_step: list[str] = []

    async def looks(_: Scene) -> Fetched:
        seen_by_the_step.extend(entry["what"] for _, _, entry in await store.audit())
        return Fetched({"facts.json": b"{}"})

    try:
        async with aiohttp.ClientSession() as http:
            one = step("look", looks)
            hand = Hand(steps={"look": one}, http=http, runner=NoRunner(), data_dir=tmp_path, clock=lambda: NOW,
                        audit=store.add_audit, who="ann@desk, by hand")  # fmt: skip
            item, folder = await capture(hand, Target(name="t", url="http://127.0.0.1:1"), "look", {})
        assert item.outcome is Outcome.OK
        assert seen_by_the_step == ["step begins"]
        (ended, began) = await store.audit()
        assert began[1] == ended[1] == folder.name
        assert began[2]["allowed_by"] == "ann@desk, by hand"
        assert (began[2]["target"], began[2]["step"], began[2]["params"]) == ("t", "look", {})
        assert (ended[2]["what"], ended[2]["outcome"]) == ("step ended", "ok")
    finally:
        store.close()
