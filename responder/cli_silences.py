"""Which silences hold, how does one end early, and does one match anything there is? From the data directory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from responder.datadir import SILENCES
from responder.model import Silence
from responder.silence_files import silences_in, write_silence
from responder.spoken_there import spoken_at
from responder.words import say, speaking

OK, RUNTIME = 0, 1
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="where all is kept", envvar="RESPONDER_DATA_DIR")]
Format = Annotated[Literal["text", "json"], typer.Option("--format")]
HERE = Path("responder-data")


def list_silences(data_dir: DataDir = None, format: Format = "text") -> None:
    """Silences that have not ended, but for those of the configuration."""
    root, now = data_dir or HERE, time.time()
    rows = sorted((s for s in _all(root).values() if s.ends_at > now), key=lambda s: s.ends_at)
    if format == "json":
        typer.echo(json.dumps([silence.model_dump(mode="json") for silence in rows], indent=1))
        raise typer.Exit(OK)
    with speaking(spoken_at(root)):
        for silence in rows:
            typer.echo(_line(silence, now))
        if not rows:
            typer.echo(say("cli.silence.none", folder=root.absolute()))


def end_silence(
    silence: Annotated[str, typer.Argument(help="its id, see `responder silence list`")], data_dir: DataDir = None
) -> None:
    """End a silence now. Needs the running daemon's data directory."""
    root, now = data_dir or HERE, time.time()
    known = _all(root).get(silence)
    if known is None or known.ends_at <= now:
        with speaking(spoken_at(root)):
            typer.echo(say("cli.silence.unknown", silence=silence, folder=root.absolute()), err=True)
        raise typer.Exit(RUNTIME)
    ended = known.model_copy(update={"ends_at": now})
    write_silence(root / SILENCES, ended)
    with speaking(spoken_at(root)):
        typer.echo(say("cli.silence.ended", id=silence))


def _line(silence: Silence, now: float) -> str:
    match = " ".join(f"{name}={value}" for name, value in sorted(silence.match.items()))
    later = silence.starts_at > now
    begins = say("cli.silence.begins", length=_length(silence.starts_at - now)) if later else ""
    said = say("cli.silence.said", comment=silence.comment) if silence.comment else ""
    return say("cli.silence", id=silence.id, match=match, length=_length(silence.ends_at - now), begins=begins,
               said=said)  # fmt: skip


def doubts_about(root: Path, match: Mapping[str, str]) -> Iterator[str]:
    """What makes a silence look like one that matches nothing: a field nobody has, a target nobody watches."""
    import re

    from responder.located import did_you_mean
    from responder.routes import FIELDS

    targets = _targets(root)
    for key, value in match.items():
        near = did_you_mean(key, FIELDS) if key not in FIELDS else ""
        if near:
            yield f"nothing is called `{key}` as far as this can tell ({near})"
        if key == "target" and targets and not any(re.fullmatch(value, target) for target in targets):
            yield f"no target here is called {value!r}; there are {', '.join(sorted(targets))}"


def _all(root: Path) -> dict[str, Silence]:
    """By id: what lies in the folder, and what only the store of a daemon has."""
    return {silence.id: silence for silence in (*_stored(root), *silences_in(root / SILENCES))}


def _stored(root: Path) -> tuple[Silence, ...]:
    from responder.store_db import StoreRefused
    from responder.store_sqlite import SqliteReader

    store = SqliteReader(root)
    try:
        store.open()
        return asyncio.run(store.silences(time.time()))
    except StoreRefused:  # no daemon has run here yet
        return ()
    finally:
        store.close()


def _targets(root: Path) -> set[str]:
    """Names of the servers a daemon has looked at here; none where none has."""
    from responder.store_db import StoreRefused
    from responder.store_sqlite import SqliteReader

    store = SqliteReader(root)
    try:
        store.open()
        return set(asyncio.run(store.inventories()))
    except StoreRefused:
        return set()
    finally:
        store.close()


def _length(seconds: float) -> str:
    minutes = max(round(seconds / 60), 1)
    return (
        f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h" if minutes < 2880 else f"{minutes / 1440:.0f} d"
    )
