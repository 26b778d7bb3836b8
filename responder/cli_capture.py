"""How does one capture by hand run: with which parameters, through the daemon or here? And what did it bring?"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from responder.cli import CONTENT, OK, RUNTIME, configured, log_to_stderr
from responder.cli_captures import hand_of, me, post, target_of
from responder.config import Config
from responder.content import ContentRefused, load, tongue
from responder.model import Target
from responder.report_words import outcome_words, phrase
from responder.spoken_there import spoken_at
from responder.words import say, speaking

FINDS_S = 2.0
"""A daemon of this host answers at once."""
LINES_SHOWN = 8


@dataclass(frozen=True)
class Asked:
    """What was asked for on the command line."""

    target: str
    step: str
    params: Sequence[str]
    playbook: str | None
    playbooks: Sequence[Path]
    config: Path | None
    data_dir: Path | None
    url: str
    token: Path | None
    format: str


def capture(asked: Asked) -> int:
    """`responder capture`: by the running daemon where there is one, else by this process."""
    from responder.capture import STEPS

    log_to_stderr("warning")
    if asked.step not in STEPS:
        typer.echo(f"no step {asked.step!r}; there are: {', '.join(sorted(STEPS))}", err=True)
        return CONTENT
    try:
        config = configured(asked.config, {"data_dir": asked.data_dir})
        chosen = target_of(config, asked.target, asked.config)
        calls = _calls(asked, config)
    except (ContentRefused, ValueError) as error:
        typer.echo(str(error), err=True)
        return CONTENT
    # The configuration's language; without one, that of the daemon whose data directory it is.
    spoken = tongue(config.language) if asked.config else spoken_at(config.data_dir)
    with speaking(spoken):
        codes = [_one(asked, config, chosen, params) for params in calls]
    return max(codes)


# ----------------------------------------------------------------------------------------------- which parameters


def _calls(asked: Asked, config: Config) -> list[dict[str, Any]]:
    """The parameters of each run: as a playbook gives them, with what was given by hand laid over. ValueError."""
    from responder.capture import STEPS

    by_hand = dict(_pair(part) for part in asked.params)
    given: list[Mapping[str, Any]] = [{}]
    if asked.playbook is not None:
        books = load(config.model_copy(update={"playbooks": (*config.playbooks, *asked.playbooks)}), STEPS).playbooks
        book = next((book for book in books if book.id == asked.playbook), None)
        if book is None:
            raise ValueError(f"no playbook {asked.playbook!r}; there are: {', '.join(b.id for b in books)} "
                             "(yours: `--playbooks FOLDER`, or `playbooks:` in the configuration)")  # fmt: skip
        given = [call.params for call in book.ladder if call.step == asked.step]
        if not given:
            steps = ", ".join(dict.fromkeys(call.step for call in book.ladder))
            raise ValueError(f"playbook {book.id} has no step {asked.step!r}; it has {steps}")
    calls = [{**params, **by_hand} for params in given]
    for params in calls:
        try:
            STEPS[asked.step].params.model_validate(params)
        except ValidationError as error:
            raise ValueError(_wrong(asked.step, error)) from None
    return calls


def _wrong(step: str, error: ValidationError) -> str:
    from responder.validation import first_causes, in_words

    lines = [f"step {step}: its parameters are wrong:"]
    for detail in first_causes(error):
        name = ".".join(str(part) for part in detail["loc"])
        lines.append(f"  {f'`{name}`: ' if name else ''}{in_words(detail)}")
    lines.append(f"Take them from a playbook: `--playbook ID --step {step}`, with `--playbooks FOLDER` for yours; "
                 "or give each as `--param 'NAME=VALUE'`, for example --param 'argv=[df, -h]'")  # fmt: skip
    return "\n".join(lines)


def _pair(text: str) -> tuple[str, Any]:
    """`name=value`; a value in brackets or braces is read as YAML, which JSON is, too."""
    from responder.load import parse_yaml

    name, found, value = text.partition("=")
    if not found:
        raise ValueError(f"{text!r}: write name=value")
    if value[:1] in "[{":
        source, problems = parse_yaml(value, f"--param {name}")
        if source is None or problems:
            raise ValueError("; ".join(problem.what for problem in problems))
        return name, source.root.plain()
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


# ------------------------------------------------------------------------------------------------- who does it


def _one(asked: Asked, config: Config, target: Target, params: Mapping[str, Any]) -> int:
    """One run, wherever it can be done."""
    from responder.store_db import StoreRefused
    from responder.store_sqlite import SqliteStore

    body = {"target": target.name, "step": asked.step, "params": params}
    if asked.data_dir is None:
        where = config.data_dir.absolute()
        if not _answers(asked.url):
            typer.echo(say("cli.capture.alone", url=asked.url, folder=where), err=True)
        else:
            status, said = post(f"{asked.url}/api/v1/captures", asked.token, body, timeout=180.0)
            if status != 404:
                return _daemon_said(asked, status, said)
            typer.echo(say("cli.capture.unwatched", url=asked.url, target=target.name, folder=where), err=True)
    store = SqliteStore(config.data_dir)
    try:
        store.open()
    except StoreRefused:  # a daemon holds the data directory
        return _daemon_said(asked, *post(f"{asked.url}/api/v1/captures", asked.token, body, timeout=180.0))
    try:
        return asyncio.run(_alone(config, store, target, asked.step, params, asked.format))
    finally:
        store.close()


def _answers(url: str) -> bool:
    """Whether a daemon of ours is there: any HTTP answer of its health page."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/healthz", timeout=FINDS_S):
            return True
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code in (401, 403, 503)
    except (OSError, ValueError):
        return False


