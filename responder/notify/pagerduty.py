"""How does PagerDuty get our incidents? Events API v2: one alert per incident, triggered, acknowledged, resolved."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
from pydantic import SecretStr, field_validator, model_validator

from responder.notify.notifier import (
    Message,
    Receiver,
    Sent,
    link_to,
    one_of,
    post_json,
    secret_text,
    web_address,
)
from responder.report_words import clean

KIND = "pagerduty"
MOST_SUMMARY = 1024
MOST_DETAIL = 2000
MOST_KEY = 255
SEVERITIES = {"critical": "critical", "warning": "warning", "info": "info"}


class PagerDutyReceiver(Receiver):
    """The integration key of an Events API v2 integration."""

    kind: Literal["pagerduty"] = "pagerduty"
    routing_key: SecretStr | None = None
    routing_key_file: Path | None = None
    url: str = "https://events.pagerduty.com/v2/enqueue"
    """The EU service region has https://events.eu.pagerduty.com/v2/enqueue."""
    link: str = ""

    @field_validator("url", "link")
    @classmethod
    def _url(cls, value: str) -> str:
        return web_address(value) if value else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        one_of(self.routing_key, self.routing_key_file, "routing_key")
        return self


class PagerDuty:
    """The incident's id is the dedup key, so every attempt may be repeated."""

    kind = KIND

    def __init__(self, name: str, settings: PagerDutyReceiver, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self.settings = settings
        self._clock = clock

    async def send(self, http: aiohttp.ClientSession, message: Message) -> Sent:
        """One attempt. An incident somebody has taken is acknowledged there, too."""
        try:
            key = secret_text(self.settings.routing_key, self.settings.routing_key_file) or ""
        except OSError as error:
            return Sent("retry", f"routing_key_file not readable: {error.strerror}", receipt=message.receipt)
        timeout = self.settings.timeout_s
        for body in events(message, key, self.settings.link):
            sent = await post_json(http, self.settings.url, body, timeout, self._clock)
            if sent.outcome != "delivered":
                # The dedup key makes one alert of any number of attempts: there is no doubt to carry on.
                return Sent("retry" if sent.outcome == "ambiguous" else sent.outcome, sent.reason, sent.retry_after_s)
        return Sent("delivered")


def events(message: Message, routing_key: str, link: str = "") -> list[dict[str, Any]]:
    """The events of one message: trigger (an update is a trigger again), then acknowledge if taken; or resolve."""
    incident = message.report["incident"]
    common = {"routing_key": routing_key, "dedup_key": message.incident[:MOST_KEY]}
    if message.stage == "resolved":
        return [{**common, "event_action": "resolve"}]
    says = message.report["says"]
    # Nothing is markup there: code spans lose their marks, and a text that is too long says that it was cut.
    details = {
        key: clean(" ".join([answer["lead"], *answer["items"]]).replace("`", ""), MOST_DETAIL)
        for key, answer in says.items()
    }
    trigger: dict[str, Any] = {
        **common,
        "event_action": "trigger",
        "client": "responder",
        "payload": {
            "summary": clean(message.report["title"], MOST_SUMMARY),
            "source": clean(incident["target"], 255),
            "severity": SEVERITIES.get(incident["severity"], "error"),
            "timestamp": incident["onset_at"],
            "component": clean(incident["target"], 255),
            "group": clean(incident["target"], 255),
            "class": incident["class"],
            "custom_details": details,
        },
    }
    if link:
        trigger["links"] = [{"href": link_to(link, message.incident), "text": "report"}]
    return [trigger, {**common, "event_action": "acknowledge"}] if incident.get("acknowledged") else [trigger]
