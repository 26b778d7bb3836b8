"""The outbox as a machine: whatever receivers do and whenever we die, messages arrive, in order, flagged if double."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from responder.folder import folder_of
from responder.notify.notifier import Message, Sent
from responder.outbox import Outbox
from responder.store_sqlite import SqliteStore

ENDS = st.sampled_from(
    ["delivered", "retry", "ambiguous arrived", "ambiguous lost", "dies before", "dies after", "slow"]
)


class Died(BaseException):
    """What SIGKILL looks like from inside."""


class End:
    """A receiver that does what the machine wants next, and knows what really arrived."""

    kind, settings = "fake", SimpleNamespace(fallback="", fallback_after=1)

    def __init__(self, name: str) -> None:
        self.name, self.next = name, "delivered"
        self.arrived: list[Message] = []

    async def send(self, _: aiohttp.ClientSession, message: Message) -> Sent:
        how, self.next = self.next, "delivered"
        if how == "dies before":
            raise Died
        if how == "retry":
            return Sent("retry", "503")
        if how == "slow":
            return Sent("retry", "429", retry_after_s=60.0)
        if how != "ambiguous lost":
            self.arrived.append(message)
        if how == "dies after":
            raise Died
        return Sent("delivered") if how == "delivered" else Sent("ambiguous", "no answer")


class OutboxMachine(RuleBasedStateMachine):
    """Two receivers, three incidents."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.now = 1000.0
        self.ends = {name: End(name) for name in ("a", "b")}
        self.revisions: dict[str, list[str]] = {}
        self.store: SqliteStore | None = None
        self._live()

    def _live(self) -> None:
        if self.store is not None:
            self.store.close()
        self.store = SqliteStore(self.folder)
        self.store.open()
        self.box = Outbox(self.store, None, self.ends, self.folder, lambda: self.now)  # type: ignore[arg-type]

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    @rule(incident=st.sampled_from(["i", "j", "k"]), stage=st.sampled_from(["update", "final"]))
    def tell(self, incident: str, stage: str) -> None:
        """A new revision."""
        told = self.revisions.setdefault(incident, [])
        told.append(stage if told else "first")
        base = folder_of(self.folder, incident).path / "revisions" / str(len(told))
        base.mkdir(parents=True)
        for name in ("report.json", "summary.txt", "report.md"):
            (base / name).write_text("{}")
        self._do(self.box.add(incident, len(told), told[-1]))

    @rule(name=st.sampled_from(["a", "b"]), how=ENDS)
    def deliver(self, name: str, how: str) -> None:
        """A round of one receiver, whose next message ends like this; after death another life goes on."""
        self.ends[name].next = how
        try:
            self._do(self.box._round(name))
        except Died:
            self._live()

    @rule(seconds=st.sampled_from([1.0, 30.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds

    @invariant()
    def in_order_and_doubles_flagged(self) -> None:
        """Revisions of an incident never go back at a receiver, and what comes again says so."""
        for end in self.ends.values():
            seen: dict[str, int] = {}
            for message in end.arrived:
                last = seen.get(message.incident, 0)
                assert message.revision >= last
                assert message.revision > last or message.possible_duplicate
                seen[message.incident] = message.revision

    def teardown(self) -> None:
        """When everybody is well again, everything that still means something has arrived, at both."""
        try:
            for end in self.ends.values():
                end.next = "delivered"
            for _ in range(4):
                self.now += 2000.0
                for name in self.ends:
                    self._do(self.box._round(name))
            for end in self.ends.values():
                arrived = {(m.incident, m.revision) for m in end.arrived}
                for incident, stages in self.revisions.items():
                    owed = {n for n, stage in enumerate(stages, 1) if stage != "update"} | {len(stages)}
                    assert {(incident, n) for n in owed} <= arrived
        finally:
            assert self.store is not None
            self.store.close()
            self.scratch.cleanup()


OutboxMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20)
TestOutboxMachine = OutboxMachine.TestCase
