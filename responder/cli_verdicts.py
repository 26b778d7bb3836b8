"""How does an engineer's word on a verdict get in, and how is every cited value read again?"""

from __future__ import annotations

import getpass
import json
import socket
import time
from pathlib import Path

import typer

OK, RUNTIME, CONTENT = 0, 1, 2


def judge(incident: str, right: bool, cause: str, note: str, who: str | None, data_dir: Path | None) -> int:
    """`responder verdict`: a file the daemon takes in; without a daemon it waits for the next one."""
    from responder.ledger import NoSuchVerdict, leave, opinion_on

    root = data_dir or Path("responder-data")
    name = who or f"{getpass.getuser()}@{socket.gethostname()}"
    try:
        opinion = opinion_on(root, incident, right=right, cause=cause, who=name, note=note, now=time.time())
    except NoSuchVerdict as error:
        typer.echo(str(error), err=True)
        return CONTENT
    leave(root, opinion)
    turned_out = f", it was `{opinion.cause}`" if opinion.cause and not right else ""
    typer.echo(f"{incident}: `{opinion.named}` was {'right' if right else 'wrong'}{turned_out}; noted as {name}")
    return OK


def explain(where: str, fact: str | None, data_dir: Path | None, format: str) -> int:
    """`responder explain`."""
    from responder.capture import STEPS
    from responder.explain import explained, told
    from responder.folder import folder_of
    from responder.replay import NotAnIncident

    path = Path(where)
    if not (path / "manifest.json").is_file():
        path = folder_of(data_dir or Path("responder-data"), where).path
    try:
        rows = explained(path, STEPS, fact)
    except NotAnIncident as error:
        typer.echo(str(error), err=True)
        return CONTENT
    if format == "json":
        typer.echo(json.dumps(rows, indent=1, allow_nan=False))
    else:
        typer.echo(told(rows))
    if fact is not None and not rows["facts"]:
        typer.echo(f"nothing in this incident cites `{fact}`", err=True)
        return CONTENT
    return OK if all(row["intact"] and row["same"] for row in rows["facts"]) else RUNTIME
