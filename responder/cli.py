"""How does each command do its work? Exit 0 ok, 1 runtime, 2 something an operator wrote is wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
import typer

from responder.config import Config, Locate, parse, salvaged, seconds
from responder.content import ContentRefused, shipped
from responder.datadir import DEFAULT, SILENCES, why_not_read, why_not_written
from responder.model import Problem, Silence
from responder.report_words import named
from responder.spoken_there import spoken_at
from responder.terminal import show_markdown
from responder.words import say, speaking

OK, RUNTIME, CONTENT = 0, 1, 2
SWITCH_S = 0.001
"""How long a thread that computes keeps the loop waiting: large answers are taken apart on several at once."""


# ------------------------------------------------------------------------------------------------- configuration


def configured(file: Path | None, flags: Mapping[str, Any]) -> Config:
    """The configuration file with the flags laid over it. ContentRefused with every problem."""
    config, _, found = read(file, flags)
    if config is None:
        raise ContentRefused(found)
    return config


def read(file: Path | None, flags: Mapping[str, Any]) -> tuple[Config | None, Config, tuple[Problem, ...]]:
    """(the configuration, or None when anything in it is wrong; what of it is right; every problem)."""
    from responder.config_paths import anchored
    from responder.load import load_source

    source = None
    if file is not None:
        source, problems = load_source(file)
        if source is None or problems:
            return None, Config(), problems
    plain = source.root.plain() if source else None
    written = anchored(plain, file) if file is not None and isinstance(plain, dict) else {}
    tree = _laid_over(written, flags)
    name = "command line" if file is None else str(file)
    locate: Locate = _nowhere if source is None else source.locate
    config, found = parse(tree, name, locate, source)
    return config, config or salvaged(tree, name, locate, source), found


def _laid_over(tree: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    if flags.get("target"):
        known = {t.get("url", "").rstrip("/"): t for t in tree.get("targets", []) if isinstance(t, dict)}
        tree["targets"] = [known.get(url.rstrip("/"), {"url": url}) for url in flags["target"]]
    if flags.get("prometheus"):
        tree["prometheus"] = {**tree.get("prometheus", {}), "url": flags["prometheus"]}
    if flags.get("webhook"):
        receivers = dict(tree.get("receivers") or {})
        receivers["webhook"] = {**receivers.get("webhook", {}), "kind": "webhook", "url": flags["webhook"]}
        tree["receivers"] = receivers
    if flags.get("data_dir"):
        tree["data_dir"] = str(flags["data_dir"])
    if flags.get("database"):
        tree["database"] = flags["database"]
        tree.pop("database_file", None)
    if flags.get("listen"):
        tree["http"] = {**tree.get("http", {}), "listen": flags["listen"]}
    return tree


def _nowhere(_: tuple[str | int, ...]) -> tuple[int, int]:
    return 0, 0


def refused(work: Callable[[], int]) -> int:
    """Run a command; what an operator wrote wrong is told in words."""
    try:
        return work()
    except (ContentRefused, ValueError) as error:
        typer.echo(str(error), err=True)
        return CONTENT


# --------------------------------------------------------------------------------------------------------- daemon


def daemon(file: Path | None, flags: Mapping[str, Any], level: str) -> int:
    """`responder run`."""
    log_to_stderr(level)
    from responder.app import load_all
    from responder.cli_check import doubtful
    from responder.notify import check as check_receivers

    def load() -> Any:
        config = configured(file, flags)
        wrong = check_receivers(config.receivers, config.places)
        if wrong:
            raise ContentRefused(wrong)
        loaded = load_all(config)
        for doubt in doubtful(config, loaded.content):
            structlog.get_logger().warning("configuration.doubtful", file=doubt.file, line=doubt.line, what=doubt.what)
        return loaded

    try:
        loaded = load()
    except ContentRefused as error:
        typer.echo(str(error), err=True)
        return CONTENT
    if not loaded.targets:
        typer.echo("no target: give --target http://host:8000, or `targets:` in the configuration", err=True)
        return CONTENT
    return asyncio.run(_serve(loaded, load))


async def _serve(loaded: Any, load: Any) -> int:
    from responder.app import App
    from responder.prometheus_child import PrometheusMissing
    from responder.store_db import StoreRefused

    try:
        app = App(loaded, load)
    except StoreRefused as error:
        typer.echo(f"cannot start: {error}", err=True)
        return RUNTIME
    sys.setswitchinterval(SWITCH_S)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stopped.set)
    reloads: set[asyncio.Task[str]] = set()  # the loop itself keeps only weak references to tasks

    def reload() -> None:
        reloads.add(task := loop.create_task(app.reload()))
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        starting = asyncio.create_task(app.start())
        ended = asyncio.create_task(app.stopped.wait())
        await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        else:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        await ended
        return OK
    except (PrometheusMissing, StoreRefused, RuntimeError, OSError) as error:
        typer.echo(f"cannot start: {error}", err=True)
        return RUNTIME
    finally:
        await app.stop()


def log_to_stderr(level: str) -> None:
    number = getattr(logging, level.upper(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # APScheduler says through the standard logger when a round was skipped because the last one still ran.
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format='{"event":"library","says":"%(message)s"}')


# ---------------------------------------------------------------------------------------------------------- rules


def print_rules(scrape_interval: str) -> int:
    """`responder rules`: the shipped files as one, for another Prometheus."""
    from responder.capture import STEPS
    from responder.content import load
    from responder.pace import fitted
    from responder.rules import widen

    every = seconds(scrape_interval)
    if not isinstance(every, float) or every <= 0:
        raise ValueError(f"--scrape-interval {scrape_interval}: write a duration such as 15s")
    waits = {rule.alert: rule.for_s for rule in fitted(load(Config(), STEPS), every).rules}
    out, alert = ["groups:"], ""
    for path in sorted(shipped("rules").glob("*.yaml")):
        body = path.read_text().split("groups:", 1)[1]
        for line in re.sub(r"\[[^\]]+\]", lambda got: widen(got[0], every), body).strip("\n").splitlines():
            alert = got[1] if (got := re.match(r"\s*- alert: (\w+)", line)) else alert
            out.append(re.sub(r"^(\s+for: ).+$", lambda got: f"{got[1]}{round(waits[alert])}s", line))  # noqa: B023
    typer.echo("\n".join(out))
    return OK


# ------------------------------------------------------------------------------------------------- looking at it


def replay_folder(folder: Path, today: bool, file: Path | None, format: str, language: str = "") -> int:
    """`responder replay`."""
    from responder.capture import STEPS
    from responder.content import load, tongue
    from responder.replay import NotAnIncident, own_words, replay, told_in
    from responder.report import to_json, to_markdown
    from responder.words import with_own

    try:
        content = load(configured(file, {}), STEPS) if today else None
        report = replay(folder, STEPS, content)
    except (NotAnIncident, ContentRefused) as error:
        typer.echo(str(error), err=True)
        return CONTENT
    code = language or told_in(folder)
    spoken = with_own(tongue(code), own_words(folder, code))
    if format == "json":
        sys.stdout.buffer.write(to_json(report, spoken))
        sys.stdout.buffer.flush()
    else:
        show_markdown(to_markdown(report, spoken))
    return OK


def _rows(data_dir: Path | None) -> list[Any]:
    """Incidents from the folders, so that it works beside a running daemon and without one."""
    root = (data_dir or DEFAULT) / "incidents"
    rows = []
    for path in sorted(root.glob("*/report.json"), reverse=True):
        try:
            rows.append(json.loads(path.read_bytes()))
        except (OSError, ValueError) as error:  # the others are what somebody asked for; this one must not go unseen
            typer.echo(f"{path}: cannot be read: {error}", err=True)
    return rows


def list_incidents(data_dir: Path | None, open_only: bool, format: str) -> int:
    """`responder incidents list`."""
    if why := why_not_read(data_dir or DEFAULT):
        typer.echo(why, err=True)
        return RUNTIME
    rows = [row for row in _rows(data_dir) if not open_only or row["incident"]["state"] == "open"]
    if format == "json":
        typer.echo(json.dumps([row["incident"] for row in rows], indent=1))
        return OK
    with speaking(spoken_at(data_dir or DEFAULT)):
        for row in rows:
            incident, top = row["incident"], row["hypotheses"][0]
            state, status = named("ui.state", incident["state"]), named("ui.state", top["status"])
            typer.echo(
                f"{incident['id']}  {state:8}  {incident['class']:14}  {incident['target']:22}  "
                f"{top['cause']}{say('aside', words=status)}"
            )
        if not rows:
            typer.echo(say("cli.incidents.none"))
    return OK


def show_incident(data_dir: Path | None, incident: str, format: str) -> int:
    """`responder incidents show`."""
    from responder.folder import folder_of

    if why := why_not_read(data_dir or DEFAULT):
        typer.echo(why, err=True)
        return RUNTIME
    folder = folder_of(data_dir or DEFAULT, incident)
    try:
        text = (folder.path / ("report.json" if format == "json" else "report.md")).read_text()
    except OSError:
        with speaking(spoken_at(data_dir or DEFAULT)):
            typer.echo(say("cli.incidents.unknown", incident=incident), err=True)
        return RUNTIME
    typer.echo(text) if format == "json" else show_markdown(text)
    return OK


def add_silence(data_dir: Path | None, match: list[str], duration: str, comment: str) -> int:
    """`responder silence add`: a file the daemon reads in its next round."""
    from responder.cli_silences import doubts_about
    from responder.silence_files import write_silence

    pairs = dict(part.split("=", 1) for part in match if "=" in part)
    try:
        length = seconds(duration)
        for value in pairs.values():
            re.compile(value)
    except (ValueError, re.error) as error:
        typer.echo(str(error), err=True)
        return CONTENT
    if len(pairs) != len(match) or not isinstance(length, float):
        typer.echo("write label=value, for example target=gpu-1:8000", err=True)
        return CONTENT
    root = data_dir or DEFAULT
    if why := why_not_written(root):
        typer.echo(why, err=True)
        return RUNTIME
    spoken = spoken_at(root)
    with speaking(spoken):
        for doubt in doubts_about(root, pairs):
            typer.echo(say("cli.silence.doubt", doubt=doubt), err=True)
    now = time.time()
    silence = Silence(id=uuid.uuid4().hex[:8], match=pairs, starts_at=now, ends_at=now + length, comment=comment)
    write_silence(root / SILENCES, silence)
    with speaking(spoken):
        typer.echo(say("cli.silence.added", id=silence.id, match=" ".join(match), length=duration))
    return OK
