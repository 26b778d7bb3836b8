"""Somebody pressed a button in Slack: is it really Slack that says so, and which button was it?

Over HTTP Slack signs every request; over Socket Mode we have called Slack ourselves. Either way it hears at once that
we have heard; the work is done afterwards, and what came of it is told to the person alone, in that channel.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import structlog
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient

from responder.notify.notifier import secret_text
from responder.notify.slack_api import Pace, Refused, SlackApi
from responder.notify.slack_blocks import escape
from responder.notify.slack_bot import SlackBot
from responder.report_words import clean

log = structlog.get_logger()
Press = Callable[[str, str, str], Awaitable[str]]
"""(button id, who, receiver) -> words for the person."""
WINDOW_S = 300
"""Older requests are replays; Slack's own advice."""
MOST_BODY = 256 << 10
MOST_AT_ONCE = 32
WORK_WITHIN_S = 60.0
LOOK_EVERY_S = 15.0
LOST_LOOKS = 3
FOR_OPERATORS = ("silence", "approve", "deny")
NOT_OPERATOR = "not_operator"
"""What `Press` gets as the button's id when the person may not press it."""


@dataclass(frozen=True)
class Click:
    """Which button, by whom, where."""

    button: str
    action: str
    user: str
    who: str
    channel: str


