"""What do people see of the daemon in a browser? Gathered from its parts when somebody asks; nothing is kept."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from responder import __version__
from responder.byhand import Hand, doctor
from responder.case import Kit
from responder.folder import folder_of
from responder.model import Button, Incident, Inventory, Opinion, Silence, Target
from responder.offers import instead
from responder.pressed import Pressed
from responder.probe import Probe
from responder.report_words import authored, named, phrase, trouble
from responder.safety import Safety
from responder.silence_files import silences_in, write_silence
from responder.watch import Watch
from responder.web.desk import Starting, Word
from responder.web.rawfiles import listing
from responder.words import ENGLISH, Language, say, speaking

MAX_SILENCE_S = 90 * 86400.0
DOCTOR_TIMEOUT_S = 120.0
MOST_INSTEAD = 200
NEWEST_RUNS = 5
"""Incidents that the playbooks page links."""
LABEL = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")


class Overview:
    """The daemon's side of the user interface. `about` says of the daemon what only it knows."""

    def __init__(self, about: Callable[[], Mapping[str, Any]], at_first: Language = ENGLISH) -> None:
        self.about, self.at_first = about, at_first
        self._parts: tuple[Kit, Watch, Safety, Pressed] | None = None
        self.probes: Mapping[str, Probe] = {}
        self._examined: dict[str, dict[str, Any]] = {}
        self._examining: set[str] = set()

    def attach(self, kit: Kit, watch: Watch, safety: Safety, pressed: Pressed, probes: Mapping[str, Probe]) -> None:
        """Once there is something to show."""
        self._parts, self.probes = (kit, watch, safety, pressed), probes

    def spoken(self) -> Language:
        """The language of the reports, and so of the pages; `at_first` while there is nothing to show."""
        return self._parts[0].languages[0] if self._parts else self.at_first

    def _all(self) -> tuple[Kit, Watch, Safety, Pressed]:
        if self._parts is None:
            raise Starting("the responder is starting")
        return self._parts

    @property
    def kit(self) -> Kit:
        """Starting while it starts; so for the others."""
        return self._all()[0]

    @property
    def watch(self) -> Watch:
        """Detection."""
        return self._all()[1]

    @property
    def safety(self) -> Safety:
        """Approvals."""
        return self._all()[2]

    @property
    def pressed(self) -> Pressed:
        """What a press does."""
        return self._all()[3]

    # ----------------------------------------------------------------------------------------------- incidents

    async def incidents(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        """A page of incidents, open ones first, and how many there are."""
        page = await self.kit.store.incident_page(
            state=wanted.get("state", ""), incident_class=wanted.get("class", "")[:80],
            search=wanted.get("q", "")[:200], offset=_number(wanted.get("offset")),
            limit=_number(wanted.get("limit")) or 50,
        )  # fmt: skip
        with speaking(self.spoken()):
            rows = [_row(incident, stage, revision) for incident, stage, revision in page.rows]
        classes = sorted({book.incident_class for book in self.kit.content.playbooks})
        waiting = len(await asyncio.to_thread(self.safety.approvals.pending))
        with speaking(self.spoken()):
            troubles = {name: named("class", name) for name in classes}
        return {
            "rows": rows, "total": page.total, "open": page.open, "classes": classes, "waiting": waiting,
            "troubles": troubles,
        }  # fmt: skip

    async def incident(self, name: str) -> dict[str, Any]:
        """The incident as it is at this moment, the last report, the steps and what there is to download."""
        found = await self.kit.store.incident(name)
        if found is None:
            raise LookupError(f"no incident {name}")
        incident, stage, revision = found
        incident = self.pressed.responder.incident(name) or incident
        steps = await self.kit.store.steps(name)
        report, files = await asyncio.to_thread(self._folder, name)
        waiting = [item for item in await self.approvals() if item["incident"] == name]
        said = next((o for o in await self.kit.store.opinions() if o.incident == name), None)
        with speaking(self.spoken()):
            return {
                "incident": {
                    **_row(incident, stage, revision),
                    "symptoms": [s.model_dump(mode="json", include=SYMPTOM) for s in incident.symptoms],
                    "timeline": [{**e.model_dump(mode="json"), "says": phrase(e.says)}
                                 for e in sorted(incident.timeline, key=lambda e: e.at)],
                },
                "report": report, "steps": [_step(state, entry) for _, state, entry in steps], "files": files,
                "approvals": waiting, "opinion": said.model_dump(mode="json") if said else None,
                "instead": [] if said else self._instead(incident.incident_class, report),
            }  # fmt: skip

    def _folder(self, name: str) -> tuple[dict[str, Any], list[dict[str, object]]]:
        try:
            report = folder_of(self.kit.data_dir, name).read_json("report.json")
        except (OSError, ValueError):
            report = {}
        kept = ("title", "says", "hypotheses", "captures", "revision", "generated_at", "owed", "notes", "playbooks")
        with speaking(self.spoken()):
            ran = [{**row, "reason": phrase(row.get("reason") or "")} for row in report.get("captures", ())]
        told = {key: report[key] for key in kept if key in report} | ({"captures": ran} if ran else {})
        return told, listing(self.kit.data_dir, name)

    def _instead(self, incident_class: str, report: Mapping[str, Any]) -> list[dict[str, str]]:
        """What the cause may have been, if the report is wrong."""
        named = [row["cause"] for row in report.get("hypotheses", ())]
        found = instead(self.kit, incident_class, named, MOST_INSTEAD) if named else []
        return [{"id": cause.id, "title": authored(cause.title)} for cause in found]

    async def acknowledge(self, incident: str, who: str) -> str:
        """Take an incident. ValueError in words."""
        with speaking(self.spoken()):
            return await self.pressed.acknowledge(incident, who)

    async def judge(self, incident: str, word: Word, who: str) -> str:
        """An engineer's word about the cause the report names first. ValueError in words."""
        known = {cause.id for cause in self.kit.content.causes}
        if word.truth and word.truth not in known:
            raise ValueError(f"there is no cause {word.truth[:80]!r}: leave it empty and write a note")
        if word.right and word.truth:
            raise ValueError("a cause that was right was no other one")
        button = Button(action="right" if word.right else "wrong", incident=incident, cause=word.cause,
                        truth=word.truth)  # fmt: skip
        with speaking(self.spoken()):
            return await self.pressed.do(button, who, word.note)

    # ----------------------------------------------------------------------------------------------- approvals

    async def approvals(self) -> list[dict[str, Any]]:
        """Captures that wait for a person, with what they may do to the server."""
        pending = await asyncio.to_thread(self.safety.approvals.pending)
        out = []
        for item in pending:
            step = self.kit.steps.get(item.step)
            harm = {"worst_pause_s": step.worst_pause_s, "max_bytes": step.max_bytes} if step else {}
            out.append({**item.model_dump(mode="json"), **harm})
        return out

    async def decide(self, incident: str, step: str, approve: bool, who: str) -> dict[str, Any]:
        """A person's answer, checked anew against what is true now. ValueError in words."""
        asked = await asyncio.to_thread(self.safety.approvals.of, incident, step)
        if asked is None:
            raise ValueError(f"nobody asks for {step} in incident {incident}")
        button = Button(
            action="approve" if approve else "deny", incident=incident, target=asked.target, step=step, rung=asked.rung
        )  # fmt: skip
        with speaking(self.spoken()):
            return {"says": await self.pressed.do(button, who)}

    # ------------------------------------------------------------------------------------------------ silences

    async def silences(self) -> list[dict[str, Any]]:
        """Maintenance windows that have not ended, and whether they can be ended here."""
        now = self.kit.clock()
        files = {s.id: s for s in await asyncio.to_thread(silences_in, self.watch.silence_folder)}
        kept = {s.id: s for s in await self.kit.store.silences(now)}
        configured = {s.id: s for s in self.watch.configured_silences}
        found = [*configured.values(), *kept.values(), *files.values()]
        return [
            {**s.model_dump(mode="json"), "active": s.starts_at <= now, "configured": s.id in configured}
            for s in sorted(found, key=lambda s: s.ends_at)
            if s.ends_at > now
        ]

    async def add_silence(self, match: Mapping[str, str], seconds: float, comment: str) -> dict[str, Any]:
        """Open nothing for what matches. ValueError in words."""
        if not match or len(match) > 20 or not 0 < seconds <= MAX_SILENCE_S:
            raise ValueError("give at least one label to match, and a time of at most 90 days")
        for label, pattern in match.items():
            if not LABEL.match(label) or len(pattern) > 200:
                raise ValueError(f"{label[:80]!r} is no label name, or its expression is too long")
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{label}: {pattern!r} is no regular expression: {error}") from None
        now = self.kit.clock()
        silence = Silence(id=uuid.uuid4().hex[:12], match=dict(match), starts_at=now, ends_at=now + seconds,
                          comment=comment)  # fmt: skip
        await asyncio.to_thread(write_silence, self.watch.silence_folder, silence)
        return silence.model_dump(mode="json")

    async def expire_silence(self, name: str, who: str) -> dict[str, Any]:
        """End a silence now. LookupError when there is none, ValueError when the configuration has it."""
        now = self.kit.clock()
        if any(s.id == name for s in self.watch.configured_silences):
            raise ValueError("this silence stands in the configuration: end it there, and reload")
        stored = {s.id: s for s in await self.kit.store.silences(now)}
        files = {s.id: s for s in await asyncio.to_thread(silences_in, self.watch.silence_folder)}
        known = files.get(name) or stored.get(name)
        if known is None:
            raise LookupError(f"no silence {name}")
        ended = known.model_copy(update={"ends_at": now, "comment": f"{known.comment} (ended by {who})"[:300]})
        if name in stored:
            await self.kit.store.save_silence(ended)
        if name in files:
            await asyncio.to_thread(write_silence, self.watch.silence_folder, ended)
        return ended.model_dump(mode="json")

    # ------------------------------------------------------------------------------------------------- targets

    async def targets(self) -> list[dict[str, Any]]:
        """Every server: how it is, and what keeps us from capturing there."""
        ill = {i.target: i.id for i in self.watch.incidents.values() if i.state == "open"}
        with speaking(self.spoken()):
            return [self._target(target, ill.get(name, "")) for name, target in sorted(self.kit.targets.items())]

    def _target(self, target: Target, incident: str) -> dict[str, Any]:
        probe, known = self.probes.get(target.name), self.kit.inventories.get(target.name)
        seen = probe.seen if probe else None
        responsive = probe.responsive(self.kit.clock()) if probe else None
        policy = self._policy(target)
        return {
            "name": target.name, "url": target.url, "models": sorted(self.watch.models.get(target.name, ())),
            "incident": incident, "labels": target.labels, "max_rung": policy, "node": target.node,
            "reachable": seen.reachable if seen else None, "health": seen.health_status if seen else None,
            "responsive": responsive, "scraped": target.name in self.watch.known,
            **_whereabouts(known), "doctor": _in_words(self._examined.get(target.name)),
            "examining": target.name in self._examining,
            "over": [{"alert": one.alert, "says": phrase(one.says), "since": one.since}
                     for one in self.watch.standing.of(target.name)],
        }  # fmt: skip

    def _policy(self, target: Target) -> int:
        return target.capture.max_rung if target.capture else self.kit.max_rung

    async def doctor(self, name: str) -> dict[str, Any]:
        """Try what is harmless, ask about the rest. LookupError for a target there is not, ValueError in words."""
        target = self.kit.targets.get(name)
        if target is None:
            raise LookupError(f"no target {name}")
        if name in self._examining:
            raise ValueError("it is being examined already")
        kit = self.kit
        hand = Hand(
            steps=kit.steps, http=kit.http, runner=kit.runners.get(name, kit.runner), data_dir=kit.data_dir,
            inventories=kit.inventories, siblings=tuple(kit.targets.values()), range_query=kit.range_query,
            signals=kit.signals, secrets=kit.secrets, clock=kit.clock,
        )  # fmt: skip
        self._examining.add(name)
        try:
            async with asyncio.timeout(DOCTOR_TIMEOUT_S):
                checks = await doctor(hand, target)
        except TimeoutError:
            raise ValueError(f"it took longer than {DOCTOR_TIMEOUT_S:.0f} s") from None
        finally:
            self._examining.discard(name)
        self._examined[name] = {"at": kit.clock(), "checks": [vars(check) for check in checks]}
        with speaking(self.spoken()):
            return _in_words(self._examined[name]) or {}

    # ------------------------------------------------------------------------- playbooks, deliveries, the daemon

    async def playbooks(self) -> list[dict[str, Any]]:
        """Every playbook with the causes it tells apart, when it last ran, and how right it was."""
        past = await self.kit.store.class_runs(NEWEST_RUNS)
        causes = {cause.id: cause for cause in self.kit.content.causes}
        words = await self.kit.store.opinions()
        out = []
        for book in self.kit.content.playbooks:
            runs, newest = past.get(book.incident_class, (0, ()))
            told = [word.right for word in words if book.id in word.playbooks]
            with speaking(self.spoken()):
                out.append({
                    "precision": {"right": sum(told), "wrong": len(told) - sum(told)} if told else None,
                    "id": book.id, "class": book.incident_class, "title": authored(book.title),
                    "file": Path(book.file).name, "runs": runs, "alerts": list(book.alerts),
                    "newest": [_run(incident, words) for incident in newest],
                    "steps": [{"step": call.step, "rung": call.rung} for call in book.ladder],
                    "causes": [{"id": c, "title": authored(causes[c].title)} for c in book.causes if c in causes],
                })  # fmt: skip
        return out

    async def deliveries(self) -> dict[str, Any]:
        """Messages, undelivered first, and ends we owe servers."""
        store = self.kit.store
        counts = await store.delivery_counts()
        rows, owed = await store.latest_deliveries(), (await store.obligations(only_open=False))[-200:]
        with speaking(self.spoken()):
            return {
                "counts": [{"receiver": r, "state": s, "count": n} for (r, s), n in sorted(counts.items())],
                "rows": [{**item.model_dump(mode="json"), "error": phrase(item.error)} for item in rows],
                "obligations": [{**item.model_dump(mode="json"), "note": phrase(item.note)} for item in owed],
            }

    async def system(self) -> dict[str, Any]:
        """How the daemon itself is."""
        content, now, about = self.kit.content, self.kit.clock(), dict(self.about())
        with speaking(self.spoken()):
            about["missing"] = phrase(about["missing"])
        return {
            "version": __version__, "now": now, "open_incidents": self.watch.open_count,
            "alerts": len(content.rules), "playbooks": len(content.playbooks), "causes": len(content.causes),
            "steps": len(self.kit.steps), "scrape_interval_s": self.kit.scrape_interval_s,
            "data_dir": str(self.kit.data_dir), "max_rung": self.kit.max_rung,
            "without_metrics": sorted(set(self.kit.targets) - set(self.watch.known)), **about,
        }  # fmt: skip


SYMPTOM = {"alert", "since", "value", "threshold", "unit", "summary", "severity", "source"}


def _row(incident: Incident, stage: str, revision: int) -> dict[str, Any]:
    told = [entry.says for entry in incident.timeline if entry.kind == "cause"]
    return {
        "id": incident.id, "state": incident.state, "class": incident.incident_class, "target": incident.target,
        "trouble": trouble(incident),
        "severity": incident.severity.value, "onset_at": incident.onset_at, "opened_at": incident.opened_at,
        "resolved_at": incident.resolved_at, "stage": stage, "revision": revision,
        "cause": phrase(told[-1]) if told else "",
        "alerts": list(dict.fromkeys(s.alert for s in incident.symptoms)),
        "acknowledged": incident.acknowledged.model_dump(mode="json") if incident.acknowledged else None,
    }  # fmt: skip


def _run(incident: Incident, words: Sequence[Opinion]) -> dict[str, Any]:
    """One line of a playbook's last runs."""
    word = next((word for word in words if word.incident == incident.id), None)
    told = [entry.says for entry in incident.timeline if entry.kind == "cause"]
    return {
        "id": incident.id, "target": incident.target, "state": incident.state, "opened_at": incident.opened_at,
        "cause": phrase(told[-1]) if told else "", "right": word.right if word else None,
    }  # fmt: skip


def _step(state: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    item = entry["evidence"]
    kept = ("id", "step", "rung", "outcome", "reason", "started_at", "seconds", "pause_seconds", "bytes")
    reason = phrase(item.get("reason") or "")
    return {**{key: item.get(key) for key in kept}, "reason": reason, "running": state == "started"}


def _in_words(examined: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What doctor found, its reasons in the language spoken."""
    if examined is None:
        return None
    return {**examined, "checks": [{**check, "why": phrase(check["why"])} for check in examined["checks"]]}


def _whereabouts(known: Inventory | None) -> dict[str, Any]:
    if known is None:
        return {"reach": say("ui.reach.nothing"), "processes": 0, "log_file": None, "why_not": ""}
    reach = say("ui.reach.here") if known.local else known.via or say("ui.reach.not")
    return {"reach": reach, "processes": len(known.processes), "log_file": known.log_file,
            "why_not": phrase(known.why_not)}  # fmt: skip


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() and len(text) < 9 else 0
