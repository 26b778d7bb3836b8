"""How do we tell a Slack channel as a bot? One message per incident, edited as it develops; the rest in its thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
from pydantic import Field, SecretStr, field_validator, model_validator

from responder.folder import safe_name
from responder.model import Button
from responder.notify.digest import COVERED, Digest
from responder.notify.notifier import Message, Receiver, Sent, one_of, receipt_of, secret_text, web_address
from responder.notify.slack_api import GONE, TOO_BIG, Pace, Refused, SlackApi
from responder.notify.slack_blocks import Block, details, escape, fallback, note, parent, section

KIND = "slack_bot"
EVENT = "responder_incident"
MOST_PAGES = 5
"""Of 200 messages each, in which we look for one of ours."""
MOST_CHARTS = 6
MOST_CHART_BYTES = 5 << 20
CHARTS_DEADLINE_S = 25.0
"""For all charts: a slow upload must not hold up what people are waiting for."""


class SlackBotReceiver(Receiver):
    """A bot token with chat:write and files:write, and the id of a channel the bot is in."""

    kind: Literal["slack_bot"] = "slack_bot"
    token: SecretStr | None = None
    token_file: Path | None = None
    channel: str = Field(pattern=r"^[CGD][A-Z0-9]{6,}$")
    """The id, as the channel's details show it; uploads do not work with names."""
    link: str = ""
    """Where a report can be read, with {id} for the incident: https://responder.example.com/incidents/{id}"""
    charts: bool = True
    digest_over: int = Field(default=5, ge=1)
    digest_within_s: float = Field(default=60.0, gt=0)
    """More new incidents than this within so many seconds share one message, the digest."""
    signing_secret: SecretStr | None = None
    signing_secret_file: Path | None = None
    """Of the Slack app: buttons appear once it (or the app token) is given; their address is /slack/actions."""
    app_token: SecretStr | None = None
    app_token_file: Path | None = None
    """xapp-…, for Socket Mode: buttons without an address Slack can reach."""
    operators: tuple[str, ...] = ()
    """Ids of the Slack users who may silence and allow captures; everybody in the channel when empty."""
    api_url: str = "https://slack.com/api/"

    @field_validator("api_url")
    @classmethod
    def _api(cls, value: str) -> str:
        return web_address(value).rstrip("/") + "/"

    @field_validator("link")
    @classmethod
    def _link(cls, value: str) -> str:
        return web_address(value) if value else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        one_of(self.token, self.token_file, "token")
        for name in ("signing_secret", "app_token"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"give `{name}` or `{name}_file`, not both")
        return self