def _daemon_said(asked: Asked, status: int, said: str) -> int:
    if status != 200:
        typer.echo(say("cli.capture.refused", url=asked.url, said=phrase(said)), err=True)
        return RUNTIME
    answer = json.loads(said)
    return _said(answer["evidence"], answer["folder"], asked.format)


async def _alone(config: Config, store: Any, target: Target, step: str, params: Mapping[str, Any], format: str) -> int:
    from responder.allowance import Allowance
    from responder.byhand import capture as run
    from responder.obligations import Obligations

    async with hand_of(config, target) as hand:
        keys = {t.name: t.api_key.get_secret_value() for t in (target, *config.watched()) if t.api_key}
        duties = Obligations(store, hand.http, config.data_dir / "obligations", keys=lambda: keys)
        await duties.restore()
        targets = {t.name: t for t in (*config.watched(), target)}
        # Nobody has watched the replicas: whoever asks by hand answers for the last one.
        lenient = target.model_copy(update={"capture": _lenient(target)})
        allowance = Allowance(store, time.time, lambda: targets, lambda: (), dict)
        try:
            from dataclasses import replace

            mine = replace(hand, duties=duties, allowance=allowance, audit=store.add_audit, who=f"{me()}, by hand")
            item, folder = await run(mine, lenient, step, params)
        finally:
            await duties.stop(patience_s=20.0)
    return _said(json.loads(item.model_dump_json()), str(folder), format)


def _lenient(target: Target) -> Any:
    from responder.model import CapturePolicy

    return (target.capture or CapturePolicy()).model_copy(update={"last_replica": True})


# ------------------------------------------------------------------------------------------------ what it brought


def _said(item: Mapping[str, Any], folder: str, format: str) -> int:
    if format == "json":
        typer.echo(json.dumps({"evidence": item, "folder": folder}, indent=1))
        return _code(item)
    reason = say("cli.capture.reason", reason=phrase(item["reason"])) if item["reason"] else ""
    ended = outcome_words(item["outcome"])
    typer.echo(say("cli.capture", step=item["step"], ended=ended, reason=reason, seconds=f"{item['seconds']:.1f}",
                   bytes=item["bytes"]))  # fmt: skip
    if item.get("cost"):
        typer.echo(say("cli.capture.cost", says=phrase(item["cost"]["says"])))
    for line in _printed(item, Path(folder)):
        typer.echo(line)
    for fact in item["facts"][:40]:
        given = fact["value"]
        small = isinstance(given, float) and abs(given) < 1000 and not given.is_integer()
        shown = f"{given:.6g}" if small else given
        value = say("cli.not_known") if shown is None else f"{shown} {fact['unit']}".rstrip()
        typer.echo(f"  {fact['name']} = {value} {fact['subject']}".rstrip())
    typer.echo(say("cli.capture.files", folder=folder))
    return _code(item)


def _code(item: Mapping[str, Any]) -> int:
    """Also what brought less than it could is of use; of a command `partial` says that it failed."""
    from responder.capture import command

    good = ("ok",) if item["step"] == command.STEP.name else ("ok", "partial")
    return OK if item["outcome"] in good else RUNTIME


def _printed(item: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Of a command: what it printed, and why a fact got no value. Nothing where the daemon's files are elsewhere."""
    from responder.capture import command
    from responder.folder import IncidentFolder

    if item["step"] != command.STEP.name:
        return
    output = IncidentFolder(folder).read_raw(item["id"]).get(command.OUTPUT)
    if output is None:
        return
    text = output.decode("utf-8", "replace")
    lines = text.splitlines()
    yield say("cli.capture.printed" if lines else "cli.capture.silent")
    yield from (f"  | {''.join(c if c.isprintable() else '?' for c in line[:160])}" for line in lines[:LINES_SHOWN])
    if len(lines) > LINES_SHOWN:
        yield say("cli.capture.lines", count=len(lines) - LINES_SHOWN)
    for parser in command.CommandParams.model_validate(item["params"]).facts:
        if why := command.why_nothing(parser, text):
            yield say("cli.capture.no_value", fact=parser.fact, why=why)
