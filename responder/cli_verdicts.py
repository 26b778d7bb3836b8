"""How does a person's word get in - on a capture that waits, on a verdict - and how is a cited value read again?"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import socket
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from responder.cli_books import DataDir
from responder.datadir import DEFAULT, why_not_read
from responder.model import Opinion
from responder.spoken_there import spoken_at
from responder.words import ENGLISH, say, speaking

OK, RUNTIME, CONTENT = 0, 1, 2
Who = Annotated[str | None, typer.Option("--who", help="who says so; default: user@host")]


def approve(incident: str, step: str, who: Who = None, data_dir: DataDir = None) -> None:
    """Let a capture run that waits for a person. Needs the running daemon's data directory."""
    from responder.cli_captures import decide

    raise typer.Exit(decide(incident, step, True, who, data_dir))


def deny(incident: str, step: str, who: Who = None, data_dir: DataDir = None) -> None:
    """Forbid a capture that waits for a person."""
    from responder.cli_captures import decide

    raise typer.Exit(decide(incident, step, False, who, data_dir))


def verdict(
    incident: Annotated[str, typer.Argument(help="see `responder incidents list`")],
    right: Annotated[bool, typer.Option("--right/--wrong", help="whether the cause named first was the cause")],
    cause: Annotated[str, typer.Option(help="what it turned out to be")] = "",
    note: Annotated[str, typer.Option(help="anything worth remembering")] = "",
    who: Who = None,
    data_dir: DataDir = None,
) -> None:
    """Say whether a report was right. Counted per cause and playbook, and told in later reports."""
    raise typer.Exit(judge(incident, right, cause, note, who, data_dir))


def explain(
    where: Annotated[str, typer.Argument(help="an incident's id, or a folder")],
    fact: Annotated[str | None, typer.Option(help="only this fact, for example metrics.kv_usage.max")] = None,
    data_dir: DataDir = None,
    format: Annotated[Literal["text", "json"], typer.Option("--format")] = "text",
) -> None:
    """Read every cited value again from the raw files, check their hashes, and show what each claim came to."""
    raise typer.Exit(explain_incident(where, fact, data_dir, format))


def judge(incident: str, right: bool, cause: str, note: str, who: str | None, data_dir: Path | None) -> int:
    """`responder verdict`: a file the daemon takes in; without a daemon it waits for the next one."""
    from responder.ledger import NoSuchVerdict, leave, opinion_on

    root = data_dir or DEFAULT
    if why := why_not_read(root):
        typer.echo(why, err=True)
        return RUNTIME
    name = who or f"{getpass.getuser()}@{socket.gethostname()}"
    try:
        opinion = opinion_on(root, incident, right=right, cause=cause, who=name, note=note, now=time.time())
        _known_cause(root, incident, cause)
    except NoSuchVerdict as error:
        typer.echo(str(error), err=True)
        return CONTENT
    before = _word_before(root, incident)
    leave(root, opinion)
    with speaking(spoken_at(root)):
        instead = say("cli.verdict.instead", cause=opinion.cause) if opinion.cause and not right else ""
        told = {"incident": incident, "named": opinion.named, "instead": instead, "who": name}
        typer.echo(say("cli.verdict", word=_word(right), **told))
        if before is not None:
            typer.echo(say("cli.verdict.before", who=before.who, word=_word(before.right)))
        if _state(root, incident) == "open":
            typer.echo(say("cli.verdict.open", named=opinion.named))
    return OK


def _word(right: bool) -> str:
    return say("cli.verdict.right" if right else "cli.verdict.wrong")


def _known_cause(root: Path, incident: str, cause: str) -> None:
    """NoSuchVerdict for a cause that no report could ever name: it would be counted and never found again."""
    from responder.classes import CAUSES, UNKNOWN
    from responder.folder import folder_of
    from responder.ledger import NoSuchVerdict
    from responder.located import did_you_mean

    known = {*CAUSES, UNKNOWN}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # an older folder: the canonical ones, then
        known |= {str(one["id"]) for one in folder_of(root, incident).read_json("content.json")["causes"]}
    if cause and cause not in known:
        near = did_you_mean(cause, known) or f"there are {', '.join(sorted(known))}; or say it with --note"
        raise NoSuchVerdict(f"there is no cause `{cause}`: {near}")


def _word_before(root: Path, incident: str) -> Opinion | None:
    """What was said of this incident before, by whomever; None where there is nothing to be read."""
    from responder.folder import folder_of
    from responder.store_db import StoreRefused
    from responder.store_sqlite import SqliteReader

    waits = root / "opinions" / f"{folder_of(root, incident).path.name}.json"
    store = SqliteReader(root)
    try:
        if waits.is_file():
            return Opinion.model_validate_json(waits.read_bytes())
        store.open()
        return next((word for word in asyncio.run(store.opinions()) if word.incident == incident), None)
    except (StoreRefused, OSError, ValueError):
        return None
    finally:
        store.close()


def _state(root: Path, incident: str) -> str:
    from responder.folder import folder_of

    try:
        return str(folder_of(root, incident).read_json("report.json")["incident"]["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def explain_incident(where: str, fact: str | None, data_dir: Path | None, format: str) -> int:
    """Exit 1 when a file or a value is another than the report says."""
    from responder.capture import STEPS
    from responder.explain import explained, told
    from responder.folder import folder_of
    from responder.replay import NotAnIncident

    path = Path(where)
    if not (path / "manifest.json").is_file():
        path = folder_of(data_dir or DEFAULT, where).path
        if not path.is_dir():
            typer.echo(f"no incident {where!r} in {path.parent.absolute()}: `responder incidents list` shows the ids "
                       "there are, `--data-dir` says where", err=True)  # fmt: skip
            return CONTENT
    spoken = ENGLISH if format == "json" else spoken_at(path.absolute().parent.parent)
    try:
        rows = explained(path, STEPS, fact, spoken)
    except NotAnIncident as error:
        typer.echo(str(error), err=True)
        return CONTENT
    if format == "json":
        typer.echo(json.dumps(rows, indent=1, allow_nan=False))
    else:
        typer.echo(told(rows, spoken))
    if fact is not None and not rows["facts"]:
        with speaking(spoken):
            typer.echo(say("cli.explain.nothing", fact=fact), err=True)
        return CONTENT
    return OK if all(row["intact"] and row["same"] for row in rows["facts"]) else RUNTIME
