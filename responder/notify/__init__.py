"""Which kinds of receiver are there? One line each; a test notices a file that is not registered."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import SecretStr, ValidationError

from responder.config_places import Places, path_of
from responder.located import Path
from responder.model import Problem
from responder.notify import alertmanager, apprise, pagerduty, slack_bot, slack_webhook, webhook
from responder.notify.notifier import Message, Notifier, Receiver, Sent
from responder.validation import in_words

__all__ = ["KINDS", "Kind", "Message", "Notifier", "Receiver", "Sent", "build", "check", "doubtful", "known_secrets"]


@dataclass(frozen=True)
class Kind:
    """What an operator may write for this kind, and what it becomes."""

    settings: type[Receiver]
    build: Callable[..., Notifier]
    """(name, settings), and `folder` where it remembers something."""
    remembers: bool = False


NOWHERE = Places()
KINDS: dict[str, Kind] = {
    webhook.KIND: Kind(webhook.WebhookReceiver, webhook.Webhook),
    slack_webhook.KIND: Kind(slack_webhook.SlackWebhookReceiver, slack_webhook.SlackWebhook, remembers=True),
    slack_bot.KIND: Kind(slack_bot.SlackBotReceiver, slack_bot.SlackBot, remembers=True),
    pagerduty.KIND: Kind(pagerduty.PagerDutyReceiver, pagerduty.PagerDuty),
    alertmanager.KIND: Kind(alertmanager.AlertmanagerReceiver, alertmanager.Alertmanager),
    apprise.KIND: Kind(apprise.AppriseReceiver, apprise.AppriseUrls),
}


def build(name: str, settings: Mapping[str, Any], data_dir: FilePath | None = None) -> Notifier:
    """The notifier an operator configured; `check` says in words what is wrong where this raises ValueError."""
    kind = KINDS.get(str(settings.get("kind", webhook.KIND)))
    if kind is None:
        raise ValueError(f"receiver {name}: unknown kind")
    parsed = kind.settings.model_validate(dict(settings))
    if kind.remembers and data_dir is not None:
        return kind.build(name, parsed, folder=data_dir / "digests")
    return kind.build(name, parsed)


def check(
    receivers: Mapping[str, Mapping[str, Any]], places: Places = NOWHERE, *, files: bool = False
) -> tuple[Problem, ...]:
    """Everything wrong with the receivers of a configuration; never repeats a value, it may be a secret.

    files: also those they name must be readable now. A running daemon asks again with every message instead.
    """
    problems: list[Problem] = []
    for name, settings in receivers.items():
        at: Path = ("receivers", name)
        where = f"receivers.{name}"
        kind = KINDS.get(str(settings.get("kind", webhook.KIND)))
        if kind is None:
            known = ", ".join(sorted(KINDS))
            problems.append(places.problem((*at, "kind"), f"{where}.kind: no such kind of receiver", f"one of {known}"))
            continue
        try:
            parsed = kind.settings.model_validate(dict(settings))
            problems += _unreadable(parsed, at, places) if files else []
        except ValidationError as error:
            problems += [_problem(places, at, kind.settings, dict(detail)) for detail in error.errors()]
        other = settings.get("fallback")
        if other and (other == name or other not in receivers):
            others = ", ".join(sorted(set(receivers) - {name})) or "there is no other receiver"
            what = f"{where}.fallback: no other receiver of that name"
            problems.append(places.problem((*at, "fallback"), what, others))
    return tuple(problems)


def _unreadable(parsed: Receiver, at: Path, places: Places) -> Iterator[Problem]:
    """Files of secrets that cannot be read: the message would wait for them, unseen."""
    for field in type(parsed).model_fields:
        value = getattr(parsed, field)
        if isinstance(value, FilePath):
            try:
                value.read_bytes()
            except OSError as error:
                what = f"{'.'.join(map(str, at))}.{field}: {value.absolute()} cannot be read: {error.strerror}"
                yield places.problem((*at, field), what, "nothing is delivered to this receiver until it can")


def doubtful(receivers: Mapping[str, Mapping[str, Any]], places: Places = NOWHERE) -> Iterator[Problem]:
    """Secrets that cannot be what is meant, given themselves or in files. A daemon starts all the same: it says with
    every message that it could not be delivered, and signs with a weak secret as it did before."""
    for name, settings in receivers.items():
        kind = KINDS.get(str(settings.get("kind", webhook.KIND)))
        try:
            parsed = kind.settings.model_validate(dict(settings)) if kind else None
        except ValidationError:
            continue
        for field in type(parsed).model_fields if parsed else ():
            value = getattr(parsed, field)
            try:
                text = value.read_text("utf-8").strip() if isinstance(value, FilePath) else value
            except (OSError, UnicodeDecodeError):
                continue
            text = text.get_secret_value() if isinstance(text, SecretStr) else text
            if isinstance(value, FilePath | SecretStr) and (why := parsed.doubtful(field, text)):  # type: ignore[union-attr]
                what = f"receivers.{name}.{field}: {f'{value}: ' if isinstance(value, FilePath) else ''}{why}"
                yield places.problem(("receivers", name, field), what)


def _problem(places: Places, at: Path, settings: type[Receiver], detail: Mapping[str, Any]) -> Problem:
    path: Path = (*at, *path_of(detail))
    where = ".".join(map(str, path))
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), sorted(settings.model_fields), n=1)
        return places.problem(path, f"unknown key `{where}`", near[0] if near else "remove it", key=True)
    if detail["type"] == "missing":
        return places.problem(path[:-1], f"{where} is missing")
    return places.problem(path, f"{where}: {in_words(detail)}")


def known_secrets(receivers: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Every secret value of the receivers, for the redactor; files that cannot be read are left out."""
    found: list[str] = []
    for name, settings in receivers.items():
        parsed = build(name, settings).settings  # type: ignore[attr-defined]
        for field in type(parsed).model_fields:
            value = getattr(parsed, field)
            if isinstance(value, SecretStr):
                found.append(value.get_secret_value())
            elif isinstance(value, FilePath):
                try:
                    found.append(value.read_text(encoding="utf-8").strip())
                except (OSError, UnicodeDecodeError):
                    continue
    return tuple(secret for secret in found if secret)
