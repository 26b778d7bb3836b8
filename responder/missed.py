"""What fired while we did not run? Prometheus remembers it in ALERTS, whatever Alertmanager could or could not deliver.

Alertmanager never delivers an alert that began and ended while its receiver was dead. At a start everything that ALERTS
shows since our last round becomes a payload like Alertmanager's, on disk like one, marked as found late. What still
fires is followed until it is gone, for there may be no Alertmanager to say so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from responder.alertmanager import FOUND_LATE, Names, from_alertmanager
from responder.holding import key_of
from responder.metrics import Labels, Point, Prometheus, PrometheusSilent
from responder.model import Content, Target
from responder.outage import Uptime, lasted, uptime
from responder.store import Store
from responder.told import Told

log = structlog.get_logger()
EVERY_S = 15.0
AGAIN_S = 5.0
LONGEST_S = 24 * 3600.0
PIECE_S = 3600.0
ASSUMED_EVERY_S = 60.0
"""How often Prometheus evaluates, when a single sample does not tell."""
ALERTS = 'ALERTS{alertstate="firing"}'
THERE = "ALERTS"
"""Firing or pending: after a restart of Prometheus what fired is pending again for a while."""
GONE_S = 2.5 * ASSUMED_EVERY_S
"""What is missing for so long is over: a Prometheus that has just started shows nothing before it has evaluated."""
MOST_IN_A_PAYLOAD = 500


class Missed:
    """Looks into ALERTS: once for what was missed, then after what it found still firing."""

    def __init__(self, prometheus: Prometheus, store: Store, moment: Callable[[], Uptime] = uptime) -> None:
        self.prometheus, self.store, self.moment = prometheus, store, moment
        self.since: float | None = None
        """Our last round in an earlier life; None: nothing to look for, or looked for already."""
        self.lived = ""
        """The same moment as uptime (`outage.py`); empty where another replica may have been here since."""
        self._peeked = False
        self._next = 0.0
        self._missing: dict[tuple[str, ...], float] = {}
        """Since when what was found late has not been in ALERTS."""

    async def round(self, told: Told, now: float, content: Content, targets: Mapping[str, Target]) -> None:
        """Whatever is to be done now; a Prometheus that does not answer is asked again."""
        if now < self._next <= now + EVERY_S:  # further away: the clock was set back
            return
        self._next = now + EVERY_S
        try:
            if self.since is not None and self.since < now:
                await self.look(self.since, now, content, targets)
                self.since = None
            elif self.since is not None:
                await self._look_behind(now, content, targets)
            await self.follow(told, now, content, tuple(targets.values()))
        except PrometheusSilent as error:
            self._next = now + AGAIN_S
            log.warning("missed.silent", reason=str(error))

    async def _look_behind(self, now: float, content: Content, targets: Mapping[str, Target]) -> None:
        """By the clock our last round is to come. Uptime tells since when nobody was here, or at least since when; then
        what is left is looked for once the clock has been put right."""
        moment = self.moment()
        away = lasted(self.lived, moment)
        if away is not None:
            await self.look(now - away, now, content, targets)
            self.since = None
        elif self.lived and not self._peeked:
            log.warning("missed.clock_behind", hint="the clock is behind our last round; looking since this boot")
            await self.look(now - moment.seconds, now, content, targets)
            self._peeked = True

    async def look(self, since: float, now: float, content: Content, targets: Mapping[str, Target]) -> int:
        """Put on disk as alerts what fired in (since, now]; how many. PrometheusSilent when it cannot be known yet."""
        begin = max(since, now - LONGEST_S)
        series: dict[tuple[tuple[str, str], ...], list[Point]] = {}
        while begin < now:
            until = min(begin + PIECE_S, now)
            for labels, points in await self.prometheus.raw(f"{ALERTS}[{max(until - begin, 1.0):.0f}s]", until):
                series.setdefault(tuple(sorted(labels.items())), []).extend(points)
            begin = until
        found = [alert for key, points in series.items() for alert in alerts_of(dict(key), points, since, now)]
        mine = Names(targets.values())
        known = [a for a in found if not from_alertmanager(_payload([a]), mine, now, content.rules).refused]
        for at in range(0, len(known), MOST_IN_A_PAYLOAD):
            await self.store.add_intake(_payload(known[at : at + MOST_IN_A_PAYLOAD]), now, limit=1 << 60)
        log.info("missed.looked", since_s=round(now - since), found=len(found), ours=len(known))
        return len(known)

    async def follow(self, told: Told, now: float, content: Content, targets: Collection[Target]) -> None:
        """Say that it is over of what was found late, has been gone for a while, and nobody else has spoken of since:
        one empty answer ends nothing."""
        late = [s for s in told.symptoms if s.source == FOUND_LATE]
        if not late:
            self._missing = {}
            return
        rows = await self.prometheus.instant(THERE)
        there = _payload([_alert(labels, now, None) for labels, _, _ in rows])
        firing = from_alertmanager(there, targets, now, content.rules).firing
        keys = {key_of(s.alert, s.target, s.labels) for s in firing}
        missing = {key: s for s in late if (key := key_of(s.alert, s.target, s.labels)) not in keys}
        # A clock set back makes nobody wait until it has caught up.
        self._missing = {key: min(self._missing.get(key, now), now) for key in missing}
        gone = [
            _alert({"alertname": s.alert, "class": s.incident_class, "target": s.target, **s.labels}, s.since,
                   self._missing[key])
            for key, s in missing.items()
            if now - self._missing[key] >= GONE_S
        ]  # fmt: skip
        if gone:
            await self.store.add_intake(_payload(gone), now, limit=1 << 60)


def alerts_of(labels: Labels, points: Iterable[Point], since: float, now: float) -> list[dict[str, Any]]:
    """The episodes of one ALERTS series that were not over by `since`, as Alertmanager would tell them."""
    times = sorted({at for at, _ in points})
    every = min((b - a for a, b in zip(times, times[1:], strict=False)), default=ASSUMED_EVERY_S)
    found: list[dict[str, Any]] = []
    began = last = None
    for at in [*times, None]:
        if began is not None and last is not None and (at is None or at - last > 2.5 * every):
            over = now - last > 2.5 * every
            if last > since or not over:
                # The evaluation before the first sample is the earliest it can have begun: never later than it was.
                found.append(_alert(labels, began - every, last + every if over else None))
            began = None
        if at is not None and began is None:
            began = at
        last = at
    return found


def _alert(labels: Mapping[str, str], began: float, ended: float | None) -> dict[str, Any]:
    kept = {name: value for name, value in labels.items() if name not in ("alertstate", "__name__")}
    return {
        "status": "firing" if ended is None else "resolved",
        "labels": kept,
        "annotations": {},
        "startsAt": _text(began),
        "endsAt": _text(ended) if ended is not None else "0001-01-01T00:00:00Z",
    }


def _payload(alerts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"version": "4", "receiver": FOUND_LATE, "alerts": alerts}


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
