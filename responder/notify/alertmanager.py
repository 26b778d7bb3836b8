"""How does an Alertmanager get our incidents? As alerts of its API v2: it groups, silences and routes them further."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
from pydantic import Field, SecretStr, field_validator, model_validator

from responder.notify.notifier import Message, Receiver, Sent, link_to, post_json, secret_text, utc, web_address
from responder.report_words import clean

KIND = "alertmanager"
ALERT = "VLLMIncident"
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""Alertmanager refuses an alert that has a label of another name."""


class AlertmanagerReceiver(Receiver):
    """`url` is Alertmanager's own, without /api/v2/alerts. Give every instance of a cluster a receiver of its own."""

    kind: Literal["alertmanager"] = "alertmanager"
    url: str
    bearer_token: SecretStr | None = None
    bearer_token_file: Path | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    """Added to every alert, for its routes."""
    link: str = ""
    lasts_s: float = Field(default=24 * 3600.0, ge=300)
    """An open incident ends by itself there after this long without a word from us."""

    @field_validator("url", "link")
    @classmethod
    def _url(cls, value: str) -> str:
        return web_address(value).rstrip("/") if value else value

    @field_validator("labels")
    @classmethod
    def _labels(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = [name for name in value if not LABEL.fullmatch(name)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no label name: letters, digits and _, not a digit first")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bearer_token is not None and self.bearer_token_file is not None:
            raise ValueError("give `bearer_token` or `bearer_token_file`, not both")
        return self


class Alertmanager:
    """Labels say which incident it is, and so every attempt may be repeated."""

    kind = KIND

    def __init__(self, name: str, settings: AlertmanagerReceiver, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self.settings = settings
        self._clock = clock

    async def send(self, http: aiohttp.ClientSession, message: Message) -> Sent:
        """One attempt."""
        ours = self.settings
        try:
            token = secret_text(ours.bearer_token, ours.bearer_token_file)
        except OSError as error:
            return Sent("retry", f"bearer_token_file not readable: {error.strerror}", receipt=message.receipt)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = [alert(message, self._clock(), ours)]
        sent = await post_json(http, f"{ours.url}/api/v2/alerts", body, ours.timeout_s, self._clock, headers)
        return Sent("retry" if sent.outcome == "ambiguous" else sent.outcome, sent.reason, sent.retry_after_s)


def alert(message: Message, now: float, settings: AlertmanagerReceiver) -> dict[str, Any]:
    """The incident as one alert. Its labels never change, or Alertmanager would take it for another one."""
    report, incident = message.report, message.report["incident"]
    over = message.stage == "resolved" and incident["resolved_at"]
    found: dict[str, Any] = {
        "labels": {
            **settings.labels,
            "alertname": ALERT,
            "incident": clean(message.incident, 128),
            "target": clean(incident["target"], 128),
            "job": "responder",
        },
        "annotations": {
            "summary": clean(report["title"], 1000),
            "severity": incident["severity"],
            "class": incident["class"],
            "description": message.text[:1000],
        },
        "startsAt": incident["onset_at"],
        "endsAt": incident["resolved_at"] if over else utc(now + settings.lasts_s).isoformat(),
    }
    if settings.link:
        found["generatorURL"] = link_to(settings.link, message.incident)
    return found
