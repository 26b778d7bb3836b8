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
from responder.content import ContentRefused, load, tongue
from responder.correlate import Policy
from responder.metrics import Prometheus
from responder.report_words import named
from responder.words import say, speaking

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
            with speaking(tongue(config.language)):
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
    total, tell = found.summary, typer.echo
    tell(say("cli.past", since=rfc3339(wish.start), until=rfc3339(wish.end), servers=len(found.targets),
             days=f"{total['target_days']:g}", interval=f"{found.interval_s:g}"))  # fmt: skip
    for line in found.blind.words(found.interval_s):
        tell(line)
    for words in found.warnings:
        tell(say("cli.past.warning", words=words))
    rate = total["incidents_per_target_day"]
    # Of less than a day a rate per day would say what nobody has seen.
    noise = say("cli.past.noise", rate=f"{rate:g}") if rate is not None and total["target_days"] >= 1 else ""
    many = total["incidents"]
    tell(say("cli.past.one" if many == 1 else "cli.past.incidents", count=many, noise=noise))
    for number, report in enumerate(found.reports()):
        if number == SHOWN:
            tell(say("cli.past.more", count=many - SHOWN))
            break
        _print_incident(report, found)
    captures = total["captures"]
    if captures["runs"]:
        tell(say("cli.past.captures", runs=captures["runs"], pause=f"{captures['pause_seconds_at_most']:g}"))
    _print_alerts(found)
    if wish.folders is not None and total["incidents"]:
        tell(say("cli.past.folders", folder=(wish.folders / "incidents").absolute()))
    for name, why in sorted(found.unanswered.items()):
        tell(say("cli.past.unknown", name=name, why=why))


def _print_alerts(found: Found) -> None:
    theirs = found.overlap
    if not theirs["alerts"]:
        typer.echo(say("cli.past.alerts.none"))
        return
    typer.echo(say("cli.past.alerts", alerts=theirs["alerts"], ours=theirs["about_our_servers"],
                   both=len(theirs["also_alerted"]), only=len(theirs["only_ours"]),
                   theirs=len(theirs["only_theirs"])))  # fmt: skip
    for one in theirs["only_theirs"][:SHOWN]:
        typer.echo(say("cli.past.theirs", **{key: one[key] for key in ("alert", "target", "since", "until")}))


def _print_incident(report: dict[str, Any], found: Found) -> None:
    incident, top = report["incident"], report["hypotheses"][0]
    rest = ", ".join(f"{h['cause']} {h['probability']:.0%}" for h in report["hypotheses"][1:3])
    alerted = found.overlap["also_alerted"].get(incident["id"], [])
    lead = say("cli.past.lead", alert=alerted[0]["alert"], seconds=f"{alerted[0]['lead_s']:+.0f}") if alerted else ""
    over = incident["resolved_at"]
    end = say("cli.past.until", at=over) if over else say("cli.past.open")
    typer.echo(f"{incident['opened_at']}  {incident['target']}  {incident['class']}  {end}")
    typer.echo(say("cli.past.cause", cause=top["cause"], status=named("status", top["status"]),
                   share=f"{top['probability']:.0%}", rest=rest or say("cli.past.nothing"), lead=lead))  # fmt: skip
    pauses = sum(price["pause_seconds_at_most"] for price in report["would_capture"])
    names = ", ".join(dict.fromkeys(price["step"] for price in report["would_capture"]))
    if names:
        typer.echo(say("cli.past.would", steps=names, pause=f"{pauses:g}"))
