"""What does whoever sends us alerts hear? How many were taken and known already, which are of no use and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from responder.alertmanager import Names, from_alertmanager
from responder.holding import key_of
from responder.model import Rule, Symptom, Target
from responder.told import Told

REASONS_SHOWN = 3
KNOWN_AT_MOST = 2000
"""Alerts at once; in a storm nobody reads answers, and who sends must not wait for them to be told apart."""


class Receipts:
    """Words for one payload after another. `setting()`: targets and rules in force; `told()`: what others have said."""

    def __init__(
        self, setting: Callable[[], tuple[Mapping[str, Target], Iterable[Rule]]], told: Callable[[], Told],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self.setting, self.told, self.clock = setting, told, clock
        self._of: Mapping[str, Target] | None = None
        self._names = Names(())

    def words(self, payload: Any) -> str:
        """Of a payload that is on disk: 'ok: 3 alerts taken (1 known already); 1 of no use: …'."""
        targets, rules = self.setting()
        if targets is not self._of:
            self._of, self._names = targets, Names(targets.values())
        got = from_alertmanager(payload, self._names, self.clock(), rules)
        symptoms = self.told().symptoms
        parts = []
        if len(symptoms) <= KNOWN_AT_MOST:
            known = {(_key(s), s.since) for s in symptoms}
            again = sum((_key(s), s.since) in known for s in got.firing)
            parts += [f"{again} known already"] if again else []
        parts += [f"{len(got.resolved)} over"] if got.resolved else []
        more = f" ({', '.join(parts)})" if parts else ""
        count = len(got.firing) + len(got.resolved)
        said = f"ok: {count} {'alert' if count == 1 else 'alerts'} taken{more}"
        if got.refused:
            said += f"; {len(got.refused)} of no use: {'; '.join(dict.fromkeys(got.refused[:REASONS_SHOWN]))}"
        return said


def _key(symptom: Symptom) -> tuple[str, ...]:
    return key_of(symptom.alert, symptom.target, symptom.labels)