class SlackBot:
    """What was done stands in the receipt, so that a second attempt goes on where the first one stopped."""

    kind = KIND

    def __init__(
        self, name: str, settings: SlackBotReceiver, clock: Callable[[], float] = time.time, gap_s: float = 1.0,
        folder: Path | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.settings = settings
        path = folder / f"{safe_name(name)}.json" if folder else None
        self.digest = Digest(settings.digest_over, settings.digest_within_s, path)
        self._clock = clock
        self._pace = Pace(gap_s)

    async def send(self, http: aiohttp.ClientSession, message: Message) -> Sent:
        """One attempt."""
        try:
            token = secret_text(self.settings.token, self.settings.token_file)
        except OSError as error:
            return Sent("retry", f"token_file not readable: {error.strerror}", receipt=message.receipt)
        ours = self.settings
        api = SlackApi(http, token or "", ours.api_url, ours.timeout_s, self._pace, self._clock)
        if self.digest.covers(message, self._clock()):
            return await self._in_digest(api, message)
        telling = Telling(api, ours, message)
        try:
            await telling.parent()
            await telling.thread()
            problem = await telling.charts()
        except Refused as refused:
            return Sent(refused.outcome, refused.reason, refused.after, receipt_of(telling.done))
        return Sent("delivered", problem, receipt=receipt_of(telling.done))

    async def _in_digest(self, api: SlackApi, message: Message) -> Sent:
        """Its line in the message of a storm. Told when the message shows it, which one edit does for many."""
        digest, now = self.digest, self._clock()
        digest.take(message)
        receipt = receipt_of({"digest": digest.ts or "to be written", "cause": message.cause})
        if digest.shown(message):
            return Sent("delivered", COVERED, receipt=receipt)
        if not digest.due(now):
            return Sent("retry", "waits for the next edit of the digest", receipt=receipt)
        try:
            ts = await self._write_digest(api, message)
            await asyncio.to_thread(digest.written, ts, now)
            if digest.over_now:
                await self._post(api, [section([escape(digest.ended())], 300)], digest.ended(), thread_ts=ts)
        except Refused as refused:
            if refused.code in GONE:
                digest.ts = ""
                return Sent("retry", refused.reason, receipt=receipt)
            return Sent(refused.outcome, refused.reason, refused.after, receipt)
        return Sent("delivered", COVERED, receipt=receipt_of({"digest": ts, "cause": message.cause}))

    async def _write_digest(self, api: SlackApi, message: Message) -> str:
        digest = self.digest
        blocks, words = digest.blocks(self.settings.link), digest.words()
        if digest.ts:
            await api.call("chat_update", channel=self.settings.channel, ts=digest.ts, blocks=blocks, text=words,
                           safe_to_repeat=True)  # fmt: skip
            return digest.ts
        return str((await self._post(api, blocks, words))["ts"])

    async def _post(self, api: SlackApi, blocks: list[Block], words: str, **more: Any) -> Any:
        return await api.call("chat_postMessage", channel=self.settings.channel, blocks=blocks, text=words, post=True,
                              unfurl_links=False, unfurl_media=False, **more)  # fmt: skip


class Telling:
    """One attempt at one message. `done` is the receipt: ts of the parent, and what is in the thread."""

    def __init__(self, api: SlackApi, settings: SlackBotReceiver, message: Message) -> None:
        self.api = api
        self.settings = settings
        self.message = message
        self.done = dict(message.earlier)
        self.doubtful = False

    async def parent(self) -> None:
        """Edit the incident's message, or post it if there is none."""
        if "ts" not in self.done and self.message.possible_duplicate:
            found = await self._find("conversations_history", "parent", oldest=self._opened())
            if found:
                self.done["ts"] = found
            else:
                self.doubtful = True
        if "ts" in self.done:
            try:
                await self._say("chat_update", self._blocks(), "parent", ts=self.done["ts"], safe_to_repeat=True)
                return
            except Refused as refused:
                if refused.code not in GONE:
                    raise
                # Somebody deleted it: start again, thread included.
                self.done = {}
        answer = await self._say("chat_postMessage", self._blocks(), "parent", post=True)
        self.done["ts"] = str(answer["ts"])

    async def thread(self) -> None:
        """What belongs below the message at this stage; nothing twice."""
        message, stage = self.message, self.message.stage
        before = self.done.get("cause")
        if stage == "update" and before is not None and before != message.cause:
            lead = message.report["says"]["cause"]["lead"]
            await self._reply(f"cause {message.revision}", note(message.report, "slack.cause_now", lead=lead))
        if stage in ("final", "resolved"):
            await self._reply("details", details(message.report))
        if stage == "resolved":
            since = message.report["says"]["since"]["lead"]
            await self._reply("resolved", note(message.report, "slack.resolved", since=since))
        self.done["cause"] = message.cause

    async def charts(self) -> str:
        """Upload the charts once, below the message; '' or why people will not see them."""
        wanted = self.settings.charts and self.message.stage in ("final", "resolved") and self.message.charts
        if not wanted or "charts" in self.done:
            return ""
        try:
            async with asyncio.timeout(CHARTS_DEADLINE_S):
                await self._upload()
        except Refused as refused:
            if refused.code == "ratelimited":  # nothing happened, later is fine
                self.done.pop("charts", None)
                raise
            self.done["charts"] = "failed"
            return f"charts not uploaded: {refused.reason}"
        except TimeoutError:
            self.done["charts"] = "failed"
            return f"charts not uploaded within {CHARTS_DEADLINE_S:.0f} s"
        except OSError as error:
            self.done["charts"] = "failed"
            return f"charts not readable: {error.strerror}"
        return ""

    async def _upload(self) -> None:
        files: list[dict[str, str | None]] = []
        for path in map(Path, self.message.charts[:MOST_CHARTS]):
            content = await asyncio.to_thread(path.read_bytes)
            if not 0 < len(content) <= MOST_CHART_BYTES:
                continue
            place = await self.api.call(
                "files_getUploadURLExternal", filename=path.name, length=len(content), safe_to_repeat=True
            )
            await self.api.upload(str(place["upload_url"]), content)
            files.append({"id": str(place["file_id"]), "title": path.stem.replace("-", " ").replace("_", " ")})
        if not files:
            return
        # From here on a lost answer may hide a success: never a second time.
        self.done["charts"] = "completing"
        await self.api.call(
            "files_completeUploadExternal", files=files, channel_id=self.settings.channel, thread_ts=self.done["ts"]
        )
        self.done["charts"] = "uploaded"

    async def _reply(self, what: str, blocks: list[Block]) -> None:
        if what in self.done or not blocks:
            return
        if self.message.possible_duplicate:
            found = await self._find("conversations_replies", what, ts=self.done["ts"])
            if found:
                self.done[what] = found
                return
        answer = await self._say("chat_postMessage", blocks, what, thread_ts=self.done["ts"], post=True)
        self.done[what] = str(answer["ts"])

    async def _say(self, method: str, blocks: list[Block], what: str, **more: Any) -> Any:
        """Post or edit; if Slack finds the blocks too much, the text alone must do."""
        common: dict[str, Any] = {
            "channel": self.settings.channel,
            "text": fallback(self.message.text),
            "metadata": {"event_type": EVENT, "event_payload": {"incident": self.message.incident, "part": what}},
            **more,
        }
        if method == "chat_postMessage":
            common |= {"unfurl_links": False, "unfurl_media": False}
        try:
            return await self.api.call(method, blocks=blocks, **common)
        except Refused as refused:
            if refused.code not in TOO_BIG:
                raise
            return await self.api.call(method, blocks=[], **common)

    async def _find(self, method: str, part: str, **where: Any) -> str:
        """The ts of a message of ours that an earlier attempt may have posted; '' if there is none to be seen."""
        payload, cursor = {"incident": self.message.incident, "part": part}, ""
        for _ in range(MOST_PAGES):
            try:
                answer = await self.api.call(
                    method, channel=self.settings.channel, limit=200, include_all_metadata=True, safe_to_repeat=True,
                    cursor=cursor or None, **where,
                )  # fmt: skip
            except Refused as refused:
                if refused.outcome == "dead":  # history is not in the bot's scopes: we cannot know
                    return ""
                raise
            for posted in answer.get("messages", []):
                metadata = posted.get("metadata") or {}
                if metadata.get("event_type") == EVENT and metadata.get("event_payload") == payload:
                    return str(posted["ts"])
            cursor = str((answer.get("response_metadata") or {}).get("next_cursor") or "")
            if not cursor:
                break
        return ""

    def _blocks(self) -> list[Block]:
        return parent(self.message.report, self.settings.link, self.doubtful, self._pressable())

    def _pressable(self) -> tuple[Button, ...]:
        """Buttons only where a press reaches us."""
        ours = self.settings
        heard = ours.signing_secret or ours.signing_secret_file or ours.app_token or ours.app_token_file
        return self.message.buttons if heard else ()

    def _opened(self) -> str:
        """Slack's oldest: a minute before the incident was opened."""
        return f"{datetime.fromisoformat(self.message.report['incident']['opened_at']).timestamp() - 60:.6f}"
