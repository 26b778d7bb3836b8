"""Which incidents does detection know, and who has still to hear of what changed? On disk first, told once.

A round may fail anywhere: a database is away, the daemon is stopped. What is on disk and was not told is told by the
next round; what may be on disk or not is written again under the same id, never decided anew under another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import structlog

from responder.killpoint import reach
from responder.model import Change, Incident
from responder.shares import LeaseLost
from responder.store import Store
from responder.store_db import StoreFull

log = structlog.get_logger()
Changed = tuple[Change, Incident]


class _Unsaved(NamedTuple):
    change: Change
    incident: Incident
    was: Incident | None


class Known:
    """Incidents by id: open ones and those resolved lately."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.incidents: dict[str, Incident] = {}
        self._unsaved: dict[str, _Unsaved] = {}
        self._untold: list[Changed] = []
        self.no_room = False
        """Whether something this round has decided was not kept: what it rests on must be shown to the next one."""

    async def put(self, change: Change, incident: Incident) -> None:
        """What a round has decided. Raises what the store raises; then `again` goes on with it."""
        was = self.incidents.get(incident.id)
        self.incidents[incident.id] = incident
        if change is not Change.UNCHANGED:
            self._unsaved[incident.id] = _Unsaved(change, incident, was)
            await self._save(incident.id)

    async def again(self) -> None:
        """Before a round: write what the last one could not."""
        self.no_room = False
        for name in list(self._unsaved):
            await self._save(name)

    def take(self) -> list[Changed]:
        """What is on disk and nobody was told; told now."""
        untold, self._untold = self._untold, []
        return untold

    def forget(self, stays: Callable[[str], bool]) -> None:
        """Only incidents of targets that stay."""
        self.incidents = {name: i for name, i in self.incidents.items() if stays(i.target)}
        self._unsaved = {name: one for name, one in self._unsaved.items() if stays(one.incident.target)}
        self._untold = [one for one in self._untold if stays(one[1].target)]

    async def _save(self, name: str) -> None:
        change, incident, was = self._unsaved[name]
        reach("incident.before_save")
        back = was is not None and was.state == "resolved" and incident.state == "open"
        try:
            await self.store.save_incident(incident, stage="reopened" if back else "")
        except LeaseLost:
            del self._unsaved[name]
            self.incidents.pop(name, None)
            return
        except StoreFull:
            # Nothing of it was kept. As if this round had not been: the next one decides it again.
            log.error("incident.no_room", incident=name)
            self.no_room = True
            del self._unsaved[name]
            self.incidents.pop(name, None)
            if was is not None:
                self.incidents[name] = was
            return
        del self._unsaved[name]
        reach("incident.saved")
        self._untold.append((change, incident))
        event = log.warning if change is Change.OPENED else log.info
        event(
            f"incident.{change.value}",
            incident=name,
            target=incident.target,
            incident_class=incident.incident_class,
            symptoms=sorted({s.alert for s in incident.symptoms}),
        )
