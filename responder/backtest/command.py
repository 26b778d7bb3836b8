"""How does `responder backtest` do its work? Arguments in; text or JSON out. Exit 0 ok, 1 runtime, 2 wrong input."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from responder.backtest.past import HistorySilent, Past
from responder.backtest.run import Backtest, Found, Progress, Wish
from responder.backtest.times import duration, moment, rfc3339
from responder.capture import STEPS
from responder.config import Config
from responder.content import ContentRefused, load
from responder.correlate import Policy
from responder.metrics import Prometheus

OK, RUNTIME, CONTENT = 0, 1, 2
QUERY_TIMEOUT_S = 60.0
SHOWN = 200


def backtest_command(
    config: Config, since: str, until: str, targets: list[str], step: str | None, folders: Path | None, format: str
) -> int:
    """`responder backtest`. config: with the Prometheus URL laid over it."""
    try:
        wish = _wish(since, until, targets, step, folders)
        content = load(config, STEPS)
    except (ValueError, ContentRefused) as error:
        typer.echo(str(error), err=True)
        return CONTENT
    if config.prometheus.url is None:
        typer.echo("which Prometheus? Give --prometheus http://host:9090", err=True)
        return CONTENT
    try:
        with _progress(wish) as progress:
            found = asyncio.run(_run(config, content, wish, progress))
    except ValueError as error:
        typer.echo(str(error), err=True)
        return CONTENT
    except (HistorySilent, OSError) as error:
        typer.echo(f"backtest: {error}", err=True)
        return RUNTIME
    with found.spool:
        if format == "json":
            _print_json(found, config.prometheus.url, wish)
        else:
            _print_text(found, wish)
    return OK


def _wish(since: str, until: str, targets: list[str], step: str | None, folders: Path | None) -> Wish:
    now = time.time()
    start, end = moment(since, now), moment(until, now)
    if end <= start:
        raise ValueError(f"--from {since} is not before --to {until}")
    every = 0.0
    if step is not None:
        every = duration(step) or (float(step) if step.replace(".", "", 1).isdigit() else 0.0)
        if not 0.1 <= every <= 30:
            raise ValueError(f"--step {step}: write a duration from 100ms to 30s, or leave it out")
    return Wish(start, end, every, tuple(targets), folders)


async def _run(config: Config, content: Any, wish: Wish, progress: Progress) -> Found:
    assert config.prometheus.url is not None
    prometheus = Prometheus(config.prometheus.url, timeout_s=QUERY_TIMEOUT_S, headers=config.prometheus.sent())
    try:
        return await Backtest(
            Past(prometheus), content, wish, config.watched(), policy=Policy(hold_down_s=config.hold_down),
            silences=config.windows(), progress=progress,
        ).run()  # fmt: skip
    finally:
        prometheus.close()


@contextmanager
def _progress(wish: Wish) -> Iterator[Callable[[float, str], None]]:
    """A bar on standard error, where somebody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=max(wish.end - wish.start, 1.0), at="")

        def tell(at: float, doing: str) -> None:
            bar.update(task, completed=at - wish.start, description=doing, at=rfc3339(at))

        yield tell


def _print_json(found: Found, url: str, wish: Wish) -> None:
    """One object; the reports are written one by one, so that many need no memory."""
    head = {
        "apiVersion": "responder/v1",
        "kind": "Backtest",
        "prometheus": url,
        "from": rfc3339(wish.start),
        "to": rfc3339(wish.end),
        "scrape_interval_s": found.interval_s,
        "step_s": found.round_s,
        "targets": [{"name": t.name, "url": t.url, "match": t.match, "model": t.model} for t in found.targets],
        "summary": found.summary,
        "existing_alerts": found.overlap,
        "unanswered": dict(sorted(found.unanswered.items())),
        "blind": found.blind.model_dump(mode="json"),
        "warnings": list(found.warnings),
    }
    out = sys.stdout
    out.write(json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}") + ',\n "reports": [')
    for number, report in enumerate(found.reports()):
        out.write(("," if number else "") + "\n" + json.dumps(report, indent=1, allow_nan=False))
    out.write("\n ]\n}\n")
    out.flush()


def _print_text(found: Found, wish: Wish) -> None:
    say = typer.echo
    total = found.summary
    size = f"{len(found.targets)} servers, {total['target_days']:g} server-days"
    say(f"{rfc3339(wish.start)} to {rfc3339(wish.end)}, {size}, scrapes every {found.interval_s:g} s")
    for line in found.blind.words(found.interval_s):
        say(line)
    for words in found.warnings:
        say(f"Prometheus warns, so what it answers may be a part of what it should: {words}")
    noise = total["incidents_per_target_day"]
    count = f"{total['incidents']} incident{'' if total['incidents'] == 1 else 's'}"
    # Of less than a day a rate per day would say what nobody has seen.
    say(count + (f", {noise:g} per server and day" if noise is not None and total["target_days"] >= 1 else ""))
    for number, report in enumerate(found.reports()):
        if number == SHOWN:
            say(f"… and {total['incidents'] - SHOWN} more: --format json has them all")
            break
        _print_incident(report, found)
    captures = total["captures"]
    if captures["runs"]:
        say(f"captures that would have run: {captures['runs']}, "
            f"pausing servers for {captures['pause_seconds_at_most']:g} s in all at most")  # fmt: skip
    theirs = found.overlap
    if theirs["alerts"]:
        say(f"existing alerts: {theirs['alerts']} ({theirs['about_our_servers']} about these servers); "
            f"{len(theirs['also_alerted'])} of our incidents were also alerted, {len(theirs['only_ours'])} were not; "
            f"alerts without an incident of ours: {len(theirs['only_theirs'])}")  # fmt: skip
        for one in theirs["only_theirs"][:SHOWN]:
            say(f"  only theirs: {one['alert']} on {one['target']}, {one['since']} to {one['until']}")
    else:
        say("existing alerts: none in this history")
    if wish.folders is not None and total["incidents"]:
        say(f"folders: {(wish.folders / 'incidents').absolute()}, one for each: `responder replay FOLDER`")
    for name, why in sorted(found.unanswered.items()):
        say(f"unknown, since Prometheus did not answer: {name}: {why}")


def _print_incident(report: dict[str, Any], found: Found) -> None:
    incident, top = report["incident"], report["hypotheses"][0]
    rest = ", ".join(f"{h['cause']} {h['probability']:.0%}" for h in report["hypotheses"][1:3])
    alerted = found.overlap["also_alerted"].get(incident["id"], [])
    lead = f"; {alerted[0]['alert']} fired {alerted[0]['lead_s']:+.0f} s from our opening" if alerted else ""
    end = f"until {incident['resolved_at']}" if incident["resolved_at"] else "still open"
    typer.echo(f"{incident['opened_at']}  {incident['target']}  {incident['class']}  {end}")
    typer.echo(f"  {top['cause']}: {top['status']} ({top['probability']:.0%}); then {rest or 'nothing'}{lead}")
    pauses = sum(price["pause_seconds_at_most"] for price in report["would_capture"])
    names = ", ".join(dict.fromkeys(price["step"] for price in report["would_capture"]))
    if names:
        typer.echo(f"  would have captured {names} (pauses of at most {pauses:g} s)")
