"""Which kinds of receiver are there? One line each; a test notices a file that is not registered."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from responder.model import Problem
from responder.notify import alertmanager, apprise, pagerduty, slack_bot, slack_webhook, webhook
from responder.notify.notifier import Message, Notifier, Receiver, Sent

__all__ = ["KINDS", "Kind", "Message", "Notifier", "Receiver", "Sent", "build", "check", "known_secrets"]


@dataclass(frozen=True)
class Kind:
    """What an operator may write for this kind, and what it becomes."""

    settings: type[Receiver]
    build: Callable[..., Notifier]
    """(name, settings), and `folder` where it remembers something."""
    remembers: bool = False


KINDS: dict[str, Kind] = {
    webhook.KIND: Kind(webhook.WebhookReceiver, webhook.Webhook),
    slack_webhook.KIND: Kind(slack_webhook.SlackWebhookReceiver, slack_webhook.SlackWebhook, remembers=True),
    slack_bot.KIND: Kind(slack_bot.SlackBotReceiver, slack_bot.SlackBot, remembers=True),
    pagerduty.KIND: Kind(pagerduty.PagerDutyReceiver, pagerduty.PagerDuty),
    alertmanager.KIND: Kind(alertmanager.AlertmanagerReceiver, alertmanager.Alertmanager),
    apprise.KIND: Kind(apprise.AppriseReceiver, apprise.AppriseUrls),
}


def build(name: str, settings: Mapping[str, Any], data_dir: Path | None = None) -> Notifier:
    """The notifier an operator configured; `check` says in words what is wrong where this raises ValueError."""
    kind = KINDS.get(str(settings.get("kind", webhook.KIND)))
    if kind is None:
        raise ValueError(f"receiver {name}: unknown kind")
    parsed = kind.settings.model_validate(dict(settings))
    if kind.remembers and data_dir is not None:
        return kind.build(name, parsed, folder=data_dir / "digests")
    return kind.build(name, parsed)


def check(receivers: Mapping[str, Mapping[str, Any]], file: str = "") -> tuple[Problem, ...]:
    """Everything wrong with the receivers of a configuration; never repeats a value, it may be a secret."""
    problems: list[Problem] = []
    for name, settings in receivers.items():
        where = f"receivers.{name}"
        kind = KINDS.get(str(settings.get("kind", webhook.KIND)))
        if kind is None:
            known = ", ".join(sorted(KINDS))
            problems.append(Problem(file=file, what=f"{where}.kind: no such kind of receiver", instead=known))
            continue
        try:
            kind.settings.model_validate(dict(settings))
        except ValidationError as error:
            problems += [_problem(file, where, kind.settings, dict(detail)) for detail in error.errors()]
        other = settings.get("fallback")
        if other and (other == name or other not in receivers):
            others = ", ".join(sorted(set(receivers) - {name})) or "there is no other receiver"
            problems.append(Problem(file=file, what=f"{where}.fallback: no other receiver of that name",
                                    instead=others))  # fmt: skip
    return tuple(problems)


def _problem(file: str, where: str, settings: type[Receiver], detail: Mapping[str, Any]) -> Problem:
    path = ".".join([where, *(str(part) for part in detail["loc"])])
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), sorted(settings.model_fields), n=1)
        return Problem(file=file, what=f"unknown key `{path}`", instead=near[0] if near else "remove it")
    return Problem(file=file, what=f"{path}: {str(detail['msg']).removeprefix('Value error, ')}")


def known_secrets(receivers: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Every secret value of the receivers, for the redactor; files that cannot be read are left out."""
    found: list[str] = []
    for name, settings in receivers.items():
        parsed = build(name, settings).settings  # type: ignore[attr-defined]
        for field in type(parsed).model_fields:
            value = getattr(parsed, field)
            if isinstance(value, SecretStr):
                found.append(value.get_secret_value())
            elif isinstance(value, Path):
                try:
                    found.append(value.read_text(encoding="utf-8").strip())
                except (OSError, UnicodeDecodeError):
                    continue
    return tuple(secret for secret in found if secret)
