"""What can be asked on the command line? Arguments only: every command's work is done elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from responder.authoring import cli as authoring
from responder.cli_books import DataDir, audit, deliveries, obligations
from responder.cli_hand import capture, doctor, plan, split
from responder.cli_silences import end_silence, list_silences
from responder.cli_verdicts import approve, deny, explain, verdict
from responder.traces.cli import trace

EXIT_RUNTIME, EXIT_CONTENT = 1, 2
app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help=(
    "Automated incident responder for vLLM inference servers."))  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        from responder import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Automated incident responder for vLLM inference servers."""


incidents_app = typer.Typer(no_args_is_help=True, help="What happened.")
silence_app = typer.Typer(no_args_is_help=True, help="Maintenance windows.")
app.add_typer(incidents_app, name="incidents")
app.add_typer(silence_app, name="silence")
notify_app = typer.Typer(no_args_is_help=True, help="Who is told.")
app.add_typer(notify_app, name="notify")
app.add_typer(authoring.new_app, name="new")
app.command("test")(authoring.playbook_tests)
app.command()(authoring.schema)
app.command()(authoring.reference)
canary_app = typer.Typer(no_args_is_help=True, help="Pinned prompts: whether a server still gives its good answers.")
app.add_typer(canary_app, name="canary")

Format = Annotated[Literal["text", "json"], typer.Option("--format")]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], typer.Option(envvar="RESPONDER_LOG_LEVEL")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file", envvar="RESPONDER_CONFIG")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database", help="postgresql://…, for several replicas and agents", envvar="RESPONDER_DATABASE"),
]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", help="URL of a vLLM server; repeat it or separate by commas", envvar="RESPONDER_TARGET"),
]


@app.command()
def run(
    target: Targets = None,
    prometheus: Annotated[
        str | None,
        typer.Option(help="URL of a running Prometheus; without it a private one is started",
                     envvar="RESPONDER_PROMETHEUS_URL"),
    ] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that gets every report", envvar="RESPONDER_WEBHOOK")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    listen: Annotated[str | None, typer.Option(help="host:port of our own HTTP", envvar="RESPONDER_LISTEN")] = None,
    database: DatabaseUrl = None,
    log_level: LogLevel = "info",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what playbooks would run, and end")] = False,
) -> None:  # fmt: skip
    """Watch vLLM servers, respond to incidents, tell people. Ends on SIGTERM; SIGHUP reloads the configuration."""
    from responder.cli import daemon

    if dry_run:
        from responder.cli_captures import plans

        raise typer.Exit(plans(None, split(target), config))

    flags = {"target": split(target), "prometheus": prometheus, "webhook": webhook, "data_dir": data_dir,
             "listen": listen, "database": database}  # fmt: skip
    raise typer.Exit(daemon(config, flags, log_level))


@app.command()
def agent(
    node: Annotated[str, typer.Option(help="this node, as targets name it in `node:`", envvar="RESPONDER_NODE")],
    database: DatabaseUrl = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    log_level: LogLevel = "info",
) -> None:
    """Do the captures of this node's targets for responders elsewhere. Ends on SIGTERM."""
    from responder.cli_agent import agent as serve

    raise typer.Exit(serve(node, config, {"database": database, "data_dir": data_dir}, log_level))


Who = Annotated[str | None, typer.Option("--who", help="who decides; default: user@host")]


@app.command()
def acknowledge(
    incident: str,
    who: Who = None,
    url: Annotated[str, typer.Option(help="of the running daemon", envvar="RESPONDER_URL")] = "http://127.0.0.1:9119",
    token_file: Annotated[Path | None, typer.Option(help="when the daemon's HTTP needs a token")] = None,
) -> None:
    """Say that you have taken an incident; its reports and messages name you from then on."""
    from responder.cli_captures import acknowledge as take

    raise typer.Exit(take(incident, who, url, token_file))


@app.command()
def check(
    config: ConfigFile = None,
    rules: Annotated[list[Path] | None, typer.Option(help="more rule files or folders")] = None,
    playbooks: Annotated[list[Path] | None, typer.Option(help="more playbook files or folders")] = None,
    format: Annotated[Literal["text", "json", "sarif", "github"], typer.Option("--format")] = "text",
) -> None:
    """Find every mistake in configuration, rules, playbooks and causes. Exit 2 when there is one."""
    from responder.cli_check import check_everything

    raise typer.Exit(check_everything(config, rules or [], playbooks or [], format))


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(help="an incident folder")],
    today: Annotated[bool, typer.Option(help="with today's playbooks instead of those in force then")] = False,
    config: ConfigFile = None,
    format: Format = "text",
    language: Annotated[str, typer.Option(help="en, zh …; as it was told when left out")] = "",
) -> None:
    """Give a stored incident's verdict again, from its raw bytes."""
    from responder.cli import refused, replay_folder

    raise typer.Exit(refused(lambda: replay_folder(folder, today, config, format, language)))


