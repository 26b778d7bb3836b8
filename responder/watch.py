"""What has changed since the last round? Ask Prometheus, evaluate, correlate, remember: one round is one `tick`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

import structlog

from responder.alertmanager import FOUND_LATE, Names, from_alertmanager
from responder.answers import Asking
from responder.correlate import Decision, Memory, Policy
from responder.holding import States, joined, only
from responder.judge import Round, judge
from responder.known import Changed, Known
from responder.metrics import Prometheus
from responder.missed import Missed
from responder.model import Change, Content, Incident, Rule, Silence, Target, TimelineEntry
from responder.onsets import with_onset
from responder.probe import Probe, merge
from responder.shares import share_of
from responder.silence_files import silences_in
from responder.standing import Standing
from responder.store import Store
from responder.telemetry import Telemetry
from responder.told import Told, hear
from responder.unseen import known_by_probes

log = structlog.get_logger()
ONSET_TIMEOUT_S = 2.0
INTAKE_PAGES = 10
"""Of at most 2,000 payloads each, in one round."""
STATES, MEMORY, TOLD, MISSED, LIVED = "states", "memory", "told", "missed", "lived"
MUTED_AT_MOST_S = 60.0


class Watch:
    """Detection. Holds everything a round needs from the round before, and writes it to the store."""

    def __init__(
        self,
        prometheus: Prometheus,
        store: Store,
        telemetry: Telemetry,
        clock: Callable[[], float],
        *,
        scrape_interval_s: float,
        policy: Policy,
        silence_folder: Path,
    ) -> None:
        self.prometheus = prometheus
        self.store = store
        self.telemetry = telemetry
        self.clock = clock
        self.scrape_interval_s = scrape_interval_s
        self.policy = policy
        self.silence_folder = silence_folder
        self.configured_silences: tuple[Silence, ...] = ()
        self.states = States()
        self.memory = Memory()
        self.told = Told()
        self.missed = Missed(prometheus, store)
        self.standing = Standing()
        self._asking = Asking(prometheus, telemetry, scrape_interval_s)
        self.shares: set[int] | None = None
        """With other replicas: those that are ours; None: everything is, and is remembered as one."""
        self._book = Known(store)
        self.muted: Mapping[str, float] = {}
        """Target -> until when its metrics show a capture of our own."""
        self.round_ended = time.monotonic()
        self._written: dict[int | None, tuple[str, ...]] = {}
        self._onset_within_s = ONSET_TIMEOUT_S
        """Nothing more in this round once Prometheus was too slow: hundreds may open at once, and all wait."""
        self._match_of: dict[str, dict[str, str]] = {}

    @property
    def incidents(self) -> dict[str, Incident]:
        """Open ones and those resolved lately, by id."""
        return self._book.incidents

    @property
    def known(self) -> frozenset[str]:
        """Targets whose metrics Prometheus had in the last round."""
        return self._asking.known

    @property
    def models(self) -> Mapping[str, frozenset[str]]:
        """Target -> names of the models it serves."""
        return self._asking.models

    @property
    def open_count(self) -> int:
        """How many incidents are open."""
        return sum(incident.state == "open" for incident in self.incidents.values())

    async def restore(self, shares: Collection[int] | None = None) -> None:
        """Go on where the last daemon, or the replica that had these shares, ended; what cannot be read is started
        anew, loudly."""
        rows, now = await self.store.timers(), self.clock()
        for share in shares or (None,):
            try:
                if text := rows.get(_key(STATES, share)):
                    earlier = States.model_validate_json(text)
                    self.states = joined(self.states, earlier, now)
                    # What the last life had not looked for, since Prometheus was silent, is looked for now.
                    pending = float(rows.get(_key(MISSED, share)) or "inf")
                    since = min(pending, earlier.at or pending, self.missed.since or pending)
                    self.missed.since = None if since == math.inf else since
                    self.missed.lived = rows.get(LIVED, "") if share is None else ""
                if text := rows.get(_key(MEMORY, share)):
                    self.memory = self.memory.joined(Memory.model_validate_json(text))
                if text := rows.get(_key(TOLD, share)):
                    self.told = self.told.joined(Told.model_validate_json(text))
            except ValueError:
                log.exception("timers.unreadable", share=share)
        known = [*await self.store.incidents(limit=500), *await self.store.incidents(only_open=True)]
        for incident, _, _ in known:
            if shares is not None and share_of(incident.target) not in shares:
                continue
            if incident.state == "open" or now - (incident.resolved_at or 0) <= self.policy.reopen_s:
                self.incidents[incident.id] = incident
        if self.shares is not None:
            self.shares |= set(shares or ())

    def forget(self, shares: Collection[int]) -> None:
        """Another replica goes on with these: nothing of them is remembered here."""

        def stays(target: str) -> bool:
            return share_of(target) not in shares

        self.states = only(self.states, stays)
        self.memory = self.memory.only(stays, {i.id: i.target for i in self.incidents.values()})
        self.told = self.told.only(stays)
        self._book.forget(stays)
        self._written = {}
        if self.shares is not None:
            self.shares -= set(shares)

    async def tick(
        self, content: Content, targets: Mapping[str, Target], probes: Mapping[str, Probe], stopping: Collection[str],
        *, everywhere: Mapping[str, Target] | None = None, sound: Collection[str] = (),
    ) -> list[Changed]:  # fmt: skip
        """One round; what opened, grew or was resolved.

        `everywhere`: with other replicas, all targets, of which `targets` are ours; `sound`: those of others' that are
        well.
        """
        everywhere = targets if everywhere is None else everywhere
        began = time.monotonic()
        await self._book.again()
        held = {(one.alert, one.target) for one in self.states.held}
        held |= {(one.alert, one.target) for one in self.states.told}
        answers = await self._asking.ask(content, tuple(targets.values()), held)
        now = self.clock()
        await self._asking.tell_probes(answers, targets, probes, now, self.states.seen)
        mine = known_by_probes(content.rules, answers) if probes else ()
        answers |= await asyncio.to_thread(merge, list(probes.values()), now, mine)
        await self._asking.count(content, answers, targets)
        await self.missed.round(self.told, now, content, targets)
        await self._take_in(content, targets, now)
        silences = await self._silences(now)
        one = Round(
            now=now, content=content, targets=targets, everywhere=everywhere, answers=answers,
            responsive=frozenset(name for name, probe in probes.items() if probe.responsive(now)),
            sound=frozenset(sound), muted=frozenset(name for name, until in self.muted.items() if is_muted(until, now)),
            stopping=frozenset(stopping), silences=silences, told=self.told.shown,
            incidents=tuple(self.incidents.values()), states=self.states, memory=self.memory, policy=self.policy,
        )  # fmt: skip
        # In a thread: a round over a thousand servers must not hold up the loop that answers alerts.
        judged = await asyncio.to_thread(judge, one)
        self._onset_within_s = ONSET_TIMEOUT_S
        self.states, self.memory = judged.states, judged.memory
        self.standing.round(judged.over, now, {rule.alert: rule for rule in content.rules})
        self.telemetry.limits_as_ever.set(len(self.standing.over))
        for change, incident, _ in (*judged.decisions, *self._abandoned(everywhere, now)):
            await self._adopt(change, incident, content)
        if not self._book.no_room:
            await self._forget_seen()
        await self._remember(now)
        self.round_ended = time.monotonic()
        self.telemetry.evaluation_seconds.observe(self.round_ended - began)
        return self._book.take()

    def _abandoned(self, targets: Mapping[str, Target], now: float) -> list[Decision]:
        """Open incidents of servers that are no longer in the configuration: nobody will see them end."""
        says = "the server was taken out of the configuration"
        entry = TimelineEntry(at=now, kind="resolved", says=says)
        return [
            Decision(Change.RESOLVED, incident.model_copy(
                update={"state": "resolved", "resolved_at": now, "timeline": (*incident.timeline, entry)}
            ), says)
            for incident in self.incidents.values()
            if incident.state == "open" and incident.target not in targets
        ]  # fmt: skip

    # --------------------------------------------------------------------------------------- others, silences

    async def _take_in(self, content: Content, targets: Mapping[str, Target], now: float) -> None:
        for _ in range(INTAKE_PAGES):
            rows = await self.store.intake()
            if not rows:
                break
            # In a thread: a storm must not hold up the loop that answers it.
            self.told, refused = await asyncio.to_thread(
                _heard, self.told, rows, tuple(targets.values()), content.rules, now
            )
            for reason in refused:
                self.telemetry.alerts.labels("unusable").inc()
                log.warning("alert.unusable", reason=reason)
            # On disk as what they mean before they are forgotten as what they were.
            await self._write_told()
            await self.store.drop_intake(row[0] for row in rows)

    async def _forget_seen(self) -> None:
        """The incidents of this round are on disk: what was over before it need not be shown again."""
        after = self.told.seen()
        if after is not self.told:
            self.told = after
            await self._write_told()

    async def _write_told(self) -> None:
        # In a thread: after a storm this is megabytes.
        await self._write(await asyncio.to_thread(_told_rows, self.told, self._parts()))

    async def _silences(self, now: float) -> tuple[Silence, ...]:
        kept, here = await self.store.silences(now), await asyncio.to_thread(self._from_files)
        if self.shares is not None:  # what was said to one replica holds for all
            until = {silence.id: silence.ends_at for silence in kept}
            for silence in here:  # also an end that came early
                if silence.ends_at < until[silence.id] if silence.id in until else silence.ends_at > now:
                    await self.store.save_silence(silence)
        return (*self.configured_silences, *kept, *here)

    def _from_files(self) -> list[Silence]:
        return silences_in(self.silence_folder, lambda path: log.warning("silence.unreadable", file=str(path)))

    # ------------------------------------------------------------------------------------------------ remember

    async def _adopt(self, change: Change, incident: Incident, content: Content) -> None:
        if change is Change.OPENED:
            match = self._match_of.get(next((s.target for s in incident.symptoms), incident.target), {})
            began = time.monotonic()
            incident = await with_onset(
                incident, content, match, self.prometheus.range, self.scrape_interval_s, self._onset_within_s
            )
            if time.monotonic() - began >= ONSET_TIMEOUT_S:
                self._onset_within_s = 0.0
            if all(s.source == FOUND_LATE for s in incident.symptoms):
                incident = _found_late(incident)
        await self._book.put(change, incident)

    def adopt(self, targets: Iterable[Target], silences: tuple[Silence, ...]) -> None:
        """Targets and configured silences from now on."""
        self._match_of = {target.name: target.match for target in targets}
        self.standing.stays(self._match_of)
        self.configured_silences = silences

    async def _remember(self, now: float) -> None:
        for name, incident in list(self.incidents.items()):
            if incident.state == "resolved" and now - (incident.resolved_at or 0) > self.policy.reopen_s:
                del self.incidents[name]
        # `at` alone is no news worth a write to disk each round; half a minute old is fresh enough for a restart.
        stamp, rows, written = f"{int(now // 15)}", dict[str, str](), dict(self._written)
        lived = self.missed.moment().text()
        owners = {i.id: i.target for i in self.incidents.values()}
        for share, mine in self._parts():
            states = self.states if share is None else only(self.states, mine)
            memory = (self.memory if share is None else self.memory.only(mine, owners)).model_dump_json()
            pending = str(self.missed.since or "")
            seen = (states.model_copy(update={"at": None}).model_dump_json(), memory, stamp, pending)
            if self._written.get(share) != seen:
                written[share] = seen
                rows.update({_key(STATES, share): states.model_dump_json(), _key(MEMORY, share): memory,
                             _key(MISSED, share): pending, _key(LIVED, share): lived})  # fmt: skip
        if rows:
            await self._write(rows)
            self._written = written

    def _parts(self) -> list[tuple[int | None, Callable[[str], bool]]]:
        """What is remembered apart: the shares that are ours, each with whether a target is in it."""
        if self.shares is None:
            return [(None, lambda _: True)]
        return [(share, partial(_in, share)) for share in sorted(self.shares)]

    async def _write(self, rows: dict[str, str]) -> None:
        await self.store.save_timers(rows, ())


def is_muted(until: float, now: float) -> bool:
    """Whether metrics still show a capture of ours. An end that is far away was set before the clock went back."""
    return now < until <= now + MUTED_AT_MOST_S or math.isinf(until)


def _told_rows(told: Told, parts: list[tuple[int | None, Callable[[str], bool]]]) -> dict[str, str]:
    return {_key(TOLD, share): told.only(mine).model_dump_json() for share, mine in parts}


def _found_late(incident: Incident) -> Incident:
    says = "found late in Prometheus' ALERTS: it began while the responder did not run"
    note = TimelineEntry(at=incident.opened_at, kind="note", says=says)
    return incident.model_copy(update={"timeline": (*incident.timeline, note)})


def _key(what: str, share: int | None) -> str:
    """Where it is remembered; the store knows a share by the number at the end."""
    return what if share is None else f"{what}/{share}"


def _in(share: int, target: str) -> bool:
    return share_of(target) == share


def _heard(
    told: Told, rows: Iterable[tuple[int, float, object]], targets: tuple[Target, ...], rules: Iterable[Rule],
    now: float,
) -> tuple[Told, list[str]]:  # fmt: skip
    names = Names(targets)
    intakes = [from_alertmanager(payload, names, received_at, rules) for _, received_at, payload in rows]
    return hear(told, intakes, now), [reason for intake in intakes for reason in intake.refused]
