"""How are canaries recorded, shown, probed and approved on the command line? Exit 0 right, 1 wrong or not reachable,
2 what was written is wrong."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import typer

from responder import inventory
from responder.canaries.ask import ask_all, look
from responder.canaries.compare import Judgement, judge
from responder.canaries.learn import LOADS, NotRecorded, Recording, record
from responder.canaries.pins import DEFAULT_PROMPTS, Prompt, Record, record_for
from responder.canaries.prompts import read_prompts
from responder.canaries.stored import Shelf
from responder.capture.step import NOT_ALLOWED
from responder.config import Config
from responder.datadir import why_not_written
from responder.model import Target

OK, WRONG, CONTENT = 0, 1, 2
INTERVAL_S = 60.0


def choose(config: Config, wanted: str) -> Target:
    """The target an operator means: a configured name or URL, else any URL. ValueError in words."""
    targets = config.watched()
    for target in targets:
        if wanted in (target.name, target.url) or wanted.rstrip("/") == target.url:
            return target
    known = ", ".join(target.name for target in targets) or "none"
    raise ValueError(f"no target {wanted!r} (configured: {known}); give a URL or a configured name")


def loads_of(text: str) -> tuple[int, ...]:
    """`0,4,16` as numbers. ValueError otherwise."""
    numbers = tuple(int(part) for part in text.split(","))
    if not numbers or min(numbers) < 0 or max(numbers) > 256:
        raise ValueError(f"{text!r}: write numbers of requests from 0 to 256, for example 0,4,16")
    return numbers


def record_canaries(config: Config, wanted: str, prompts: Path | None, loads: str) -> int:
    """`responder canary record`."""
    try:
        target = choose(config, wanted)
        asked = read_prompts(prompts) if prompts else DEFAULT_PROMPTS
        beside = loads_of(loads)
    except (ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        return CONTENT
    try:
        made = asyncio.run(_record(target, asked, beside))
    except NotRecorded as error:
        typer.echo(f"nothing recorded: {error}", err=True)
        return WRONG
    path = Shelf(config.data_dir).keep(made.record)
    then = "a running daemon with this data directory probes from now on"
    if not target.canary:
        then = f"no daemon asks: {NOT_ALLOWED}"
    elif why := why_not_written(config.data_dir):
        then = f"{then}; so far {why}"
    typer.echo(f"{_told(made)}\nkept in {path}; {then}")
    return OK


def show_canaries(config: Config, wanted: str | None, format: str) -> int:
    """`responder canary show`."""
    shelf = Shelf(config.data_dir)
    names = [choose(config, wanted).name] if wanted else sorted(
        path.name for path in shelf.root.glob("*") if path.is_dir())  # fmt: skip
    found = {name: shelf.of(name) for name in names}
    if format == "json":
        typer.echo(json.dumps({n: [r.model_dump(mode="json") for r in rs] for n, rs in found.items()}, indent=1))
        return OK
    for name, records in found.items():
        for item in records:
            typer.echo(described(item))
        for problem in shelf.problems(name):
            typer.echo(f"cannot be read: {problem}", err=True)
    if not any(found.values()):
        typer.echo("nothing is recorded: `responder canary record --target …` while the server is well")
    return OK


def probe_canaries(config: Config, wanted: str, format: str) -> int:
    """`responder canary probe`: one probe now, against what is recorded for this server."""
    target = choose(config, wanted)
    records = Shelf(config.data_dir).of(target.name)
    if not records:
        typer.echo(f"nothing is recorded for {target.name}: `responder canary record` while it is well", err=True)
        return CONTENT
    found, used, changed, error = asyncio.run(_probe(target, records))
    if found is None or used is None or found.bad is None:
        typer.echo(f"no answer to judge: {error or '; '.join(found.errors if found else ())}", err=True)
        return WRONG
    if format == "json":
        typer.echo(json.dumps({"judgement": found.model_dump(mode="json"), "changed": list(changed),
                               "recorded_at": _when(used.at)}, indent=1))  # fmt: skip
    else:
        typer.echo(verdict(found, changed))
    return WRONG if found.bad else OK


def approve_canaries(config: Config, wanted: str, yes: bool) -> int:
    """`responder canary approve`: the server as it is now becomes the reference; the old record is kept."""
    target, shelf = choose(config, wanted), Shelf(config.data_dir)
    records = shelf.of(target.name)
    if not records:
        typer.echo("nothing is recorded yet: use `responder canary record`", err=True)
        return CONTENT
    found, used, changed, error = asyncio.run(_probe(target, records))
    if found is None or used is None:
        typer.echo(f"no answer to judge: {error}", err=True)
        return WRONG
    typer.echo(verdict(found, changed))
    if not changed and not found.bad:
        typer.echo("nothing to approve: the server is as recorded and answers as recorded")
        return OK
    if not yes and not typer.confirm("Are the answers of this server, as it is now, good?"):
        typer.echo("nothing changed")
        return WRONG
    try:
        made = asyncio.run(_record(target, tuple(pin.prompt for pin in used.pins), used.loads or LOADS))
    except NotRecorded as error_:
        typer.echo(f"nothing recorded: {error_}", err=True)
        return WRONG
    path = shelf.keep(made.record)
    typer.echo(_told(made) + f"\napproved, kept in {path}; a server as before is still known by its own record")
    return OK


async def _record(target: Target, prompts: Sequence[Prompt], loads: Sequence[int]) -> Recording:
    known = await inventory.discover(target, time.time())
    async with aiohttp.ClientSession(trust_env=False) as http:
        return await record(http, target, prompts, known.command, loads=loads, say=lambda words: typer.echo(words))


async def _probe(
    target: Target, records: Sequence[Record]
) -> tuple[Judgement | None, Record | None, tuple[str, ...], str]:
    known = await inventory.discover(target, time.time())
    async with aiohttp.ClientSession(trust_env=False) as http:
        seen = await look(http, target)
        if seen.model is None:
            return None, None, (), seen.error
        answers = await ask_all(http, target, seen.model, [pin.prompt for pin in records[0].pins], timeout=120.0)
        right, changed = record_for(records, seen.fingerprint(answers, known.command))
        if right is None:
            return None, None, (), "no record"
        if right is not records[0]:
            answers = await ask_all(http, target, seen.model, [pin.prompt for pin in right.pins], timeout=120.0)
        return judge(right, answers), right, changed, ""


def verdict(found: Judgement, changed: Sequence[str]) -> str:
    """One probe in words."""
    lines = ["WRONG" if found.bad else "right" if found.bad is not None else "not judged"]
    if found.nan:
        lines.append("log-probabilities are NaN: the model computes no numbers")
    if found.match is not None:
        lines.append(f"{found.match:.0%} of the tokens are as recorded")
    if found.shift is not None and found.tolerances is not None:
        lines.append(f"log-probabilities moved by {found.shift:.3g} nats, {found.tolerances:.2g} times the tolerance")
    if found.repeats:
        lines.append("an answer is one token over and over")
    if found.wrong:
        lines.append(f"wrong prompts: {', '.join(found.wrong)}")
    lines += [f"the server has changed: {change}" for change in changed]
    lines += [f"without an answer: {error}" for error in found.errors]
    return "\n  ".join(lines)


def described(item: Record) -> str:
    """A record in words."""
    pins = "\n".join(
        f"  {pin.prompt.id:12} {pin.stable:3} tokens compared, healthy noise up to {pin.noise:.2g} nats, tolerance "
        f"{pin.tolerance:.2g}"
        for pin in item.pins
    )
    about = "; ".join(f"{name} {value}" for name, value in item.fingerprint.items())
    return f"{item.target}  recorded {_when(item.at)}  {about}\n{pins}\n{_cost(item)}"


def _told(made: Recording) -> str:
    lines = [described(made.record), *(f"left out: {why}" for why in made.left_out)]
    return "\n".join(lines)


def _cost(item: Record) -> str:
    tokens = sum(pin.prompt.max_tokens for pin in item.pins)
    return (
        f"  cost: {tokens} tokens a probe, {item.probe_s:.2f} s in all at {INTERVAL_S:.0f} s between probes, which is "
        f"one running request {item.probe_s / INTERVAL_S:.1%} of the time; the first request for log-probabilities "
        f"took {item.warmup_s:.1f} s, and others may wait that long once after each start of the server"
    )


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def settings(file: Path | None, wanted: str | None, data_dir: Path | None) -> Config:
    """The configuration, with a URL that it does not know as one more target. ContentRefused, ValueError in words."""
    from responder.cli import configured

    flags: dict[str, Any] = {"data_dir": data_dir}
    config = configured(file, flags)
    if wanted and "://" in wanted and all(t.url != wanted.rstrip("/") for t in config.watched()):
        config = configured(file, {**flags, "target": [*(t.url for t in config.watched()), wanted]})
    return config
