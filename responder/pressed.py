"""A person has pressed a button: does it still count, and what does it do? Everything is checked anew here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from responder.approvals import ApprovalRefused
from responder.buttons import Buttons
from responder.case import Kit
from responder.datadir import SILENCES
from responder.model import Acknowledged, Button, Incident, Silence, TimelineEntry
from responder.notify.slack_clicks import NOT_OPERATOR
from responder.report_words import duration, phrase
from responder.respond import Responder
from responder.safety import Safety
from responder.silence_files import write_silence
from responder.words import ENGLISH, Language, say, speaking

log = structlog.get_logger()
Judge = Callable[[str, str, bool, str, str, str], Awaitable[str]]
"""(incident, cause, right, who, what it was instead, note) -> '' when it counts, else why not."""


class Refused(ValueError):
    """The press does not count; the message says why, in the language spoken."""


class Pressed:
    """What every way to press - Slack, the web pages, the command line - does with a press."""

    def __init__(self, kit: Kit, responder: Responder, safety: Safety, judge: Judge | None = None) -> None:
        self.kit, self.responder, self.safety, self.judge = kit, responder, safety, judge

    async def press(self, button_id: str, who: str, language: Language) -> str:
        """Do what the button means, and say what was done or why not. Never raises for a press that does not count."""
        with speaking(language):
            if button_id == NOT_OPERATOR:
                return say("press.not_operator")
            button = await asyncio.to_thread(self._buttons.meant, button_id)
            if button is None:
                return say("press.unknown")
            try:
                said = await self.do(button, who)
            except Refused as refused:
                said = str(refused)
        log.info("button.pressed", incident=button.incident, action=button.action, step=button.step, who=who)
        return said

    @property
    def _buttons(self) -> Buttons:
        return Buttons(self.kit.data_dir / "buttons")

    async def do(self, button: Button, who: str, note: str = "") -> str:
        """One action; `note` is kept with a word on a cause. Refused in words."""
        if button.action == "acknowledge":
            return await self.acknowledge(button.incident, who)
        if button.action == "silence":
            return await self.silence(button, who)
        if button.action in ("approve", "deny"):
            return await self._decide(button, who)
        if self.judge is None:
            raise Refused(say("press.no_verdicts"))
        why_not = await self.judge(button.incident, button.cause, button.action == "right", who, button.truth, note)
        if why_not:
            raise Refused(say("press.refused", why=phrase(why_not)))
        verdict = f"{who} says the cause {button.cause} is {button.action}"
        verdict += f", it was {button.truth}" if button.truth else ""
        self.responder.tell(button.incident, self._entry(verdict))
        key = "press.wrong_was" if button.truth else f"press.{button.action}"
        return say(key, cause=button.cause, truth=button.truth)

    async def acknowledge(self, incident: str, who: str) -> str:
        """Somebody takes an incident. Refused when it is over, unknown, or somebody has it already."""
        known = await self._open(incident)
        if known.acknowledged:
            at = datetime.fromtimestamp(known.acknowledged.at, UTC)
            raise Refused(say("press.taken", who=known.acknowledged.who, at=f"{at:%H:%M:%S}"))
        taken = Acknowledged(who=who.strip()[:80], at=self.kit.clock())
        entry = self._entry(f"acknowledged by {taken.who}")
        self.responder.tell(incident, entry, acknowledged=taken)
        self.safety.remember(incident, entry, taken)
        changed = known.model_copy(update={"acknowledged": taken, "timeline": (*known.timeline, entry)})
        await self.kit.store.save_incident(changed)
        return say("press.acknowledged")

    async def silence(self, button: Button, who: str) -> str:
        """Open nothing for this server for a while; the incident that is open goes on."""
        now = self.kit.clock()
        silence = Silence(
            id=button.id.replace(".", "-") or f"{button.incident}-{int(button.seconds)}",
            match={"target": re.escape(button.target)}, starts_at=now, ends_at=now + button.seconds,
            comment=f"{who}, from incident {button.incident}"[:200],
        )  # fmt: skip
        await asyncio.to_thread(write_silence, self.kit.data_dir / SILENCES, silence)
        with speaking(ENGLISH):  # a timeline is kept in English, and told in whatever language it is read in
            length = duration(button.seconds)
        self.responder.tell(button.incident, self._entry(f"silenced for {length} by {who}"))
        until = f"{datetime.fromtimestamp(silence.ends_at, UTC):%H:%M:%S}"
        return say("press.silenced", target=button.target, until=until)

    async def _decide(self, button: Button, who: str) -> str:
        """An answer about a capture; what was true when the button was shown is no reason to run anything now."""
        approve = button.action == "approve"
        if approve and self.kit.firing is not None and not self.kit.firing(button.incident):
            raise Refused(say("press.calm", step=button.step))
        try:
            await self.safety.decide(button.incident, button.step, approve, who)
        except ApprovalRefused as refused:
            raise Refused(say("press.refused", why=phrase(refused))) from None
        return say(f"press.{button.action}", step=button.step)

    async def _open(self, incident: str) -> Incident:
        case = self.responder.incident(incident)
        if case is not None and case.state == "open":
            return case
        raise Refused(say("press.over"))

    def _entry(self, says: str) -> TimelineEntry:
        return TimelineEntry(at=self.kit.clock(), kind="action", says=says)
