"""How does `responder notify test` prove that a receiver works? A made-up incident, marked as a test, told to it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import typer
from pydantic import SecretStr

from responder.cli import CONTENT, OK, RUNTIME, configured
from responder.config import Config
from responder.content import ContentRefused, tongue
from responder.model import (
    Disproof,
    Hypothesis,
    Incident,
    Plan,
    Report,
    Severity,
    Status,
    Symptom,
    TimelineEntry,
    Timings,
    Verdict,
)
from responder.notify import Message, build, check
from responder.report import to_json
from responder.words import Language, say, speaking

STAGES = ("first", "resolved")
"""Opened and closed: a pager must not be left ringing."""


def tell_receiver(name: str, file: Path | None) -> int:
    """`responder notify test NAME`."""
    try:
        config = configured(file, {})
        wrong = check({name: config.receivers[name]} if name in config.receivers else {}, config.places, files=True)
        if wrong:
            raise ContentRefused(wrong)
    except (ContentRefused, ValueError) as error:
        typer.echo(str(error), err=True)
        return CONTENT
    if name not in config.receivers:
        known = ", ".join(sorted(config.receivers)) or "none; add one under `receivers:`"
        typer.echo(f"no receiver {name!r} in the configuration; there are: {known}", err=True)
        return CONTENT
    return asyncio.run(_tell(name, config))


async def _tell(name: str, config: Config) -> int:
    notifier = build(name, config.receivers[name])
    language = tongue(str(config.receivers[name].get("language") or config.language))
    receipt, now = "", time.time()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), trust_env=False) as http:
        for stage in STAGES:
            sent = await notifier.send(http, sample(name, stage, now, language, receipt))
            receipt = sent.receipt or receipt
            to = f"{name} ({notifier.kind}{address(notifier)})"
            if sent.outcome != "delivered":
                doubt = " (it may have arrived all the same)" if sent.outcome == "ambiguous" else ""
                later = "" if sent.outcome == "dead" else "; the daemon would try again"
                typer.echo(f"NOT DELIVERED to {to}{doubt}: {sent.reason}{later}", err=True)
                return RUNTIME
            typer.echo(f"{to}: {stage} message delivered" + (f" ({sent.reason})" if sent.reason else ""))
    return OK


def sample(name: str, stage: str, now: float, language: Language, receipt: str = "") -> Message:
    """A message of an incident that never was; every part of it that people read says so."""
    over = stage == "resolved"
    with speaking(language):
        title, says, nothing = say("test.title"), say("test.says", name=name), say("test.nothing")
    symptom = Symptom(alert="ResponderTest", incident_class=title, severity=Severity.INFO, target="TEST", since=now,
                      fired_at=now, summary=says)  # fmt: skip
    incident = Incident(
        id=f"test-{int(now)}", target="TEST", incident_class=title, severity=Severity.INFO,
        state="resolved" if over else "open", onset_at=now, opened_at=now, resolved_at=now if over else None,
        symptoms=(symptom,), timeline=(TimelineEntry(at=now, kind="note", says=title),),
    )  # fmt: skip
    unknown = Hypothesis(cause="unknown", title=title, says=says, status=Status.UNKNOWN, probability=1.0, decibans=0.0,
                         would_disprove=Disproof(says=says))  # fmt: skip
    report = Report(
        revision=1 + over, stage="resolved" if over else "first", incident=incident,
        verdict=Verdict(hypotheses=(unknown,), playbooks=()), evidence=(), plan=Plan(), timings=Timings(),
        generated_at=now,
    )  # fmt: skip
    # Of a report only the form is proven here: its words would speak of an incident.
    body = json.loads(to_json(report, language)) | {"title": title}
    answers = {"broken": title, "since": says}
    for key, answer in body["says"].items():
        answer["lead"], answer["items"] = answers.get(key, nothing), []
    return Message(
        delivery_id=f"{incident.id}.{report.revision}.{name}", incident=incident.id, revision=report.revision,
        stage=report.stage, body=json.dumps(body, ensure_ascii=False).encode(), text=f"{title}\n{says}",
        markdown=f"# {title}\n\n{says}\n", receipt=receipt,
    )  # fmt: skip


def address(notifier: object) -> str:
    """Scheme and host a notifier sends to, where it has a URL: never the path, which may be a secret."""
    given = getattr(getattr(notifier, "settings", None), "url", None)
    url = urlsplit(given.get_secret_value() if isinstance(given, SecretStr) else str(given or ""))
    host = f"{url.hostname}:{url.port}" if url.port else str(url.hostname or "")
    return f", {url.scheme}://{host}" if host else ""