@app.command("rules")
def rules_command(
    scrape_interval: Annotated[str, typer.Option(help="of the Prometheus that will run them")] = "5s",
) -> None:
    """Print all rules as one file for your own Prometheus, windows fitted to its scrape interval."""
    from responder.cli import print_rules, refused

    raise typer.Exit(refused(lambda: print_rules(scrape_interval)))


@incidents_app.command("list")
def incidents_list(
    data_dir: DataDir = None,
    open_only: Annotated[bool, typer.Option("--open", help="only those that go on")] = False,
    format: Format = "text",
) -> None:
    """Incidents, newest first."""
    from responder.cli import list_incidents

    raise typer.Exit(list_incidents(data_dir, open_only, format))


@incidents_app.command("show")
def incidents_show(incident: str, data_dir: DataDir = None, format: Format = "text") -> None:
    """The report of one incident."""
    from responder.cli import show_incident

    raise typer.Exit(show_incident(data_dir, incident, format))


@notify_app.command("test")
def notify_test(
    receiver: Annotated[str, typer.Argument(help="its name under `receivers:`")], config: ConfigFile = None
) -> None:
    """Send a message that is plainly marked as a test, opened and resolved, to one receiver."""
    from responder.cli_notify import tell_receiver

    raise typer.Exit(tell_receiver(receiver, config))


@notify_app.command("listen")
def notify_listen(
    port: Annotated[int, typer.Option(help="on 127.0.0.1; 0: any free one")] = 9200,
    secret_file: Annotated[Path | None, typer.Option(help="`whsec_…`: check each message's signature")] = None,
    body: Annotated[bool, typer.Option("--body", help="print every message whole")] = False,
) -> None:
    """A webhook receiver to try with: prints what arrives, until Ctrl-C."""
    from responder.cli_listen import listen

    raise typer.Exit(listen(port, secret_file, body))


@silence_app.command("add")
def silence_add(
    match: Annotated[list[str], typer.Argument(help="label=regular expression, for example target=gpu-1:8000")],
    duration: Annotated[str, typer.Option("--for", help="30m, 2h …")] = "1h",
    comment: str = "",
    data_dir: DataDir = None,
) -> None:
    """Open no incidents for what matches, for a while. Needs the running daemon's data directory."""
    from responder.cli import add_silence

    raise typer.Exit(add_silence(data_dir, match, duration, comment))


silence_app.command("list")(list_silences)
silence_app.command("end")(end_silence)


@app.command("requests")
def requests_command(
    slowest: Annotated[int, typer.Option(help="how many to show, slowest first")] = 20,
    since: Annotated[str, typer.Option("--since", help="10m, 1h …")] = "10m",
    url: Annotated[str, typer.Option(help="of the running daemon", envvar="RESPONDER_URL")] = "http://127.0.0.1:9119",
    token_file: Annotated[Path | None, typer.Option(help="when the daemon's HTTP needs a token")] = None,
    file: Annotated[Path | None, typer.Option(help="requests.jsonl of an incident instead of the daemon")] = None,
    format: Format = "text",
) -> None:
    """The slowest requests, where their time went, and what sets them apart from fast ones."""
    from responder.requests.show import show_requests

    raise typer.Exit(show_requests(slowest, since, url, token_file, file, format))


@app.command()
def steps(
    file: Annotated[Path, typer.Argument(help="ring file, folder of them, or a stored step file of an incident")],
    last: Annotated[int, typer.Option(help="how many of the last steps to list")] = 10,
    chart: Annotated[Path | None, typer.Option(help="write a chart (SVG) here")] = None,
    format: Format = "text",
) -> None:
    """What the step recorder inside vLLM has recorded: stalls, freezes, preemptions, the last steps."""
    from responder.requests.steps import show_steps

    raise typer.Exit(show_steps(file, last, chart, format))


@app.command()
def recorder(
    folder: Annotated[Path, typer.Argument(help="where to put it; add this folder to vLLM's PYTHONPATH")],
) -> None:
    """Write the step recorder as a folder for a vLLM it cannot be installed into (a container image)."""
    from responder.requests.steps import unpack_recorder

    raise typer.Exit(unpack_recorder(folder))


