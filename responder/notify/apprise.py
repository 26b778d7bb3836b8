"""How are all the others told - Teams, Opsgenie, mail, Telegram, ntfy? Through Apprise, one URL per service."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
from pydantic import SecretStr, model_validator

from responder.notify.notifier import Message, Receiver, Sent, one_of, receipt_of, secret_text

KIND = "apprise"
TYPES = {"critical": "failure", "warning": "warning", "info": "info"}
NOT_INSTALLED = "Apprise is not installed: pip install 'vllm-responder[apprise]'"


class AppriseReceiver(Receiver):
    """Apprise URLs, one a line: `msteams://…`, `opsgenie://…`, `mailtos://…`. They are secrets."""

    kind: Literal["apprise"] = "apprise"
    urls: SecretStr | None = None
    urls_file: Path | None = None
    timeout_s: float = 30.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        one_of(self.urls, self.urls_file, "urls")
        if importlib.util.find_spec("apprise") is None:
            raise ValueError(NOT_INSTALLED)
        return self


class AppriseUrls:
    """These services cannot be edited: what is new is told - first, another leading cause, final, resolved."""

    kind = KIND

    def __init__(self, name: str, settings: AppriseReceiver) -> None:
        self.name = name
        self.settings = settings

    async def send(self, http: aiohttp.ClientSession, message: Message) -> Sent:
        """One attempt. Apprise says only whether all went well, so a failure is in doubt."""
        if message.stage == "update" and not message.news:
            return Sent("delivered", "not sent: nothing new for a receiver that cannot edit", receipt=message.receipt)
        try:
            urls = (secret_text(self.settings.urls, self.settings.urls_file) or "").split()
        except OSError as error:
            return Sent("retry", f"urls_file not readable: {error.strerror}", receipt=message.receipt)
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                bad, fine = await asyncio.to_thread(_tell, urls, message)
        except TimeoutError:
            return Sent("ambiguous", f"no answer in {self.settings.timeout_s:g} s", receipt=message.receipt)
        if bad:
            return Sent("dead", f"URL number {bad} is not one that Apprise knows", receipt=message.receipt)
        if not fine:
            return Sent("ambiguous", "Apprise could not tell all of its services", receipt=message.receipt)
        return Sent("delivered", receipt=receipt_of(message.told))


def _tell(urls: list[str], message: Message) -> tuple[int, bool]:
    """(number of the first URL nobody understands, or 0; whether every service took it). Blocks."""
    import apprise

    services: Any = apprise.Apprise()
    for number, url in enumerate(urls, 1):
        if not services.add(url):
            return number, False
    title, _, rest = message.text.partition("\n")
    over = message.stage == "resolved"
    kind = "success" if over else TYPES.get(message.report["incident"]["severity"], "warning")
    return 0, bool(services.notify(title=title, body=rest or title, notify_type=kind, body_format="text"))
