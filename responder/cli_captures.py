"""How do the commands about captures do their work: doctor, plan, approve, deny? (`cli_capture.py`: one by hand.)"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import typer

from responder.cli import CONTENT, OK, RUNTIME, configured
from responder.config import Config
from responder.content import ContentRefused, load, tongue
from responder.datadir import DEFAULT, why_not_read
from responder.model import Target
from responder.spoken_there import spoken_at
from responder.words import say, speaking, told


def doctor(target: str, file: Path | None, format: str, ask: bool = False) -> int:
    """`responder doctor`."""
    from responder.byhand import answers, table
    from responder.byhand import doctor as examine

    try:
        config = configured(file, {})
        chosen = target_of(config, target, file)
    except (ContentRefused, ValueError) as error:
        typer.echo(str(error), err=True)
        return CONTENT

    async def run() -> tuple[bool, Any]:
        async with hand_of(config, chosen) as hand:
            return await answers(hand, chosen), await examine(hand, chosen, ask=ask)

    up, checks = asyncio.run(run())
    if not up:
        with speaking(tongue(config.language)):
            typer.echo(say("cli.silent", url=chosen.url), err=True)
    with speaking(tongue(config.language)):
        typer.echo(json.dumps([vars(c) for c in checks], indent=1) if format == "json" else table(checks))
    return OK if up else RUNTIME


def plans(book: str | None, targets: list[str], file: Path | None) -> int:
    """`responder plan` and `responder run --dry-run`: what would run; nothing is done."""
    from responder.byhand import dry_run
    from responder.capture import STEPS
    from responder.inventory import is_local
    from responder.model import CapturePolicy
    from responder.plan import Budget

    try:
        config = configured(file, {"target": targets} if targets else {})
        content = load(config, STEPS)
    except ContentRefused as error:
        typer.echo(str(error), err=True)
        return CONTENT
    books = [b for b in content.playbooks if book in (None, b.id, b.incident_class)]
    if not books:
        typer.echo(f"no playbook {book!r}; there are: {', '.join(b.id for b in content.playbooks)}", err=True)
        return CONTENT
    reached = {part.name or urlsplit(part.url).netloc for part in config.targets if part.node or part.where != "local"}
    with speaking(tongue(config.language)):
        anybody = Target(name=say("cli.plan.any"), url="http://127.0.0.1:8000")
    for target in config.watched() or (anybody,):
        away = target.name not in reached and not is_local(urlsplit(target.url).hostname or "")
        policy = target.capture or CapturePolicy()
        budget = Budget(max_rung=policy.max_rung, pause_s=policy.pause, canary=target.canary,
                        must_ask=frozenset(policy.approve), heavy_left=policy.heavy_per_hour)  # fmt: skip
        with speaking(tongue(config.language)):
            for one in books:
                typer.echo(dry_run(one, STEPS, target, budget, away=away))
    return OK


def acknowledge(incident: str, who: str | None, url: str, token: Path | None) -> int:
    """`responder acknowledge`."""
    name = who or me()
    status, said = post(f"{url}/api/v1/incidents/{incident}/acknowledge", token, {"who": name}, timeout=10.0)
    if status != 200:
        hint = say("cli.not_taken.token") if status in (401, 403) else ""
        typer.echo(say("cli.not_taken", why=said, hint=hint), err=True)
        return RUNTIME
    typer.echo(json.loads(said)["says"])
    return OK


def decide(incident: str, step: str, approve: bool, who: str | None, data_dir: Path | None) -> int:
    """`responder approve` and `responder deny`: a file the daemon reads within a second."""
    from responder.approvals import ApprovalRefused, Approvals

    if why := why_not_read(data_dir or DEFAULT):
        typer.echo(why, err=True)
        return RUNTIME
    approvals = Approvals((data_dir or DEFAULT) / "approvals")
    name = who or me()
    try:
        item = approvals.decide(incident, step, approve=approve, who=name, now=time.time())
    except ApprovalRefused as error:
        with speaking(spoken_at(data_dir or DEFAULT)):
            typer.echo(told(str(error)), err=True)
        return CONTENT
    with speaking(spoken_at(data_dir or DEFAULT)):
        typer.echo(say("cli.decided", step=item.step, incident=item.incident, target=item.target, who=item.who,
                       decision=say(f"cli.decision.{item.decision}")))  # fmt: skip
    return OK


def me() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


@asynccontextmanager
async def hand_of(config: Config, target: Target) -> Any:
    from responder import inventory
    from responder.byhand import Hand
    from responder.capture import STEPS
    from responder.runner import LocalRunner

    found = await inventory.discover(target, time.time())
    secrets = tuple(v for v in ([target.api_key.get_secret_value()] if target.api_key else []) if len(v) >= 4)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), trust_env=False) as http:
        yield Hand(
            steps=STEPS, http=http, runner=LocalRunner(), data_dir=config.data_dir, inventories={target.name: found},
            siblings=config.watched(), secrets=secrets,
        )  # fmt: skip


def target_of(config: Config, wanted: str, file: Path | None) -> Target:
    """A configured target by name or URL; a URL that is not configured is one with all defaults."""
    for target in config.watched():
        if wanted.rstrip("/") in (target.name, target.url):
            return target
    if "://" not in wanted:
        raise ValueError(f"no target {wanted!r} in {file or 'the configuration'}; give its URL")
    return configured(None, {"target": [wanted]}).watched()[0]


def post(url: str, token: Path | None, body: Mapping[str, Any], timeout: float) -> tuple[int, str]:
    """(status, body) of the daemon's answer; (0, why in words) where there is none."""
    why: object
    try:
        return _post(url, token, body, timeout)
    except urllib.error.URLError as error:
        why = getattr(error.reason, "strerror", None) or error.reason
    except TimeoutError:
        why = f"no answer in {timeout:g} s"
    except (OSError, ValueError) as error:
        if file := getattr(error, "filename", None):
            return 0, f"--token-file {file}: {getattr(error, 'strerror', error)}"
        why = error
    return 0, f"no daemon answers at {url.partition('/api/')[0]} ({why}); say where with --url, or RESPONDER_URL"


def _post(url: str, token: Path | None, body: Mapping[str, Any], timeout: float) -> tuple[int, str]:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    secret = token.read_text().strip() if token else os.environ.get("RESPONDER_TOKEN", "")
    if secret:
        request.add_header("Authorization", f"Bearer {secret}")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode(errors="replace").strip()