for hand in (plan, capture, doctor):
    app.command()(hand)
app.command()(trace)
app.command()(approve)
app.command()(deny)
app.command()(verdict)
app.command()(explain)
for command in (deliveries, obligations, audit):
    app.command()(command)


OneTarget = Annotated[str, typer.Option("--target", help="URL or configured name")]


@canary_app.command("record")
def canary_record(
    target: OneTarget,
    prompts: Annotated[Path | None, typer.Option(help="JSON lines, or one prompt a line; default: four")] = None,
    loads: Annotated[str, typer.Option(help="requests of our own beside the healthy runs")] = "0,4,16",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Say "this server is good": keep its answers, and learn from repeated runs what noise is."""
    from responder.canaries.command import record_canaries, settings
    from responder.cli import refused

    raise typer.Exit(refused(lambda: record_canaries(settings(config, target, data_dir), target, prompts, loads)))


@canary_app.command("show")
def canary_show(
    target: Annotated[str | None, typer.Option(help="URL or configured name; default: all")] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    format: Format = "text",
) -> None:
    """What is recorded, with tolerances and cost."""
    from responder.canaries.command import settings, show_canaries
    from responder.cli import refused

    raise typer.Exit(refused(lambda: show_canaries(settings(config, target, data_dir), target, format)))


@canary_app.command("probe")
def canary_probe(
    target: OneTarget, config: ConfigFile = None, data_dir: DataDir = None, format: Format = "text"
) -> None:
    """Ask once, now. Exit 1 when answers are wrong."""
    from responder.canaries.command import probe_canaries, settings
    from responder.cli import refused

    raise typer.Exit(refused(lambda: probe_canaries(settings(config, target, data_dir), target, format)))


@canary_app.command("approve")
def canary_approve(
    target: OneTarget,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """After a change that was meant: the server as it is now becomes the reference; the old record stays."""
    from responder.canaries.command import approve_canaries, settings
    from responder.cli import refused

    raise typer.Exit(refused(lambda: approve_canaries(settings(config, target, data_dir), target, yes)))


@app.command()
def bisect(
    target: Annotated[str | None, typer.Option(help="URL or configured name: its launch command and record")] = None,
    command: Annotated[str | None, typer.Option(help="launch command of the server, instead of the target's")] = None,
    cases: Annotated[Path | None, typer.Option(help="prompts that show the trouble; default: the recorded")] = None,
    only: Annotated[str | None, typer.Option(help="names of changes, separated by commas")] = None,
    unquantized_model: Annotated[str | None, typer.Option(help="folder of the same model, not quantised")] = None,
    start_timeout: Annotated[str, typer.Option(help="for one start of the server")] = "15m",
    same_host: Annotated[bool, typer.Option("--same-host", help="even beside the sick server's accelerator")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="forget an interrupted bisection")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Find the option that makes answers wrong: start servers of our own here, one change at a time, and ask."""
    from responder.bisect.command import Wish, bisect_command
    from responder.cli import refused

    names = split([only] if only else None)
    wish = Wish(target, command, cases, names, unquantized_model, start_timeout, same_host, fresh)
    raise typer.Exit(refused(lambda: bisect_command(wish, config, data_dir)))


@app.command()
def backtest(
    since: Annotated[str, typer.Option("--from", help="RFC 3339, unix seconds, or how long ago: 7d")],
    until: Annotated[str, typer.Option("--to", help="the same, or now")] = "now",
    prometheus: Annotated[
        str | None, typer.Option(help="anything that speaks its HTTP API", envvar="RESPONDER_PROMETHEUS_URL")
    ] = None,
    target: Targets = None,
    step: Annotated[str | None, typer.Option(help="between rounds; default: the scrape interval, at most 2s")] = None,
    folders: Annotated[Path | None, typer.Option(help="write every incident as a folder for `replay` here")] = None,
    config: ConfigFile = None,
    format: Format = "text",
) -> None:
    """What would have been reported of the past: incidents, causes from metrics alone, noise, cost of captures."""
    from responder.backtest.command import backtest_command
    from responder.cli import configured, refused

    flags = {"prometheus": prometheus}
    wanted = split(target)
    raise typer.Exit(
        refused(lambda: backtest_command(configured(config, flags), since, until, wanted, step, folders, format))
    )


@app.command()
def version() -> None:
    """Print the version."""
    from responder import __version__

    typer.echo(__version__)


def main() -> None:
    """Entry point of the `responder` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
