"""Detection as a machine: whatever is told, seen, lost or killed in between, each trouble is one incident, told to its
end, and nothing acknowledged is forgotten (docs/reliability.md; the flow after it has tests of its own)."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from responder.model import Change, Incident
from responder.store_db import Db
from responder.store_sqlite import SqliteStore
from responder.watch import Watch
from tests.test_watch import CONTENT, TARGET, World

ROUND_S = 2.0
ALERTS = ("HighLatency", "Hang")
CLASS_OF = {"HighLatency": "high_ttft", "Hang": "hang_or_crash"}
CALM_ROUNDS = 8
"""Longer than the hold-down of `World`, 6 s."""


class Died(BaseException):
    """What SIGKILL looks like from inside."""


class MortalStore(SqliteStore):
    """Dies at the n-th transaction from now: before it, or when it is on disk."""

    dies_in, after = 0, False

    async def _do(self, work: Callable[[Db], Any], *, urgent: bool = False) -> Any:
        self.dies_in -= 1
        if self.dies_in == 0 and not self.after:
            raise Died
        result = await super()._do(work, urgent=urgent)
        if self.dies_in == 0:
            raise Died
        return result


class IncidentMachine(RuleBasedStateMachine):
    """One server, a rule of our own and two alerts of others."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.loop = asyncio.Runner()
        self.world = World(Path(self.scratch.name))
        self.world.store.close()
        self.world.now = 1.7e9
        self.firing: dict[str, float] = {}
        """Alert of others -> when it began, as they say."""
        self.over: list[tuple[str, float, float]] = []
        self.handled: set[str] = set()
        """Incidents somebody works on in this life."""
        self.opened: list[str] = []
        self.troubles = 0
        """Episodes that may each have opened one incident."""
        self._live()

    # ------------------------------------------------------------------------------------------------ lives

    def _live(self) -> None:
        self.store = MortalStore(self.world.folder)
        self.store.open()
        self.world.store = self.store
        self.watch: Watch = self.world.new()
        self._run(self.watch.restore())
        # As `app.py` does at a start: what nobody was told the end of is taken up again.
        self.handled = {incident.id for incident, _, _ in self._run(self.store.incidents(untold=True))}

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    def _mortally(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What it came to; None when it was the end of this life, and the next one has begun."""
        try:
            return self._run(work)
        except Died:
            self.store.close()
            self._live()
            return None
        finally:
            self.store.dies_in = 0

    def _round(self) -> None:
        self.world.now += ROUND_S
        changes = self._mortally(self.watch.tick(CONTENT, {"t": TARGET}, {}, ()))
        if changes is not None:
            self._all_is_in_incidents()
        for change, incident in changes or ():
            if change is Change.OPENED:
                assert incident.id not in self.opened
                self.opened.append(incident.id)
            if change is Change.RESOLVED:
                assert not self.firing
            self.handled.add(incident.id)
        for incident, stage, _ in self._known():
            if incident.state == "resolved" and stage != "resolved":  # the flow tells the end
                self._run(self.store.save_incident(incident, stage="resolved", revision=1))

    def _known(self) -> list[tuple[Incident, str, int]]:
        found: list[tuple[Incident, str, int]] = self._run(self.store.incidents())
        return found

    def _post(self, name: str, since: float, until: float | None = None) -> bool:
        """Whether it was acknowledged."""
        alert = {
            "status": "firing" if until is None else "resolved", "startsAt": _stamp(since), "annotations": {},
            "endsAt": _stamp(until) if until else "0001-01-01T00:00:00Z",
            "labels": {"alertname": name, "class": CLASS_OF[name], "severity": "critical", "instance": "h:1"},
        }  # fmt: skip
        payload = {"version": "4", "alerts": [alert]}
        return bool(self._mortally(self.store.add_intake(payload, self.world.now, limit=1000)))

    # ------------------------------------------------------------------------------------------------ the world

    @rule(rounds=st.integers(1, 5))
    def time_goes_by(self, rounds: int) -> None:
        """Rounds of detection."""
        for _ in range(rounds):
            self._round()

    @rule(name=st.sampled_from(ALERTS), twice=st.booleans())
    def an_alert_begins(self, name: str, twice: bool) -> None:
        """Posted until it is acknowledged, as Alertmanager does; perhaps once more."""
        if name in self.firing:
            since = self.firing[name]  # a repetition
        else:
            self.world.now += 1.0
            since = self.world.now
            self.troubles += 1
        while not self._post(name, since):
            pass
        self.firing[name] = since
        if twice:
            self._post(name, since)

    @rule(name=st.sampled_from(ALERTS))
    def an_alert_ends(self, name: str) -> None:
        """Its end is told, too."""
        if name in self.firing:
            since, until = self.firing.pop(name), self.world.now + 1.0
            self.world.now = until
            while not self._post(name, since, until):
                pass
            self.over.append((name, since, until))

    @rule(name=st.sampled_from(ALERTS))
    def an_alert_passes_between_two_rounds(self, name: str) -> None:
        """Begun and over before anybody looked."""
        if name not in self.firing:
            self.an_alert_begins(name, False)
            self.an_alert_ends(name)

    @precondition(lambda self: self.over)
    @rule(pick=st.integers(0, 100))
    def a_beginning_is_told_late(self, pick: int) -> None:
        """Of an episode that is over: another Alertmanager, or a slow one."""
        name, since, _ = self.over[pick % len(self.over)]
        self._post(name, since)

    @rule(value=st.sampled_from([0.0, 9.0, None]), silent=st.booleans())
    def metrics_change(self, value: float | None, silent: bool) -> None:
        """Well, too many waiting, no series; or Prometheus says nothing at all."""
        if value == 9.0 and self.world.waiting != 9.0:
            self.troubles += 1
        self.world.waiting, self.world.silent = value, silent

    @rule(transactions=st.integers(1, 12), after=st.booleans(), name=st.sampled_from(ALERTS), passes=st.booleans())
    def it_is_killed(self, transactions: int, after: bool, name: str, passes: bool) -> None:
        """In a round or two that something has just been told for, at one of their transactions."""
        if passes:
            self.an_alert_passes_between_two_rounds(name)
        else:
            self.an_alert_begins(name, False)
        self.store.dies_in, self.store.after = transactions, after
        for _ in range(2):
            self._round()

    @rule(seconds=st.sampled_from([20.0, 700.0]))
    def it_is_down_for_a_while(self, seconds: float) -> None:
        """And started again."""
        self.store.close()
        self.world.now += seconds
        self.troubles += len(self.firing) + (self.world.waiting == 9.0)  # longer than a reopening may take
        self._live()

    # ----------------------------------------------------------------------------------------------- what holds

    @invariant()
    def one_open_incident_and_somebody_works_on_it(self) -> None:
        """At most one; no incident is known to the store alone; none was opened without a trouble of its own."""
        rows = self._known()
        open_ones = [incident.id for incident, _, _ in rows if incident.state == "open"]
        assert len(open_ones) <= 1
        assert {incident.id for incident, stage, _ in rows if stage != "resolved"} <= self.handled
        assert len(rows) <= self.troubles
        for incident, _, _ in rows:
            assert incident.onset_at <= incident.opened_at
            assert [e.at for e in incident.timeline] == sorted(e.at for e in incident.timeline)

    def _all_is_in_incidents(self) -> None:
        """After a round that nothing interrupted: whatever fires is in the open one, what is over is in one that was
        not over before it began."""
        rows = [incident for incident, _, _ in self._known()]
        for name in self.firing:
            assert [i.id for i in rows if i.state == "open" and name in {s.alert for s in i.symptoms}]
        for name, since, _ in self.over:
            fits = [i for i in rows if i.resolved_at is None or i.resolved_at >= since]
            assert [i.id for i in fits if name in {s.alert for s in i.symptoms}]

    def teardown(self) -> None:
        """When all is calm everything has ended."""
        try:
            self._round()
            for name in list(self.firing):
                self.an_alert_ends(name)
            self.world.waiting, self.world.silent = 0.0, False
            for _ in range(CALM_ROUNDS):
                self._round()
            rows = self._known()
            assert [i.id for i, _, _ in rows if i.state == "open"] == []
            self.one_open_incident_and_somebody_works_on_it()
        finally:
            self.store.close()
            self.loop.close()
            self.scratch.cleanup()


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


IncidentMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=15)
TestIncidentMachine = IncidentMachine.TestCase
