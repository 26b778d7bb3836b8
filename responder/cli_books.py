"""Who has been told what, what is owed, and what was done by whose leave? Read from the data directory of a daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from responder.datadir import DEFAULT
from responder.report_words import named
from responder.spoken_there import spoken_at
from responder.words import say, speaking, told

OK, RUNTIME = 0, 1
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help=f"the daemon's data directory; default: ./{DEFAULT}", envvar="RESPONDER_DATA_DIR"),
]
Format = Annotated[Literal["text", "json"], typer.Option("--format")]
Incident = Annotated[str | None, typer.Option("--incident", help="only of this incident")]
Row = Mapping[str, Any]


def deliveries(
    state: Annotated[str | None, typer.Option(help="pending, delivered, dead or superseded")] = None,
    receiver: Annotated[str | None, typer.Option(help="only to this receiver")] = None,
    incident: Incident = None,
    data_dir: DataDir = None,
    format: Format = "text",
) -> None:
    """Messages to receivers: what waits, what was given up and why, what may have arrived twice."""

    async def read(store: Any) -> list[Row]:
        found = await store.deliveries(receiver=receiver, state=state)
        return [item.model_dump(mode="json") for item in found if incident in (None, item.incident)]

    def line(row: Row) -> str:
        waits = row["state"] == "pending" and row["next_at"]
        return say(
            "cli.delivery", state=f"{named('ui.state', row['state']):10}", receiver=row["receiver"],
            incident=row["incident"], revision=row["revision"], stage=named("stage", row["stage"]),
            attempts=row["attempts"], doubt=say("cli.delivery.twice") if row["doubtful"] else "",
            due=say("cli.delivery.next", at=_when(row["next_at"])) if waits else "",
            why=say("cli.because", why=row["error"]) if row["error"] else "",
        )  # fmt: skip

    raise typer.Exit(_show(data_dir, format, read, line, "cli.deliveries.none"))


def obligations(
    all: Annotated[bool, typer.Option("--all", help="also those that are settled")] = False,
    data_dir: DataDir = None,
    format: Format = "text",
) -> None:
    """Ends that are owed to servers: what was begun there and has not been ended."""

    async def read(store: Any) -> list[Row]:
        return [item.model_dump(mode="json") for item in await store.obligations(only_open=not all)]

    def line(row: Row) -> str:
        due = say("cli.owed.due", at=_when(row["due_at"]))
        how = say("cli.owed.noted", note=told(row["note"]), by=row["by"]) if row["note"] else due
        return say("cli.owed", state=f"{named('ui.state', row['state']):8}", target=row["target"], step=row["step"],
                   at=_when(row["opened_at"]), how=how)  # fmt: skip

    raise typer.Exit(_show(data_dir, format, read, line, "cli.owed.none"))


def audit(
    incident: Incident = None,
    limit: Annotated[int, typer.Option(help="at most so many lines, newest first")] = 200,
    data_dir: DataDir = None,
    format: Format = "text",
) -> None:
    """What was run where, for which rules, and who allowed it; lines are only ever added."""

    async def read(store: Any) -> list[Row]:
        return [{"at": at, "incident": name, **entry} for at, name, entry in await store.audit(incident, limit)]

    def line(row: Row) -> str:
        rest = {
            k: v for k, v in row.items() if k not in ("at", "incident", "what", "step", "target") and v not in ("", {})
        }
        words = ", ".join(f"{k} {', '.join(v) if isinstance(v, list) else v}" for k, v in rest.items())
        return (
            f"{_when(row['at'])}  {row['incident']}  {row['what']}: {row.get('step', '')} on {row['target']} ({words})"
        )

    raise typer.Exit(_show(data_dir, format, read, line, "cli.run.none"))


def _show(
    data_dir: Path | None, format: str, read: Callable[[Any], Awaitable[list[Row]]], line: Callable[[Row], str],
    nothing: str,
) -> int:  # fmt: skip
    from responder.store_db import StoreRefused
    from responder.store_sqlite import SqliteReader

    store = SqliteReader(data_dir or DEFAULT)
    try:
        store.open()
        rows = asyncio.run(_read(read, store))
    except StoreRefused as refused:
        typer.echo(str(refused), err=True)
        return RUNTIME
    finally:
        store.close()
    with speaking(spoken_at(data_dir or DEFAULT)):
        typer.echo(json.dumps(rows, indent=1) if format == "json" else _text(map(line, rows)) or say(nothing))
    return OK


async def _read(read: Callable[[Any], Awaitable[list[Row]]], store: Any) -> list[Row]:
    return await read(store)


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