class Clock:
    """The verifier's idea of a clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock


class Clicks:
    """Everything pressed in the channels of our Slack bots."""

    def __init__(
        self, bots: Callable[[], Mapping[str, SlackBot]], http: aiohttp.ClientSession, press: Press,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.bots, self.http, self.press, self.clock = bots, http, press, clock
        self._seen: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: dict[str, asyncio.Task[None]] = {}

    # ------------------------------------------------------------------------------------------------- over HTTP

    async def posted(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        """Slack's request: HTTP status and words. 200 means heard; the work is done after this has returned."""
        if len(body) > MOST_BODY:
            return 413, "too large"
        known = {name.lower(): value for name, value in headers.items()}
        bot = await asyncio.to_thread(self._signed_for, body, known)
        if bot is None:
            return 401, "not signed by a Slack app of ours, or too old"
        if not self._fresh(known["x-slack-signature"]):
            return 409, "heard already"
        try:
            payload = json.loads(parse_qs(body.decode())["payload"][0])
        except (ValueError, KeyError, IndexError):
            return 400, "no payload"
        return self._accept(bot, payload)

    def _signed_for(self, body: bytes, headers: Mapping[str, str]) -> SlackBot | None:
        stamp = headers.get("x-slack-request-timestamp", "")
        if not stamp.isdigit() or abs(self.clock() - int(stamp)) > WINDOW_S:
            return None
        for bot in self.bots().values():
            try:
                secret = secret_text(bot.settings.signing_secret, bot.settings.signing_secret_file)
            except OSError as error:
                log.error("slack.secret_unreadable", receiver=bot.name, reason=error.strerror)
                continue
            if secret and SignatureVerifier(secret, Clock(self.clock)).is_valid_request(body, dict(headers)):  # type: ignore[arg-type]
                return bot
        return None

    def _fresh(self, signature: str) -> bool:
        """Whether this very request was never heard before; only its window must be remembered."""
        now = self.clock()
        self._seen = {seen: at for seen, at in self._seen.items() if now - at <= 2 * WINDOW_S}
        if signature in self._seen:
            return False
        self._seen[signature] = now
        return True

    # ------------------------------------------------------------------------------------------- over Socket Mode

    def listen(self) -> None:
        """Connect for every bot with an app token; call again after the receivers changed."""
        wanted = {n for n, b in self.bots().items() if b.settings.app_token or b.settings.app_token_file}
        for name in set(self._sockets) - wanted:
            self._sockets.pop(name).cancel()
        for name in wanted:
            if name not in self._sockets or self._sockets[name].done():
                self._sockets[name] = asyncio.create_task(self._keep_listening(name), name=f"slack socket {name}")

    async def stop(self) -> None:
        """Hang up and let go of what is not done yet."""
        tasks = [*self._sockets.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sockets.clear()

    async def _keep_listening(self, name: str) -> None:
        while name in self.bots():
            try:
                await self._listen_once(name, self.bots()[name])
            except Exception as error:  # Slack is outside; a broken line is dialled again
                log.warning("slack.socket_lost", receiver=name, reason=f"{type(error).__name__}: {error}"[:200])
            await asyncio.sleep(LOOK_EVERY_S)

    async def _listen_once(self, name: str, bot: SlackBot) -> None:
        """Until the line is lost: the library dials again itself, but never asks for a new address when one is dead."""
        from slack_sdk.socket_mode.aiohttp import SocketModeClient

        token = await asyncio.to_thread(secret_text, bot.settings.app_token, bot.settings.app_token_file)
        web = AsyncWebClient(base_url=bot.settings.api_url, session=self.http)
        web.proxy = None
        client = SocketModeClient(app_token=token or "", web_client=web, logger=logging.getLogger("slack.socket"))
        client.proxy = None
        client.socket_mode_request_listeners.append(lambda c, request: self._heard(bot, c, request))
        try:
            async with asyncio.timeout(60.0):
                await client.connect()  # type: ignore[no-untyped-call]
            log.info("slack.socket_open", receiver=name)
            lost = 0
            while lost < LOST_LOOKS:
                await asyncio.sleep(LOOK_EVERY_S)
                lost = 0 if await client.is_connected() else lost + 1
            raise ConnectionError("no connection")
        finally:
            await client.close()  # type: ignore[no-untyped-call]

    async def _heard(self, bot: SlackBot, client: Any, request: Any) -> None:
        await client.send_socket_mode_response({"envelope_id": request.envelope_id})
        if request.type == "interactive" and self._fresh(f"envelope {request.envelope_id}"):
            self._accept(bot, request.payload)

    # --------------------------------------------------------------------------------------------------- the work

    def _accept(self, bot: SlackBot, payload: Any) -> tuple[int, str]:
        click = clicked(payload)
        if click is None:
            return 200, ""  # a link button, or something of a later Slack: nothing to do, and nothing wrong
        if len(self._tasks) >= MOST_AT_ONCE:
            return 503, "too much at once"
        task = asyncio.create_task(self._work(bot, click), name=f"click {click.action}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return 200, ""

    async def _work(self, bot: SlackBot, click: Click) -> None:
        allowed = bot.settings.operators
        button = click.button
        if allowed and click.action in FOR_OPERATORS and click.user not in allowed:
            button = NOT_OPERATOR
        try:
            async with asyncio.timeout(WORK_WITHIN_S):
                said = await self.press(button, click.who, bot.name)
                await self._answer(bot, click, said)
        except Refused as refused:
            log.warning("slack.answer_lost", receiver=bot.name, reason=refused.reason)
        except Exception:  # one press must not cost the others; it is loud in the log
            log.exception("slack.click_failed", receiver=bot.name, action=click.action)

    async def _answer(self, bot: SlackBot, click: Click, said: str) -> None:
        ours = bot.settings
        token = await asyncio.to_thread(secret_text, ours.token, ours.token_file)
        api = SlackApi(self.http, token or "", ours.api_url, ours.timeout_s, Pace(0.0), self.clock)
        await api.call("chat_postEphemeral", channel=click.channel or ours.channel, user=click.user, text=escape(said))


def clicked(payload: Any) -> Click | None:
    """The first of our buttons in Slack's block_actions payload; None when there is none."""
    if not isinstance(payload, dict) or payload.get("type") != "block_actions":
        return None
    user = payload.get("user") or {}
    for action in payload.get("actions") or []:
        value = action.get("value") or (action.get("selected_option") or {}).get("value")
        if isinstance(value, str) and value:
            identity = str(user.get("id", ""))
            name = clean(user.get("username") or user.get("name") or identity, 60)
            return Click(
                button=value, action=str(action.get("action_id", "")).partition(".")[0], user=identity,
                who=f"{name} ({identity}, Slack)", channel=str((payload.get("channel") or {}).get("id", "")),
            )  # fmt: skip
    return None
